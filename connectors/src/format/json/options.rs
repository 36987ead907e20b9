//! The options `json.*` (and those of formats that are JSON inside).

use weir_dataflow::{Error, Result};

use crate::format::parse::TimestampStandard;
use crate::format::scalar::ScalarRules;
use crate::options::OptionReader;

/// What to do with a map's NULL key when writing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum NullKey {
    #[default]
    Fail,
    Drop,
    Literal(String),
}

/// Of reading and writing.
#[derive(Debug, Clone, Default)]
pub(crate) struct JsonOptions {
    pub ignore_parse_errors: bool,
    pub fail_on_missing_field: bool,
    pub timestamps: TimestampStandard,
    pub null_key: NullKey,
    pub plain_decimals: bool,
    pub ignore_null_fields: bool,
}

impl JsonOptions {
    /// `prefix` is `json.`, `value.json.` or that of a format around it.
    pub(crate) fn read(options: &OptionReader<'_>, prefix: &str) -> Result<Self> {
        let missing = format!("{prefix}fail-on-missing-field");
        let fail_on_missing_field = options.boolean(&missing)?.unwrap_or(false);
        let read = Self {
            fail_on_missing_field,
            ..Self::read_common(options, prefix)?
        };
        if read.fail_on_missing_field && read.ignore_parse_errors {
            return Err(Error::Config(format!(
                "options '{missing}' and '{prefix}ignore-parse-errors' cannot both be true"
            )));
        }
        // Both ways of decoding of Flink's give the same rows; there is one here.
        options.boolean(&format!("{prefix}decode.json-parser.enabled"))?;
        Ok(read)
    }

    /// Without `fail-on-missing-field`, which the changelog formats do not have.
    pub(crate) fn read_common(options: &OptionReader<'_>, prefix: &str) -> Result<Self> {
        let key = |name: &str| format!("{prefix}{name}");
        let standard = options.choice(&key("timestamp-format.standard"), &["SQL", "ISO-8601"])?;
        let mode = options.choice(&key("map-null-key.mode"), &["FAIL", "DROP", "LITERAL"])?;
        let literal = options.text(&key("map-null-key.literal")).unwrap_or("null");
        let flag = |name: &str| Ok::<_, Error>(options.boolean(&key(name))?.unwrap_or(false));
        Ok(Self {
            ignore_parse_errors: flag("ignore-parse-errors")?,
            fail_on_missing_field: false,
            timestamps: match standard {
                Some("ISO-8601") => TimestampStandard::Iso8601,
                _ => TimestampStandard::Sql,
            },
            null_key: match mode {
                Some("DROP") => NullKey::Drop,
                Some("LITERAL") => NullKey::Literal(literal.to_owned()),
                _ => NullKey::Fail,
            },
            plain_decimals: flag("encode.decimal-as-plain-number")?,
            ignore_null_fields: flag("encode.ignore-null-fields")?,
        })
    }

    pub(crate) fn scalar_rules(&self) -> ScalarRules {
        ScalarRules {
            timestamps: self.timestamps,
            lenient_dates: false,
        }
    }
}
