//! From a Deploy command to running subtasks: channels, restore, connections, start.

pub mod bring_up;
pub mod in_flight;
pub mod open;
pub mod plan;
pub mod restore;
pub mod wiring;
