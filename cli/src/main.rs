//! The binary `weir`: job manager, task manager, embedded cluster and client in one.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod args;
mod client;
mod commands;
mod embedded;
mod members;
mod metrics_http;
mod roles;
mod sql;
mod state;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

// Also RocksDB's: its blocks, allocated and freed by many threads, leave a quarter more of the process' memory unused in glibc's arenas.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As a shell shows a process that SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // `weir list | head`: who reads has what it wants.
        Err(error) if is_broken_pipe(&error) => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let config = cli.shared.load()?;
    // A prompt or a result on the screen is not to be torn apart by progress reports of the engine.
    let quiet = matches!(cli.command, Command::Sql(_)) && cli.shared.log.is_none();
    let filter = if quiet {
        // Of a job that fails, the command says why.
        "error,weir_jobmanager::job::driver=off"
    } else {
        config.log.filter.as_str()
    };
    weir_common::telemetry::init(config.log.format, filter);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("weir-io")
        .build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Sql(command) => sql::run(config, command).await,
            Command::Jobmanager(command) => match command.change {
                None => roles::job_manager(config).await,
                Some(change) => members::run(&config, change).await,
            },
            Command::Taskmanager => roles::task_manager(config).await,
            Command::Run(command) => commands::run(&config, command).await,
            Command::List(command) => commands::list(&config, command).await,
            Command::Status(command) => commands::status(&config, command).await,
            Command::Cancel(command) => commands::cancel(&config, command).await,
            Command::Savepoint(command) => commands::savepoint(&config, command).await,
            Command::Stop(command) => commands::stop(&config, command).await,
            Command::Rescale(command) => commands::rescale(&config, command).await,
            Command::State(command) => state::run(config, command).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}
