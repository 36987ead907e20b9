//! Weir's operators, one file each, and [`create`], which builds one from its description in the job graph.
//!
//! Owns: what an operator computes and what it keeps as state. Must never know: RocksDB, gRPC, connectors, the planner, threads.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod accumulator;
mod aggregate_store;
mod codec;
mod dirty;
mod fingerprint;
mod key_table;
mod row_store;
#[cfg(test)]
mod testing;
mod time_buffer;
mod waiting_rows;

pub mod calc;
pub mod changelog_conversion;
pub mod changelog_normalize;
pub mod committables;
pub mod deduplicate;
pub mod group_aggregate;
pub mod join;
pub mod match_recognize;
pub mod over;
pub mod rank;
pub mod session_aggregate;
pub mod sink;
mod sink_constraints;
pub mod sort;
pub mod sorted_over;
pub mod source;
pub mod unnest;
pub mod watermark;
pub mod window;
pub mod window_aggregate;
pub mod window_assign;
pub mod window_join;
pub mod window_rank;

use weir_dataflow::{Error, Operator, Result};
use weir_proto::v1;

/// Builds any operator but a source or a sink: those need a connector, see [`source::SourceOperator`] and [`sink::SinkOperator`].
///
/// # Errors
/// If the description can't be carried out: a kind that this version does not know, a column that the input does not have.
/// Expressions are decoded when the operator is opened, where the schemas are known.
pub fn create(operator: &v1::Operator) -> Result<Box<dyn Operator>> {
    use v1::operator::Kind;
    match &operator.kind {
        Some(Kind::Calc(spec)) => Ok(Box::new(calc::CalcOperator::new(spec.clone()))),
        Some(Kind::WindowAssign(spec)) => {
            Ok(Box::new(window_assign::WindowAssignOperator::new(spec)?))
        }
        Some(Kind::WindowJoin(spec)) => Ok(Box::new(window_join::WindowJoinOperator::new(
            spec.clone(),
        )?)),
        Some(Kind::ChangelogConversion(spec)) => Ok(Box::new(
            changelog_conversion::ChangelogConversionOperator::new(spec)?,
        )),
        Some(Kind::ChangelogNormalize(spec)) => Ok(Box::new(
            changelog_normalize::ChangelogNormalizeOperator::new(spec)?,
        )),
        Some(Kind::Unnest(spec)) => Ok(Box::new(unnest::UnnestOperator::new(spec))),
        Some(Kind::Join(spec)) => Ok(Box::new(join::JoinOperator::new(spec.clone())?)),
        Some(Kind::GroupAggregate(spec)) => Ok(Box::new(
            group_aggregate::GroupAggregateOperator::new(spec)?,
        )),
        Some(Kind::WindowAggregate(spec)) if session_aggregate::is_session(spec) => Ok(Box::new(
            session_aggregate::SessionAggregateOperator::new(spec)?,
        )),
        Some(Kind::WindowAggregate(spec)) => Ok(Box::new(
            window_aggregate::WindowAggregateOperator::new(spec)?,
        )),
        Some(Kind::OverAggregate(spec)) if spec.order.is_some() => {
            Ok(Box::new(sorted_over::SortedOverOperator::new(spec)?))
        }
        Some(Kind::OverAggregate(spec)) => Ok(Box::new(over::OverOperator::new(spec)?)),
        Some(Kind::WindowRank(spec)) => Ok(Box::new(window_rank::WindowRankOperator::new(spec)?)),
        Some(Kind::Sort(spec)) => Ok(Box::new(sort::SortOperator::new(spec))),
        Some(Kind::Rank(spec)) => Ok(Box::new(rank::RankOperator::new(spec)?)),
        Some(Kind::Deduplicate(spec)) => Ok(Box::new(deduplicate::DeduplicateOperator::new(spec)?)),
        Some(Kind::MatchRecognize(spec)) => {
            Ok(Box::new(match_recognize::MatchOperator::new(spec)?))
        }
        Some(Kind::Source(_) | Kind::Sink(_)) => Err(Error::Internal(format!(
            "operator '{}' needs a connector",
            operator.name
        ))),
        _ => Err(Error::Config(format!(
            "operator '{}' is of a kind that this version does not know",
            operator.name
        ))),
    }
}
