//! From text to statements. All of a script is read before any of it runs, so that a mistake in the last line is found first.

mod alter;
pub(crate) mod create_table;
pub(crate) mod errors;
mod foreign;
pub(crate) mod forms;
pub(crate) mod hints;
pub(crate) mod match_recognize;
mod refused;
mod reserved;
mod script;
mod show;
mod spaces;
pub(crate) mod statement;
pub mod types;
pub(crate) mod words;

#[cfg(test)]
mod tests;

pub use script::{is_complete, parse_script};
