//! Edited jobs go on from savepoints if their state fits; else these are refused before anything runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_tests::resume::{
    BOTH, Place, case, manifest_folder, moved, newest, parsed, uninterrupted, versions,
};
use weir_tests::rows::read_lines;
use weir_tests::savepoints::{AFTER, BEFORE, Case, IN_FLIGHT, Run, many_orders};

/// Texts of a script and what stands there instead.
type Edits<'a> = &'a [(&'a str, &'a str)];

/// Goes on from the newest savepoint of a case with an edited script and what is in [`AFTER`]; gives all rows that were written.
fn edited(case: &Case, edits: Edits<'_>) -> Vec<Value> {
    let place = Place::new(BOTH);
    let script = edit(
        &case.script(&place.input(), &place.output(), Run::default()),
        edits,
    );
    let earlier = Place::new(&[]);
    let savepoint = moved(case, versions(case).last().unwrap(), &earlier);
    place.run_script(&script, Some(savepoint.path()), 3).fine();
    parsed(&read_lines(&place.output()).unwrap())
}

fn edit(script: &str, edits: Edits<'_>) -> String {
    edits.iter().fold(script.to_owned(), |script, (from, to)| {
        assert!(script.contains(from), "{from}");
        script.replace(from, to)
    })
}

#[test]
fn columns_may_be_widened() {
    let rows = edited(
        case("tumbling-window"),
        &[("price INT", "price BIGINT"), ("total INT", "total BIGINT")],
    );
    let row = |shop: &str, end: u32, orders: u32, total: u32| json!({"shop": shop, "window_end": format!("2026-01-01 00:00:{end}"), "orders": orders, "total": total});
    assert_eq!(
        rows,
        [
            row("b", 10, 1, 1),
            row("b", 20, 1, 4),
            row("c", 10, 1, 2),
            row("a", 10, 3, 22)
        ]
    );
}

#[test]
fn columns_may_be_dropped() {
    let case = case("group-aggregate");
    let rows = edited(
        case,
        &[
            ("total INT, largest STRING, items BIGINT", "total BIGINT"),
            (
                "COUNT(*), SUM(price), MAX(item), COUNT(DISTINCT item)",
                "COUNT(*), SUM(price)",
            ),
            ("price INT", "price BIGINT"),
        ],
    );
    let last: BTreeMap<String, (u64, u64)> = rows
        .iter()
        .filter(|change| !change["after"].is_null())
        .map(|change| &change["after"])
        .map(|row| {
            (
                row["shop"].as_str().unwrap().to_owned(),
                (
                    row["orders"].as_u64().unwrap(),
                    row["total"].as_u64().unwrap(),
                ),
            )
        })
        .collect();
    let expected = [("a", (3, 22)), ("b", (2, 5)), ("c", (1, 2))];
    assert_eq!(
        last,
        expected
            .map(|(shop, counts)| (shop.to_owned(), counts))
            .into()
    );
}

#[test]
fn columns_may_be_added() {
    // Rows that waited have no price yet.
    let rows = edited(
        case("window-join"),
        &[
            ("unpaid STRING", "price INT, unpaid_price INT"),
            ("l.item, r.item", "l.item, l.price, r.price"),
        ],
    );
    let row =
        |price: Value| json!({"shop": "a", "paid": "pen", "price": null, "unpaid_price": price});
    assert_eq!(rows, [row(json!(10)), row(Value::Null)]);
    // A column that no stateful operator sees.
    let rows = edited(
        case("hopping-window"),
        &[("paid BOOLEAN", "paid BOOLEAN, note STRING")],
    );
    assert_eq!(
        rows,
        uninterrupted(case("hopping-window"), &(BEFORE.to_owned() + AFTER))
    );
}

#[test]
fn what_does_not_fit_is_refused_by_name_before_anything_runs() {
    let shown: &[(&str, Edits<'_>, &[&str])] = &[
        (
            "tumbling-window",
            &[("'10' SECOND", "'20' SECOND")],
            &["'GlobalWindowAggregate'", "size 10000 ms", "size 20000 ms"],
        ),
        (
            "updating-aggregate",
            &[
                ("price INT", "price SMALLINT"),
                ("best INT", "best SMALLINT"),
            ],
            &[
                "'GroupAggregate'",
                "'MAX(total)'",
                "was INT and is SMALLINT",
            ],
        ),
        (
            "tumbling-window",
            &[
                ("shop STRING, item", "shop BIGINT, item"),
                ("answer (shop STRING", "answer (shop BIGINT"),
            ],
            &["GlobalWindowAggregate", "'shop' was STRING and is BIGINT"],
        ),
        (
            "group-aggregate",
            &[
                ("items BIGINT", "smallest INT"),
                ("COUNT(DISTINCT item)", "MIN(price)"),
            ],
            &["GroupAggregate", "'MIN(price)' is new"],
        ),
        (
            "group-aggregate",
            &[
                (
                    "orders BIGINT, total INT, largest STRING, items BIGINT",
                    "price INT",
                ),
                (
                    case("group-aggregate").query,
                    "SELECT shop, price FROM orders",
                ),
            ],
            &["'GroupAggregate'", "--allow-non-restored-state"],
        ),
        (
            "window-join",
            &[("JOIN (", "LEFT JOIN (")],
            &["'WindowJoin'", "INNER", "LEFT"],
        ),
        (
            "window-join",
            &[(
                "'pipeline.max-parallelism' = '4'",
                "'pipeline.max-parallelism' = '8'",
            )],
            &["max_parallelism 4", "has 8"],
        ),
        (
            "window-join",
            &[("TABLE orders", "TABLE sales"), (" answer", " matches")],
            &["another job", "'Source: orders'"],
        ),
    ];
    for (name, edits, parts) in shown {
        let place = Place::new(BOTH);
        let script = case(name).script(&place.input(), &place.output(), Run::default());
        let said = place.run_script(&edit(&script, edits), Some(&newest(name)), 2);
        println!("{name}: {edits:?}\n{}", said.err);
        said.refuses(&[&["cannot start from"][..], parts].concat());
        assert!(read_lines(&place.output()).unwrap().is_empty());
    }
}

#[test]
fn state_of_a_removed_operator_is_dropped_if_that_is_allowed() {
    let case = case("group-aggregate");
    let rows = edited(
        case,
        &[
            (case.columns, "shop STRING, price INT"),
            (case.query, "SELECT shop, price FROM orders"),
            (
                "SET 'pipeline",
                "SET 'execution.state-recovery.ignore-unclaimed-state' = 'true'; SET 'pipeline",
            ),
            ("debezium-json", "json"),
        ],
    );
    let row = |shop: &str, price: u32| json!({"shop": shop, "price": price});
    assert_eq!(rows, [row("a", 10), row("c", 2), row("b", 4)]);
}

#[test]
fn rows_in_flight_have_the_columns_that_they_have() {
    let place = Place::new(&[("many.json", &many_orders())]);
    let version = versions(&IN_FLIGHT).pop().unwrap();
    let checkpoint = manifest_folder(&IN_FLIGHT.stored(&version).join("snapshot"));
    let script = IN_FLIGHT.script(&place.input(), &place.output(), Run::default());
    let dropped = edit(&script, &[(", total INT", ""), (", SUM(price)", "")]);
    place
        .run_script(&dropped, Some(&checkpoint), 2)
        .refuses(&["in flight to operator 'GroupAggregate'", "a savepoint"]);
}
