//! Which slots a job gets.

pub mod place;
