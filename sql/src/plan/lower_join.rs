//! Joins become operators behind exchanges by the join keys; UNNEST stays where its input is.

use weir_dataflow::types::LogicalType;
use weir_proto::v1::{self, operator::Kind};

use super::encode;
use super::lower::{Input, Lowering, Node, exchange};
use super::rel::{Column, Join, JoinShape, Rel, Unnest};
use crate::error::Result;

impl Lowering {
    /// The operator of a join.
    pub(super) fn join(&mut self, rel: &Rel, join: &Join) -> Result<Node> {
        let left = self.lower(&join.left)?;
        let right = self.lower(&join.right)?;
        let both: Vec<Column> = join
            .left
            .columns
            .iter()
            .chain(&join.right.columns)
            .cloned()
            .collect();
        let condition = join
            .condition
            .as_ref()
            .map(|condition| encode::expr(condition, &both))
            .transpose()?;
        let mut detail = detail(join);
        if let Some(condition) = &condition {
            detail.push_str(&format!(", where=[{}]", condition.text));
        }
        let (left_keys, right_keys) = (
            encode::indexes(&join.left_keys),
            encode::indexes(&join.right_keys),
        );
        let mut by = [left_keys.clone(), right_keys.clone()];
        let (kind, name) = match &join.shape {
            JoinShape::Window { left, right } => {
                let window = |(start, end): (usize, usize)| encode::indexes(&[start, end]);
                if left_keys.is_empty() {
                    by = [window(*left), window(*right)];
                }
                let spec = v1::WindowJoin {
                    kind: join.kind.into(),
                    left_keys,
                    right_keys,
                    left_window_start: encode::index(left.0),
                    left_window_end: encode::index(left.1),
                    right_window_start: encode::index(right.0),
                    right_window_end: encode::index(right.1),
                    condition,
                };
                (Kind::WindowJoin(spec), "WindowJoin")
            }
            JoinShape::Regular => {
                let spec = v1::Join {
                    kind: join.kind.into(),
                    left_keys,
                    right_keys,
                    null_safe: join.null_safe.clone(),
                    condition,
                    left_retracts: join.left.updating,
                    right_retracts: join.right.updating,
                    left_ttl_ms: self.settings.state_ttl_ms,
                    right_ttl_ms: self.settings.state_ttl_ms,
                };
                (Kind::Join(spec), "Join")
            }
        };
        let mut inputs: Vec<Input> = exchange(&left, 0, &by[0]);
        inputs.extend(exchange(&right, 1, &by[1]));
        Ok(self.keyed(rel, kind, name, detail, inputs))
    }

    /// The operator of UNNEST, in the chain of its input.
    pub(super) fn unnest(&mut self, rel: &Rel, unnest: &Unnest) -> Result<Node> {
        let inputs = self.lower(&unnest.input)?;
        let collection = &unnest.input.columns[unnest.collection];
        let spec = v1::Unnest {
            collection: encode::index(unnest.collection),
            outer: unnest.outer,
            with_ordinality: unnest.with_ordinality,
            multiset: matches!(collection.field.logical_type, LogicalType::Multiset(_)),
        };
        let mut detail = format!("collection=[{}]", collection.name);
        if unnest.outer {
            detail.push_str(", joinType=[LEFT]");
        }
        if unnest.with_ordinality {
            detail.push_str(", withOrdinality=[true]");
        }
        Ok(self.chained(rel, Kind::Unnest(spec), "Unnest", detail, &inputs))
    }
}

/// The kind and the keys, in words.
fn detail(join: &Join) -> String {
    let keys = join.left_keys.iter().zip(&join.right_keys);
    let equalities = keys.zip(&join.null_safe).map(|((left, right), null_safe)| {
        let equals = match null_safe {
            true => "IS NOT DISTINCT FROM",
            false => "=",
        };
        format!(
            "{} {equals} {}",
            join.left.columns[*left].name, join.right.columns[*right].name
        )
    });
    format!(
        "type=[{}], on=[{}]",
        join.kind.as_str_name().trim_start_matches("JOIN_KIND_"),
        equalities.collect::<Vec<_>>().join(" AND ")
    )
}
