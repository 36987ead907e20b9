//! The options of a Kafka table, under the names of Flink's connector.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use weir_dataflow::{Error, Result};

use super::record::UPSERT;
use crate::options::OptionReader;

/// Where reading begins in a partition without a saved offset.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    Earliest,
    Latest,
    /// Committed offsets of 'properties.group.id', else 'properties.auto.offset.reset'.
    Group,
    /// First record at or after it, milliseconds.
    Timestamp(i64),
    /// Offset by partition; partitions that are not named begin at group offsets.
    Offsets(BTreeMap<i32, i64>),
}

/// Where reading ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    Never,
    Latest,
    Group,
    Timestamp(i64),
    Offsets(BTreeMap<i32, i64>),
}

/// Of a table that is read.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    pub topics: Vec<String>,
    pub brokers: String,
    pub group: Option<String>,
    pub reset_to_latest: bool,
    pub start: Start,
    pub stop: Stop,
    /// Zero: partitions are looked up once.
    pub discovery_interval: Duration,
    pub client: ClientConfig,
}

/// What the sink promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    None,
    AtLeastOnce,
    ExactlyOnce,
}

/// Of a table that is written to.
#[derive(Debug, Clone)]
pub struct SinkOptions {
    pub topic: String,
    pub brokers: String,
    pub guarantee: Guarantee,
    /// Set if and only if the guarantee is exactly-once.
    pub transactional_id_prefix: String,
    pub transaction_timeout: Duration,
    pub client: ClientConfig,
}

const STARTUP_MODES: &[&str] = &[
    "earliest-offset",
    "latest-offset",
    "group-offsets",
    "timestamp",
    "specific-offsets",
];
const BOUNDED_MODES: &[&str] = &[
    "unbounded",
    "latest-offset",
    "group-offsets",
    "timestamp",
    "specific-offsets",
];
const GUARANTEES: &[&str] = &["none", "at-least-once", "exactly-once"];
/// What a broker allows unless it is told otherwise (transaction.max.timeout.ms).
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(900);

/// Refuses what Flink has and Weir has not; shared by source and sink, because a table may be used as both.
fn refuse_unsupported(reader: &OptionReader<'_>) -> Result<()> {
    reader.refuse("topic-pattern", "name the topics by 'topic'")?;
    reader.refuse(
        "scan.watermark.alignment.group",
        "partitions are not aligned",
    )?;
    if reader.connector() == UPSERT {
        refuse_for_upserts(reader)?;
    }
    reader.refuse("scan.parallelism", "use 'parallelism.default'")?;
    reader.refuse("sink.parallelism", "use 'parallelism.default'")?;
    if let Some(partitioner) = reader.text("sink.partitioner")
        && partitioner != "default"
    {
        return Err(reader.invalid(
            "sink.partitioner",
            partitioner,
            "'default'; others are not supported yet",
        ));
    }
    Ok(())
}

/// What 'upsert-kafka' has otherwise than 'kafka'.
fn refuse_for_upserts(reader: &OptionReader<'_>) -> Result<()> {
    for key in [
        "scan.startup.mode",
        "scan.startup.timestamp-millis",
        "scan.startup.specific-offsets",
    ] {
        reader.refuse(key, "updates by key are read from the beginning")?;
    }
    // Flink collects updates of one key up to these limits and sends the last one. Here each is sent: the table that they make is the same.
    reader.integer("sink.buffer-flush.max-rows", 0..=i64::MAX)?;
    reader.duration("sink.buffer-flush.interval")?;
    Ok(())
}

/// Declares the options of the other direction, so that one table can be read and written.
fn declare_all(reader: &OptionReader<'_>) {
    for key in [
        "topic",
        "scan.startup.mode",
        "scan.startup.timestamp-millis",
        "scan.startup.specific-offsets",
        "scan.bounded.mode",
        "scan.bounded.timestamp-millis",
        "scan.bounded.specific-offsets",
        "scan.topic-partition-discovery.interval",
        "sink.delivery-guarantee",
        "sink.transactional-id-prefix",
        "sink.semantic",
    ] {
        reader.text(key);
    }
}

fn topics(reader: &OptionReader<'_>) -> Result<Vec<String>> {
    let text = reader.required("topic")?;
    let topics: Vec<String> = text
        .split(';')
        .map(|topic| topic.trim().to_owned())
        .filter(|topic| !topic.is_empty())
        .collect();
    if topics.is_empty() {
        return Err(reader.invalid("topic", text, "a topic, or several separated by ';'"));
    }
    Ok(topics)
}

/// 'properties.*' as settings of librdkafka, whose names are those of the Java client where both have the thing.
fn client(reader: &OptionReader<'_>, defaults: &[(&str, &str)]) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    for (key, value) in defaults {
        config.set(*key, *value);
    }
    for (key, value) in reader.with_prefix("properties.") {
        match key {
            "key.deserializer" | "value.deserializer" | "key.serializer" | "value.serializer"
            | "auto.offset.reset" => {}
            "enable.auto.commit" | "transactional.id" | "enable.auto.offset.store" => {
                return Err(reader.invalid(
                    &format!("properties.{key}"),
                    value,
                    "nothing: Weir sets it itself",
                ));
            }
            "transaction.timeout.ms" => {}
            "group.id" | "isolation.level"
                if !defaults.iter().any(|(key, _)| *key == "isolation.level") => {}
            _ => {
                config.set(key, value);
            }
        }
    }
    config.create_native_config().map_err(|error| {
        Error::Config(format!("connector 'kafka': the option under 'properties.' is refused by the Kafka client: {error}"))
    })?;
    Ok(config)
}

fn specific_offsets(reader: &OptionReader<'_>, key: &str) -> Result<BTreeMap<i32, i64>> {
    let text = reader.required(key)?;
    let parse = |part: &str| -> Option<(i32, i64)> {
        let (partition, offset) = part.split_once(',')?;
        let partition = partition
            .trim()
            .strip_prefix("partition:")?
            .trim()
            .parse()
            .ok()?;
        let offset = offset.trim().strip_prefix("offset:")?.trim().parse().ok()?;
        Some((partition, offset))
    };
    text.split(';')
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            parse(part).ok_or_else(|| {
                reader.invalid(key, text, "'partition:0,offset:42;partition:1,offset:300'")
            })
        })
        .collect()
}

fn timestamp(reader: &OptionReader<'_>, key: &str) -> Result<i64> {
    reader.required(key)?;
    Ok(reader.integer(key, 0..=i64::MAX)?.unwrap_or_default())
}

impl SourceOptions {
    /// Everything that is wrong without asking the broker is found here.
    pub fn read(reader: &OptionReader<'_>) -> Result<Self> {
        refuse_unsupported(reader)?;
        let topics = topics(reader)?;
        let brokers = reader.required("properties.bootstrap.servers")?.to_owned();
        let group = reader.text("properties.group.id").map(str::to_owned);
        let start = match reader
            .choice("scan.startup.mode", STARTUP_MODES)?
            .unwrap_or(match reader.connector() {
                UPSERT => "earliest-offset",
                _ => "group-offsets",
            }) {
            "earliest-offset" => Start::Earliest,
            "latest-offset" => Start::Latest,
            "timestamp" => Start::Timestamp(timestamp(reader, "scan.startup.timestamp-millis")?),
            "specific-offsets" => {
                Start::Offsets(specific_offsets(reader, "scan.startup.specific-offsets")?)
            }
            _ => Start::Group,
        };
        let stop = match reader
            .choice("scan.bounded.mode", BOUNDED_MODES)?
            .unwrap_or("unbounded")
        {
            "latest-offset" => Stop::Latest,
            "group-offsets" => Stop::Group,
            "timestamp" => Stop::Timestamp(timestamp(reader, "scan.bounded.timestamp-millis")?),
            "specific-offsets" => {
                Stop::Offsets(specific_offsets(reader, "scan.bounded.specific-offsets")?)
            }
            _ => Stop::Never,
        };
        if group.is_none() && (start == Start::Group || stop == Stop::Group) {
            return Err(Error::Config(
                "connector 'kafka' starts at the offsets of a consumer group, but 'properties.group.id' is not set; \
                 set it, or 'scan.startup.mode' = 'earliest-offset'"
                    .to_owned(),
            ));
        }
        if stop != Stop::Never && topics.len() > 1 {
            return Err(Error::Config(
                "connector 'kafka': a bounded read of several topics is not supported yet; read them as tables of their own"
                    .to_owned(),
            ));
        }
        let reset = reader
            .text("properties.auto.offset.reset")
            .unwrap_or("none");
        if !["earliest", "latest", "none"].contains(&reset) {
            return Err(reader.invalid(
                "properties.auto.offset.reset",
                reset,
                "'earliest', 'latest' or 'none'",
            ));
        }
        let discovery = reader.duration("scan.topic-partition-discovery.interval")?;
        declare_all(reader);
        let group_id = group.clone().unwrap_or_else(|| "weir".to_owned());
        let client = client(
            reader,
            &[
                ("group.id", group_id.as_str()),
                ("isolation.level", "read_uncommitted"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "true"),
                ("auto.offset.reset", "error"),
                ("queued.max.messages.kbytes", "16384"),
                ("fetch.wait.max.ms", "50"),
                ("fetch.error.backoff.ms", "100"),
                ("reconnect.backoff.max.ms", "2000"),
            ],
        )?;
        Ok(Self {
            topics,
            brokers,
            group,
            reset_to_latest: reset == "latest",
            start,
            stop,
            discovery_interval: discovery.unwrap_or(Duration::from_secs(300)),
            client,
        })
    }
}

impl SinkOptions {
    /// Everything that is wrong without asking the broker is found here.
    pub fn read(reader: &OptionReader<'_>) -> Result<Self> {
        refuse_unsupported(reader)?;
        let topics = topics(reader)?;
        let [topic] = topics.as_slice() else {
            return Err(Error::Config(
                "connector 'kafka' writes to one topic; 'topic' names several".to_owned(),
            ));
        };
        let brokers = reader.required("properties.bootstrap.servers")?.to_owned();
        let guarantee = match reader
            .choice("sink.delivery-guarantee", GUARANTEES)?
            .unwrap_or("at-least-once")
        {
            "exactly-once" => Guarantee::ExactlyOnce,
            "none" => Guarantee::None,
            _ => Guarantee::AtLeastOnce,
        };
        let prefix = reader
            .text("sink.transactional-id-prefix")
            .unwrap_or_default();
        if guarantee == Guarantee::ExactlyOnce && prefix.is_empty() {
            return Err(Error::Config(
                "connector 'kafka' needs 'sink.transactional-id-prefix' for 'sink.delivery-guarantee' = 'exactly-once'; \
                 choose one that no other job writes with"
                    .to_owned(),
            ));
        }
        let timeout_ms =
            reader.integer("properties.transaction.timeout.ms", 1..=i64::from(i32::MAX))?;
        declare_all(reader);
        let client = client(
            reader,
            &[
                ("linger.ms", "5"),
                // As the Java client: a key lies in the same partition, whoever wrote it.
                ("partitioner", "murmur2_random"),
                ("enable.idempotence", "true"),
                ("queue.buffering.max.kbytes", "65536"),
                ("reconnect.backoff.max.ms", "2000"),
            ],
        )?;
        Ok(Self {
            topic: topic.clone(),
            brokers,
            guarantee,
            transactional_id_prefix: prefix.to_owned(),
            transaction_timeout: timeout_ms.map_or(TRANSACTION_TIMEOUT, |ms| {
                Duration::from_millis(ms.unsigned_abs())
            }),
            client,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base = [
            ("topic", "t"),
            ("properties.bootstrap.servers", "localhost:9092"),
        ];
        base.iter()
            .chain(pairs)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn source(pairs: &[(&str, &str)]) -> Result<SourceOptions> {
        SourceOptions::read(&OptionReader::new("kafka", &options(pairs)))
    }

    #[test]
    fn start_and_stop_are_read() {
        let read = source(&[
            ("scan.startup.mode", "specific-offsets"),
            (
                "scan.startup.specific-offsets",
                "partition:0,offset:42;partition:1,offset:300",
            ),
            ("scan.bounded.mode", "latest-offset"),
            ("properties.group.id", "g"),
        ])
        .unwrap();
        assert_eq!(read.start, Start::Offsets([(0, 42), (1, 300)].into()));
        assert_eq!(read.stop, Stop::Latest);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = source(&[]).unwrap_err().to_string();
        assert!(error.contains("properties.group.id"), "{error}");
        let error = source(&[("scan.startup.mode", "timestamp")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("scan.startup.timestamp-millis"), "{error}");
        let error = source(&[("scan.startup.mode", "earliest")])
            .unwrap_err()
            .to_string();
        assert!(error.contains("'earliest-offset'"), "{error}");
        let error = source(&[
            ("scan.startup.mode", "earliest-offset"),
            ("properties.max.poll.record", "5"),
        ])
        .unwrap_err();
        assert!(error.to_string().contains("max.poll.record"), "{error}");
    }

    #[test]
    fn exactly_once_needs_a_prefix() {
        let values = options(&[("sink.delivery-guarantee", "exactly-once")]);
        let error = SinkOptions::read(&OptionReader::new("kafka", &values))
            .unwrap_err()
            .to_string();
        assert!(error.contains("sink.transactional-id-prefix"), "{error}");
    }
}
