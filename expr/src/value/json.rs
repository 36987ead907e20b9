//! JSON texts: following a path through one without building a tree, and quoting.
//!
//! Parts are slices of the text, so numbers and the order of keys stay as they are written. serde_json's tree keeps neither; its `RawValue`
//! would, but needs a feature that changes its build for everyone. The text is validated by serde_json before it is walked here.

use serde::de::IgnoredAny;

/// Whether the text is JSON.
pub(crate) fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(i64),
    /// `[*]` and `.*`
    All,
}

/// `$.a.b[0]['c'][*]`, with `lax` or `strict` in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// `None` if it is no path of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = ["lax", "strict"]
            .iter()
            .find_map(|mode| text.strip_prefix(mode))
            .unwrap_or(text);
        let mut rest = text.trim_start().strip_prefix('$')?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, behind) = if let Some(inner) = rest.strip_prefix('[') {
                bracket(inner)?
            } else {
                name(rest.strip_prefix('.')?)?
            };
            steps.push(step);
            rest = behind;
        }
        Some(Self { steps })
    }

    /// May have more than one result.
    pub fn is_indefinite(&self) -> bool {
        self.steps.contains(&Step::All)
    }

    /// The parts of a valid JSON text that the path leads to.
    pub fn find<'a>(&self, json: &'a str) -> Vec<&'a str> {
        let mut found = vec![json.trim()];
        for step in &self.steps {
            found = found
                .into_iter()
                .flat_map(|part| follow(part, step))
                .collect();
        }
        found
    }
}

fn name(text: &str) -> Option<(Step, &str)> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    match name {
        "" => None,
        "*" => Some((Step::All, rest)),
        _ => Some((Step::Key(name.to_owned()), rest)),
    }
}

fn bracket(text: &str) -> Option<(Step, &str)> {
    let text = text.trim_start();
    if let Some(quote) = text.chars().next().filter(|c| *c == '\'' || *c == '"') {
        let (key, rest) = text[1..].split_once(quote)?;
        return Some((
            Step::Key(key.to_owned()),
            rest.trim_start().strip_prefix(']')?,
        ));
    }
    let (inner, rest) = text.split_once(']')?;
    let step = match inner.trim() {
        "*" => Step::All,
        index => Step::Index(index.parse().ok()?),
    };
    Some((step, rest))
}

fn follow<'a>(json: &'a str, step: &Step) -> Vec<&'a str> {
    match (json.as_bytes().first(), step) {
        (Some(b'{'), Step::Key(wanted)) => members(json)
            .filter(|(key, _)| unquote(key).as_deref() == Some(wanted))
            .map(|(_, value)| value)
            .last()
            .into_iter()
            .collect(),
        (Some(b'{'), Step::All) => members(json).map(|(_, value)| value).collect(),
        (Some(b'['), Step::All) => elements(json).collect(),
        (Some(b'['), Step::Index(index)) => {
            let index = if *index >= 0 {
                *index
            } else {
                elements(json).count() as i64 + index
            };
            let index = usize::try_from(index).ok();
            index
                .and_then(|index| elements(json).nth(index))
                .into_iter()
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Keys (still quoted) and values of an object.
pub(crate) fn members(json: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = json.get(1..).unwrap_or("");
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
        if !rest.starts_with('"') {
            return None;
        }
        let (key, behind) = rest.split_at(value_end(rest));
        let behind = behind.trim_start().strip_prefix(':')?.trim_start();
        let (value, behind) = behind.split_at(value_end(behind));
        rest = behind;
        Some((key, value))
    })
}

/// Elements of an array.
pub(crate) fn elements(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json.get(1..).unwrap_or("");
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', ',']);
        if rest.is_empty() || rest.starts_with(']') {
            return None;
        }
        let (value, behind) = rest.split_at(value_end(rest));
        rest = behind;
        Some(value)
    })
}

/// Where the value at the start of the text ends.
fn value_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut in_string, mut at) = (0usize, false, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_string => at += 1,
            b'"' => {
                in_string = !in_string;
                if !in_string && depth == 0 {
                    return at + 1;
                }
            }
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => {
                if depth == 0 {
                    return at;
                }
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if !in_string && depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// The characters of a quoted string; `None` if it is none.
pub(crate) fn unquote(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// What stands between the quotes of a string; quotes in it may stand alone, as Flink lets them.
pub(crate) fn unescape(inner: &str) -> Option<String> {
    let mut strict = String::with_capacity(inner.len() + 2);
    let mut escaped = false;
    strict.push('"');
    for c in inner.chars() {
        if c == '"' && !escaped {
            strict.push('\\');
        }
        escaped = c == '\\' && !escaped;
        strict.push(c);
    }
    strict.push('"');
    unquote(&strict)
}

/// A string as JSON.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Without the blanks between its parts.
pub(crate) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if !c.is_ascii_whitespace() {
            in_string = c == '"';
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_paths() {
        let json = r#"{"a": {"b": [1, {"c": "x,y"}, [2, 3]]}, "d.e": true, "s": "q\"]"}"#;
        for (path, expected) in [
            ("$.a.b[0]", vec!["1"]),
            ("lax $.a.b[1].c", vec!["\"x,y\""]),
            ("$.a.b[2][*]", vec!["2", "3"]),
            ("$['d.e']", vec!["true"]),
            ("$.s", vec![r#""q\"]""#]),
            ("$.none", vec![]),
            ("$.a.b[9]", vec![]),
            ("$.a.b[-1]", vec!["[2, 3]"]),
            ("$", vec![json]),
        ] {
            assert_eq!(Path::parse(path).unwrap().find(json), expected, "{path}");
        }
        assert_eq!(Path::parse("a.b"), None);
        assert_eq!(Path::parse("$."), None);
    }

    #[test]
    fn compacts_outside_of_strings() {
        assert_eq!(compact("{ \"a b\" : [1, 2 ] }"), "{\"a b\":[1,2]}");
        assert_eq!(compact(r#"{"a": "x\" y"}"#), r#"{"a":"x\" y"}"#);
    }
}
