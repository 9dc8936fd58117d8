//! Ctrl-C: seen by those who wait, instead of ending the program.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::PollFlags;
use signal_hook::consts::SIGINT;

use crate::connection::wait;

/// Presses of Ctrl-C, as bytes in a pipe that can be waited for.
#[derive(Debug)]
pub(crate) struct Interrupt {
    presses: UnixStream,
}

impl Interrupt {
    /// From now on Ctrl-C ends nothing by itself.
    pub fn install() -> io::Result<Arc<Self>> {
        let (presses, write) = UnixStream::pair()?;
        presses.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGINT, write)?;
        Ok(Arc::new(Self { presses }))
    }

    /// Waits until `file` can be read; an error of kind `Interrupted` where Ctrl-C came first.
    pub fn wait_readable(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let ready = wait(&[(file, PollFlags::IN), (self.presses.as_fd(), PollFlags::IN)], None)?;
        if ready[1].is_empty() { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    }

    /// What to wait for beside other things.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.presses.as_fd()
    }

    /// Forgets the presses so far.
    pub fn clear(&self) {
        let mut bytes = [0; 64];
        while (&self.presses).read(&mut bytes).is_ok_and(|len| len > 0) {}
    }
}

/// A flag that Ctrl-C raises: for walks that end with a summary.
#[derive(Clone, Debug)]
pub(crate) struct Halt(Arc<AtomicBool>);

impl Halt {
    pub fn install() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, Arc::clone(&flag))?;
        Ok(Self(flag))
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
