//! SHOW, DESCRIBE and SET without arguments: what the session holds, as small tables under Flink's column names.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sqlparser::ast::{Ident, ObjectName};

use crate::alter;
use crate::catalog::{Catalog, Column, ColumnKind, Path, Relation, Space, Table, View};
use crate::error::{Result, SqlError};
use crate::options::SessionOptions;
use crate::plan::{self, ResolvedColumn, TimeAttribute};
use crate::session::StatementResult;
use crate::statement::{LikePattern, Show};

/// SHOW ...
pub(crate) fn show(
    catalog: &Catalog,
    options: &SessionOptions,
    what: &Show,
) -> Result<StatementResult> {
    match what {
        Show::Tables(database, pattern) => {
            let space = space_of(catalog, database.as_ref())?;
            let all = catalog.relations(&space);
            let names = all.into_iter().map(Relation::name);
            Ok(list("table name", matching(names, pattern.as_ref())))
        }
        Show::Views(database, pattern) => {
            let space = space_of(catalog, database.as_ref())?;
            let all = catalog.relations(&space);
            let views = all
                .into_iter()
                .filter(|relation| matches!(relation, Relation::View(_)));
            let names = views.map(Relation::name);
            Ok(list("view name", matching(names, pattern.as_ref())))
        }
        Show::Partitions(name) => match catalog.resolve(name)? {
            Relation::Table(table) if !table.partitioned_by.is_empty() => {
                Ok(list("partition name", Vec::new()))
            }
            other => Err(SqlError::new(format!("'{}' is not partitioned", other.name())).at(name)),
        },
        Show::CreateCatalog(name) => {
            let found = catalog.catalog(name)?;
            let mut text = format!("CREATE CATALOG {}\n", quoted(&name.value));
            if let Some(comment) = &found.comment {
                let _ = writeln!(text, "COMMENT {}", string(comment));
            }
            let _ = writeln!(text, "WITH (\n  {}\n)", options_list(&found.options));
            Ok(one_cell("result", text))
        }
        Show::Modules(false) => Ok(one_cell("module name", "core")),
        Show::Modules(true) => Ok(StatementResult::Rows {
            columns: ["module name", "used"].map(str::to_owned).into(),
            rows: vec![["core", "TRUE"].map(|cell| Some(cell.to_owned())).into()],
        }),
        Show::Jars => Ok(list("jars", Vec::new())),
        Show::Models => Ok(list("model name", Vec::new())),
        Show::CreateTable(name) => match catalog.resolve(name)? {
            Relation::Table(table) => Ok(one_cell(
                "result",
                create_table(table, &catalog.path(name)?),
            )),
            Relation::View(_) => Err(SqlError::new(format!("'{name}' is a view"))
                .hint(format!("write SHOW CREATE VIEW {name}"))
                .at(name)),
        },
        Show::CreateView(name) => match catalog.resolve(name)? {
            Relation::View(view) => {
                let columns = view_columns(catalog, options, view)?;
                Ok(one_cell(
                    "result",
                    create_view(view, &columns, &catalog.path(name)?),
                ))
            }
            Relation::Table(_) => Err(SqlError::new(format!("'{name}' is a table"))
                .hint(format!("write SHOW CREATE TABLE {name}"))
                .at(name)),
        },
        Show::Columns(name, pattern) => describe(catalog, options, name, pattern.as_ref()),
        Show::Functions(user, pattern) => {
            let names = match user {
                true => Vec::new(),
                false => plan::function_names(),
            };
            let names = names.iter().map(String::as_str);
            Ok(list("function name", matching(names, pattern.as_ref())))
        }
        Show::Catalogs(pattern) => {
            let names = catalog.catalogs().keys().map(String::as_str);
            Ok(list("catalog name", matching(names, pattern.as_ref())))
        }
        Show::Databases(from, pattern) => {
            let current = Ident::new(&catalog.space().catalog);
            let databases = &catalog
                .catalog(from.as_ref().unwrap_or(&current))?
                .databases;
            let names = databases.keys().map(String::as_str);
            Ok(list("database name", matching(names, pattern.as_ref())))
        }
        Show::CurrentCatalog => Ok(one_cell("current catalog name", &catalog.space().catalog)),
        Show::CurrentDatabase => Ok(one_cell("current database name", &catalog.space().database)),
    }
}

fn space_of(catalog: &Catalog, database: Option<&ObjectName>) -> Result<Space> {
    match database {
        Some(name) => catalog.database(name),
        None => Ok(catalog.space().clone()),
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
        let letters = |text: &str| match pattern.any_case {
            true => text.to_lowercase().chars().collect::<Vec<_>>(),
            false => text.chars().collect(),
        };
        let name = letters(name);
        let wanted = letters(&pattern.pattern);
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
    let catalog = catalog.within(&view.space);
    let mut columns = plan::query_schema(&catalog, options, &view.query)?;
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

/// `catalog`.`database`.`name`
fn whole_name(path: &Path) -> String {
    [&path.space.catalog, &path.space.database, &path.name]
        .map(|part| quoted(part))
        .join(".")
}

/// A statement that makes the table again, laid out as Flink's.
fn create_table(table: &Table, path: &Path) -> String {
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
            "CONSTRAINT {} PRIMARY KEY ({}) NOT ENFORCED",
            quoted(&alter::key_name(table)),
            quoted_list(&table.primary_key)
        ));
    }
    let mut text = format!(
        "CREATE {}TABLE {} (\n  {}\n)\n",
        temporary(table.temporary),
        whole_name(path),
        elements.join(",\n  ")
    );
    if let Some(comment) = &table.comment {
        let _ = writeln!(text, "COMMENT {}", string(comment));
    }
    if !table.partitioned_by.is_empty() {
        let names = quoted_list(&table.partitioned_by);
        let _ = writeln!(text, "PARTITIONED BY ({names})");
    }
    let _ = writeln!(text, "WITH (\n  {}\n)", options_list(&table.options));
    text
}

fn options_list(options: &BTreeMap<String, String>) -> String {
    let options = options.iter().map(|(key, value)| {
        let value = match is_secret(key) {
            true => "'******'".to_owned(),
            false => string(value),
        };
        format!("{} = {value}", string(key))
    });
    options.collect::<Vec<_>>().join(",\n  ")
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
fn create_view(view: &View, columns: &[ResolvedColumn], path: &Path) -> String {
    let names = columns.iter().map(|column| quoted(&column.name));
    let mut text = format!(
        "CREATE {}VIEW {} (\n  {}\n)\n",
        temporary(view.temporary),
        whole_name(path),
        names.collect::<Vec<_>>().join(",\n  ")
    );
    if let Some(comment) = &view.comment {
        let _ = writeln!(text, "COMMENT {}", string(comment));
    }
    let _ = writeln!(text, "AS {}", view.text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str, pattern: &str) -> bool {
        let pattern = LikePattern {
            negated: false,
            any_case: false,
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
