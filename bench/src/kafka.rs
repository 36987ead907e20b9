//! The events in a topic, written once: Weir writes the generator's events as JSON.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};

use weir_bench::broker::{self, BROKER, client};
use weir_bench::process::run;

use crate::PARALLELISM;
use crate::script::{Input, Script};

const WRITE_TIMEOUT: Duration = Duration::from_secs(3600);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the broker if need be, and fills a topic with so many events unless an earlier call did.
pub(crate) fn topic_with_events(root: &Path, weir: &Path, events: u64) -> anyhow::Result<Input> {
    broker::start(root)?;
    let topic = format!("nexmark-{events}");
    let input = Input::Kafka {
        broker: BROKER.to_owned(),
        topic: topic.clone(),
    };
    if records(&topic)? != events {
        broker::recreate(&topic, PARALLELISM)?;
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
