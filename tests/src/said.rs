//! What a command of the binary said and how it ended.

use std::process::{Command, Output};
use std::time::Duration;

use crate::process::{run, run_with_input, weir};

/// No command in these tests works for longer.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A command that has ended.
#[derive(Debug)]
pub struct Said {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> Said {
    let output = run(command, TIMEOUT).unwrap();
    Said::from(output).without_panic()
}

/// `weir ARGUMENTS`
pub fn weir_says(arguments: &[&str]) -> Said {
    said(weir().args(arguments))
}

/// `weir ARGUMENTS` with a text on the standard input.
pub fn weir_says_to(arguments: &[&str], input: &str) -> Said {
    let output = run_with_input(weir().args(arguments), input, TIMEOUT).unwrap();
    Said::from(output).without_panic()
}

/// `weir sql -e STATEMENTS`
pub fn sql(statements: &str) -> Said {
    weir_says(&["sql", "-e", statements])
}

impl Said {
    fn without_panic(self) -> Self {
        for mark in ["panicked", "internal error", "RUST_BACKTRACE"] {
            assert!(!self.err.contains(mark), "{mark}: {self:?}");
        }
        self
    }

    /// It failed with a message that holds all these parts.
    #[track_caller]
    pub fn refuses(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains("error: "), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "no '{part}' in {self:?}");
        }
    }

    /// It succeeded; its standard output.
    #[track_caller]
    pub fn fine(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }
}
