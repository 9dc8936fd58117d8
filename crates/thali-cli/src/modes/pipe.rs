//! `--pipe`: stdin goes to the server as it is, while replies are read and counted.
//!
//! Both ways at the same time on one thread: a server that is busy sending doesn't read, and waiting for the
//! one while owing the other would never end.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::client::Client;
use crate::connection::{Connection, wait};
use crate::stop::Stop;
use crate::wire::{Reply, WireError, io_words, read_reply};

/// Bytes taken from stdin at once, and the most that wait to be sent.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of the last command's argument, by which its reply is known.
const MARK_BYTES: usize = 20;

pub(crate) fn run(client: &mut Client) -> Result<(), Stop> {
    let link = client.link.as_mut().ok_or_else(|| Stop::silent(1))?;
    link.set_nonblocking()?;
    let timeout = client.options.pipe_timeout;
    let mut pipe = Pipe {
        link,
        outgoing: Vec::new(),
        sent: 0,
        all_read: false,
        flushed: true,
        incoming: Vec::new(),
        at: 0,
        mark: mark(),
        last_reply: Instant::now(),
        timeout,
    };
    let (mut errors, mut replies) = (0u64, 0u64);
    loop {
        match read_reply(&mut pipe) {
            Ok(Reply::Bulk(text)) if pipe.all_read && text == pipe.mark => {
                crate::client::print_now("Last reply received from server.\n")?;
                break;
            }
            Ok(reply) => {
                pipe.last_reply = Instant::now();
                replies += 1;
                if let Some(text) = reply.error() {
                    eprintln!("{}", String::from_utf8_lossy(text));
                    errors += 1;
                }
            }
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
                eprintln!("No replies for {} seconds: exiting.", timeout.unwrap_or_default().as_secs());
                errors += 1;
                break;
            }
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::Other => {
                return Err(Stop::failure(error));
            }
            Err(_) => return Err(Stop::failure("Error reading replies from server")),
        }
    }
    crate::client::print_now(&format!("errors: {errors}, replies: {replies}\n"))?;
    if errors > 0 { Err(Stop::silent(1)) } else { Ok(()) }
}

/// Letters that no reply will have by accident.
fn mark() -> Vec<u8> {
    use std::hash::{BuildHasher, RandomState};
    let number = || RandomState::new().hash_one(Instant::now());
    let text = format!("{:016x}{:016x}", number(), number());
    text.into_bytes()[..MARK_BYTES].to_vec()
}

/// The connection as a source of replies, which sends on whenever it waits for some.
struct Pipe<'a> {
    link: &'a mut Connection,
    outgoing: Vec<u8>,
    sent: usize,
    /// Whether stdin has ended and the last command is on its way.
    all_read: bool,
    /// Whether the TLS below holds nothing back.
    flushed: bool,
    incoming: Vec<u8>,
    at: usize,
    mark: Vec<u8>,
    last_reply: Instant,
    timeout: Option<Duration>,
}

impl Pipe<'_> {
    fn send_on(&mut self) -> io::Result<()> {
        if self.sent == self.outgoing.len() && !self.all_read {
            self.outgoing.resize(CHUNK_BYTES, 0);
            self.sent = 0;
            let read = io::stdin().lock().read(&mut self.outgoing);
            self.outgoing.truncate(*read.as_ref().unwrap_or(&0));
            let read =
                read.map_err(|error| io::Error::other(format!("Error reading from stdin: {error}")))?;
            if read == 0 {
                self.end_of_input()?;
            }
        }
        if self.sent < self.outgoing.len() {
            self.flushed = false;
            match self.link.write_some(&self.outgoing[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(cannot_write(&error)),
            }
        }
        match self.link.flush() {
            Ok(()) => self.flushed = true,
            Err(error) if is_later(&error) => {}
            Err(error) => return Err(cannot_write(&error)),
        }
        Ok(())
    }

    /// Asks for an echo that says that all before it was answered. The line break before it ends whatever
    /// stdin left open.
    fn end_of_input(&mut self) -> io::Result<()> {
        self.all_read = true;
        self.last_reply = Instant::now();
        self.outgoing.extend_from_slice(b"\r\n");
        crate::wire::write_request(&[b"ECHO", self.mark.as_slice()], &mut self.outgoing);
        io::stdout().write_all(b"All data transferred. Waiting for the last reply...\n")
    }
}

fn cannot_write(error: &io::Error) -> io::Error {
    io::Error::other(format!("Error writing to the server: {}", io_words(error)))
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Read for Pipe<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.len().min(into.len());
        into[..len].copy_from_slice(&self.incoming[self.at..self.at + len]);
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for Pipe<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.incoming.len() {
            self.incoming.resize(CHUNK_BYTES, 0);
            self.at = 0;
            let read = self.link.read_some(&mut self.incoming);
            self.incoming.truncate(*read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Ok(&[]),
                Ok(_) => break,
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(error),
            }
            let sends = self.sent < self.outgoing.len() || !self.all_read || !self.flushed;
            let wanted = PollFlags::IN | if sends { PollFlags::OUT } else { PollFlags::empty() };
            let left = match self.timeout.filter(|_| self.all_read) {
                None => None,
                Some(timeout) => match timeout.checked_sub(self.last_reply.elapsed()) {
                    Some(left) => Some(left),
                    None => return Err(io::ErrorKind::TimedOut.into()),
                },
            };
            let ready = wait(&[(self.link.as_fd(), wanted)], left)?;
            if ready[0].contains(PollFlags::OUT) {
                self.send_on()?;
            }
        }
        Ok(&self.incoming[self.at..])
    }

    fn consume(&mut self, len: usize) {
        self.at += len;
    }
}
