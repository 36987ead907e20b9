//! A command on a terminal of its own, made by script(1): what a person sees and types.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::eventually::eventually;

/// The request of an editor for the place of the cursor, and the answer of a terminal.
const WHERE: &[u8] = b"\x1b[6n";
const HERE: &[u8] = b"\x1b[1;1R";

/// Ends with a kill when it is dropped.
pub struct Terminal {
    child: Child,
    keyboard: Arc<Mutex<ChildStdin>>,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `command` (a line of the shell) with this HOME.
    pub fn start(command: &str, home: &std::path::Path) -> anyhow::Result<Self> {
        let mut child = Command::new("script")
            .args(["-qfec", command, "/dev/null"])
            .env("HOME", home)
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("script(1) has no pipes");
        };
        let keyboard = Arc::new(Mutex::new(stdin));
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (answers, shown) = (Arc::clone(&keyboard), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut part) {
                let part = &part[..count];
                shown.lock().unwrap().extend_from_slice(part);
                for _ in part.windows(WHERE.len()).filter(|text| *text == WHERE) {
                    let mut keyboard = answers.lock().unwrap();
                    keyboard
                        .write_all(HERE)
                        .and_then(|()| keyboard.flush())
                        .ok();
                }
            }
        });
        Ok(Self {
            child,
            keyboard,
            screen,
        })
    }

    /// Types a text; "\r" is the Enter key.
    pub fn types(&self, text: &str) {
        let mut keyboard = self.keyboard.lock().unwrap();
        keyboard.write_all(text.as_bytes()).unwrap();
        keyboard.flush().unwrap();
    }

    /// Everything shown so far, with the terminal's control codes.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Waits until the screen shows a text.
    pub fn shows(&self, text: &str, timeout: Duration) {
        let shown = eventually(text, timeout, || self.screen().contains(text).then_some(()));
        shown.unwrap_or_else(|error| panic!("{error}; shown: {:?}", self.screen()));
    }

    /// Waits for the end; the exit code.
    pub fn ends(&mut self, timeout: Duration) -> Option<i32> {
        let ended = eventually("the command ends", timeout, || {
            self.child.try_wait().ok()?
        });
        ended
            .unwrap_or_else(|error| panic!("{error}; shown: {:?}", self.screen()))
            .code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
