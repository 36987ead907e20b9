//! Flink's list of functions: each one works, or is refused by its name. docs/sql.md says the same, from the same table
//! (`WEIR_BLESS=1` writes it).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use weir_sql::{Session, SessionDefaults, StatementResult, parse_script};

const TABLE: &str = include_str!("functions.txt");

fn plan(sql: &str) -> Result<StatementResult, String> {
    let statements = parse_script(sql).map_err(|error| error.to_string())?;
    let mut session = Session::new(SessionDefaults::default()).unwrap();
    session
        .execute(&statements[0])
        .map_err(|error| error.to_string())
}

/// A name, and what uses it; `None`: it is refused.
type Named = (&'static str, Option<&'static str>);

/// Groups with their functions.
fn groups() -> Vec<(&'static str, Vec<Named>)> {
    let mut groups: Vec<(&str, Vec<Named>)> = Vec::new();
    for line in TABLE.lines() {
        if let Some(group) = line.strip_prefix("## ") {
            groups.push((group, Vec::new()));
        } else if !line.starts_with('#') {
            let (name, example) = match line.split_once(": ") {
                Some((name, example)) => (name, Some(example)),
                None => (line, None),
            };
            groups.last_mut().unwrap().1.push((name, example));
        }
    }
    groups
}

#[test]
fn every_function_of_flink_works_or_is_refused_by_name() {
    let mut wrong = Vec::new();
    for (name, example) in groups().into_iter().flat_map(|(_, functions)| functions) {
        match example {
            Some(example) => {
                if let Err(error) = plan(&format!("SELECT {example}")) {
                    wrong.push(format!("{name}: {error}"));
                }
            }
            None => {
                let error = plan(&format!("SELECT {name}('a')")).unwrap_err();
                if !error.contains(&format!("{name} is not supported yet")) {
                    wrong.push(format!("{name} is refused as: {error}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn show_functions_lists_what_works() {
    let Ok(StatementResult::Rows { rows, .. }) = plan("SHOW FUNCTIONS") else {
        panic!("SHOW FUNCTIONS gives rows");
    };
    let shown: Vec<String> = rows.into_iter().flatten().flatten().collect();
    for (name, example) in groups().into_iter().flat_map(|(_, functions)| functions) {
        let called = example.is_some_and(|example| example.contains(&format!("{name}(")));
        let lower = name.to_lowercase();
        assert!(
            !called || name == "JSON" || shown.contains(&lower),
            "{name} is missing"
        );
        assert!(
            example.is_some() || !shown.contains(&lower),
            "{name} is shown"
        );
    }
}

#[test]
fn the_docs_list_the_same_functions() {
    let mut list = String::new();
    for (group, functions) in groups() {
        let names = |wanted: bool| {
            let names = functions
                .iter()
                .filter(|(_, example)| example.is_some() == wanted);
            let names: Vec<String> = names.map(|(name, _)| format!("`{name}`")).collect();
            names.join(", ")
        };
        let line = match (names(true).as_str(), names(false).as_str()) {
            (works, "") => works.to_owned(),
            ("", refused) => format!("refused are {refused}"),
            (works, refused) => format!("{works}; refused are {refused}"),
        };
        list.push_str(&format!("- {group}: {line}\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql.md");
    let docs = std::fs::read_to_string(&path).unwrap();
    let start = docs.find("<!-- functions -->\n").unwrap() + "<!-- functions -->\n".len();
    let end = docs.find("<!-- /functions -->").unwrap();
    if std::env::var_os("WEIR_BLESS").is_some() {
        let written = format!("{}{list}{}", &docs[..start], &docs[end..]);
        std::fs::write(&path, written).unwrap();
        return;
    }
    assert_eq!(&docs[start..end], list, "WEIR_BLESS=1 accepts it");
}
