//! Keys of Kafka's records: updates by key are written exactly once over kill -9, and a table reads keys and values back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use weir_tests::cluster::{Cluster, ClusterOptions};
use weir_tests::kafka::{Record, create_topic, read_records};
use weir_tests::process::{run, weir};
use weir_tests::rows::{fold_debezium, read_lines};
use weir_tests::said::sql;
use weir_tests::services::Service;

const ROWS: u64 = 40_000;
const SHOPS: u64 = 49;
const PARTITIONS: i32 = 3;
const TOPIC: &str = "totals";

fn script(brokers: &str, checkpoints: &str) -> String {
    format!(
        "SET 'pipeline.name' = 'totals';
         SET 'execution.checkpointing.interval' = '300 ms';
         SET 'execution.checkpointing.dir' = '{checkpoints}';
         CREATE TABLE orders (id BIGINT)
         WITH ('connector' = 'datagen', 'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '{ROWS}',
               'rows-per-second' = '5000');
         CREATE TABLE totals (shop BIGINT, n BIGINT, total BIGINT, PRIMARY KEY (shop) NOT ENFORCED)
         WITH ('connector' = 'upsert-kafka', 'topic' = '{TOPIC}', 'properties.bootstrap.servers' = '{brokers}',
               'key.format' = 'json', 'value.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY',
               'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'totals');
         INSERT INTO totals SELECT MOD(id, {SHOPS}), COUNT(*), SUM(id) FROM orders GROUP BY MOD(id, {SHOPS})
         HAVING MOD(COUNT(*), 2) = 0;"
    )
}

/// The shops with an even number of orders, and what a record says of them.
fn expected() -> BTreeMap<u64, Value> {
    let mut totals: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for id in 1..=ROWS {
        let (count, sum) = totals.entry(id % SHOPS).or_default();
        *count += 1;
        *sum += id;
    }
    let even = totals.into_iter().filter(|(_, (count, _))| count % 2 == 0);
    even.map(|(shop, (n, total))| (shop, json!({"n": n, "total": total})))
        .collect()
}

fn shop(record: &Record) -> u64 {
    let key: Value = serde_json::from_str(record.key.as_deref().unwrap()).unwrap();
    key["shop"].as_u64().unwrap()
}

/// The table that the records make, one by one.
fn folded(records: &[Record]) -> BTreeMap<u64, Value> {
    let mut table = BTreeMap::new();
    for record in records {
        match &record.value {
            Some(value) => table.insert(shop(record), serde_json::from_str(value).unwrap()),
            None => table.remove(&shop(record)),
        };
    }
    table
}

fn read_back(brokers: &str) -> Vec<Value> {
    let script = format!(
        "CREATE TABLE totals (n BIGINT, k_shop BIGINT, total BIGINT)
         WITH ('connector' = 'kafka', 'topic' = '{TOPIC}', 'properties.bootstrap.servers' = '{brokers}',
               'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
               'properties.isolation.level' = 'read_committed',
               'key.format' = 'json', 'key.fields' = 'k_shop', 'key.fields-prefix' = 'k_',
               'value.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY');
         SELECT k_shop, total, n FROM totals;"
    );
    let mut command = weir();
    command.args(["sql", "--quiet", "--format", "json", "-e", &script]);
    let output = run(&mut command, Duration::from_secs(60)).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    let rows = String::from_utf8(output.stdout).unwrap();
    rows.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The topic as the table that it is: each key's newest record, and none for a key whose newest record is a tombstone.
fn read_as_a_table(brokers: &str) -> BTreeMap<u64, Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let script = format!(
        "SET 'parallelism.default' = '2';
         CREATE TABLE totals (shop BIGINT, n BIGINT NOT NULL, total BIGINT, PRIMARY KEY (shop) NOT ENFORCED)
         WITH ('connector' = 'upsert-kafka', 'topic' = '{TOPIC}', 'properties.bootstrap.servers' = '{brokers}',
               'scan.bounded.mode' = 'latest-offset', 'properties.isolation.level' = 'read_committed',
               'key.format' = 'json', 'value.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY');
         CREATE TABLE copy (shop BIGINT, n BIGINT, total BIGINT, doubled BIGINT)
         WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'debezium-json');
         INSERT INTO copy SELECT shop, n, total, n * 2 FROM totals WHERE total > 0;"
    );
    sql(&script).fine();
    let rows = fold_debezium(&read_lines(folder.path()).unwrap()).unwrap();
    let rows = rows.into_iter().map(|row| {
        assert_eq!(row["doubled"], json!(row["n"].as_u64().unwrap() * 2));
        let value = json!({"n": row["n"], "total": row["total"]});
        (row["shop"].as_u64().unwrap(), value)
    });
    rows.collect()
}

#[test]
fn updates_by_key_are_exact_over_kill_9_and_are_read_back_with_their_keys() {
    let kafka = Service::kafka("kafka-keys").unwrap();
    let brokers = kafka.address();
    create_topic(&brokers, TOPIC, PARTITIONS).unwrap();
    let options = ClusterOptions {
        job_managers: 1,
        task_managers: 2,
        slots: 1,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start(options).unwrap();
    let checkpoints = format!("file://{}/checkpoints", cluster.dir.path().display());
    let job = cluster
        .submit(&script(&brokers, &checkpoints), &["--parallelism", "2"])
        .unwrap();
    cluster
        .wait_for_checkpoint_after_now(&job, Duration::from_secs(60))
        .unwrap();
    cluster.kill_task_manager(0);
    cluster.start_task_manager(0).unwrap();
    let status = cluster
        .wait_for_state(&job, "FINISHED", Duration::from_secs(120))
        .unwrap();
    assert_eq!(status["restarts"], 1, "{status}");

    let records = read_records(&brokers, TOPIC, PARTITIONS, Duration::from_secs(30)).unwrap();
    assert_eq!(folded(&records), expected());
    assert!(
        records.iter().any(|record| record.value.is_none()),
        "nothing was deleted"
    );
    let places: BTreeSet<(u64, i32)> = records
        .iter()
        .map(|record| (shop(record), record.partition))
        .collect();
    assert_eq!(
        places.len() as u64,
        SHOPS,
        "a key lies in several partitions"
    );

    let mut present: Vec<Value> = records
        .iter()
        .filter_map(|record| {
            let mut value: Value = serde_json::from_str(record.value.as_deref()?).unwrap();
            value["k_shop"] = json!(shop(record));
            Some(value)
        })
        .collect();
    let mut rows = read_back(&brokers);
    present.sort_by_key(Value::to_string);
    rows.sort_by_key(Value::to_string);
    assert_eq!(rows, present);
    assert_eq!(read_as_a_table(&brokers), expected());
}
