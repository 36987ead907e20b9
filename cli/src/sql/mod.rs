//! `weir sql`: statements one after the other, each job run to its end before the next statement.

mod job;
mod progress;
mod prompt;
mod render;
mod results;

use std::io::{IsTerminal, Read};

use anyhow::Context;
use weir_common::config::Config;
use weir_sql::{Session, SessionDefaults, StatementResult};

use crate::args::{OutputFormat, SqlCommand};
use crate::client::JobClient;
use crate::embedded::EmbeddedCluster;
use crate::roles::Interrupts;
use job::JobRunner;
pub use render::Renderer;
pub use results::ResultRows;

/// A session with the cluster that its jobs run on.
pub struct SqlShell {
    session: Session,
    runner: JobRunner,
    format: OutputFormat,
}

/// The command.
pub async fn run(config: Config, command: SqlCommand) -> anyhow::Result<()> {
    let script = read_script(&command)?;
    let interrupts = Interrupts::catch()?;
    let embedded = match command.jobmanager.is_empty() {
        true => Some(
            EmbeddedCluster::start(&config, command.parallelism)
                .await
                .context("cannot start the embedded cluster")?,
        ),
        false => None,
    };
    let result = run_shell(&config, &command, script, embedded.as_ref(), interrupts).await;
    if let Some(embedded) = embedded {
        embedded.shutdown().await;
    }
    result
}

/// Text of the script; `None`: a prompt.
fn read_script(command: &SqlCommand) -> anyhow::Result<Option<String>> {
    if let Some(statements) = &command.execute {
        return Ok(Some(statements.clone()));
    }
    if let Some(path) = &command.file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the script {}", path.display()))?;
        return Ok(Some(text));
    }
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read the script from the standard input")?;
    Ok(Some(text))
}

async fn run_shell(
    config: &Config,
    command: &SqlCommand,
    script: Option<String>,
    embedded: Option<&EmbeddedCluster>,
    interrupts: Interrupts,
) -> anyhow::Result<()> {
    let mut options = config.job_defaults.clone();
    let addresses = match embedded {
        Some(cluster) => {
            options
                .entry("execution.checkpointing.dir".to_owned())
                .or_insert_with(|| cluster.checkpoint_directory());
            vec![cluster.address()]
        }
        None => command.jobmanager.clone(),
    };
    for setting in &command.settings {
        let (key, value) = setting
            .split_once('=')
            .with_context(|| format!("--set {setting}: expected KEY=VALUE"))?;
        options.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    let mut client_config = config.clone();
    if embedded.is_some() {
        client_config.tls = None;
    }
    let client = JobClient::new(&client_config, &addresses)?;
    let session = Session::new(SessionDefaults {
        default_parallelism: command.parallelism,
        options,
    })?;
    let mut shell = SqlShell {
        session,
        runner: JobRunner::new(client, command.clone(), interrupts),
        format: command.format,
    };
    match script {
        Some(script) => shell.run_script(&script).await,
        None => prompt::run(&mut shell).await,
    }
}

impl SqlShell {
    /// Runs statements until one fails. Nothing runs if one of them can't be parsed.
    pub async fn run_script(&mut self, script: &str) -> anyhow::Result<()> {
        for statement in weir_sql::parse_script(script)? {
            match self.session.execute(&statement)? {
                StatementResult::Ok(_) => {}
                StatementResult::Rows { columns, rows } => {
                    render::print_rows(self.format, &columns, &rows)
                }
                StatementResult::Job(job) => self.runner.run_insert(job.graph).await?,
                StatementResult::Query(query) => self.runner.run_query(query).await?,
                StatementResult::Jobs(statement) => {
                    let directory = self
                        .session
                        .options()
                        .get("execution.checkpointing.savepoint-dir");
                    let (columns, rows) = self.runner.about_jobs(statement, directory).await?;
                    render::print_rows(self.format, &columns, &rows)
                }
            }
        }
        Ok(())
    }
}
