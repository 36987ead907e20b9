//! The binary under test, as a child process with its log in a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The binary: `WEIR_BIN`, or the one that cargo built beside this test.
pub fn weir_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WEIR_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/PROFILE/deps");
    let binary = profile.join("weir");
    assert!(
        binary.exists(),
        "{} is not built: run `cargo build -p weir` first",
        binary.display()
    );
    binary
}

/// A command of the binary, without the environment's WEIR_ settings.
pub fn weir() -> Command {
    let mut command = Command::new(weir_binary());
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("WEIR_") {
            command.env_remove(key);
        }
    }
    command
}

/// Runs a command to its end, killed after `timeout`.
pub fn run(command: &mut Command, timeout: Duration) -> anyhow::Result<Output> {
    run_with_input(command, "", timeout)
}

/// The same with a text on the standard input.
pub fn run_with_input(
    command: &mut Command,
    input: &str,
    timeout: Duration,
) -> anyhow::Result<Output> {
    let dir = tempfile::tempdir()?;
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let script = dir.path().join("in");
    std::fs::write(&script, input)?;
    let mut child = command
        .stdin(File::open(&script)?)
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .spawn()
        .context("cannot start")?;
    let deadline = Instant::now() + timeout;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            let text = std::fs::read_to_string(&err)?;
            anyhow::bail!("{command:?} did not end within {timeout:?}; it said: {text}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ok(Output {
        status,
        stdout: std::fs::read(&out)?,
        stderr: std::fs::read(&err)?,
    })
}

/// A running process that is killed when it is dropped.
pub struct Process {
    child: Child,
    pub log: PathBuf,
}

impl Process {
    /// Starts it with both outputs appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// kill -9, and waits until it is gone.
    pub fn kill_9(&mut self) {
        kill(self.pid(), Signal::SIGKILL).ok();
        self.child.wait().ok();
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).ok();
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill(self.pid(), Signal::SIGCONT).ok();
        self.kill_9();
    }
}
