//! The users' pages list what the code has: every metric and every key of the configuration, with its default.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;
use weir_common::config::{Config, TlsConfig};

const METRIC_NAMES: &str = include_str!("../src/metric_names.rs");
const METRICS_PAGE: &str = include_str!("../../docs/metrics.md");
const ALERT_RULES: &str = include_str!("../../deploy/prometheus/weir.rules.yaml");
const CONFIGURATION_PAGE: &str = include_str!("../../docs/configuration.md");

/// Maximal runs of the characters that metric names have, if they begin with the prefix.
fn metric_names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("weir_"))
        .collect()
}

/// First and second cell of the rows whose first cell is a `name`, under the heading.
fn rows<'a>(page: &'a str, heading: &str) -> BTreeMap<&'a str, &'a str> {
    let section = page.split(heading).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.strip_suffix('`')?, cells.next()?))
        })
        .collect()
}

/// Every leaf as dotted key and default; lists and free maps are leaves.
fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(value, &path, found);
            }
        }
        Value::Null => drop(found.insert(path.to_owned(), "none".to_owned())),
        Value::String(text) => drop(found.insert(path.to_owned(), format!("`{text}`"))),
        other => drop(found.insert(path.to_owned(), format!("`{other}`"))),
    }
}

#[test]
fn every_metric_is_on_its_page_and_no_other() {
    let names = metric_names(METRIC_NAMES);
    assert!(names.len() > 10, "{names:?}");
    let listed: BTreeSet<&str> = METRICS_PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(names, listed);
}

#[test]
fn alert_rules_ask_for_metrics_that_exist() {
    let asked = metric_names(ALERT_RULES);
    assert!(!asked.is_empty());
    let names = metric_names(METRIC_NAMES);
    assert!(asked.is_subset(&names), "{asked:?}");
}

#[test]
fn every_key_is_on_the_page_with_its_default() {
    let mut defaults = BTreeMap::new();
    let config = Config::default();
    leaves(&serde_json::to_value(&config).unwrap(), "", &mut defaults);
    // Without certificates the section is absent; its keys are seen on one that is there.
    assert_eq!(defaults.remove("tls").as_deref(), Some("none"));
    let tls = TlsConfig {
        ca: PathBuf::new(),
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        server_name: None,
    };
    let Value::Object(tls) = serde_json::to_value(&tls).unwrap() else {
        panic!("a struct is an object");
    };
    for key in tls.keys() {
        defaults.insert(format!("tls.{key}"), "none".to_owned());
    }
    let listed: BTreeMap<String, String> = rows(CONFIGURATION_PAGE, "\n## Keys\n")
        .into_iter()
        .map(|(key, default)| (key.to_owned(), default.to_owned()))
        .collect();
    assert_eq!(defaults, listed);
}
