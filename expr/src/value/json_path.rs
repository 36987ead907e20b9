//! JSON paths as Flink's library reads them: `$.a['b'][0, 1][2:5].*..c[?(@.d > 1)].length()`, with `lax` or `strict` in front.

use std::borrow::Cow;

use super::json::{self, elements, members};
use super::json_filter::Filter;

/// A step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Keys(Vec<String>),
    Indexes(Vec<i64>),
    Slice(Option<i64>, Option<i64>),
    /// `[*]` and `.*`
    All,
    /// `..`: the value and everything in it.
    Deep,
    Filter(Filter),
    /// `.length()`
    Length,
}

/// What a path does where there is nothing, or what is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It leads to nothing.
    Lax,
    /// It fails. Also what a path without a mode does.
    Strict,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A value that is not null; of a path that may have several results, their array.
    Value(Cow<'a, str>),
    /// To nothing, in a lax way.
    Empty,
    /// To nothing, in a strict way; or the text or the path is malformed.
    Error,
}

/// A compiled path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    mode: Mode,
    /// `None`: what stands there is no path.
    steps: Option<Vec<Step>>,
}

impl Path {
    /// A malformed path is found out where it is followed: the mode says what becomes of it then.
    pub fn parse(text: &str) -> Self {
        let (mode, text) = mode(text);
        Self {
            mode,
            steps: steps(text),
        }
    }

    pub fn is_lax(&self) -> bool {
        self.mode == Mode::Lax
    }

    /// Follows the path through a text.
    pub fn find<'a>(&self, text: &'a str) -> Found<'a> {
        let found = self.steps.as_ref().and_then(|steps| {
            let root = json::first_value(text)?;
            follow(root, steps)
        });
        match found {
            Some(value) if value != "null" => Found::Value(value),
            _ if self.mode == Mode::Lax => Found::Empty,
            _ => Found::Error,
        }
    }
}

fn mode(text: &str) -> (Mode, &str) {
    let trimmed = text.trim_start();
    for (word, mode) in [("lax", Mode::Lax), ("strict", Mode::Strict)] {
        if let Some((start, rest)) = trimmed.split_at_checked(word.len())
            && start.eq_ignore_ascii_case(word)
            && rest.starts_with(char::is_whitespace)
        {
            return (mode, rest.trim_start());
        }
    }
    (Mode::Strict, text)
}

/// The steps behind `$`.
fn steps(text: &str) -> Option<Vec<Step>> {
    steps_behind(text.strip_prefix('$')?)
}

/// `.a[0]`, as it stands behind `$` or `@`.
pub(super) fn steps_of_filter(text: &str) -> Option<Steps> {
    steps_behind(text).map(Steps)
}

/// The steps of a path inside of a filter.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Steps(Vec<Step>);

impl Steps {
    /// The value that they lead to from `value`.
    pub(super) fn find<'a>(&self, value: &'a str) -> Option<Cow<'a, str>> {
        follow(value, &self.0)
    }
}

fn steps_behind(mut rest: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix("..") {
            steps.push(Step::Deep);
            if behind.is_empty() {
                return None;
            }
            if behind.starts_with('[') {
                rest = behind;
                continue;
            }
            let (step, behind) = name(behind)?;
            steps.push(step);
            rest = behind;
            continue;
        }
        let (step, behind) = match rest.strip_prefix('[') {
            Some(inner) => bracket(inner)?,
            None => name(rest.strip_prefix('.')?)?,
        };
        steps.push(step);
        rest = behind;
    }
    Some(steps)
}

fn name(text: &str) -> Option<(Step, &str)> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    match name {
        "" => None,
        "*" => Some((Step::All, rest)),
        "length()" | "size()" => Some((Step::Length, rest)),
        _ if name.contains([' ', '(', ')']) => None,
        _ => Some((Step::Keys(vec![name.to_owned()]), rest)),
    }
}

fn bracket(text: &str) -> Option<(Step, &str)> {
    let text = text.trim_start();
    if text.starts_with(['\'', '"']) {
        return keys(text);
    }
    if let Some(inner) = text.strip_prefix('?') {
        let (filter, rest) = Filter::parse(inner)?;
        return Some((Step::Filter(filter), rest.trim_start().strip_prefix(']')?));
    }
    let (inner, rest) = text.split_once(']')?;
    let inner = inner.trim();
    if inner == "*" {
        return Some((Step::All, rest));
    }
    let number = |text: &str| text.trim().parse::<i64>().ok();
    if let Some((from, to)) = inner.split_once(':') {
        let bound = |text: &str| match text.trim() {
            "" => Some(None),
            digits => number(digits).map(Some),
        };
        return Some((Step::Slice(bound(from)?, bound(to)?), rest));
    }
    let indexes: Option<Vec<i64>> = inner.split(',').map(number).collect();
    Some((Step::Indexes(indexes?), rest))
}

/// `'a', 'b']`
fn keys(mut text: &str) -> Option<(Step, &str)> {
    let mut keys = Vec::new();
    loop {
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (key, rest) = text[1..].split_once(quote)?;
        keys.push(key.to_owned());
        let rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix(']') {
            return Some((Step::Keys(keys), behind));
        }
        text = rest.strip_prefix(',')?.trim_start();
    }
}

impl Step {
    /// Has at most one result.
    fn is_definite(&self) -> bool {
        match self {
            Self::Keys(_) | Self::Length => true,
            Self::Indexes(indexes) => indexes.len() == 1,
            Self::Slice(..) | Self::All | Self::Deep | Self::Filter(_) => false,
        }
    }
}

/// `None` if a step that has to lead somewhere does not.
fn follow<'a>(root: &'a str, steps: &[Step]) -> Option<Cow<'a, str>> {
    let mut found = vec![Cow::Borrowed(root)];
    let mut definite = true;
    for step in steps {
        definite &= step.is_definite();
        let mut next = Vec::with_capacity(found.len());
        for value in &found {
            match value {
                Cow::Borrowed(value) => advance(value, step, &mut next),
                Cow::Owned(value) => {
                    let mut parts = Vec::new();
                    advance(value, step, &mut parts);
                    next.extend(parts.into_iter().map(|part| Cow::Owned(part.into_owned())));
                }
            }
        }
        if definite && next.is_empty() {
            return None;
        }
        found = next;
    }
    if definite {
        return found.pop();
    }
    let parts: Vec<&str> = found.iter().map(AsRef::as_ref).collect();
    Some(Cow::Owned(format!("[{}]", parts.join(","))))
}

fn advance<'a>(value: &'a str, step: &Step, out: &mut Vec<Cow<'a, str>>) {
    let first = value.as_bytes().first();
    let (object, array) = (first == Some(&b'{'), first == Some(&b'['));
    match step {
        Step::Keys(keys) if object => out.extend(of_keys(value, keys)),
        Step::All if object => out.extend(members(value).map(|(_, value)| Cow::Borrowed(value))),
        Step::All if array => out.extend(elements(value).map(Cow::Borrowed)),
        Step::Indexes(indexes) if array => {
            let count = elements(value).count() as i64;
            let place = |index: &i64| if *index < 0 { count + index } else { *index };
            let places = indexes.iter().map(place);
            out.extend(places.filter_map(|place| {
                let place = usize::try_from(place).ok()?;
                elements(value).nth(place).map(Cow::Borrowed)
            }));
        }
        Step::Slice(from, to) if array => {
            let count = elements(value).count() as i64;
            let bound = |at: i64| if at < 0 { (count + at).max(0) } else { at };
            let from = usize::try_from(from.map_or(0, bound)).unwrap_or(0);
            let to = usize::try_from(to.map_or(count, bound)).unwrap_or(0);
            let parts = elements(value).take(to).skip(from);
            out.extend(parts.map(Cow::Borrowed));
        }
        Step::Deep => deep(value, out),
        Step::Filter(filter) if array => {
            let parts = elements(value).filter(|element| filter.holds(element));
            out.extend(parts.map(Cow::Borrowed));
        }
        Step::Filter(filter) if object && filter.holds(value) => out.push(Cow::Borrowed(value)),
        Step::Length => {
            let count = match (object, array) {
                (true, _) => members(value).count(),
                (_, true) => elements(value).count(),
                _ => return,
            };
            out.push(Cow::Owned(count.to_string()));
        }
        _ => {}
    }
}

/// One key gives its value, several the object of those that are there.
fn of_keys<'a>(object: &'a str, keys: &[String]) -> Option<Cow<'a, str>> {
    let value_of = |wanted: &String| {
        let of_key = members(object).filter(|(key, _)| json::unquote(key).as_ref() == Some(wanted));
        of_key.last().map(|(_, value)| value)
    };
    if let [key] = keys {
        return value_of(key).map(Cow::Borrowed);
    }
    let parts = keys
        .iter()
        .filter_map(|key| Some(format!("{}:{}", json::quote(key), value_of(key)?)));
    let parts: Vec<String> = parts.collect();
    Some(Cow::Owned(format!("{{{}}}", parts.join(","))))
}

fn deep<'a>(value: &'a str, out: &mut Vec<Cow<'a, str>>) {
    out.push(Cow::Borrowed(value));
    match value.as_bytes().first() {
        Some(b'{') => members(value).for_each(|(_, value)| deep(value, out)),
        Some(b'[') => elements(value).for_each(|value| deep(value, out)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, json: &str) -> Option<String> {
        match Path::parse(path).find(json) {
            Found::Value(value) => Some(value.into_owned()),
            _ => None,
        }
    }

    #[test]
    fn follows_paths() {
        let json = r#"{"a": {"b": [1, {"c": "x,y"}, [2, 3]]}, "d.e": true, "s": "q\"]"}"#;
        for (path, expected) in [
            ("$.a.b[0]", Some("1")),
            ("lax $.a.b[1].c", Some("\"x,y\"")),
            ("$.a.b[2][*]", Some("[2,3]")),
            ("$.a.b[0, 2]", Some("[1,[2, 3]]")),
            ("$.a.b[1:]", Some("[{\"c\": \"x,y\"},[2, 3]]")),
            ("$.a.b[:-2]", Some("[1]")),
            ("$..c", Some("[\"x,y\"]")),
            ("$.a.b[?(@.c == 'x,y')].c", Some("[\"x,y\"]")),
            ("$.a.b.length()", Some("3")),
            ("$['d.e']", Some("true")),
            ("$['d.e', 'zz']", Some("{\"d.e\":true}")),
            ("$.s", Some(r#""q\"]""#)),
            ("$.a.b[-1]", Some("[2, 3]")),
            ("$.none[*]", None),
            ("$.a.b[9]", None),
            ("$", Some(json)),
        ] {
            assert_eq!(found(path, json).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_mode_says_what_nothing_is() {
        for (path, json, expected) in [
            ("$.b", "{\"a\": 1}", Found::Error),
            ("strict $.b", "{\"a\": 1}", Found::Error),
            ("LAX $.b", "{\"a\": 1}", Found::Empty),
            ("lax $.a", "{\"a\": null}", Found::Empty),
            ("$.a", "{\"a\": null}", Found::Error),
            ("lax $.a", "no json", Found::Empty),
            ("lax a.b", "{}", Found::Empty),
            ("a.b", "{}", Found::Error),
            ("$.", "{}", Found::Error),
            ("$.a b", "{\"a b\": 1}", Found::Error),
            ("$.a", "{\"a\": 1} and more", Found::Value("1".into())),
        ] {
            assert_eq!(Path::parse(path).find(json), expected, "{path} in {json}");
        }
    }
}
