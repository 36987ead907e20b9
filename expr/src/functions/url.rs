//! PARSE_URL, URL_ENCODE and URL_DECODE, as `java.net.URL` and `URLEncoder` do it: nothing is normalised.

use arrow::array::ArrayRef;
use datafusion_common::Result;

use super::call::{Call, put, put_char, texts};
use super::function::Function;
use super::params::Param;
use crate::coerce::types::STRING;

const ONE: &[Param] = &[Param::Text];
const PARSE: &[Param] = &[Param::Text, Param::Text, Param::Text];

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::new("PARSE_URL", PARSE, STRING, parse_url).optional(1),
        Function::new("URL_ENCODE", ONE, STRING, encode).strict(),
        Function::new("URL_DECODE", ONE, STRING, decode),
    ]
}

/// The parts of a URL as they are written.
struct Url<'a> {
    protocol: &'a str,
    authority: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    reference: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let (protocol, rest) = text.split_once(':')?;
        let known = ["http", "https", "ftp", "file", "jar", "mailto"];
        if !known.iter().any(|name| name.eq_ignore_ascii_case(protocol)) {
            return None;
        }
        let (rest, reference) = match rest.split_once('#') {
            Some((rest, reference)) => (rest, Some(reference)),
            None => (rest, None),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        Some(Self {
            protocol,
            authority,
            path,
            query,
            reference,
        })
    }

    fn user_info(&self) -> Option<&'a str> {
        self.authority.rsplit_once('@').map(|(user, _)| user)
    }

    fn host(&self) -> &'a str {
        let host = self
            .authority
            .rsplit_once('@')
            .map_or(self.authority, |(_, host)| host);
        if host.starts_with('[') {
            return host.find(']').map_or(host, |end| &host[..=end]);
        }
        host.split_once(':').map_or(host, |(host, _)| host)
    }

    /// The value of a parameter of the query.
    fn parameter(&self, key: &str) -> Option<&'a str> {
        self.query?.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (name == key).then_some(value)
        })
    }
}

fn parse_url(call: &Call) -> Result<ArrayRef> {
    let (url, part) = (call.text(0)?, call.text(1)?);
    let key = call.optional_text(2)?;
    texts(call.rows, |row, out| {
        let (url, part) = (Url::parse(url.get(row)?)?, part.get(row)?);
        if let Some(key) = &key {
            let key = key.get(row)?;
            if part != "QUERY" {
                return None;
            }
            put(out, url.parameter(key)?);
            return Some(());
        }
        match part {
            "HOST" => put(out, url.host()),
            "PATH" => put(out, url.path),
            "QUERY" => put(out, url.query?),
            "REF" => put(out, url.reference?),
            "PROTOCOL" => put(out, url.protocol),
            "AUTHORITY" => put(out, url.authority),
            "USERINFO" => put(out, url.user_info()?),
            "FILE" => {
                put(out, url.path);
                if let Some(query) = url.query {
                    put_char(out, '?');
                    put(out, query);
                }
            }
            _ => return None,
        }
        Some(())
    })
}

/// As for a form: a blank is a plus.
fn encode(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    texts(call.rows, |row, out| {
        for byte in text.get(row)?.bytes() {
            match byte {
                b' ' => put_char(out, '+'),
                b if b.is_ascii_alphanumeric() || b"-_.*".contains(&b) => {
                    put_char(out, char::from(b));
                }
                other => {
                    put_char(out, '%');
                    put(out, &hex::encode_upper([other]));
                }
            }
        }
        Some(())
    })
}

fn decode(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0)?;
    texts(call.rows, |row, out| {
        let mut bytes = Vec::new();
        let mut rest = text.get(row)?.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let pair = [rest.next()?, rest.next()?];
                    *hex::decode(pair).ok()?.first()?
                }
                other => other,
            });
        }
        put(out, &String::from_utf8_lossy(&bytes));
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::*;

    #[test]
    fn parts_of_urls() {
        check(vec![
            (
                "PARSE_URL",
                args!["http://userinfo@flink.apache.org/path?query=1#Ref", "HOST"],
                "flink.apache.org",
            ),
            (
                "PARSE_URL",
                args!["http://userinfo@flink.apache.org/path?query=1#Ref", "PATH"],
                "/path",
            ),
            (
                "PARSE_URL",
                args!["http://userinfo@flink.apache.org/path?query=1#Ref", "QUERY"],
                "query=1",
            ),
            (
                "PARSE_URL",
                args!["http://userinfo@flink.apache.org/path?query=1#Ref", "REF"],
                "Ref",
            ),
            (
                "PARSE_URL",
                args![
                    "http://userinfo@flink.apache.org/path?query=1#Ref",
                    "PROTOCOL"
                ],
                "http",
            ),
            (
                "PARSE_URL",
                args!["http://userinfo@flink.apache.org/path?query=1#Ref", "FILE"],
                "/path?query=1",
            ),
            (
                "PARSE_URL",
                args![
                    "http://userinfo@flink.apache.org/path?query=1#Ref",
                    "AUTHORITY"
                ],
                "userinfo@flink.apache.org",
            ),
            (
                "PARSE_URL",
                args![
                    "http://userinfo@flink.apache.org/path?query=1#Ref",
                    "USERINFO"
                ],
                "userinfo",
            ),
            (
                "PARSE_URL",
                args![
                    "http://userinfo@flink.apache.org/path?query=1#Ref",
                    "QUERY",
                    "query"
                ],
                "1",
            ),
            ("PARSE_URL", args!["http://user:pass@host/?#", "QUERY"], ""),
            ("PARSE_URL", args!["http://user:pass@host/?#", "FILE"], "/?"),
            ("PARSE_URL", args!["http://user:pass@host", "QUERY"], "NULL"),
            ("PARSE_URL", args!["http://user:pass@host", "PATH"], ""),
            (
                "PARSE_URL",
                args!["invalid://user@host/file", "HOST"],
                "NULL",
            ),
            ("URL_ENCODE", args!["a b&ä"], "a+b%26%C3%A4"),
            ("URL_DECODE", args!["a+b%26%C3%A4"], "a b&ä"),
            ("URL_DECODE", args!["%zz"], "NULL"),
        ]);
    }
}
