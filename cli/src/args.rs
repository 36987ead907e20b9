//! The command line.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_common::config::Config;

/// Stream processing with Flink SQL.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Shared {
    /// Configuration file (YAML).
    #[arg(long, global = true, env = "WEIR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Override of a configuration key, "taskmanager.slots=4". Also by environment: WEIR_TASKMANAGER__SLOTS=4.
    #[arg(long = "conf", value_name = "KEY=VALUE", global = true)]
    pub overrides: Vec<String>,
    /// What is logged: "info", "debug", "warn,weir_jobmanager=debug".
    #[arg(long, global = true)]
    pub log: Option<String>,
}

impl Shared {
    pub fn load(&self) -> anyhow::Result<Config> {
        let mut flags = Vec::new();
        for item in &self.overrides {
            let (key, value) = item
                .split_once('=')
                .with_context(|| format!("--conf {item}: expected KEY=VALUE"))?;
            flags.push((key.trim().to_owned(), value.trim().to_owned()));
        }
        let mut config = Config::load(self.config.as_deref(), &flags)?;
        if let Some(filter) = &self.log {
            config.log.filter.clone_from(filter);
        }
        Ok(config)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run SQL in an embedded cluster: a script, statements, or a prompt.
    Sql(SqlCommand),
    /// Run a job manager, or change who the job managers of a cluster are.
    Jobmanager(JobManagerCommand),
    /// Run a task manager.
    Taskmanager,
    /// Submit a SQL script to a cluster.
    Run(RunCommand),
    /// List the jobs of a cluster.
    List(ClusterCommand),
    /// Show a job: its subtasks, checkpoints and last failure.
    Status(JobCommand),
    /// Cancel a job at once, without a savepoint.
    Cancel(JobCommand),
    /// Take a savepoint of a running job.
    Savepoint(SavepointCommand),
    /// Stop a job behind a savepoint.
    Stop(StopCommand),
    /// Run a job at another parallelism from its next checkpoint on, which is taken at once.
    Rescale(RescaleCommand),
    /// Look into a savepoint or checkpoint.
    State(StateCommand),
}

#[derive(Debug, Clone, Args)]
pub struct JobManagerCommand {
    #[command(subcommand)]
    pub change: Option<MembersCommand>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum MembersCommand {
    /// Let a running job manager without data into the cluster; comes back when it votes.
    Add {
        /// Its id and address.
        #[arg(value_name = "ID=HOST:PORT", value_parser = new_member)]
        member: (u64, String),
        #[command(flatten)]
        cluster: ClusterCommand,
    },
    /// Take a job manager out of the cluster.
    Remove {
        /// Its id.
        id: u64,
        #[command(flatten)]
        cluster: ClusterCommand,
    },
    /// List the job managers of a cluster.
    List(ClusterCommand),
}

fn new_member(text: &str) -> Result<(u64, String), String> {
    let expected = || format!("'{text}' is not ID=HOST:PORT");
    let (id, address) = text.split_once('=').ok_or_else(expected)?;
    let id = id.trim().parse().map_err(|_| expected())?;
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok((id, address.trim().to_owned())),
        _ => Err(expected()),
    }
}

#[derive(Debug, Clone, Args)]
pub struct SqlCommand {
    /// Script to run; without one and without -e, a prompt.
    pub file: Option<PathBuf>,
    /// Statements to run.
    #[arg(
        short = 'e',
        long = "execute",
        value_name = "STATEMENTS",
        allow_hyphen_values = true,
        conflicts_with = "file"
    )]
    pub execute: Option<String>,
    /// How the rows of a SELECT are shown.
    #[arg(long, value_enum, default_value_t = ResultMode::Table)]
    pub result: ResultMode,
    /// For a person, or one JSON object a row.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub format: OutputFormat,
    /// Default parallelism of jobs; SET 'parallelism.default' overrides it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(weir_common::limits::PARALLELISM_MAX)))]
    pub parallelism: u32,
    /// A setting as by SET: "execution.checkpointing.interval=10 s".
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Run on this cluster instead of an embedded one: HOST:PORT of its job managers.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub jobmanager: Vec<String>,
    /// No progress line and no summary.
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResultMode {
    /// The rows as they are when the input has ended.
    Table,
    /// Each change as it comes: +I, -U, +U, -D.
    Changelog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct ClusterCommand {
    /// HOST:PORT of the job managers.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "WEIR_JOBMANAGER_ADDRESS",
        value_delimiter = ',',
        default_value = "127.0.0.1:6123"
    )]
    pub jobmanager: Vec<String>,
    /// For a person, or JSON.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub format: OutputFormat,
}

#[derive(Debug, Clone, Args)]
pub struct RunCommand {
    /// SQL script.
    pub file: PathBuf,
    #[command(flatten)]
    pub cluster: ClusterCommand,
    /// Default parallelism of the script's jobs.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(weir_common::limits::PARALLELISM_MAX)))]
    pub parallelism: Option<u32>,
    /// Savepoint or checkpoint folder to start from.
    #[arg(long, value_name = "PATH")]
    pub from_savepoint: Option<String>,
    /// State that no operator of the script takes is dropped instead of refused.
    #[arg(long)]
    pub allow_non_restored_state: bool,
    /// What becomes of the snapshot: it stays as it is, or the job owns it and deletes it when it is not needed any more.
    #[arg(long, value_enum, requires = "from_savepoint")]
    pub claim_mode: Option<ClaimMode>,
    /// Name of the job.
    #[arg(long)]
    pub name: Option<String>,
    /// Submissions with the same id give the same jobs: for a caller that repeats the command. Default: a new one.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Wait until the jobs have ended; fail if one did not finish.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClaimMode {
    NoClaim,
    Claim,
}

#[derive(Debug, Clone, Args)]
pub struct JobCommand {
    /// Job id, as `weir list` shows it.
    pub job: String,
    #[command(flatten)]
    pub cluster: ClusterCommand,
}

#[derive(Debug, Clone, Args)]
pub struct SavepointCommand {
    /// Job id.
    pub job: String,
    /// Folder that the savepoint's own folder is made in; default: the job's savepoint directory.
    pub directory: Option<String>,
    #[command(flatten)]
    pub cluster: ClusterCommand,
}

#[derive(Debug, Clone, Args)]
pub struct RescaleCommand {
    /// Job id.
    pub job: String,
    /// Of all operators that can be scaled.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(weir_common::limits::PARALLELISM_MAX)))]
    pub parallelism: u32,
    #[command(flatten)]
    pub cluster: ClusterCommand,
}

#[derive(Debug, Clone, Args)]
pub struct StopCommand {
    /// Job id.
    pub job: String,
    /// Folder that the savepoint's own folder is made in; default: the job's savepoint directory.
    #[arg(long, value_name = "DIR")]
    pub savepoint: Option<String>,
    #[command(flatten)]
    pub cluster: ClusterCommand,
}

#[derive(Debug, Clone, Args)]
pub struct StateCommand {
    #[command(subcommand)]
    pub action: StateAction,
}

#[derive(Debug, Clone, Subcommand)]
pub enum StateAction {
    /// List the operators of a snapshot: id, kind, bytes, and the tables of each with rows and columns.
    Ls(StateLsCommand),
    /// Show rows of a snapshot.
    Show(StateShowCommand),
    /// Write the rows of an operator's state to files.
    Export(StateExportCommand),
}

#[derive(Debug, Clone, Args)]
pub struct StateLsCommand {
    /// Folder (URL or path) of a savepoint, or of a checkpoint (.../JOB_ID/chk-N).
    pub path: String,
    /// Do not count the rows: nothing but the manifest is read.
    #[arg(long)]
    pub no_count: bool,
    /// For a person, or one JSON object an operator.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub format: OutputFormat,
}

#[derive(Debug, Clone, Args)]
pub struct StateShowCommand {
    /// Folder (URL or path) of a savepoint, or of a checkpoint (.../JOB_ID/chk-N).
    pub path: String,
    /// Operator by id, the beginning of its id, or name; default: all.
    #[arg(long)]
    pub operator: Option<String>,
    /// One table of the operator; default: all.
    #[arg(long, requires = "operator")]
    pub table: Option<String>,
    /// Rows of each table at most.
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// For a person, or one JSON object a row.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub format: OutputFormat,
}

#[derive(Debug, Clone, Args)]
pub struct StateExportCommand {
    /// Folder (URL or path) of a savepoint, or of a checkpoint (.../JOB_ID/chk-N).
    pub path: String,
    /// Operator by id, the beginning of its id, or name.
    #[arg(long)]
    pub operator: String,
    /// One table of the operator; default: all, a file each.
    #[arg(long)]
    pub table: Option<String>,
    /// JSON lines or Parquet.
    #[arg(long, value_enum, default_value_t = ExportFormat::Json)]
    pub format: ExportFormat,
    /// Folder (URL or path), or the name of a file that ends in .json or .parquet.
    #[arg(long, value_name = "DIR|FILE")]
    pub output: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    Json,
    Parquet,
}
