//! Conditions in JSON paths: `(@.price < 10 && @.name)`.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::json;
use super::json_path::{Steps, steps_of_filter};

/// A condition on the elements of an array.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    Or(Vec<Filter>),
    And(Vec<Filter>),
    Not(Box<Filter>),
    /// The path leads to something.
    Exists(Steps),
    Compare(Operand, Comparison, Operand),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Path(Steps),
    /// JSON text
    Literal(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// In the order in which they are tried.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// Deepest nesting of parentheses.
const DEPTH: usize = 50;

impl Filter {
    /// Reads `(...)`; what stands behind it is left.
    pub(super) fn parse(text: &str) -> Option<(Self, &str)> {
        let mut reader = Reader {
            rest: text.trim_start(),
            depth: 0,
        };
        if !reader.rest.starts_with('(') {
            return None;
        }
        let filter = reader.part()?;
        Some((filter, reader.rest))
    }

    /// Whether it holds for an element.
    pub(super) fn holds(&self, element: &str) -> bool {
        match self {
            Self::Or(parts) => parts.iter().any(|part| part.holds(element)),
            Self::And(parts) => parts.iter().all(|part| part.holds(element)),
            Self::Not(part) => !part.holds(element),
            Self::Exists(steps) => steps.find(element).is_some(),
            Self::Compare(left, comparison, right) => {
                match (left.value(element), right.value(element)) {
                    (Some(left), Some(right)) => comparison.holds(&left, &right),
                    // What is not there differs from everything.
                    _ => *comparison == Comparison::NotEqual,
                }
            }
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, element: &'a str) -> Option<Cow<'a, str>> {
        match self {
            Self::Path(steps) => steps.find(element),
            Self::Literal(json) => Some(Cow::Borrowed(json)),
        }
    }
}

impl Comparison {
    fn holds(self, left: &str, right: &str) -> bool {
        let ordering = compare(left, right);
        match self {
            Self::Equal => ordering == Some(Ordering::Equal),
            Self::NotEqual => ordering != Some(Ordering::Equal),
            Self::Less => ordering == Some(Ordering::Less),
            Self::LessOrEqual => ordering.is_some_and(Ordering::is_le),
            Self::Greater => ordering == Some(Ordering::Greater),
            Self::GreaterOrEqual => ordering.is_some_and(Ordering::is_ge),
        }
    }
}

/// Of two numbers or two strings; other values are only equal or not.
fn compare(left: &str, right: &str) -> Option<Ordering> {
    if let (Ok(left), Ok(right)) = (left.parse::<f64>(), right.parse::<f64>()) {
        return left.partial_cmp(&right);
    }
    if let (Some(left), Some(right)) = (json::unquote(left), json::unquote(right)) {
        return Some(left.cmp(&right));
    }
    (json::canonical(left) == json::canonical(right)).then_some(Ordering::Equal)
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn any(&mut self) -> Option<Filter> {
        let mut parts = vec![self.all()?];
        while self.take("||") {
            parts.push(self.all()?);
        }
        Some(Filter::Or(parts))
    }

    fn all(&mut self) -> Option<Filter> {
        let mut parts = vec![self.part()?];
        while self.take("&&") {
            parts.push(self.part()?);
        }
        Some(Filter::And(parts))
    }

    fn part(&mut self) -> Option<Filter> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        let part = if self.take("(") {
            let inner = self.any()?;
            self.take(")").then_some(inner)?
        } else if !self.rest.trim_start().starts_with("!=") && self.take("!") {
            Filter::Not(Box::new(self.part()?))
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Some(part)
    }

    fn comparison(&mut self) -> Option<Filter> {
        let left = self.operand()?;
        let found = COMPARISONS.iter().find(|(symbol, _)| self.take(symbol));
        match (found, left) {
            (Some((_, comparison)), left) => {
                Some(Filter::Compare(left, *comparison, self.operand()?))
            }
            (None, Operand::Path(steps)) => Some(Filter::Exists(steps)),
            (None, Operand::Literal(_)) => None,
        }
    }

    fn operand(&mut self) -> Option<Operand> {
        if self.take("@") {
            let path = self.until(|c| matches!(c, ' ' | '=' | '!' | '<' | '>' | ')' | '&' | '|'));
            return steps_of_filter(path).map(Operand::Path);
        }
        let rest = self.rest.trim_start();
        if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let (text, behind) = rest[1..].split_once(quote)?;
            self.rest = behind;
            return Some(Operand::Literal(json::quote(text)));
        }
        self.rest = rest;
        let word = self.until(|c| matches!(c, ' ' | '=' | '!' | '<' | '>' | ')' | '&' | '|'));
        json::is_valid(word).then(|| Operand::Literal(word.to_owned()))
    }

    fn until(&mut self, stop: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(stop).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let element = r#"{"a": 2, "b": "x", "c": {"d": [1]}}"#;
        for (text, expected) in [
            ("(@.a == 2)", true),
            ("(@.a != 2)", false),
            ("(@.a>1 && @.b == 'x')", true),
            ("(@.a > 5 || @.b == \"y\")", false),
            ("(!(@.a > 5))", true),
            ("(@.c.d[0] <= 1.0)", true),
            ("(@.zz)", false),
            ("(@.zz != 1)", true),
            ("(@.b < 3)", false),
        ] {
            let (filter, rest) = Filter::parse(text).unwrap();
            assert_eq!((filter.holds(element), rest), (expected, ""), "{text}");
        }
        for text in ["@.a == 2", "(@.a ==)", "(1)", "(@.a == 2"] {
            assert_eq!(Filter::parse(text), None, "{text}");
        }
    }
}
