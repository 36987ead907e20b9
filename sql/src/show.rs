//! SHOW, DESCRIBE and SET without arguments: what the session holds, as small tables under Flink's column names.

use std::fmt::Write as _;

use sqlparser::ast::ObjectName;

use crate::catalog::{Catalog, Column, ColumnKind, Relation, Table, View};
use crate::error::{Result, SqlError};
use crate::options::SessionOptions;
use crate::plan::{self, ResolvedColumn, TimeAttribute};
use crate::session::StatementResult;
use crate::statement::{CATALOG, DATABASE, LikePattern, Show};

/// SHOW ...
pub(crate) fn show(
    catalog: &Catalog,
    options: &SessionOptions,
    what: &Show,
) -> Result<StatementResult> {
    match what {
        Show::Tables(pattern) => {
            let names = catalog.relations().map(Relation::name);
            Ok(list("table name", matching(names, pattern.as_ref())))
        }
        Show::Views(pattern) => {
            let views = catalog
                .relations()
                .filter(|relation| matches!(relation, Relation::View(_)));
            Ok(list(
                "view name",
                matching(views.map(Relation::name), pattern.as_ref()),
            ))
        }
        Show::CreateTable(name) => match catalog.resolve(name)? {
            Relation::Table(table) => Ok(one_cell("result", create_table(table))),
            Relation::View(_) => Err(SqlError::new(format!("'{name}' is a view"))
                .hint(format!("write SHOW CREATE VIEW {name}"))
                .at(name)),
        },
        Show::CreateView(name) => match catalog.resolve(name)? {
            Relation::View(view) => Ok(one_cell("result", create_view(view))),
            Relation::Table(_) => Err(SqlError::new(format!("'{name}' is a table"))
                .hint(format!("write SHOW CREATE TABLE {name}"))
                .at(name)),
        },
        Show::Columns(name, pattern) => describe(catalog, options, name, pattern.as_ref()),
        Show::Functions(user) => {
            let names = if *user {
                Vec::new()
            } else {
                plan::function_names()
            };
            Ok(list("function name", names))
        }
        Show::Catalogs => Ok(one_cell("catalog name", CATALOG)),
        Show::Databases => Ok(one_cell("database name", DATABASE)),
        Show::CurrentCatalog => Ok(one_cell("current catalog name", CATALOG)),
        Show::CurrentDatabase => Ok(one_cell("current database name", DATABASE)),
    }
}

/// SET
pub(crate) fn settings(options: &SessionOptions) -> StatementResult {
    let rows = options
        .iter()
        .map(|(key, value)| vec![Some(key.to_owned()), Some(value.to_owned())]);
    StatementResult::Rows {
        columns: vec!["key".to_owned(), "value".to_owned()],
        rows: rows.collect(),
    }
}

/// A table of one row and one column.
pub(crate) fn one_cell(column: &str, value: impl Into<String>) -> StatementResult {
    list(column, vec![value.into()])
}

fn list(column: &str, values: Vec<String>) -> StatementResult {
    StatementResult::Rows {
        columns: vec![column.to_owned()],
        rows: values.into_iter().map(|value| vec![Some(value)]).collect(),
    }
}

fn matching<'a>(
    names: impl Iterator<Item = &'a str>,
    pattern: Option<&LikePattern>,
) -> Vec<String> {
    names
        .filter(|name| is_wanted(name, pattern))
        .map(str::to_owned)
        .collect()
}

fn is_wanted(name: &str, pattern: Option<&LikePattern>) -> bool {
    pattern.is_none_or(|pattern| {
        let name: Vec<char> = name.chars().collect();
        let wanted: Vec<char> = pattern.pattern.chars().collect();
        is_like(&name, &wanted) != pattern.negated
    })
}

/// SQL's LIKE without an escape.
fn is_like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skip| is_like(&text[skip..], rest)),
        Some((first, rest)) => match text.split_first() {
            Some((ch, more)) => (*first == '_' || first == ch) && is_like(more, rest),
            None => false,
        },
    }
}

/// DESCRIBE, SHOW COLUMNS
pub(crate) fn describe(
    catalog: &Catalog,
    options: &SessionOptions,
    name: &ObjectName,
    pattern: Option<&LikePattern>,
) -> Result<StatementResult> {
    let (resolved, table): (_, Option<&Table>) = match catalog.resolve(name)? {
        Relation::Table(table) => (plan::table_schema(catalog, options, table)?, Some(table)),
        Relation::View(view) => (view_columns(catalog, options, view)?, None),
    };
    let comments =
        table.is_some_and(|table| table.columns.iter().any(|column| column.comment.is_some()));
    let mut names = vec!["name", "type", "null", "key", "extras", "watermark"];
    names.extend(comments.then_some("comment"));
    let rows = resolved
        .iter()
        .filter(|column| is_wanted(&column.name, pattern))
        .map(|column| {
            let declared = table.and_then(|table| find(table, &column.name));
            let mut row = describe_column(column, declared, table);
            if comments {
                row.push(declared.and_then(|declared| declared.comment.clone()));
            }
            row
        });
    Ok(StatementResult::Rows {
        columns: names.into_iter().map(str::to_owned).collect(),
        rows: rows.collect(),
    })
}

fn find<'a>(table: &'a Table, name: &str) -> Option<&'a Column> {
    table.columns.iter().find(|column| column.name == name)
}

fn view_columns(
    catalog: &Catalog,
    options: &SessionOptions,
    view: &View,
) -> Result<Vec<ResolvedColumn>> {
    let mut columns = plan::query_schema(catalog, options, &view.query)?;
    for (column, name) in columns.iter_mut().zip(&view.columns) {
        column.name.clone_from(name);
    }
    Ok(columns)
}

fn describe_column(
    column: &ResolvedColumn,
    declared: Option<&Column>,
    table: Option<&Table>,
) -> Vec<Option<String>> {
    let attribute = match column.time_attribute {
        Some(TimeAttribute::Rowtime) => " *ROWTIME*",
        Some(TimeAttribute::Proctime) => " *PROCTIME*",
        None => "",
    };
    let null = if column.field.nullable {
        "TRUE"
    } else {
        "FALSE"
    };
    let key = table
        .filter(|table| table.primary_key.contains(&column.name))
        .map(|table| format!("PRI({})", table.primary_key.join(", ")));
    let extras = declared.and_then(|declared| match &declared.kind {
        ColumnKind::Physical(_) => None,
        ColumnKind::Computed(expr) => Some(format!("AS {expr}")),
        ColumnKind::Metadata {
            key, is_virtual, ..
        } => Some(metadata_clause(&column.name, key, *is_virtual)),
    });
    let watermark = table
        .and_then(|table| table.watermark.as_ref())
        .filter(|watermark| watermark.column == column.name)
        .map(|watermark| watermark.expr.to_string());
    vec![
        Some(column.name.clone()),
        Some(format!("{}{attribute}", column.field.logical_type)),
        Some(null.to_owned()),
        key,
        extras,
        watermark,
    ]
}

fn metadata_clause(name: &str, key: &str, is_virtual: bool) -> String {
    let mut text = "METADATA".to_owned();
    if key != name {
        text.push_str(&format!(" FROM {}", string(key)));
    }
    if is_virtual {
        text.push_str(" VIRTUAL");
    }
    text
}

/// As a literal.
fn string(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// As a name.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn quoted_list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| quoted(name))
        .collect::<Vec<_>>()
        .join(", ")
}

fn temporary(relation_is: bool) -> &'static str {
    if relation_is { "TEMPORARY " } else { "" }
}

/// A statement that makes the table again.
fn create_table(table: &Table) -> String {
    let mut elements: Vec<String> = table.columns.iter().map(column_clause).collect();
    if let Some(watermark) = &table.watermark {
        elements.push(format!(
            "WATERMARK FOR {} AS {}",
            quoted(&watermark.column),
            watermark.expr
        ));
    }
    if !table.primary_key.is_empty() {
        elements.push(format!(
            "PRIMARY KEY ({}) NOT ENFORCED",
            quoted_list(&table.primary_key)
        ));
    }
    let mut text = format!(
        "CREATE {}TABLE {} (\n  {}\n)",
        temporary(table.temporary),
        quoted(&table.name),
        elements.join(",\n  ")
    );
    if let Some(comment) = &table.comment {
        text.push_str(&format!(" COMMENT {}", string(comment)));
    }
    if !table.partitioned_by.is_empty() {
        text.push_str(&format!(
            " PARTITIONED BY ({})",
            quoted_list(&table.partitioned_by)
        ));
    }
    let options = table.options.iter().map(|(key, value)| {
        let value = if is_secret(key) {
            "'******'".to_owned()
        } else {
            string(value)
        };
        format!("{} = {value}", string(key))
    });
    let _ = write!(
        text,
        " WITH (\n  {}\n)",
        options.collect::<Vec<_>>().join(",\n  ")
    );
    text
}

/// As Flink hides the values of sensitive keys.
fn is_secret(key: &str) -> bool {
    const PARTS: [&str; 8] = [
        "password",
        "secret",
        "token",
        "apikey",
        "api-key",
        "auth-params",
        "service-key",
        "jaas.config",
    ];
    let key = key.to_lowercase();
    PARTS.iter().any(|part| key.contains(part))
}

fn column_clause(column: &Column) -> String {
    let name = quoted(&column.name);
    let mut text = match &column.kind {
        ColumnKind::Physical(field) => format!("{name} {field}"),
        ColumnKind::Computed(expr) => format!("{name} AS {expr}"),
        ColumnKind::Metadata {
            field,
            key,
            is_virtual,
        } => format!(
            "{name} {field} {}",
            metadata_clause(&column.name, key, *is_virtual)
        ),
    };
    if let Some(comment) = &column.comment {
        text.push_str(&format!(" COMMENT {}", string(comment)));
    }
    text
}

/// A statement that makes the view again.
fn create_view(view: &View) -> String {
    let columns = if view.columns.is_empty() {
        String::new()
    } else {
        format!(" ({})", quoted_list(&view.columns))
    };
    format!(
        "CREATE {}VIEW {}{columns} AS\n{}",
        temporary(view.temporary),
        quoted(&view.name),
        view.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str, pattern: &str) -> bool {
        let pattern = LikePattern {
            negated: false,
            pattern: pattern.to_owned(),
        };
        is_wanted(text, Some(&pattern))
    }

    #[test]
    fn patterns_are_those_of_like() {
        assert!(like("bid", "b%") && like("bid", "_id") && like("bid", "%"));
        assert!(!like("bid", "b") && !like("bid", "B%") && !like("", "_"));
    }

    #[test]
    fn secrets_are_hidden() {
        assert!(is_secret("properties.sasl.jaas.config") && is_secret("s3.secret-key"));
        assert!(!is_secret("connector"));
    }
}
