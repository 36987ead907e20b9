//! Windowing table-valued functions: `TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND))`.
//!
//! The dialect reads the argument `TABLE bid` as a call of a function that is named `TABLE`, with the table's name as its only argument;
//! `PARTITION BY a, b` becomes the PARTITION BY of its OVER. Nobody but this file needs to know.

use datafusion_common::ScalarValue;
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    Interval, ObjectName, Query, TableAlias, TableFactor, WindowType,
};
use weir_proto::v1::WindowKind;

use crate::error::{Result, SqlError, nearest};
use crate::plan::literal;

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

/// What a windowing function is applied to.
#[derive(Debug, Clone, PartialEq)]
pub enum TvfInput {
    /// TABLE name
    Table(ObjectName),
    /// (SELECT ...)
    Query(Box<Query>),
}

/// The windowing function that a table in FROM is, with `TABLE( )` around it or without; `None` if it is something else.
pub fn window_tvf(factor: &TableFactor) -> Option<Result<WindowTvf>> {
    let (name, args, alias) = match factor {
        TableFactor::TableFunction {
            expr: Expr::Function(function),
            alias,
        } => (&function.name, plain_arguments(function)?, alias),
        TableFactor::Table {
            name,
            args: Some(args),
            alias,
            ..
        } => (name, args.args.as_slice(), alias),
        _ => return None,
    };
    let [part] = name.0.as_slice() else {
        return None;
    };
    let ident = part.as_ident()?;
    let form = FORMS
        .iter()
        .find(|form| form.name.eq_ignore_ascii_case(&ident.value))?;
    let call = form.call(ident, args, alias.clone());
    Some(call.map_err(|error| error.at_location(ident.span.start)))
}

fn plain_arguments(function: &Function) -> Option<&[FunctionArg]> {
    match &function.args {
        FunctionArguments::List(FunctionArgumentList { args, clauses, .. })
            if clauses.is_empty() =>
        {
            Some(args)
        }
        _ => None,
    }
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

    /// "TUMBLE(TABLE data, DESCRIPTOR(timecol), size [, offset])"
    fn usage(&self) -> String {
        let slide = self
            .slide
            .map_or(String::new(), |slide| format!("{slide}, "));
        let offset = if self.has_offset { " [, OFFSET]" } else { "" };
        format!(
            "write {}(TABLE t, DESCRIPTOR(timecol), {slide}{}{offset})",
            self.name, self.size
        )
    }

    fn call(
        &self,
        ident: &Ident,
        args: &[FunctionArg],
        alias: Option<TableAlias>,
    ) -> Result<WindowTvf> {
        let parameters = self.parameters();
        let values = self.assign(&parameters, args)?;
        let get = |name: &str| {
            let index = parameters.iter().position(|parameter| *parameter == name);
            index.and_then(|index| values[index])
        };
        let required = |name: &str| {
            get(name).ok_or_else(|| {
                SqlError::new(format!("{} lacks {name}", self.name)).hint(self.usage())
            })
        };
        let (input, partition_by) = self.input(required("DATA")?)?;
        let window = WindowTvf {
            kind: self.kind,
            input,
            partition_by,
            time_column: self.time_column(required("TIMECOL")?)?,
            slide_ms: match self.slide {
                Some(slide) => self.positive(slide, required(slide)?)?,
                None => 0,
            },
            size_ms: self.positive(self.size, required(self.size)?)?,
            offset_ms: get("OFFSET").map_or(Ok(0), |offset| self.millis("OFFSET", offset))?,
            alias,
        };
        self.check(&window)
            .map_err(|error| error.at_location(ident.span.start))?;
        Ok(window)
    }

    /// The arguments in the order of the parameters.
    fn assign<'a>(
        &self,
        parameters: &[&'static str],
        args: &'a [FunctionArg],
    ) -> Result<Vec<Option<&'a Expr>>> {
        let mut values = vec![None; parameters.len()];
        for (position, arg) in args.iter().enumerate() {
            let (index, value) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (position, value),
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(value),
                    ..
                } => {
                    let same = |parameter: &&str| parameter.eq_ignore_ascii_case(&name.value);
                    let index = parameters.iter().position(same).ok_or_else(|| {
                        let near = nearest(&name.value, parameters.iter().copied());
                        SqlError::new(format!("{} has no parameter '{}'", self.name, name.value))
                            .hint(near.map_or_else(
                                || self.usage(),
                                |near| format!("did you mean '{near}'?"),
                            ))
                            .at_location(name.span.start)
                    })?;
                    (index, value)
                }
                _ => return Err(self.stray(arg)),
            };
            let slot = values.get_mut(index).ok_or_else(|| self.stray(arg))?;
            if slot.replace(value).is_some() {
                let error = SqlError::new(format!("{} is given '{arg}' twice", self.name));
                return Err(error.at(value));
            }
        }
        Ok(values)
    }

    fn stray(&self, arg: &FunctionArg) -> SqlError {
        SqlError::new(format!("{} does not take '{arg}'", self.name))
            .hint(self.usage())
            .at(arg)
    }

    fn input(&self, data: &Expr) -> Result<(TvfInput, Vec<Expr>)> {
        match data {
            Expr::Subquery(query) => Ok((TvfInput::Query(query.clone()), Vec::new())),
            Expr::Nested(inner) => self.input(inner),
            Expr::Function(function) if function.name.to_string() == "TABLE" => {
                let partition_by = match &function.over {
                    Some(WindowType::WindowSpec(spec)) => spec.partition_by.clone(),
                    _ => Vec::new(),
                };
                if !partition_by.is_empty() && self.kind != WindowKind::Session {
                    let error = SqlError::unsupported(format!("PARTITION BY in {}", self.name));
                    return Err(error.at(function));
                }
                match plain_arguments(function) {
                    Some(
                        [
                            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(
                                parts,
                            ))),
                        ],
                    ) => Ok((
                        TvfInput::Table(ObjectName::from(parts.clone())),
                        partition_by,
                    )),
                    _ => Err(self.wrong("DATA", "TABLE name or a query in parentheses", data)),
                }
            }
            _ => Err(self.wrong("DATA", "TABLE name or a query in parentheses", data)),
        }
    }

    fn time_column(&self, descriptor: &Expr) -> Result<Ident> {
        if let Expr::Function(function) = descriptor
            && function.name.to_string().eq_ignore_ascii_case("DESCRIPTOR")
            && let Some([FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(column)))]) =
                plain_arguments(function)
        {
            return Ok(column.clone());
        }
        Err(self.wrong("TIMECOL", "DESCRIPTOR(column)", descriptor))
    }

    fn wrong(&self, parameter: &str, wanted: &str, found: &Expr) -> SqlError {
        SqlError::new(format!(
            "{parameter} of {} is to be {wanted}, not '{found}'",
            self.name
        ))
        .hint(self.usage())
        .at(found)
    }

    fn millis(&self, parameter: &str, value: &Expr) -> Result<i64> {
        match value {
            Expr::Interval(interval) => interval_millis(interval).map_err(|error| error.at(value)),
            Expr::Nested(inner) => self.millis(parameter, inner),
            _ => Err(self.wrong(parameter, "an interval like INTERVAL '10' SECOND", value)),
        }
    }

    fn positive(&self, parameter: &str, value: &Expr) -> Result<i64> {
        let millis = self.millis(parameter, value)?;
        if millis <= 0 {
            let error = SqlError::new(format!("{parameter} of {} is to be above 0", self.name));
            return Err(error.at(value));
        }
        Ok(millis)
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

/// An INTERVAL of days and smaller units, in milliseconds.
fn interval_millis(interval: &Interval) -> Result<i64> {
    match literal::interval(interval)? {
        ScalarValue::DurationMillisecond(Some(millis)) => Ok(millis),
        _ => Err(SqlError::new(format!("{interval} is not a length of time"))
            .hint("months and years differ in length")),
    }
}
