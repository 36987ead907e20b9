//! The options of the connector.

use std::time::Duration;

use weir_dataflow::{Error, Result};

use crate::format::Format;
use crate::options::OptionReader;

const MINUTE: Duration = Duration::from_secs(60);

/// Of a table that is read.
pub(super) struct SourceOptions {
    pub path: String,
    pub format: Format,
    /// Look for new files so often; `None`: read what is there and end.
    pub monitor_interval: Option<Duration>,
}

/// Of a table that is written to.
pub(super) struct SinkOptions {
    pub path: String,
    pub format: Format,
    /// A part file is closed when it is that large.
    pub roll_bytes: u64,
    /// A part file is closed when it is that old.
    pub roll_after: Duration,
}

/// One reader serves both directions: a table may be used in both, and all its options are validated each time.
struct Read {
    path: String,
    format: Format,
    monitor_interval: Option<Duration>,
    roll_bytes: u64,
    roll_after: Duration,
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
        path,
    };
    // How often Flink looks whether to close a file; here it is looked at every second.
    options.duration("sink.rolling-policy.check-interval")?;
    refuse_unbuilt(&options)?;
    options.finish()?;
    Ok(read)
}

fn refuse_unbuilt(options: &OptionReader<'_>) -> Result<()> {
    let every_checkpoint = "every checkpoint closes and publishes the part files";
    options.refuse("sink.rolling-policy.inactivity-interval", every_checkpoint)?;
    for key in [
        "auto-compaction",
        "compaction.file-size",
        "compaction.parallelism",
    ] {
        options.refuse(key, every_checkpoint)?;
    }
    for key in [
        "partition.default-name",
        "partition.time-extractor.kind",
        "partition.time-extractor.class",
        "partition.time-extractor.timestamp-pattern",
        "partition.time-extractor.timestamp-formatter",
        "sink.partition-commit.trigger",
        "sink.partition-commit.delay",
        "sink.partition-commit.watermark-time-zone",
        "sink.partition-commit.policy.kind",
        "sink.partition-commit.policy.class",
        "sink.partition-commit.policy.class.parameters",
        "sink.partition-commit.success-file.name",
        "sink.shuffle-by-partition.enable",
    ] {
        options.refuse(key, "tables with PARTITIONED BY are not")?;
    }
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
        })
    }
}

impl SinkOptions {
    pub(super) fn read(options: OptionReader<'_>) -> Result<Self> {
        let read = read(options)?;
        if read.roll_after.is_zero() {
            return Err(Error::Config(
                "option 'sink.rolling-policy.rollover-interval' of connector 'filesystem' must be more than 0"
                    .to_owned(),
            ));
        }
        Ok(Self {
            path: read.path,
            format: read.format,
            roll_bytes: read.roll_bytes,
            roll_after: read.roll_after,
        })
    }
}
