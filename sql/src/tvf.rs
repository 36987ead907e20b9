//! Windowing table-valued functions: `TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND))`.

use datafusion_common::ScalarValue;
use sqlparser::ast::{Expr, FunctionArg, Ident, Interval, TableAlias, TableFactor};
use weir_proto::v1::WindowKind;

use crate::error::{Result, SqlError};
use crate::plan::literal;
pub use crate::signature::TvfInput;
use crate::signature::{self, Signature};

/// A call of TUMBLE, HOP, CUMULATE or SESSION in FROM. All times in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowTvf {
    /// Which of them.
    pub kind: WindowKind,
    /// What is windowed.
    pub input: TvfInput,
    /// DESCRIPTOR(column)
    pub time_column: Ident,
    /// TUMBLE, HOP: size; CUMULATE: the largest; SESSION: the gap. Above 0.
    pub size_ms: i64,
    /// HOP: slide; CUMULATE: step, both above 0; else 0.
    pub slide_ms: i64,
    /// 0 if absent.
    pub offset_ms: i64,
    /// SESSION(TABLE t PARTITION BY ...)
    pub partition_by: Vec<Expr>,
    /// AS alias (columns)
    pub alias: Option<TableAlias>,
}

/// The windowing function that a table in FROM is, with `TABLE( )` around it or without; `None` if it is something else.
pub fn window_tvf(factor: &TableFactor) -> Option<Result<WindowTvf>> {
    let (ident, args, alias) = signature::call(factor)?;
    let form = FORMS
        .iter()
        .find(|form| form.name.eq_ignore_ascii_case(&ident.value))?;
    let call = form.call(ident, args, alias.cloned());
    Some(call.map_err(|error| error.at_location(ident.span.start)))
}

/// Parameters of one function after DATA and TIMECOL, in the order in which they are given without names.
struct Form {
    name: &'static str,
    kind: WindowKind,
    slide: Option<&'static str>,
    size: &'static str,
    has_offset: bool,
}

const FORMS: [Form; 4] = [
    Form {
        name: "TUMBLE",
        kind: WindowKind::Tumble,
        slide: None,
        size: "SIZE",
        has_offset: true,
    },
    Form {
        name: "HOP",
        kind: WindowKind::Hop,
        slide: Some("SLIDE"),
        size: "SIZE",
        has_offset: true,
    },
    Form {
        name: "CUMULATE",
        kind: WindowKind::Cumulate,
        slide: Some("STEP"),
        size: "SIZE",
        has_offset: true,
    },
    Form {
        name: "SESSION",
        kind: WindowKind::Session,
        slide: None,
        size: "GAP",
        has_offset: false,
    },
];

impl Form {
    fn parameters(&self) -> Vec<&'static str> {
        let mut parameters = vec!["DATA", "TIMECOL"];
        parameters.extend(self.slide);
        parameters.push(self.size);
        if self.has_offset {
            parameters.push("OFFSET");
        }
        parameters
    }

    fn signature(&self) -> Signature {
        let slide = self
            .slide
            .map_or(String::new(), |slide| format!("{slide}, "));
        let offset = if self.has_offset { " [, OFFSET]" } else { "" };
        Signature {
            name: self.name,
            parameters: self.parameters(),
            usage: format!(
                "write {}(TABLE t, DESCRIPTOR(timecol), {slide}{}{offset})",
                self.name, self.size
            ),
        }
    }

    fn call(
        &self,
        ident: &Ident,
        args: &[FunctionArg],
        alias: Option<TableAlias>,
    ) -> Result<WindowTvf> {
        let signature = self.signature();
        let values = signature.assign(args)?;
        let get = |name: &str| {
            let mut parameters = signature.parameters.iter();
            let index = parameters.position(|parameter| *parameter == name);
            index.and_then(|index| values[index])
        };
        let required = |name: &str| {
            get(name).ok_or_else(|| {
                SqlError::new(format!("{} lacks {name}", self.name)).hint(signature.usage.clone())
            })
        };
        let data = required("DATA")?;
        let (input, partition_by) = signature.input("DATA", data)?;
        if !partition_by.is_empty() && self.kind != WindowKind::Session {
            let error = SqlError::unsupported(format!("PARTITION BY in {}", self.name));
            return Err(error.at(data));
        }
        let window = WindowTvf {
            kind: self.kind,
            input,
            partition_by,
            time_column: signature.descriptor("TIMECOL", required("TIMECOL")?)?,
            slide_ms: match self.slide {
                Some(slide) => positive(&signature, slide, required(slide)?)?,
                None => 0,
            },
            size_ms: positive(&signature, self.size, required(self.size)?)?,
            offset_ms: get("OFFSET")
                .map_or(Ok(0), |offset| millis(&signature, "OFFSET", offset))?,
            alias,
        };
        self.check(&window)
            .map_err(|error| error.at_location(ident.span.start))?;
        Ok(window)
    }

    fn check(&self, window: &WindowTvf) -> Result<()> {
        // Flink asks the same of CUMULATE, and cuts HOP into slices of the greatest common divisor.
        if self.kind == WindowKind::Cumulate && window.size_ms % window.slide_ms != 0 {
            return Err(SqlError::new(
                "SIZE of CUMULATE is to be a multiple of its STEP",
            ));
        }
        Ok(())
    }
}

fn millis(signature: &Signature, parameter: &str, value: &Expr) -> Result<i64> {
    match value {
        Expr::Interval(interval) => interval_millis(interval).map_err(|error| error.at(value)),
        Expr::Nested(inner) => millis(signature, parameter, inner),
        _ => Err(signature.wrong(parameter, "an interval like INTERVAL '10' SECOND", value)),
    }
}

fn positive(signature: &Signature, parameter: &str, value: &Expr) -> Result<i64> {
    let millis = millis(signature, parameter, value)?;
    if millis <= 0 {
        let error = SqlError::new(format!(
            "{parameter} of {} is to be above 0",
            signature.name
        ));
        return Err(error.at(value));
    }
    Ok(millis)
}

/// An INTERVAL of days and smaller units, in milliseconds.
fn interval_millis(interval: &Interval) -> Result<i64> {
    match literal::interval(interval)? {
        ScalarValue::DurationMillisecond(Some(millis)) => Ok(millis),
        _ => Err(SqlError::new(format!("{interval} is not a length of time"))
            .hint("months and years differ in length")),
    }
}
