//! The benchmarks' broker: `tests/services/kafka.sh` on a port of its own. The tests' brokers come and go, this one keeps its topics.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::process::run;

const PORT: &str = "9292";
/// Where it listens.
pub const BROKER: &str = "127.0.0.1:9292";
const START_TIMEOUT: Duration = Duration::from_secs(900);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the broker if need be, and installs it before.
pub fn start(root: &Path) -> anyhow::Result<()> {
    let mut broker = Command::new(root.join("tests/services/kafka.sh"));
    broker
        .arg("start")
        .envs([("KAFKA_PORT", PORT), ("KAFKA_CONTROLLER_PORT", "9293")])
        .envs([("WEIR_INSTANCE", "bench"), ("KAFKA_HEAP", "1g")]);
    run(&mut broker, None, START_TIMEOUT).context("cannot start Kafka")?;
    Ok(())
}

/// Settings that all clients have.
pub fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", BROKER);
    config
}

/// An empty topic; one that has the name is deleted.
pub fn recreate(topic: &str, partitions: u32) -> anyhow::Result<()> {
    // An unknown topic is what is wanted.
    delete(topic)?;
    let new = NewTopic::new(
        topic,
        i32::try_from(partitions)?,
        TopicReplication::Fixed(1),
    );
    administer(async |admin, options| {
        for result in admin.create_topics([&new], options).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("cannot create {topic}: {code}"))?;
        }
        Ok(())
    })
}

/// Deletes a topic if there is one.
pub fn delete(topic: &str) -> anyhow::Result<()> {
    administer(async |admin, options| {
        let results = admin.delete_topics(&[topic], options).await?;
        results.into_iter().for_each(drop);
        Ok(())
    })
}

fn administer(
    work: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client().create()?;
    let options = AdminOptions::new().operation_timeout(Some(CALL_TIMEOUT));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work(&admin, &options))
}
