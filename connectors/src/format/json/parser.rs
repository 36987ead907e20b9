//! Walks through the JSON text of one record. Accepts what Jackson accepts as Flink configures it: RFC 8259, and control characters in texts.

use memchr::memchr2;

/// Deeper nesting is refused, as Jackson does.
const MAX_DEPTH: usize = 1000;

/// Why a record can't be read.
#[derive(Debug)]
pub(super) struct Fault {
    /// Byte in the record.
    pub position: usize,
    pub reason: String,
    /// Fields from the innermost outwards.
    pub path: Vec<String>,
    /// Only the value is wrong, and the parser stands behind it: `ignore-parse-errors` makes it NULL. Else the whole record is broken.
    pub value_only: bool,
}

pub(super) type Parsed<T> = Result<T, Box<Fault>>;

pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
}

/// A text: a part of the record, or in the scratch buffer because it had escapes.
pub(super) enum Token<'a> {
    Borrowed(&'a str),
    Unescaped,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn broken<T>(&self, reason: &str) -> Parsed<T> {
        let reason = if self.at >= self.text.len() {
            format!("the JSON text ends too early: {reason}")
        } else {
            reason.to_owned()
        };
        Err(Box::new(Fault {
            position: self.at,
            reason,
            path: Vec::new(),
            value_only: false,
        }))
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The next byte that is not blank, without taking it; 0 at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> u8 {
        let bytes = self.bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8, reason: &str) -> Parsed<()> {
        if self.peek() == byte {
            self.at += 1;
            Ok(())
        } else {
            self.broken(reason)
        }
    }

    /// Takes the byte if it is next.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    pub(super) fn literal(&mut self, word: &str) -> Parsed<()> {
        if self.bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            self.broken("expected a JSON value")
        }
    }

    /// A number and whether it has a fraction or exponent.
    pub(super) fn number(&mut self) -> Parsed<(&'a str, bool)> {
        let start = self.at;
        let bytes = self.bytes();
        let mut is_float = false;
        self.at += usize::from(bytes.get(self.at) == Some(&b'-'));
        let first = self.at;
        self.digits()?;
        if bytes[first] == b'0' && self.at > first + 1 {
            return self.broken("a number has leading zeros");
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            is_float = true;
            self.digits()?;
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            is_float = true;
            self.at += usize::from(matches!(bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok((&self.text[start..self.at], is_float))
    }

    fn digits(&mut self) -> Parsed<()> {
        let start = self.at;
        let bytes = self.bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            return self.broken("expected a JSON value");
        }
        Ok(())
    }

    /// A text, the parser standing at its opening quote.
    #[inline]
    pub(super) fn string(&mut self, scratch: &mut String) -> Parsed<Token<'a>> {
        let start = self.at + 1;
        match memchr2(b'"', b'\\', &self.bytes()[start..]) {
            Some(length) if self.bytes()[start + length] == b'"' => {
                self.at = start + length + 1;
                Ok(Token::Borrowed(&self.text[start..start + length]))
            }
            Some(_) => {
                self.at = start;
                scratch.clear();
                self.unescape(scratch)?;
                Ok(Token::Unescaped)
            }
            None => {
                self.at = self.text.len();
                self.broken("a text is not closed")
            }
        }
    }

    fn unescape(&mut self, out: &mut String) -> Parsed<()> {
        loop {
            let rest = &self.bytes()[self.at..];
            let Some(length) = memchr2(b'"', b'\\', rest) else {
                self.at = self.text.len();
                return self.broken("a text is not closed");
            };
            out.push_str(&self.text[self.at..self.at + length]);
            self.at += length + 1;
            if rest[length] == b'"' {
                return Ok(());
            }
            let escape = self.bytes().get(self.at).copied().unwrap_or(0);
            self.at += 1;
            out.push(match escape {
                b'"' | b'\\' | b'/' => char::from(escape),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.unicode()?,
                _ => {
                    self.at -= 1;
                    return self.broken("an unknown escape in a text");
                }
            });
        }
    }

    /// `XXXX` behind `\u`, and the second half of a surrogate pair. A half alone becomes U+FFFD.
    fn unicode(&mut self) -> Parsed<char> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if !self.bytes()[self.at..].starts_with(b"\\u") {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let before = self.at;
        self.at += 2;
        let low = self.hex()?;
        if (0xdc00..0xe000).contains(&low) {
            let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.at = before;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Parsed<u32> {
        let digits = self.bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits.and_then(|digits| std::str::from_utf8(digits).ok()) else {
            return self.broken("an escape \\u has no four hexadecimal digits");
        };
        self.at += 4;
        Ok(u32::from_str_radix(digits, 16).unwrap_or(0))
    }

    /// Steps over a value of any kind.
    pub(super) fn skip(&mut self, scratch: &mut String) -> Parsed<()> {
        self.copy(None, scratch, 0)
    }

    /// Takes a value of any kind and writes it to `out` without blanks.
    pub(super) fn compact(&mut self, out: &mut Vec<u8>, scratch: &mut String) -> Parsed<()> {
        self.copy(Some(out), scratch, 0)
    }

    fn copy(
        &mut self,
        mut out: Option<&mut Vec<u8>>,
        scratch: &mut String,
        depth: usize,
    ) -> Parsed<()> {
        if depth > MAX_DEPTH {
            return self.broken("more than 1000 levels of nesting");
        }
        let start = self.at;
        match self.peek() {
            b'"' => return self.copy_string(out, scratch),
            b'{' => return self.copy_members(out, scratch, depth, b'}'),
            b'[' => return self.copy_members(out, scratch, depth, b']'),
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            _ => {
                self.number()?;
            }
        }
        if let Some(out) = out.as_mut() {
            out.extend_from_slice(self.text[start..self.at].trim_ascii_start().as_bytes());
        }
        Ok(())
    }

    fn copy_string(&mut self, out: Option<&mut Vec<u8>>, scratch: &mut String) -> Parsed<()> {
        let token = self.string(scratch)?;
        if let Some(out) = out {
            match token {
                Token::Borrowed(text) => super::encode::write_text(out, text),
                Token::Unescaped => super::encode::write_text(out, scratch),
            }
        }
        Ok(())
    }

    fn copy_members(
        &mut self,
        mut out: Option<&mut Vec<u8>>,
        scratch: &mut String,
        depth: usize,
        close: u8,
    ) -> Parsed<()> {
        let emit = |out: &mut Option<&mut Vec<u8>>, byte: u8| {
            if let Some(out) = out {
                out.push(byte);
            }
        };
        emit(&mut out, self.bytes()[self.at]);
        self.at += 1;
        let mut first = true;
        while !self.take(close) {
            if !first {
                self.expect(b',', "expected ',' or the end of an object or array")?;
                emit(&mut out, b',');
            }
            first = false;
            if close == b'}' {
                self.open_key()?;
                self.copy_string(out.as_deref_mut(), scratch)?;
                self.expect(b':', "expected ':'")?;
                emit(&mut out, b':');
            }
            self.copy(out.as_deref_mut(), scratch, depth + 1)?;
        }
        emit(&mut out, close);
        Ok(())
    }

    /// Moves to the quote that opens a key.
    pub(super) fn open_key(&mut self) -> Parsed<()> {
        if self.peek() == b'"' {
            Ok(())
        } else {
            self.broken("expected a field's name")
        }
    }
}
