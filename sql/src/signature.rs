//! Arguments of table functions, by position or by name: `f(TABLE t, DESCRIPTOR(c))`, `f(DATA => TABLE t)`.
//!
//! The dialect reads the argument `TABLE bid` as a call of a function that is named `TABLE`, with the table's name as its only argument;
//! `PARTITION BY a, b` becomes the PARTITION BY of its OVER.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Query, TableAlias, TableFactor, WindowType,
};

use crate::error::{Result, SqlError, nearest};

/// What a table function is applied to.
#[derive(Debug, Clone, PartialEq)]
pub enum TvfInput {
    /// TABLE name
    Table(ObjectName),
    /// (SELECT ...)
    Query(Box<Query>),
}

/// A call in FROM, with `TABLE( )` around it or without: name, arguments, alias. `None` if it is something else.
pub(crate) fn call(factor: &TableFactor) -> Option<(&Ident, &[FunctionArg], Option<&TableAlias>)> {
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
    Some((part.as_ident()?, args, alias.as_ref()))
}

/// The arguments of a call that is nothing but a name and arguments.
pub(crate) fn plain_arguments(function: &Function) -> Option<&[FunctionArg]> {
    match &function.args {
        FunctionArguments::List(FunctionArgumentList { args, clauses, .. })
            if clauses.is_empty() =>
        {
            Some(args)
        }
        _ => None,
    }
}

/// What a function takes.
pub(crate) struct Signature {
    pub name: &'static str,
    /// In the order in which they are given without names.
    pub parameters: Vec<&'static str>,
    /// "write F(...)"
    pub usage: String,
}

impl Signature {
    /// The arguments in the order of the parameters.
    pub fn assign<'a>(&self, args: &'a [FunctionArg]) -> Result<Vec<Option<&'a Expr>>> {
        let mut values = vec![None; self.parameters.len()];
        for (position, arg) in args.iter().enumerate() {
            let (index, value) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (position, value),
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(value),
                    ..
                } => {
                    let same = |parameter: &&str| parameter.eq_ignore_ascii_case(&name.value);
                    let index = self.parameters.iter().position(same).ok_or_else(|| {
                        let near = nearest(&name.value, self.parameters.iter().copied());
                        SqlError::new(format!("{} has no parameter '{}'", self.name, name.value))
                            .hint(near.map_or_else(
                                || self.usage.clone(),
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
            .hint(self.usage.clone())
            .at(arg)
    }

    /// An argument that is a relation, and its PARTITION BY.
    pub fn input(&self, parameter: &str, data: &Expr) -> Result<(TvfInput, Vec<Expr>)> {
        let wrong = || self.wrong(parameter, "TABLE name or a query in parentheses", data);
        match data {
            Expr::Subquery(query) => Ok((TvfInput::Query(query.clone()), Vec::new())),
            Expr::Nested(inner) => self.input(parameter, inner),
            Expr::Function(function) if function.name.to_string() == "TABLE" => {
                let partition_by = match &function.over {
                    Some(WindowType::WindowSpec(spec)) => spec.partition_by.clone(),
                    _ => Vec::new(),
                };
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
                    _ => Err(wrong()),
                }
            }
            _ => Err(wrong()),
        }
    }

    /// The column of DESCRIPTOR(column).
    pub fn descriptor(&self, parameter: &str, descriptor: &Expr) -> Result<Ident> {
        if let Expr::Function(function) = descriptor
            && function.name.to_string().eq_ignore_ascii_case("DESCRIPTOR")
        {
            match plain_arguments(function) {
                Some([FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(column)))]) => {
                    return Ok(column.clone());
                }
                Some([_, _, ..]) => {
                    return Err(SqlError::new(format!(
                        "The descriptor for argument '{parameter}' must contain exactly one column name."
                    ))
                    .at(descriptor));
                }
                _ => {}
            }
        }
        Err(self.wrong(parameter, "DESCRIPTOR(column)", descriptor))
    }

    /// An argument that is something else than wanted.
    pub fn wrong(&self, parameter: &str, wanted: &str, found: &Expr) -> SqlError {
        SqlError::new(format!(
            "{parameter} of {} is to be {wanted}, not '{found}'",
            self.name
        ))
        .hint(self.usage.clone())
        .at(found)
    }
}
