//! `weir state` and the connector `savepoint` give what jobs had put into their state.

use std::path::Path;

use serde_json::{Value, json};
use weir_tests::resume::{case, manifest_folder, newest, parsed_text, versions};
use weir_tests::said::weir_says;
use weir_tests::savepoints::IN_FLIGHT;

/// Rows of a table of an operator's, by `weir state export`.
fn exported(path: &Path, operator: &str, table: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.json").display().to_string();
    let path = path.display().to_string();
    let operator = ["--operator", operator, "--table", table, "--output", &file];
    weir_says(&[&["state", "export", &path][..], &operator].concat()).fine();
    parsed_text(&std::fs::read_to_string(file).unwrap())
}

#[test]
fn what_the_jobs_had_put_in_is_exported() {
    let first = "2026-01-01 00:00:00";
    let window = |shop: &str, orders: u32, total: u32| {
        json!({
            "window_end": "2026-01-01 00:00:10", "window_start": first, "shop": shop,
            "COUNT(*)": orders, "SUM(price)": total, "COUNT(price)": orders,
        })
    };
    let slice = |shop: &str, items: u32| {
        json!({
            "slice_end": "2026-01-01 00:00:05", "slice_start": first, "shop": shop, "COUNT(DISTINCT item)": items,
        })
    };
    let waiting = |shop: &str, item: &str, paid: bool, second: u32| {
        json!({
            "shop": shop, "item": item, "paid": paid, "ts": format!("2026-01-01 00:00:0{second}"), "window_start": first,
            "window_end": "2026-01-01 00:00:10", "window_time": "2026-01-01 00:00:09.999",
        })
    };
    let group = |shop: &str, orders: u32, total: u32| {
        json!({
            "shop": shop, "COUNT(*)": orders, "SUM(price)": total, "COUNT(price)": orders, "MAX(item)": "pen",
            "COUNT(DISTINCT item)": orders,
        })
    };
    let expected = [
        (
            "group-aggregate",
            "GroupAggregate",
            "groups",
            vec![group("a", 2, 12), group("b", 1, 1)],
        ),
        (
            "updating-aggregate",
            "a17d3dd3",
            "groups",
            vec![
                json!({"n": 1, "COUNT(*)": 1}),
                json!({"n": 2, "COUNT(*)": 1}),
            ],
        ),
        (
            "updating-aggregate",
            "a17d3dd3",
            "MAX(total)",
            vec![
                json!({"n": 1, "value": 1, "rows": 1}),
                json!({"n": 2, "value": 12, "rows": 1}),
            ],
        ),
        (
            "tumbling-window",
            "GlobalWindowAggregate",
            "groups",
            vec![window("a", 2, 12), window("b", 1, 1)],
        ),
        (
            "hopping-window",
            "WindowAggregate",
            "groups",
            vec![slice("a", 2), slice("b", 1)],
        ),
        (
            "window-join",
            "WindowJoin",
            "left",
            vec![waiting("a", "pen", true, 1), waiting("b", "pen", true, 3)],
        ),
        (
            "window-join",
            "WindowJoin",
            "right",
            vec![waiting("a", "ink", false, 2)],
        ),
    ];
    for (name, operator, table, rows) in expected {
        is_exported(name, operator, table, rows);
    }
}

/// These rows, in any order, are what every described savepoint of a case has in a table.
fn is_exported(name: &str, operator: &str, table: &str, mut rows: Vec<Value>) {
    rows.sort_by_key(Value::to_string);
    for version in versions(case(name))
        .iter()
        .filter(|version| *version != UNDESCRIBED)
    {
        let path = case(name).stored(version).join("snapshot");
        assert_eq!(
            exported(&path, operator, table),
            rows,
            "{version}, {name}, {table}"
        );
    }
}

#[test]
fn kept_rows_are_exported() {
    let second = |second: u32| format!("2026-01-01 00:00:0{second}");
    let joined = |shop: &str, price: u32, at: u32, matches: u32| {
        json!({
            "shop": shop, "$touched_ms": 0, "$count": 1, "$matches": matches, "shop #2": shop, "item": "pen", "price": price,
            "paid": true, "ts": second(at),
        })
    };
    let matched = vec![joined("a", 5, 1, 1), joined("b", 1, 3, 0)];
    is_exported("join", "Join", "left", matched);
    let ranked = |paid: bool, item: &str, price: u32, at: u32| json!({"paid": paid, "item": item, "price": price, "ts": second(at)});
    let best = vec![
        ranked(false, "ink", 7, 2),
        ranked(true, "pen", 5, 1),
        ranked(true, "pen", 1, 3),
    ];
    is_exported("rank", "Rank", "rows", best);
    let totals = vec![
        json!({"shop": "a", "total": 12}),
        json!({"shop": "b", "total": 1}),
    ];
    is_exported("updating-rank", "Rank", "rows", totals);
    let in_window = |shop: &str, price: u32, at: u32| {
        json!({
            "shop": shop, "price": price, "ts": second(at), "window_start": second(0),
            "window_end": "2026-01-01 00:00:10", "window_time": "2026-01-01 00:00:09.999",
        })
    };
    let dearest = vec![
        in_window("a", 5, 1),
        in_window("a", 7, 2),
        in_window("b", 1, 3),
    ];
    is_exported("window-rank", "WindowRank", "rows", dearest);
    let session = |shop: &str, total: u32, from: u32, to: u32| {
        let ms = |at: u32| 1_767_225_600_000_u64 + u64::from(at) * 1000;
        json!({
            "session": second(from), "shop": shop, "SUM(price)": total, "COUNT(price)": to - from + 1,
            "MIN($time)": ms(from), "MAX($time)": ms(to),
        })
    };
    let sessions = vec![session("a", 12, 1, 2), session("b", 1, 3, 3)];
    is_exported("session", "WindowAggregate", "groups", sessions);
}

/// Written before snapshots described themselves: they can be gone on from, and say what they can't.
const UNDESCRIBED: &str = "1-first";

#[test]
fn a_snapshot_without_descriptions_says_so() {
    let path = case("group-aggregate").stored(UNDESCRIBED).join("snapshot");
    let path = path.display().to_string();
    let listed = weir_says(&["state", "ls", &path]);
    assert!(listed.fine().contains("not described"), "{listed:?}");
    weir_says(&[
        "state",
        "export",
        &path,
        "--operator",
        "GroupAggregate",
        "--output",
        "x",
    ])
    .refuses(&["'GroupAggregate'", "no description"]);
}

#[test]
fn ls_and_show_give_operators_tables_and_rows() {
    let path = newest("tumbling-window").display().to_string();
    let listed = weir_says(&["state", "ls", &path, "--format", "json"]);
    let listed = parsed_text(listed.fine());
    let of = |kind: &str| listed.iter().find(|o| o["kind"] == kind).unwrap();
    assert_eq!(of("source")["name"], "Source: orders");
    let tables = of("window-aggregate")["tables"].as_array().unwrap();
    let counts: Vec<_> = tables
        .iter()
        .map(|t| (t["table"].as_str().unwrap(), t["rows"].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [("groups", 2), ("progress", 4)]);

    let shown = |more: &[&str]| {
        let said = weir_says(&[&["state", "show", &path, "--format", "json"][..], more].concat());
        said.fine().lines().count()
    };
    assert_eq!(shown(&[]), 1 + 2 + 4);
    assert_eq!(
        shown(&["--operator", "GlobalWindowAggregate", "--limit", "1"]),
        2
    );
    weir_says(&["state", "show", &path, "--operator", "Nothing"])
        .refuses(&["no operator 'Nothing'", "'GlobalWindowAggregate'"]);
}

#[test]
fn a_rows_file_of_parquet_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = newest("window-join").display().to_string();
    let output = folder.path().display().to_string();
    let arguments = [
        "state",
        "export",
        &path,
        "--operator",
        "WindowJoin",
        "--format",
        "parquet",
        "--output",
        &output,
    ];
    assert!(weir_says(&arguments).fine().contains("2 rows of 'left'"));
    let mut files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 2);
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(
            bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"),
            "{}",
            file.display()
        );
    }
}

#[test]
fn state_is_a_table_in_sql() {
    let query = |columns: &str, rows: &str| {
        let script = format!(
            "CREATE TABLE shops ({columns}) WITH ('connector' = 'savepoint', 'path' = '{}', 'operator' = 'GroupAggregate');
             SELECT {rows} FROM shops;",
            newest("group-aggregate").display()
        );
        weir_says(&[
            "sql",
            "--format",
            "json",
            "--parallelism",
            "3",
            "-e",
            &script,
        ])
    };
    let said = query(
        "shop STRING, `COUNT(*)` BIGINT, `SUM(price)` BIGINT",
        "shop, `SUM(price)` / `COUNT(*)` AS mean",
    );
    assert_eq!(
        parsed_text(said.fine()),
        [
            json!({"shop": "b", "mean": 1}),
            json!({"shop": "a", "mean": 6})
        ]
    );
    query("shop INT", "shop").refuses(&["'shop'", "STRING"]);
    query("price INT", "price").refuses(&["no column 'price'", "`SUM(price)` BIGINT"]);
}

#[test]
fn rows_in_flight_are_counted() {
    for version in versions(&IN_FLIGHT) {
        let path = manifest_folder(&IN_FLIGHT.stored(&version).join("snapshot"));
        let listed = weir_says(&[
            "state",
            "ls",
            &path.display().to_string(),
            "--format",
            "json",
        ]);
        let listed = parsed_text(listed.fine());
        let of = |name: &str| listed.iter().find(|o| o["name"] == name).unwrap();
        assert!(
            of("GroupAggregate")["in_flight_rows"].as_u64() > Some(0),
            "{listed:?}"
        );
        assert_eq!(of("Source: orders")["in_flight_rows"], 0);
    }
}
