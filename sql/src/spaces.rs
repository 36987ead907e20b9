//! What CREATE, ALTER, DROP and USE do to catalogs and databases.

use sqlparser::ast::{Ident, ObjectName};

use crate::catalog::{Catalog, Database, IN_MEMORY, NamedCatalog, Space};
use crate::error::{Result, SqlError};
use crate::statement::{CATALOG, SpaceChange, parts};

/// The database that a catalog has from the start.
const DEFAULT_DATABASE: &str = "default-database";

/// Does it; a word for a person.
pub(crate) fn change(catalog: &mut Catalog, change: &SpaceChange) -> Result<String> {
    match change {
        SpaceChange::CreateCatalog {
            name,
            if_not_exists,
            comment,
            options,
        } => {
            if catalog.catalogs().contains_key(&name.value) {
                return exists("catalog", name, *if_not_exists);
            }
            let made = new_catalog(name, comment.clone(), options)?;
            catalog.catalogs_mut().insert(name.value.clone(), made);
            Ok(format!("catalog '{}' is created", name.value))
        }
        SpaceChange::DropCatalog { name, if_exists } => {
            if *if_exists && !catalog.catalogs().contains_key(&name.value) {
                return Ok(format!("there is no catalog '{}'", name.value));
            }
            catalog.catalog(name)?;
            if catalog.space().catalog == name.value {
                return Err(in_use("catalog", name));
            }
            catalog.catalogs_mut().remove(&name.value);
            Ok(format!("catalog '{}' is dropped", name.value))
        }
        SpaceChange::CreateDatabase {
            name,
            if_not_exists,
            comment,
            options,
        } => {
            let (space, ident) = new_space(catalog, name)?;
            let mut database = Database::default();
            database.comment.clone_from(comment);
            database.options = options.iter().cloned().collect();
            let databases = databases(catalog, &space)?;
            if databases.contains_key(&space.database) {
                return exists("database", &ident, *if_not_exists);
            }
            databases.insert(space.database.clone(), database);
            Ok(format!("database '{space}' is created"))
        }
        SpaceChange::AlterDatabase { name, options } => {
            let space = catalog.database(name)?;
            if let Some(database) = databases(catalog, &space)?.get_mut(&space.database) {
                database.options.extend(options.iter().cloned());
            }
            Ok(format!("database '{space}' is altered"))
        }
        SpaceChange::DropDatabase {
            name,
            if_exists,
            cascade,
        } => drop_database(catalog, name, *if_exists, *cascade),
    }
}

fn exists(kind: &str, name: &Ident, is_fine: bool) -> Result<String> {
    let message = format!("a {kind} '{}' exists already", name.value);
    match is_fine {
        true => Ok(message),
        false => Err(SqlError::new(message).at_location(name.span.start)),
    }
}

fn in_use(kind: &str, name: &Ident) -> SqlError {
    SqlError::new(format!("the {kind} '{}' is in use", name.value))
        .hint("USE another one first")
        .at_location(name.span.start)
}

fn new_catalog(
    name: &Ident,
    comment: Option<String>,
    options: &[(String, String)],
) -> Result<NamedCatalog> {
    let mut made = NamedCatalog {
        comment,
        options: options.iter().cloned().collect(),
        ..NamedCatalog::default()
    };
    let refused = |error: SqlError| Err(error.at_location(name.span.start));
    match made.options.get("type").map(String::as_str) {
        Some(IN_MEMORY) => {}
        Some(other @ ("jdbc" | "hive" | "file" | "dlf" | "iceberg" | "paimon")) => {
            return refused(SqlError::unsupported(format!(
                "a catalog of the type '{other}'"
            )));
        }
        Some(other) => {
            let error = SqlError::new(format!("unknown type of catalog '{other}'"));
            return refused(
                error
                    .did_you_mean(other, [IN_MEMORY])
                    .hint(format!("write 'type' = '{IN_MEMORY}'")),
            );
        }
        None => {
            let error = SqlError::new(format!("the catalog '{}' has no option 'type'", name.value));
            return refused(error.hint(format!("write WITH ('type' = '{IN_MEMORY}')")));
        }
    }
    let mut keys = made.options.keys();
    if let Some(key) = keys.find(|key| *key != "type" && *key != DEFAULT_DATABASE) {
        let error = SqlError::new(format!("unknown option '{key}' of a catalog"));
        return refused(error.did_you_mean(key, ["type", DEFAULT_DATABASE]));
    }
    let database = made.options.get(DEFAULT_DATABASE);
    let database = database.map_or("default", String::as_str).to_owned();
    made.databases.insert(database, Database::default());
    Ok(made)
}

/// `[catalog.]database` of which the catalog is there.
fn new_space(catalog: &Catalog, name: &ObjectName) -> Result<(Space, Ident)> {
    let (in_catalog, ident) = match parts(name)?.as_slice() {
        [database] => (catalog.space().catalog.clone(), (*database).clone()),
        [in_catalog, database] => {
            catalog.catalog(in_catalog)?;
            (in_catalog.value.clone(), (*database).clone())
        }
        _ => {
            return Err(SqlError::new(format!("'{name}' is not the name of a database")).at(name));
        }
    };
    let space = Space {
        catalog: in_catalog,
        database: ident.value.clone(),
    };
    Ok((space, ident))
}

fn databases<'a>(
    catalog: &'a mut Catalog,
    space: &Space,
) -> Result<&'a mut std::collections::BTreeMap<String, Database>> {
    match catalog.catalogs_mut().get_mut(&space.catalog) {
        Some(found) => Ok(&mut found.databases),
        None => Err(SqlError::new(format!(
            "unknown catalog '{}'",
            space.catalog
        ))),
    }
}

fn drop_database(
    catalog: &mut Catalog,
    name: &ObjectName,
    if_exists: bool,
    cascade: bool,
) -> Result<String> {
    let space = match catalog.database(name) {
        Ok(space) => space,
        Err(_) if if_exists => return Ok(format!("there is no database '{name}'")),
        Err(error) => return Err(error),
    };
    if *catalog.space() == space {
        return Err(in_use("database", &Ident::new(&space.database)).at(name));
    }
    let databases = databases(catalog, &space)?;
    let is_empty = databases
        .get(&space.database)
        .is_none_or(Database::is_empty);
    if !is_empty && !cascade {
        let error = SqlError::new(format!("the database '{space}' is not empty"));
        return Err(error.hint("write DROP DATABASE ... CASCADE").at(name));
    }
    databases.remove(&space.database);
    Ok(format!("database '{space}' is dropped"))
}

/// USE CATALOG, USE
pub(crate) fn use_(
    catalog: &mut Catalog,
    named: Option<&Ident>,
    database: Option<&ObjectName>,
) -> Result<String> {
    let space = match (named, database) {
        (_, Some(database)) => catalog.database(database)?,
        (Some(named), None) => {
            let found = catalog.catalog(named)?;
            let kept = found.options.get(DEFAULT_DATABASE).cloned();
            let default = match named.value.as_str() {
                CATALOG => crate::statement::DATABASE.to_owned(),
                _ => kept.unwrap_or_else(|| "default".to_owned()),
            };
            Space {
                catalog: named.value.clone(),
                database: default,
            }
        }
        (None, None) => return Ok(format!("using {}", catalog.space())),
    };
    let message = format!("using {space}");
    catalog.use_space(space);
    Ok(message)
}

/// DESCRIBE CATALOG: names and values.
pub(crate) fn describe(
    catalog: &Catalog,
    name: &Ident,
    extended: bool,
) -> Result<Vec<Vec<Option<String>>>> {
    let found = catalog.catalog(name)?;
    let row = |key: &str, value: Option<&String>| vec![Some(key.to_owned()), value.cloned()];
    let mut rows = vec![
        row("name", Some(&name.value)),
        row("type", found.options.get("type")),
        row("comment", found.comment.as_ref()),
    ];
    if extended {
        let options = found.options.iter().filter(|(key, _)| *key != "type");
        rows.extend(options.map(|(key, value)| row(&format!("option:{key}"), Some(value))));
    }
    Ok(rows)
}
