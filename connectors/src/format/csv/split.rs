//! A line to its fields.

use super::options::CsvOptions;

/// The fields of one record; reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Fields without their quotes and escapes, one after another.
    text: String,
    ends: Vec<usize>,
}

impl Fields {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1],
        };
        self.text.get(start..end)
    }

    /// Splits a line without its end.
    pub(super) fn split(&mut self, line: &str, options: &CsvOptions) -> Result<(), String> {
        self.text.clear();
        self.ends.clear();
        let mut rest = line;
        loop {
            let quote = options.quote.map(char::from);
            rest = match quote.filter(|quote| rest.starts_with(*quote)) {
                Some(quote) => self.quoted(line, &rest[1..], quote, options)?,
                None => self.plain(rest, options),
            };
            self.ends.push(self.text.len());
            match rest.strip_prefix(options.delimiter.as_str()) {
                Some(next) => rest = next,
                None if rest.is_empty() => return Ok(()),
                None => {
                    let at = line.len() - rest.len();
                    return Err(format!(
                        "byte {at}: expected the delimiter behind the quote"
                    ));
                }
            }
        }
    }

    /// Up to the delimiter, which is left in the rest.
    fn plain<'a>(&mut self, text: &'a str, options: &CsvOptions) -> &'a str {
        let Some(escape) = options.escape.map(char::from) else {
            let end = text.find(options.delimiter.as_str()).unwrap_or(text.len());
            self.text.push_str(&text[..end]);
            return &text[end..];
        };
        let mut rest = text;
        loop {
            if rest.is_empty() || rest.starts_with(options.delimiter.as_str()) {
                return rest;
            }
            rest = self.character(rest, Some(escape));
        }
    }

    /// Takes one character, or an escape and the character behind it.
    fn character<'a>(&mut self, text: &'a str, escape: Option<char>) -> &'a str {
        let mut characters = text.chars();
        match characters.next() {
            Some(first) if Some(first) == escape => {
                self.text
                    .extend(characters.next().map(|escaped| match escaped {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        '0' => '\0',
                        other => other,
                    }));
            }
            first => self.text.extend(first),
        }
        characters.as_str()
    }

    fn quoted<'a>(
        &mut self,
        line: &str,
        text: &'a str,
        quote: char,
        options: &CsvOptions,
    ) -> Result<&'a str, String> {
        let escape = options.escape.map(char::from);
        let mut rest = text;
        loop {
            let special = |character| character == quote || Some(character) == escape;
            let Some(at) = rest.find(special) else {
                let at = line.len() - text.len();
                return Err(format!("byte {at}: a quote is not closed"));
            };
            self.text.push_str(&rest[..at]);
            rest = &rest[at..];
            if !rest.starts_with(quote) {
                rest = self.character(rest, escape);
                continue;
            }
            rest = &rest[1..];
            match rest.strip_prefix(quote) {
                Some(behind) => {
                    self.text.push(quote);
                    rest = behind;
                }
                None => return Ok(rest.trim_start_matches(' ')),
            }
        }
    }
}
