//! MATCH_RECOGNIZE as an operator.

use weir_proto::v1::{self, match_recognize::Skip, match_value::Pick, operator::Kind};

use super::encode;
use super::lower::{Lowering, Node, exchange};
use super::lower_rank::sort_columns;
use super::rel::{MatchRecognize, PatternVariable, Rel};
use super::text;
use crate::error::Result;

impl Lowering {
    pub(super) fn match_recognize(&mut self, rel: &Rel, matching: &MatchRecognize) -> Result<Node> {
        let inputs = self.lower(&matching.input)?;
        let columns = &matching.value_columns;
        let pattern = matching.variables.iter().map(|variable| {
            let condition = variable.condition.as_ref();
            Ok(v1::PatternVariable {
                name: variable.name.clone(),
                min: variable.min,
                max: variable.max,
                greedy: variable.greedy,
                condition: condition
                    .map(|expr| encode::expr(expr, columns))
                    .transpose()?,
            })
        });
        let values = matching.values.iter().map(|value| v1::MatchValue {
            variable: value.variable.map(encode::index),
            pick: value.pick.into(),
            offset: value.offset,
            function: value.function.to_owned(),
            columns: value.column.map(encode::index).into_iter().collect(),
        });
        let partition = encode::indexes(&matching.partition);
        let measured = &rel.columns[partition.len()..];
        let spec = v1::MatchRecognize {
            partition_columns: partition.clone(),
            time_column: encode::index(matching.time),
            processing_time: matching.processing_time,
            order: sort_columns(&matching.order),
            pattern: pattern.collect::<Result<_>>()?,
            values: values.collect(),
            value_schema: encode::schema(columns),
            measures: encode::projection(&matching.measures, columns, measured)?,
            skip: matching.skip.0.into(),
            skip_variable: encode::index(matching.skip.1),
            within_ms: matching.within_ms,
        };
        let inputs = exchange(&inputs, 0, &partition);
        let detail = detail(matching);
        Ok(self.keyed(rel, Kind::MatchRecognize(spec), "Match", detail, inputs))
    }
}

fn detail(matching: &MatchRecognize) -> String {
    let columns = &matching.input.columns;
    let values: Vec<String> = matching
        .values
        .iter()
        .map(|value| value_text(matching, value))
        .collect();
    let named = |text: String| {
        // The highest first: '$1' is the beginning of '$10'.
        let numbered = values.iter().enumerate().rev();
        numbered.fold(text, |text, (index, value)| {
            text.replace(&format!("${index}"), value)
        })
    };
    let pattern: Vec<String> = matching.variables.iter().map(quantified).collect();
    let defined = matching.variables.iter().filter_map(|variable| {
        let condition = text::expr(variable.condition.as_ref()?, &matching.value_columns);
        Some(format!("{}=[{}]", variable.name, named(condition)))
    });
    let measures = matching
        .measures
        .iter()
        .map(|measure| named(text::expr(measure, &matching.value_columns)));
    let skip = match matching.skip {
        (Skip::PastLastRow, _) => "PAST LAST ROW".to_owned(),
        (Skip::ToFirst, variable) => format!("TO FIRST {}", matching.variables[variable].name),
        (Skip::ToLast, variable) => format!("TO LAST {}", matching.variables[variable].name),
        _ => "TO NEXT ROW".to_owned(),
    };
    let within = match matching.within_ms {
        0 => String::new(),
        ms => format!(" WITHIN {ms} ms"),
    };
    format!(
        "partitionBy=[{}], pattern=[{}{within}], define=[{}], measures=[{}], after=[SKIP {skip}]",
        text::names(&matching.partition, columns),
        pattern.join(" "),
        defined.collect::<Vec<_>>().join(", "),
        measures.collect::<Vec<_>>().join(", "),
    )
}

fn quantified(variable: &PatternVariable) -> String {
    let quantifier = match (variable.min, variable.max) {
        (1, Some(1)) => String::new(),
        (0, Some(1)) => "?".to_owned(),
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (min, None) => format!("{{{min},}}"),
        (min, Some(max)) if min == max => format!("{{{min}}}"),
        (min, Some(max)) => format!("{{{min},{max}}}"),
    };
    let is_exact = variable.max == Some(variable.min) || variable.max == Some(1);
    let reluctant = if variable.greedy || is_exact { "" } else { "?" };
    format!("{}{quantifier}{reluctant}", variable.name)
}

fn value_text(matching: &MatchRecognize, value: &super::rel::MatchValue) -> String {
    let variable = value
        .variable
        .map_or("*", |variable| &matching.variables[variable].name);
    let column = value
        .column
        .map_or("*", |column| &matching.input.columns[column].name);
    match value.pick {
        Pick::First => format!("FIRST({variable}.{column}, {})", value.offset),
        Pick::Last => format!("LAST({variable}.{column}, {})", value.offset),
        _ => format!("{}({variable}.{column})", value.function),
    }
}
