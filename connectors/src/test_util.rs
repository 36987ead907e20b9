//! Contexts for the tests of connectors.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use weir_common::clock::Clock;
use weir_common::config::S3Config;
use weir_common::ids::{AttemptId, JobId};
use weir_dataflow::{OperatorInfo, SlotWaker};

use crate::{SinkContext, SourceContext};

pub(crate) fn runtime() -> tokio::runtime::Handle {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| tokio::runtime::Runtime::new().unwrap())
        .handle()
        .clone()
}

pub(crate) fn info(subtask: u32, parallelism: u32) -> OperatorInfo {
    OperatorInfo {
        job: "0190163d869e7c2a9b4e3f1d2c3b4a59".parse::<JobId>().unwrap(),
        job_name: "test".into(),
        attempt: AttemptId(1),
        uid: "operator".into(),
        name: "operator".into(),
        subtask,
        parallelism,
        max_parallelism: 128,
    }
}

pub(crate) fn source_context(
    schema: SchemaRef,
    subtask: u32,
    parallelism: u32,
    restored: &[Bytes],
) -> SourceContext {
    SourceContext {
        info: info(subtask, parallelism),
        schema,
        restored: restored.to_vec(),
        is_restored: !restored.is_empty(),
        waker: SlotWaker::none(),
        clock: Clock::System,
        s3: S3Config::default(),
        job_options: Arc::default(),
        runtime: runtime(),
    }
}

pub(crate) fn sink_context(schema: SchemaRef, subtask: u32, parallelism: u32) -> SinkContext {
    SinkContext {
        info: info(subtask, parallelism),
        schema,
        is_restored: false,
        waker: SlotWaker::none(),
        clock: Clock::System,
        s3: S3Config::default(),
        job_options: Arc::default(),
        runtime: runtime(),
    }
}

pub(crate) fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

pub(crate) fn source(connector: &str, pairs: &[(&str, &str)]) -> weir_proto::v1::Source {
    weir_proto::v1::Source {
        table: "t".to_owned(),
        connector: connector.to_owned(),
        options: options(pairs),
        ..Default::default()
    }
}

pub(crate) fn sink(connector: &str, pairs: &[(&str, &str)]) -> weir_proto::v1::Sink {
    weir_proto::v1::Sink {
        table: "t".to_owned(),
        connector: connector.to_owned(),
        options: options(pairs),
        ..Default::default()
    }
}
