//! What a user is told when SQL can't be read, resolved or planned: what, where and how to mend it.

use std::fmt;

use sqlparser::ast::{Ident, Spanned};
use sqlparser::tokenizer::{Location, Span};

/// Result of everything from text to graph.
pub type Result<T> = std::result::Result<T, SqlError>;

/// Shows as `line 3, column 15: unknown column 'actoin'; did you mean 'auction'?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// What is wrong, without position and hint.
    pub message: String,
    /// Line and column in the whole script, both from 1, the column in characters.
    pub position: Option<(u64, u64)>,
    /// How to mend it: "did you mean 'auction'?"
    pub hint: Option<String>,
}

impl std::error::Error for SqlError {}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl SqlError {
    /// Without position and hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            position: None,
            hint: None,
        }
    }

    /// Something that is in Flink's SQL, but not built: "MATCH_RECOGNIZE is not supported yet".
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(format!("{what} is not supported yet"))
    }

    /// At a place. A position that is there already is more exact and stays; an empty location (line 0) is none.
    pub fn at_location(mut self, location: Location) -> Self {
        if self.position.is_none() && location.line > 0 {
            self.position = Some((location.line, location.column));
        }
        self
    }

    /// At the start of a piece of the syntax tree; see [`Self::at_location`].
    pub fn at(self, place: &impl Spanned) -> Self {
        let Span { start, .. } = place.span();
        self.at_location(start)
    }

    /// With advice. Advice that is there already stays.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// "did you mean ...?", if one of the known names is near.
    pub fn did_you_mean<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(name, known) {
            Some(near) => self.hint(format!("did you mean '{near}'?")),
            None => self,
        }
    }

    /// An unknown name of some kind ("column", "table", "option") at its place, with the nearest known one.
    pub fn unknown<'a>(kind: &str, name: &Ident, known: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(format!("unknown {kind} '{}'", name.value))
            .at_location(name.span.start)
            .did_you_mean(&name.value, known)
    }
}

/// The known name that a misspelt one most probably means, if any is near enough: a third of its letters may differ, and case does not count.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let limit = (wanted.chars().count() / 3).clamp(1, 6);
    known
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_place_message_and_hint() {
        let error = SqlError::new("unknown column 'actoin'")
            .at_location(Location::new(3, 15))
            .did_you_mean("actoin", ["price", "auction", "bidder"]);
        assert_eq!(
            error.to_string(),
            "line 3, column 15: unknown column 'actoin'; did you mean 'auction'?"
        );
    }

    #[test]
    fn the_first_position_stays_and_far_names_are_not_offered() {
        let error = SqlError::new("x")
            .at_location(Location::new(0, 0))
            .at_location(Location::new(1, 2))
            .at_location(Location::new(5, 5))
            .did_you_mean("zzz", ["auction"]);
        assert_eq!(error.to_string(), "line 1, column 2: x");
        assert_eq!(nearest("DateTime", ["dateTime", "date"]), Some("dateTime"));
    }
}
