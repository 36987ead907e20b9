//! Flink's scalar functions and the semantics of its expressions, on DataFusion's expressions; the codec by which expressions travel.
//!
//! Owns: the registry of functions ([`functions`]), the type rules that make DataFusion's evaluation give Flink's results ([`coerce`]), casts
//! ([`cast`]), [`codec`] and [`eval`].
//! Must never know: operators, the planner.
//!
//! The way of an expression: the planner builds a logical `Expr` with functions of [`functions::lookup`], passes it to
//! [`coerce::coerce_expr`], makes it physical, and [`codec::encode`]s it; an operator [`codec::decode`]s and evaluates it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod cast;
pub mod codec;
pub mod coerce;
mod common_parts;
pub mod error;
pub mod eval;
pub mod functions;
#[cfg(test)]
mod testing;
mod type_text;
mod value;

pub use error::{ExprError, Result};

/// Whether `table.local-time-zone` can have the value: "UTC", "Europe/Berlin", "GMT+08:00".
pub fn is_time_zone(name: &str) -> bool {
    value::zone::Zone::parse(name).is_some()
}
