//! A pseudo terminal with a client on it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use thali_testkit::wait_until;

const PATIENCE: Duration = Duration::from_secs(20);

/// A client whose keys are pressed and whose screen is read. Dropping it ends it.
pub struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Bytes of `shown` that were waited for already.
    seen: usize,
}

impl Terminal {
    /// Starts `command` in a session of its own, with the terminal as the one that Ctrl-C comes from.
    pub fn start(command: &Command) -> Result<Terminal> {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        tcsetwinsize(master.as_fd(), Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 })?;
        let path = ptsname(&master, Vec::new())?.into_string()?;
        let open = || File::options().read(true).write(true).open(&path);
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            session.env(name, value.unwrap_or_default());
        }
        session.env("TERM", "xterm").env_remove("REDISCLI_AUTH");
        let child = session
            .stdin(Stdio::from(open()?))
            .stdout(Stdio::from(open()?))
            .stderr(Stdio::from(open()?))
            .spawn()
            .context("start setsid")?;
        let keys = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, kept) = (keys.try_clone()?, Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The last one to hold the other side closes it, which is an error here.
            while let Ok(len @ 1..) = screen.read(&mut bytes) {
                kept.lock().unwrap().extend_from_slice(&bytes[..len]);
            }
        });
        Ok(Terminal { child, keys, shown, seen: 0 })
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown behind what was waited for before.
    pub fn expect(&mut self, text: &str) {
        let found = || {
            let shown = self.shown.lock().unwrap();
            let rest = &shown[self.seen..];
            rest.windows(text.len())
                .position(|part| part == text.as_bytes())
                .map(|at| self.seen + at + text.len())
        };
        let mut at = None;
        let waited = wait_until(text, PATIENCE, || {
            at = found();
            at.is_some()
        });
        if let Err(error) = waited {
            let shown = self.shown.lock().unwrap();
            panic!("{error}; behind the last expectation stands: {}", shown[self.seen..].escape_ascii());
        }
        self.seen = at.unwrap();
    }

    /// Waits for the client's end.
    pub fn end(mut self) -> Option<i32> {
        let mut code = None;
        wait_until("the client's end", PATIENCE, || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        })
        .unwrap();
        code.unwrap().code()
    }

    /// Everything shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only when it has ended already. Its client ends with the terminal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
