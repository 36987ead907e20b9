//! The events in a topic, written once: `tests/services/kafka.sh` is the broker, Weir writes the generator's events as JSON.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::PARALLELISM;
use crate::process::run;
use crate::script::{Input, Script};

/// A port of its own: the tests' brokers come and go, this one keeps its topics.
const PORT: &str = "9292";
const BROKER: &str = "127.0.0.1:9292";
const START_TIMEOUT: Duration = Duration::from_secs(900);
const WRITE_TIMEOUT: Duration = Duration::from_secs(3600);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the broker if need be, and fills a topic with so many events unless an earlier call did.
pub(crate) fn topic_with_events(root: &Path, weir: &Path, events: u64) -> anyhow::Result<Input> {
    let mut broker = Command::new(root.join("tests/services/kafka.sh"));
    broker
        .arg("start")
        .envs([("KAFKA_PORT", PORT), ("KAFKA_CONTROLLER_PORT", "9293")])
        .envs([("WEIR_INSTANCE", "bench"), ("KAFKA_HEAP", "1g")]);
    run(&mut broker, None, START_TIMEOUT).context("cannot start Kafka")?;
    let topic = format!("nexmark-{events}");
    let input = Input::Kafka {
        broker: BROKER.to_owned(),
        topic: topic.clone(),
    };
    if records(&topic)? != events {
        recreate(&topic)?;
        eprintln!("writing {events} events to topic {topic}");
        write(root, weir, events, &topic)?;
        let written = records(&topic)?;
        anyhow::ensure!(
            written == events,
            "topic {topic} has {written} records instead of {events}"
        );
    }
    Ok(input)
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", BROKER);
    config
}

/// Records in all partitions; 0 if there is no such topic.
fn records(topic: &str) -> anyhow::Result<u64> {
    let consumer: BaseConsumer = client().create()?;
    let metadata = consumer.fetch_metadata(Some(topic), CALL_TIMEOUT)?;
    let partitions = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions());
    let mut records = 0;
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), CALL_TIMEOUT)?;
        records += u64::try_from(high - low)?;
    }
    Ok(records)
}

/// An empty topic with a partition for each subtask.
fn recreate(topic: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client().create()?;
    let options = AdminOptions::new().operation_timeout(Some(CALL_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // An unknown topic is what is wanted.
        admin
            .delete_topics(&[topic], &options)
            .await?
            .into_iter()
            .for_each(drop);
        let new = NewTopic::new(
            topic,
            i32::try_from(PARALLELISM)?,
            TopicReplication::Fixed(1),
        );
        for result in admin.create_topics([&new], &options).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("cannot create {topic}: {code}"))?;
        }
        Ok(())
    })
}

/// With parallelism 1, so that event time goes forward in each partition.
fn write(root: &Path, weir: &Path, events: u64, topic: &str) -> anyhow::Result<()> {
    let script = Script::read(root, "q0")?;
    let generator = script.source(&Input::Generator { events });
    let sink = script.copy_of_events(
        "topic",
        &format!("'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{BROKER}', 'format' = 'json'"),
    )?;
    let insert = "INSERT INTO topic SELECT event_type, person, auction, bid FROM events";
    let mut command = Command::new(weir);
    command
        .args(["sql", "--quiet", "--parallelism", "1", "--execute"])
        .arg(format!("{generator};\n{sink};\n{insert};"));
    run(&mut command, None, WRITE_TIMEOUT).context("cannot write the events")?;
    Ok(())
}
