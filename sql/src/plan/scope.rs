//! The names that an expression can use, and what they stand for.

use std::sync::Arc;

use datafusion_expr::Expr;
use sqlparser::ast::{self, Ident};

use super::rel::Column;
use crate::error::{Result, SqlError};

/// Columns of a FROM clause, by position in the joined row.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub columns: Vec<ScopeColumn>,
    /// What the query around a subquery can name: columns behind `columns`.
    pub outer: Option<Arc<Scope>>,
    /// Subqueries that are joined, with what stands for each.
    pub subqueries: Vec<(ast::Expr, Expr)>,
}

/// A column under the name of its relation.
#[derive(Debug, Clone)]
pub(super) struct ScopeColumn {
    /// Alias or name of the table; none for a subquery without alias.
    pub qualifier: Option<String>,
    pub column: Column,
    /// It has no name: what a subquery was joined with.
    pub hidden: bool,
}

impl ScopeColumn {
    /// One without a name.
    pub fn hidden(column: Column) -> Self {
        Self {
            qualifier: None,
            column,
            hidden: true,
        }
    }
}

impl Scope {
    /// All columns of one relation.
    pub fn of_relation(qualifier: Option<&str>, columns: &[Column]) -> Self {
        let columns = columns.iter().map(|column| ScopeColumn {
            qualifier: qualifier.map(str::to_owned),
            column: column.clone(),
            hidden: false,
        });
        Self {
            columns: columns.collect(),
            ..Self::default()
        }
    }

    /// The row types, without qualifiers.
    pub fn row(&self) -> Vec<Column> {
        self.columns
            .iter()
            .map(|entry| entry.column.clone())
            .collect()
    }

    /// The columns, then those of the query around.
    pub fn row_in_sight(&self) -> Vec<Column> {
        let mut row = self.row();
        row.extend(self.outer.iter().flat_map(|outer| outer.row()));
        row
    }

    /// As [`Self::resolve`], in the query around if it is not here.
    pub fn resolve_in_sight<'n>(&self, names: &'n [Ident]) -> Result<(usize, &'n [Ident])> {
        let here = self.resolve(names);
        match (&here, &self.outer) {
            (Err(_), Some(outer)) => match outer.resolve(names) {
                Ok((index, fields)) => Ok((self.columns.len() + index, fields)),
                Err(_) => here,
            },
            _ => here,
        }
    }

    /// What a dotted name stands for: a column, and the names of nested fields that are left.
    pub fn resolve<'n>(&self, names: &'n [Ident]) -> Result<(usize, &'n [Ident])> {
        let names = self.strip_catalog(names);
        let Some((first, rest)) = names.split_first() else {
            return Err(SqlError::new("a name is empty"));
        };
        if let Some((second, fields)) = rest.split_first()
            && self.has_qualifier(&first.value)
        {
            if let Some(index) = self.find(Some(&first.value), second)? {
                return Ok((index, fields));
            }
            // A relation and a ROW column of another one may share a name.
            if self.find(None, first)?.is_none() {
                let known = self.names(Some(&first.value));
                return Err(SqlError::unknown("column", second, known));
            }
        }
        match self.find(None, first)? {
            Some(index) => Ok((index, rest)),
            None if rest.is_empty() => Err(self.unknown_column(first)),
            None => Err(SqlError::unknown(
                "table or column",
                first,
                self.qualifiers().chain(self.names(None)),
            )),
        }
    }

    /// `catalog.database.t.c` is `t.c`.
    fn strip_catalog<'n>(&self, names: &'n [Ident]) -> &'n [Ident] {
        let qualified = |index: usize| {
            names
                .get(index)
                .is_some_and(|name| self.has_qualifier(&name.value))
        };
        let is_column = names
            .first()
            .is_some_and(|first| self.names(None).any(|name| name == first.value));
        if qualified(0) || is_column {
            return names;
        }
        match (qualified(1), qualified(2)) {
            (true, _) => &names[1..],
            (false, true) => &names[2..],
            (false, false) => names,
        }
    }

    fn unknown_column(&self, name: &Ident) -> SqlError {
        SqlError::unknown("column", name, self.names(None))
    }

    fn has_qualifier(&self, name: &str) -> bool {
        self.qualifiers().any(|qualifier| qualifier == name)
    }

    fn qualifiers(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .filter_map(|entry| entry.qualifier.as_deref())
    }

    fn names<'s>(&'s self, qualifier: Option<&'s str>) -> impl Iterator<Item = &'s str> {
        self.columns
            .iter()
            .filter(move |entry| qualifier.is_none() || entry.qualifier.as_deref() == qualifier)
            .map(|entry| entry.column.name.as_str())
    }

    fn find(&self, qualifier: Option<&str>, name: &Ident) -> Result<Option<usize>> {
        let mut found = None;
        for (index, entry) in self.columns.iter().enumerate() {
            let here = qualifier.is_none() || entry.qualifier.as_deref() == qualifier;
            if !here || entry.hidden || entry.column.name != name.value {
                continue;
            }
            if found.replace(index).is_some() {
                return Err(self.ambiguous(name));
            }
        }
        Ok(found)
    }

    fn ambiguous(&self, name: &Ident) -> SqlError {
        let candidates: Vec<_> = self
            .columns
            .iter()
            .filter(|entry| entry.column.name == name.value)
            .filter_map(|entry| Some(format!("{}.{}", entry.qualifier.as_ref()?, name.value)))
            .collect();
        let error = SqlError::new(format!("column '{}' is ambiguous", name.value))
            .at_location(name.span.start);
        if candidates.is_empty() {
            return error;
        }
        error.hint(format!("write {}", candidates.join(" or ")))
    }
}
