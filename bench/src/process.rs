//! What the kernel counts of a process, and children that end with their owner.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// What Linux tells processes its clock's rate is (USER_HZ), whatever it really is.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process that is killed when it is dropped.
pub struct Process(Child);

impl Process {
    /// Starts it with both outputs added to `log`.
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self(child))
    }

    /// Kills it at once, as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// User and system time of all its threads so far.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let ticks = ticks(&stat).context("/proc/PID/stat has no times")?;
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// The most memory that it ever held.
    pub fn peak_rss_mb(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        Ok(peak_kb(&status).context("/proc/PID/status has no VmHWM")? as f64 / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// utime + stime, the 14th and 15th field; the second, in brackets, may contain blanks.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn peak_kb(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Runs a command to its end, or kills it after `timeout`; its standard output if it succeeds, else an error with its standard error.
pub fn run(
    command: &mut Command,
    input: Option<&str>,
    timeout: Duration,
) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("in"), input.unwrap_or_default())?;
    let mut child = command
        .stdin(File::open(path("in"))?)
        .stdout(File::create(path("out"))?)
        .stderr(File::create(path("err"))?)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let deadline = Instant::now() + timeout;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            stop(&mut child)?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let error = std::fs::read_to_string(path("err"))?;
    match status {
        Some(status) if status.success() => Ok(std::fs::read_to_string(path("out"))?),
        Some(_) => anyhow::bail!("{}", error.trim()),
        None => anyhow::bail!("{command:?} takes more than {timeout:?}: {}", error.trim()),
    }
}

/// SIGTERM first: a script that has started others stops them.
fn stop(child: &mut Child) -> anyhow::Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().ok();
    child.wait()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_blanks_and_brackets() {
        let stat = "7 (a) b)) S 1 7 7 0 -1 4194560 100 0 0 0 321 45 0 0 20 0 1 0 5";
        assert_eq!(ticks(stat), Some(366));
        assert_eq!(ticks("7 (x) S 1"), None);
    }

    #[test]
    fn a_busy_process_has_cpu_time_and_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        let process = Process::start(&mut command, &folder.path().join("log")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while process.cpu_seconds().unwrap() == 0.0 {
            assert!(Instant::now() < deadline, "no CPU time is counted");
        }
        assert!(process.peak_rss_mb().unwrap() > 0.0);
    }

    #[test]
    fn a_failed_command_gives_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no disk >&2; exit 3"]);
        let error = run(&mut command, None, Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.to_string(), "no disk");
        let mut command = Command::new("sleep");
        let error = run(command.arg("60"), None, Duration::from_millis(1)).unwrap_err();
        assert!(error.to_string().contains("takes more than"), "{error}");
        let echoed = run(&mut Command::new("cat"), Some("x"), Duration::from_secs(30)).unwrap();
        assert_eq!(echoed, "x");
    }
}
