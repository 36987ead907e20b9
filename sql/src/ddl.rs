//! CREATE TABLE, resolved and checked as far as that needs no types of expressions.

use std::collections::BTreeSet;

use sqlparser::ast::Ident;
use weir_dataflow::types::LogicalType;

use crate::catalog::{Catalog, Column, ColumnKind, Relation, Table, Watermark};
use crate::error::{Result, SqlError};
use crate::statement::{
    ColumnDefinition, ColumnDefinitionKind, CreateTable, LikeClause, LikeFeature, LikeStrategy,
    WatermarkDefinition, relation_name,
};

/// The table that a CREATE TABLE makes.
///
/// # Errors
/// Columns that are there twice or not at all, and a missing connector. Options are checked by the connector when the table is used.
pub(crate) fn resolve(create: &CreateTable, catalog: &Catalog) -> Result<Table> {
    let mut table = Table {
        name: relation_name(&create.name)?.value.clone(),
        temporary: create.temporary,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        key_name: create.key_name.clone(),
        partitioned_by: Vec::new(),
        comment: create.comment.clone(),
        options: Default::default(),
    };
    if let Some(like) = &create.like {
        copy(&mut table, like, create, catalog)?;
    }
    for definition in &create.columns {
        if table
            .columns
            .iter()
            .any(|column| column.name == definition.name.value)
        {
            let error = SqlError::new(format!(
                "the column '{}' is there twice",
                definition.name.value
            ));
            return Err(error.at_location(definition.name.span.start));
        }
        table.columns.push(column(definition));
    }
    if table.columns.is_empty() {
        let error = SqlError::new(format!("the table '{}' has no columns", table.name));
        return Err(error.at(&create.name));
    }
    if let Some(declared) = &create.watermark {
        watermark(&mut table, declared)?;
    }
    primary_key(&mut table, &create.primary_key)?;
    partitions(&mut table, &create.partitioned_by)?;
    table.options.extend(create.options.iter().cloned());
    if !table.options.contains_key("connector") {
        let error = SqlError::new(format!(
            "the table '{}' has no option 'connector'",
            table.name
        ))
        .hint("write WITH ('connector' = '...')");
        return Err(error.at(&create.name));
    }
    Ok(table)
}

/// A column as declared.
pub(crate) fn column(definition: &ColumnDefinition) -> Column {
    let kind = match &definition.kind {
        ColumnDefinitionKind::Physical(field) => ColumnKind::Physical(field.clone()),
        ColumnDefinitionKind::Metadata {
            field,
            from,
            is_virtual,
        } => ColumnKind::Metadata {
            field: field.clone(),
            key: from
                .clone()
                .unwrap_or_else(|| definition.name.value.clone()),
            is_virtual: *is_virtual,
        },
        ColumnDefinitionKind::Computed(expr) => ColumnKind::Computed(expr.clone()),
    };
    Column {
        name: definition.name.value.clone(),
        kind,
        comment: definition.comment.clone(),
    }
}

/// The table's watermark.
pub(crate) fn watermark(table: &mut Table, declared: &WatermarkDefinition) -> Result<()> {
    check_known(table, &declared.column)?;
    check_rowtime(table, &declared.column)?;
    table.watermark = Some(Watermark {
        column: declared.column.value.clone(),
        expr: declared.expr.clone(),
    });
    Ok(())
}

/// The table has a column of this name.
pub(crate) fn check_known(table: &Table, name: &Ident) -> Result<()> {
    if table.columns.iter().any(|column| column.name == name.value) {
        return Ok(());
    }
    let known = table.columns.iter().map(|column| column.name.as_str());
    Err(SqlError::unknown("column", name, known))
}

/// The type of a watermark's column, if it is declared with one; a computed column's is found by the planner.
fn check_rowtime(table: &Table, name: &Ident) -> Result<()> {
    let column = table
        .columns
        .iter()
        .find(|column| column.name == name.value);
    let Some(ColumnKind::Physical(field) | ColumnKind::Metadata { field, .. }) =
        column.map(|column| &column.kind)
    else {
        return Ok(());
    };
    if matches!(
        field.logical_type,
        LogicalType::Timestamp(0..=3) | LogicalType::TimestampLtz(0..=3)
    ) {
        return Ok(());
    }
    Err(SqlError::new(format!(
        "the watermark's column '{}' is of type {}; it is to be TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3",
        name.value, field.logical_type
    ))
    .at_location(name.span.start))
}

/// No name comes twice.
pub(crate) fn check_twice(names: &[Ident], place: &str) -> Result<()> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(&name.value)) {
        Some(name) => Err(
            SqlError::new(format!("'{}' is in {place} twice", name.value))
                .at_location(name.span.start),
        ),
        None => Ok(()),
    }
}

/// The columns of a primary key are NOT NULL, declared or not.
pub(crate) fn primary_key(table: &mut Table, names: &[Ident]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    check_twice(names, "the PRIMARY KEY")?;
    for name in names {
        check_known(table, name)?;
        let column = table
            .columns
            .iter_mut()
            .find(|column| column.name == name.value);
        match column.map(|column| &mut column.kind) {
            Some(ColumnKind::Physical(field)) => field.nullable = false,
            _ => {
                let error = SqlError::new(format!(
                    "'{}' cannot be in the PRIMARY KEY: only physical columns can",
                    name.value
                ));
                return Err(error.at_location(name.span.start));
            }
        }
    }
    table.primary_key = names.iter().map(|name| name.value.clone()).collect();
    Ok(())
}

fn partitions(table: &mut Table, names: &[Ident]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    check_twice(names, "PARTITIONED BY")?;
    names.iter().try_for_each(|name| check_known(table, name))?;
    table.partitioned_by = names.iter().map(|name| name.value.clone()).collect();
    Ok(())
}

/// What LIKE takes from its source, by Flink's rules: all of it unless excluded; the new table's options win.
fn copy(
    table: &mut Table,
    like: &LikeClause,
    create: &CreateTable,
    catalog: &Catalog,
) -> Result<()> {
    let source = match catalog.resolve(&like.source)? {
        Relation::Table(source) => source,
        Relation::View(view) => {
            let error = SqlError::new(format!("LIKE takes a table, and '{}' is a view", view.name));
            return Err(error.at(&like.source));
        }
    };
    let strategy = |feature| strategy(like, feature);
    for column in &source.columns {
        let feature = match &column.kind {
            ColumnKind::Physical(_) => None,
            ColumnKind::Computed(_) => Some(LikeFeature::Generated),
            ColumnKind::Metadata { .. } => Some(LikeFeature::Metadata),
        };
        let rule = feature.map_or(LikeStrategy::Including, strategy);
        let redefined = create
            .columns
            .iter()
            .any(|new| new.name.value == column.name);
        if rule == LikeStrategy::Excluding || (rule == LikeStrategy::Overwriting && redefined) {
            continue;
        }
        table.columns.push(column.clone());
    }
    let watermarks = strategy(LikeFeature::Watermarks);
    if let Some(watermark) = source
        .watermark
        .as_ref()
        .filter(|_| watermarks != LikeStrategy::Excluding)
    {
        if create.watermark.is_none() {
            table.watermark = Some(watermark.clone());
        } else if watermarks == LikeStrategy::Including {
            return Err(both(create, "a watermark", "WATERMARKS"));
        }
    }
    if strategy(LikeFeature::Constraints) != LikeStrategy::Excluding
        && !source.primary_key.is_empty()
    {
        if !create.primary_key.is_empty() {
            return Err(both(create, "a PRIMARY KEY", "CONSTRAINTS"));
        }
        table.primary_key = source.primary_key.clone();
        table.key_name = source.key_name.clone();
    }
    if strategy(LikeFeature::Partitions) != LikeStrategy::Excluding
        && !source.partitioned_by.is_empty()
    {
        if !create.partitioned_by.is_empty() {
            return Err(both(create, "PARTITIONED BY", "PARTITIONS"));
        }
        table.partitioned_by = source.partitioned_by.clone();
    }
    let options = strategy(LikeFeature::Options);
    if options == LikeStrategy::Excluding {
        return Ok(());
    }
    let given_again = create
        .options
        .iter()
        .find(|(key, _)| source.options.contains_key(key));
    if let Some((key, _)) = given_again.filter(|_| options == LikeStrategy::Including) {
        return Err(both(create, &format!("the option '{key}'"), "OPTIONS"));
    }
    table.options = source.options.clone();
    Ok(())
}

/// A feature's own rule, else the one for ALL, else INCLUDING (OVERWRITING for options).
fn strategy(like: &LikeClause, feature: LikeFeature) -> LikeStrategy {
    let rule = |feature| {
        like.rules
            .iter()
            .find(|rule| rule.feature == feature)
            .map(|rule| rule.strategy)
    };
    let default = if feature == LikeFeature::Options {
        LikeStrategy::Overwriting
    } else {
        LikeStrategy::Including
    };
    rule(feature)
        .or_else(|| rule(LikeFeature::All))
        .unwrap_or(default)
}

fn both(create: &CreateTable, what: &str, feature: &str) -> SqlError {
    SqlError::new(format!("both tables of LIKE have {what}"))
        .hint(format!("write LIKE t (EXCLUDING {feature})"))
        .at(&create.name)
}
