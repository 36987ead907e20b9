//! The options of the connector.

use std::time::Duration;

use weir_dataflow::{Error, Result};

use super::partition::DEFAULT_NAME;
use crate::format::Format;
use crate::options::OptionReader;

const MINUTE: Duration = Duration::from_secs(60);

/// Of a table that is read.
pub(super) struct SourceOptions {
    pub path: String,
    pub format: Format,
    /// Look for new files so often; `None`: read what is there and end.
    pub monitor_interval: Option<Duration>,
    /// In the name of a folder: NULL.
    pub default_partition: String,
}

/// Of a table that is written to.
pub(super) struct SinkOptions {
    pub path: String,
    pub format: Format,
    /// A part file is closed when it is that large.
    pub roll_bytes: u64,
    /// A part file is closed when it is that old.
    pub roll_after: Duration,
    /// A part file is closed when nothing was written to it for so long.
    pub inactive_after: Duration,
    /// As for reading.
    pub default_partition: String,
    /// Name of the empty file that a partition gets when its files are visible; `None`: no file.
    pub success_file: Option<String>,
}

/// One reader serves both directions: a table may be used in both, and all its options are validated each time.
struct Read {
    path: String,
    format: Format,
    monitor_interval: Option<Duration>,
    roll_bytes: u64,
    roll_after: Duration,
    inactive_after: Duration,
    default_partition: String,
    success_file: Option<String>,
}

fn read(options: OptionReader<'_>) -> Result<Read> {
    let path = options.required("path")?.to_owned();
    let scheme = path.split_once("://").map_or("file", |(scheme, _)| scheme);
    if !["file", "s3", "s3a"].contains(&scheme) {
        return Err(options.invalid("path", &path, "a path, file:///PATH or s3://BUCKET/PATH"));
    }
    let monitor_interval = options.duration("source.monitor-interval")?;
    if monitor_interval.is_some_and(|interval| interval.is_zero()) {
        return Err(options.invalid("source.monitor-interval", "0", "more than 0"));
    }
    let read = Read {
        format: Format::required(&options, "")?,
        monitor_interval,
        roll_bytes: options
            .memory("sink.rolling-policy.file-size")?
            .unwrap_or(128 << 20)
            .max(1),
        roll_after: options
            .duration("sink.rolling-policy.rollover-interval")?
            .unwrap_or(30 * MINUTE),
        inactive_after: options
            .duration("sink.rolling-policy.inactivity-interval")?
            .unwrap_or(30 * MINUTE),
        default_partition: options
            .text("partition.default-name")
            .unwrap_or(DEFAULT_NAME)
            .to_owned(),
        success_file: success_file(&options)?,
        path,
    };
    // How often Flink looks whether to close a file; here it is looked at every second.
    options.duration("sink.rolling-policy.check-interval")?;
    refuse_unbuilt(&options)?;
    options.finish()?;
    Ok(read)
}

/// The policy by which readers learn that a partition has new files.
fn success_file(options: &OptionReader<'_>) -> Result<Option<String>> {
    let name = options.text("sink.partition-commit.success-file.name");
    let wanted = match options.text("sink.partition-commit.policy.kind") {
        None => false,
        Some(kinds) if kinds.split(',').all(|kind| kind.trim() == "success-file") => true,
        Some(kinds) => {
            return Err(options.invalid(
                "sink.partition-commit.policy.kind",
                kinds,
                "success-file; there is no metastore to tell, and no class of a user's can be loaded",
            ));
        }
    };
    match options.text("sink.partition-commit.trigger") {
        None | Some("process-time") => {}
        Some(other) => {
            return Err(options.invalid(
                "sink.partition-commit.trigger",
                other,
                "process-time: partition-time is not supported yet",
            ));
        }
    }
    let delay = options.duration("sink.partition-commit.delay")?;
    if delay.is_some_and(|delay| !delay.is_zero()) {
        return Err(options.invalid(
            "sink.partition-commit.delay",
            options
                .text("sink.partition-commit.delay")
                .unwrap_or_default(),
            "0 s: a partition is told of with every checkpoint that adds files to it",
        ));
    }
    Ok(wanted.then(|| name.unwrap_or("_SUCCESS").to_owned()))
}

fn refuse_unbuilt(options: &OptionReader<'_>) -> Result<()> {
    let every_checkpoint = "every checkpoint closes and publishes the part files";
    for key in [
        "auto-compaction",
        "compaction.file-size",
        "compaction.parallelism",
    ] {
        options.refuse(key, every_checkpoint)?;
    }
    for key in [
        "partition.time-extractor.kind",
        "partition.time-extractor.class",
        "partition.time-extractor.timestamp-pattern",
        "partition.time-extractor.timestamp-formatter",
        "sink.partition-commit.watermark-time-zone",
    ] {
        options.refuse(key, "partitions are committed by process time")?;
    }
    for key in [
        "sink.partition-commit.policy.class",
        "sink.partition-commit.policy.class.parameters",
    ] {
        options.refuse(key, "no class of a user's can be loaded")?;
    }
    options.refuse(
        "sink.shuffle-by-partition.enable",
        "each subtask writes files of its own",
    )?;
    options.refuse("sink.parallelism", "set 'parallelism.default'")?;
    options.refuse("source.path.regex-pattern", "name the folder in 'path'")?;
    options.refuse(
        "source.report-statistics",
        "there are no statistics to report",
    )
}

impl SourceOptions {
    pub(super) fn read(options: OptionReader<'_>) -> Result<Self> {
        let read = read(options)?;
        Ok(Self {
            path: read.path,
            format: read.format,
            monitor_interval: read.monitor_interval,
            default_partition: read.default_partition,
        })
    }
}

impl SinkOptions {
    pub(super) fn read(options: OptionReader<'_>) -> Result<Self> {
        let read = read(options)?;
        for (key, interval) in [
            ("rollover", read.roll_after),
            ("inactivity", read.inactive_after),
        ] {
            if interval.is_zero() {
                return Err(Error::Config(format!(
                    "option 'sink.rolling-policy.{key}-interval' of connector 'filesystem' must be more than 0"
                )));
            }
        }
        Ok(Self {
            path: read.path,
            format: read.format,
            roll_bytes: read.roll_bytes,
            roll_after: read.roll_after,
            inactive_after: read.inactive_after,
            default_partition: read.default_partition,
            success_file: read.success_file,
        })
    }
}
