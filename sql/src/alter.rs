//! ALTER TABLE: what becomes of a table's definition. Nothing of it touches data.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Ident, Visit, Visitor};

use crate::catalog::{ColumnKind, Table};
use crate::ddl;
use crate::error::{Result, SqlError};
use crate::statement::{ColumnPlace, CreateTable, TableChange};

/// The table after the change; renaming the table itself is the catalog's.
///
/// # Errors
/// What the change names is not there, is there already, or is in use.
pub(crate) fn altered(table: &Table, change: &TableChange) -> Result<Table> {
    let mut table = table.clone();
    match change {
        TableChange::Rename(_) => {}
        TableChange::RenameColumn(from, to) => rename_column(&mut table, from, to)?,
        TableChange::Set(options) => table.options.extend(options.iter().cloned()),
        TableChange::Reset(keys) => {
            for (key, place) in keys {
                if key == "connector" {
                    let error = SqlError::new("the option 'connector' cannot be reset");
                    return Err(error.at_location(*place));
                }
                table.options.remove(key);
            }
        }
        TableChange::Add(elements, places) => add(&mut table, elements, places)?,
        TableChange::Modify(elements, places) => modify(&mut table, elements, places)?,
        TableChange::DropColumns(names) => drop_columns(&mut table, names)?,
        TableChange::DropKey(name) => drop_key(&mut table, name.as_ref())?,
        TableChange::DropWatermark => {
            if table.watermark.take().is_none() {
                return Err(SqlError::new(format!(
                    "the table '{}' has no watermark",
                    table.name
                )));
            }
        }
    }
    Ok(table)
}

/// Name of the key's constraint, as Flink makes it.
pub(crate) fn key_name(table: &Table) -> String {
    let made = || format!("PK_{}", table.primary_key.join("_"));
    table.key_name.clone().unwrap_or_else(made)
}

fn rename_column(table: &mut Table, from: &Ident, to: &Ident) -> Result<()> {
    ddl::check_known(table, from)?;
    check_free(table, to)?;
    check_unused(table, std::slice::from_ref(from))?;
    for column in &mut table.columns {
        if column.name == from.value {
            column.name.clone_from(&to.value);
        }
    }
    for name in &mut table.primary_key {
        if *name == from.value {
            name.clone_from(&to.value);
        }
    }
    Ok(())
}

fn check_free(table: &Table, name: &Ident) -> Result<()> {
    match table.columns.iter().any(|column| column.name == name.value) {
        true => Err(
            SqlError::new(format!("the column '{}' is there already", name.value))
                .at_location(name.span.start),
        ),
        false => Ok(()),
    }
}

/// Nothing that stays reads these columns.
fn check_unused(table: &Table, names: &[Ident]) -> Result<()> {
    let goes = |column: &str| names.iter().any(|name| name.value == column);
    for name in names {
        let used = |by: String| {
            Err(
                SqlError::new(format!("the column '{}' is used by {by}", name.value))
                    .at_location(name.span.start),
            )
        };
        if table.partitioned_by.contains(&name.value) {
            return used("PARTITIONED BY".to_owned());
        }
        if let Some(watermark) = &table.watermark
            && (watermark.column == name.value || reads(&watermark.expr, &name.value))
        {
            return used("the watermark".to_owned());
        }
        let reader = table.columns.iter().find(|column| match &column.kind {
            ColumnKind::Computed(expr) => !goes(&column.name) && reads(expr, &name.value),
            _ => false,
        });
        if let Some(reader) = reader {
            return used(format!("the computed column '{}'", reader.name));
        }
    }
    Ok(())
}

fn reads(expr: &Expr, column: &str) -> bool {
    struct Find<'a>(&'a str);
    impl Visitor for Find<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let first = match expr {
                Expr::Identifier(ident) => Some(ident),
                Expr::CompoundIdentifier(idents) => idents.first(),
                _ => None,
            };
            match first.is_some_and(|ident| ident.value == self.0) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Find(column)).is_break()
}

fn add(table: &mut Table, elements: &CreateTable, places: &[ColumnPlace]) -> Result<()> {
    for (definition, place) in elements.columns.iter().zip(places) {
        check_free(table, &definition.name)?;
        let at = position(table, place)?.unwrap_or(table.columns.len());
        table.columns.insert(at, ddl::column(definition));
    }
    let has = |what: &str| {
        SqlError::new(format!("the table '{}' has {what} already", table.name))
            .hint("write ALTER TABLE ... MODIFY")
    };
    if elements.watermark.is_some() && table.watermark.is_some() {
        return Err(has("a watermark"));
    }
    if !elements.primary_key.is_empty() && !table.primary_key.is_empty() {
        return Err(has("a PRIMARY KEY"));
    }
    key_and_watermark(table, elements)
}

fn modify(table: &mut Table, elements: &CreateTable, places: &[ColumnPlace]) -> Result<()> {
    for (definition, place) in elements.columns.iter().zip(places) {
        ddl::check_known(table, &definition.name)?;
        let is_it = |name: &str| name == definition.name.value;
        let Some(old) = table.columns.iter().position(|column| is_it(&column.name)) else {
            continue;
        };
        table.columns.remove(old);
        let at = position(table, place)?.unwrap_or(old);
        table.columns.insert(at, ddl::column(definition));
    }
    let lacks = |what: &str| {
        SqlError::new(format!("the table '{}' has no {what}", table.name))
            .hint("write ALTER TABLE ... ADD")
    };
    if elements.watermark.is_some() && table.watermark.is_none() {
        return Err(lacks("watermark"));
    }
    if !elements.primary_key.is_empty() && table.primary_key.is_empty() {
        return Err(lacks("PRIMARY KEY"));
    }
    key_and_watermark(table, elements)
}

fn key_and_watermark(table: &mut Table, elements: &CreateTable) -> Result<()> {
    if let Some(watermark) = &elements.watermark {
        ddl::watermark(table, watermark)?;
    }
    if !elements.primary_key.is_empty() {
        ddl::primary_key(table, &elements.primary_key)?;
        table.key_name.clone_from(&elements.key_name);
    }
    Ok(())
}

fn position(table: &Table, place: &ColumnPlace) -> Result<Option<usize>> {
    Ok(match place {
        ColumnPlace::Unsaid => None,
        ColumnPlace::First => Some(0),
        ColumnPlace::After(name) => {
            ddl::check_known(table, name)?;
            let at = |column: &crate::catalog::Column| column.name == name.value;
            table.columns.iter().position(at).map(|at| at + 1)
        }
    })
}

fn drop_columns(table: &mut Table, names: &[Ident]) -> Result<()> {
    ddl::check_twice(names, "DROP")?;
    for name in names {
        ddl::check_known(table, name)?;
        if table.primary_key.contains(&name.value) {
            let error = SqlError::new(format!(
                "the column '{}' is used by the PRIMARY KEY",
                name.value
            ));
            return Err(error.at_location(name.span.start));
        }
    }
    check_unused(table, names)?;
    table
        .columns
        .retain(|column| names.iter().all(|name| name.value != column.name));
    match table.columns.is_empty() {
        true => Err(SqlError::new(format!(
            "the table '{}' would have no columns",
            table.name
        ))),
        false => Ok(()),
    }
}

fn drop_key(table: &mut Table, name: Option<&Ident>) -> Result<()> {
    if table.primary_key.is_empty() {
        return Err(SqlError::new(format!(
            "the table '{}' has no PRIMARY KEY",
            table.name
        )));
    }
    if let Some(name) = name {
        let known = key_name(table);
        if name.value != known {
            return Err(SqlError::unknown("constraint", name, [known.as_str()]));
        }
    }
    table.primary_key.clear();
    table.key_name = None;
    Ok(())
}
