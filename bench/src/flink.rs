//! Apache Flink: `bench/flink/setup.sh` installs it, `bench/flink/flink.py` runs a cluster for one measurement.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use weir_bench::process::run;

use crate::report::Measurement;

const SETUP_TIMEOUT: Duration = Duration::from_secs(900);
const RUN_TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs both lists of statements on a fresh cluster; the figures are those of the second.
pub(crate) fn measure(
    folder: &Path,
    warm_up: Option<&[String]>,
    timed: &[String],
) -> anyhow::Result<Measurement> {
    let home = run(
        &mut Command::new(folder.join("setup.sh")),
        None,
        SETUP_TIMEOUT,
    )
    .context("cannot install Flink")?;
    let request = serde_json::json!({ "warm_up": warm_up, "timed": timed }).to_string();
    let mut command = Command::new("python3");
    command.arg(folder.join("flink.py")).arg(home.trim());
    let answer = run(&mut command, Some(&request), RUN_TIMEOUT)?;
    serde_json::from_str(&answer).with_context(|| format!("flink.py answered {answer}"))
}
