//! TO_CHANGELOG and FROM_CHANGELOG in FROM, as Flink 2.3 has them (FLIP-564).

use std::sync::Arc;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, TableFactor, Value, ValueWithSpan,
};
use weir_dataflow::RowKind;
use weir_dataflow::types::{LogicalField, LogicalType};
use weir_proto::v1;

use super::encode;
use super::expr::column;
use super::lower::{Lowering, Node};
use super::rel::{ChangelogConversion, Rel, RelOp, RelRef};
use super::sink::updating_node;
use crate::error::{Result, SqlError};
use crate::signature::{Signature, TvfInput, call, plain_arguments};

const KINDS: [(&str, RowKind); 4] = [
    ("INSERT", RowKind::Insert),
    ("UPDATE_BEFORE", RowKind::UpdateBefore),
    ("UPDATE_AFTER", RowKind::UpdateAfter),
    ("DELETE", RowKind::Delete),
];

/// A call as it is written.
pub(super) struct Conversion {
    from: bool,
    pub input: TvfInput,
    code: Ident,
    codes: Vec<(String, RowKind)>,
}

impl Conversion {
    /// The call that a table in FROM is; `None` if it is something else.
    pub fn of(factor: &TableFactor) -> Option<Result<Self>> {
        let (name, args, _) = call(factor)?;
        let from = match name.value.to_ascii_uppercase().as_str() {
            "TO_CHANGELOG" => false,
            "FROM_CHANGELOG" => true,
            _ => return None,
        };
        let read = Self::read(from, name, args);
        Some(read.map_err(|error| error.at_location(name.span.start)))
    }

    fn read(from: bool, name: &Ident, args: &[FunctionArg]) -> Result<Self> {
        let function = if from {
            "FROM_CHANGELOG"
        } else {
            "TO_CHANGELOG"
        };
        let signature = Signature {
            name: function,
            parameters: vec!["input", "op", "op_mapping", "uid"],
            usage: format!(
                "write {function}(input => TABLE t, op => DESCRIPTOR(column), op_mapping => MAP[...])"
            ),
        };
        let values = signature.assign(args)?;
        let lacking = || SqlError::new(format!("{function} lacks input"));
        let data = values[0].ok_or_else(|| lacking().hint(signature.usage.clone()))?;
        let (input, partition_by) = signature.input("input", data)?;
        if let Some(first) = partition_by.first() {
            let error = SqlError::new(format!(
                "{function} takes a table without PARTITION BY: each row is converted by itself"
            ));
            return Err(error.at(first));
        }
        let code = match values[1] {
            Some(descriptor) => signature.descriptor("op", descriptor)?,
            None => Ident::with_span(name.span, "op"),
        };
        let codes = match values[2] {
            Some(map) => codes(from, &signature, map)?,
            None => KINDS.map(|(name, kind)| (name.to_owned(), kind)).to_vec(),
        };
        Ok(Self {
            from,
            input,
            code,
            codes,
        })
    }

    /// The relation that it makes of its input.
    pub fn plan(self, input: RelRef) -> Result<RelRef> {
        let mut columns = input.columns.clone();
        for column in &mut columns {
            column.time = None;
        }
        let from = match self.from {
            true => {
                let place = columns
                    .iter()
                    .position(|column| column.name == self.code.value);
                let place = place.ok_or_else(|| {
                    SqlError::new(format!(
                        "The op column '{}' does not exist in the input schema.",
                        self.code.value
                    ))
                    .did_you_mean(
                        &self.code.value,
                        columns.iter().map(|column| column.name.as_str()),
                    )
                    .at_location(self.code.span.start)
                })?;
                self.check_from(&input, &columns[place].field.logical_type)?;
                columns.remove(place);
                Some(place)
            }
            false => {
                if columns.iter().any(|column| column.name == self.code.value) {
                    let error = SqlError::new(format!(
                        "Field names must be unique. Found duplicates: [{}]",
                        self.code.value
                    ));
                    return Err(error
                        .hint("name the column of the codes by op => DESCRIPTOR(...)")
                        .at_location(self.code.span.start));
                }
                let text = LogicalType::VarChar(u32::MAX);
                let code = LogicalField {
                    logical_type: text,
                    nullable: false,
                };
                columns.insert(0, column(&self.code.value, code));
                None
            }
        };
        let conversion = ChangelogConversion {
            input,
            from,
            codes: self.codes,
        };
        Ok(Arc::new(Rel {
            columns,
            window: None,
            updating: conversion.is_updating(),
            op: RelOp::ChangelogConversion(conversion),
        }))
    }

    fn check_from(&self, input: &RelRef, code: &LogicalType) -> Result<()> {
        let place = self.code.span.start;
        if !matches!(code, LogicalType::Char(_) | LogicalType::VarChar(_)) {
            return Err(SqlError::new(format!(
                "The op column '{}' must be of STRING type, but was '{code}'.",
                self.code.value
            ))
            .at_location(place));
        }
        if input.updating {
            return Err(SqlError::new(format!(
                "FROM_CHANGELOG doesn't support consuming update and delete changes which is produced by node {}",
                updating_node(input)
            ))
            .at_location(place));
        }
        let has = |wanted: RowKind| self.codes.iter().any(|(_, kind)| *kind == wanted);
        if has(RowKind::UpdateAfter) && !has(RowKind::UpdateBefore) {
            return Err(SqlError::new(
                "The 'op_mapping' must include UPDATE_BEFORE for retract mode. Upsert mode (without UPDATE_BEFORE) is not supported yet",
            )
            .at_location(place));
        }
        Ok(())
    }
}

/// MAP['kind, kind', 'code'] of TO_CHANGELOG, MAP['code, code', 'kind'] of FROM_CHANGELOG.
fn codes(from: bool, signature: &Signature, map: &Expr) -> Result<Vec<(String, RowKind)>> {
    let texts = match map {
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("MAP") => {
            plain_arguments(function)
        }
        _ => None,
    };
    let text = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text),
            ..
        }))) => Some(text.clone()),
        _ => None,
    };
    let texts: Option<Vec<String>> = texts.and_then(|args| args.iter().map(text).collect());
    let texts = texts.filter(|texts| texts.len() % 2 == 0 && !texts.is_empty());
    let texts =
        texts.ok_or_else(|| signature.wrong("op_mapping", "MAP['text', 'text', ...]", map))?;
    let wrong = |message: String| {
        SqlError::new(format!(
            "Invalid target mapping for argument 'op_mapping'. {message}"
        ))
    };
    let mut found: Vec<(String, RowKind)> = Vec::new();
    for pair in texts.chunks_exact(2) {
        let before: Vec<RowKind> = found.iter().map(|(_, kind)| *kind).collect();
        for key in pair[0].split(',').map(str::trim) {
            let (code, name) = if from {
                (key, pair[1].trim())
            } else {
                (pair[1].as_str(), key)
            };
            let kind = KINDS.iter().find(|(known, _)| *known == name);
            let (_, kind) = *kind.ok_or_else(|| {
                wrong(format!("Unknown change operation: '{name}'"))
                    .did_you_mean(name, KINDS.iter().map(|(known, _)| *known))
                    .at(map)
            })?;
            if before.contains(&kind) || (!from && found.iter().any(|(_, known)| *known == kind)) {
                let error = wrong(format!("Duplicate change operation: '{name}'"));
                return Err(error
                    .hint("several keys of one entry are separated by commas")
                    .at(map));
            }
            if from && found.iter().any(|(known, _)| known == code) {
                return Err(wrong(format!("Duplicate op code: '{code}'")).at(map));
            }
            found.push((code.to_owned(), kind));
        }
    }
    Ok(found)
}

impl Lowering {
    /// In the chain of its input.
    pub(super) fn conversion(
        &mut self,
        rel: &Rel,
        conversion: &ChangelogConversion,
    ) -> Result<Node> {
        let inputs = self.lower(&conversion.input)?;
        let codes = conversion
            .codes
            .iter()
            .map(|(code, kind)| v1::changelog_conversion::Code {
                code: code.clone(),
                row_kind: *kind as u32,
            });
        let spec = v1::ChangelogConversion {
            from_codes: conversion.from.is_some(),
            code_column: encode::index(conversion.from.unwrap_or_default()),
            codes: codes.collect(),
        };
        let (name, columns, place) = match conversion.from {
            Some(place) => ("FromChangelog", &conversion.input.columns, place),
            None => ("ToChangelog", &rel.columns, 0),
        };
        let texts = conversion.codes.iter().map(|(code, kind)| {
            let known = KINDS.iter().find(|(_, known)| known == kind);
            format!("{code}={}", known.map_or("", |(name, _)| *name))
        });
        let texts: Vec<String> = texts.collect();
        let detail = format!("op=[{}], codes=[{}]", columns[place].name, texts.join(", "));
        let kind = v1::operator::Kind::ChangelogConversion(spec);
        Ok(self.chained(rel, kind, name, detail, &inputs))
    }
}
