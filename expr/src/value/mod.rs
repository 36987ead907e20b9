//! Values of Flink's types as Java has them: decimals, floating point texts, the calendar. Pure; no Arrow.

pub(crate) mod calendar;
pub(crate) mod decimal;
pub(crate) mod floating;
pub(crate) mod json;
mod json_filter;
pub(crate) mod json_path;
pub(crate) mod pattern;
pub(crate) mod zone;
