//! Top-N, deduplication and sorting as operators.

use weir_proto::v1::{self, operator::Kind};

use super::encode;
use super::lower::{Lowering, Node, exchange};
use super::rank::{self, RankKind};
use super::rel::{Column, Rank, RankEnd, Rel, Sort, SortKey};
use super::text;
use crate::error::{Result, SqlError};

impl Lowering {
    pub(super) fn rank(&mut self, rel: &Rel, rank: &Rank) -> Result<Node> {
        if rank.function != "ROW_NUMBER" {
            return Err(SqlError::new(format!(
                "{}() on streaming table is not supported currently",
                rank.function
            ))
            .at_location(rank.place)
            .hint("ROW_NUMBER() is"));
        }
        let inputs = self.lower(&rank.input)?;
        let columns = &rank.input.columns;
        let partition = encode::indexes(&rank.partition);
        let kind = rank::kind(rank);
        if let RankKind::Deduplicate { time, keep_last } = kind {
            let detail = format!(
                "keep=[{}Row], key=[{}], order=[{}]",
                if keep_last { "Last" } else { "First" },
                text::names(&rank.partition, columns),
                if time.is_some() {
                    "ROWTIME"
                } else {
                    "PROCTIME"
                }
            );
            let spec = v1::Deduplicate {
                key_columns: partition.clone(),
                time_column: time.map(encode::index),
                keep_last,
                emit_update_before: true,
                state_ttl_ms: self.state_ttl_ms(),
            };
            let inputs = exchange(&inputs, 0, &partition);
            return Ok(self.keyed(rel, Kind::Deduplicate(spec), "Deduplicate", detail, inputs));
        }
        let (end, end_column, end_text) = match rank.end {
            RankEnd::Constant(end) => (end, None, end.to_string()),
            RankEnd::Column(column) => {
                check_variable_end(rank, column, kind)?;
                (0, Some(encode::index(column)), columns[column].name.clone())
            }
        };
        let detail = format!(
            "strategy=[{}], rankType=[ROW_NUMBER], rankStart={}, rankEnd={end_text}, partitionBy=[{}], orderBy=[{}]",
            if rank.input.updating {
                "Retract"
            } else {
                "AppendFast"
            },
            rank.start,
            text::names(&rank.partition, columns),
            order_text(&rank.order, columns),
        );
        let order = sort_columns(&rank.order);
        let (kind, name) = match kind {
            RankKind::Window {
                start: window_start,
                end: window_end,
            } => (
                Kind::WindowRank(v1::WindowRank {
                    partition_columns: partition.clone(),
                    order,
                    start: rank.start,
                    end,
                    output_rank: rank.with_rank,
                    window_start_column: encode::index(window_start),
                    window_end_column: encode::index(window_end),
                }),
                "WindowRank",
            ),
            _ => (
                Kind::Rank(v1::Rank {
                    partition_columns: partition.clone(),
                    order,
                    start: rank.start,
                    end,
                    end_column,
                    output_rank: rank.with_rank,
                    input_retracts: rank.input.updating,
                    emit_update_before: true,
                    state_ttl_ms: self.state_ttl_ms(),
                }),
                "Rank",
            ),
        };
        let inputs = exchange(&inputs, 0, &partition);
        Ok(self.keyed(rel, kind, name, detail, inputs))
    }

    pub(super) fn sort(&mut self, rel: &Rel, sort: &Sort) -> Result<Node> {
        let inputs = self.lower(&sort.input)?;
        let detail = format!("orderBy=[{}]", order_text(&sort.order, &sort.input.columns));
        let spec = v1::Sort {
            order: sort_columns(&sort.order),
            time_column: sort.time.map(encode::index),
        };
        let name = match sort.time {
            Some(_) => "TemporalSort",
            None => "Sort",
        };
        let inputs = exchange(&inputs, 0, &[]);
        Ok(self.keyed(rel, Kind::Sort(spec), name, detail, inputs))
    }
}

/// The end of a partition is the same for all of its rows.
fn check_variable_end(rank: &Rank, column: usize, kind: RankKind) -> Result<()> {
    let name = &rank.input.columns[column].name;
    if !rank.partition.contains(&column) {
        return Err(SqlError::unsupported(format!(
            "a bound of ROW_NUMBER by the column '{name}', which PARTITION BY has not"
        ))
        .at_location(rank.place)
        .hint(format!("add '{name}' to PARTITION BY")));
    }
    match kind {
        RankKind::Window { .. } => Err(SqlError::unsupported(format!(
            "a bound of ROW_NUMBER by the column '{name}' in a window"
        ))
        .at_location(rank.place)),
        _ => Ok(()),
    }
}

pub(super) fn sort_columns(order: &[SortKey]) -> Vec<v1::SortColumn> {
    let keys = order.iter().map(|key| v1::SortColumn {
        column: encode::index(key.column),
        descending: key.descending,
        nulls_first: key.nulls_first,
    });
    keys.collect()
}

fn order_text(order: &[SortKey], columns: &[Column]) -> String {
    let key = |key: &SortKey| {
        let direction = if key.descending { "DESC" } else { "ASC" };
        let nulls = match key.nulls_first == key.descending {
            true if key.nulls_first => " NULLS FIRST",
            true => " NULLS LAST",
            false => "",
        };
        format!("{} {direction}{nulls}", columns[key.column].name)
    };
    order.iter().map(key).collect::<Vec<_>>().join(", ")
}
