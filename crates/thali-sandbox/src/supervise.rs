//! The caller's side of one run: feeds input, collects output under caps, watches time, memory and
//! processes, ends the tree when a limit is passed, and sums up.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{During, Error};
use crate::keeper::{self, Ends};
use crate::plan::Plan;
use crate::policy::{Command, Limits};
use crate::{sys, watch};

/// How often the tree is looked at, and the caller's stop flag with it.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the scratch directory is measured.
const MEASURE_EVERY: Duration = Duration::from_millis(200);
/// How long a keeper may take to end its tree before it is killed itself.
const KEEPER_PATIENCE: Duration = Duration::from_secs(3);
const CHUNK: usize = 64 * 1024;

/// Where some output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
    /// File descriptor 3. Not kept, only handed on.
    Control,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself (or by a signal of its own making).
    Own,
    /// Went over `wall` or `cpu`.
    Time,
    Memory,
    Processes,
    /// Wrote more than a pipe's cap.
    Output,
    /// Wrote more files than `scratch_bytes`.
    Scratch,
    /// The caller asked for it.
    Stopped,
}

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub ending: Ending,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// A pipe's cap cut the output.
    pub output_truncated: bool,
    pub wall: Duration,
    /// CPU time of the whole tree.
    pub cpu: Duration,
    /// Largest resident size seen: of the command by the kernel, of the tree by the watch.
    pub resident_bytes_max: u64,
    pub stdout: Vec<u8>,
    /// The last part of standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    pub fn success(&self) -> bool {
        self.ending == Ending::Own && self.exit_code == Some(0)
    }

    pub fn timed_out(&self) -> bool {
        self.ending == Ending::Time
    }

    pub fn out_of_memory(&self) -> bool {
        self.ending == Ending::Memory
    }

    /// Ended by the call filter.
    pub fn refused(&self) -> bool {
        self.ending == Ending::Own && self.signal == Some(libc::SIGSYS)
    }
}

/// The tail of standard error that is kept.
const STDERR_KEPT: usize = 16 * 1024;

/// Runs a plan to its end.
pub fn run(
    plan: &Plan,
    command: &Command,
    limits: &Limits,
    scratch: &Path,
    watched: bool,
    stop: &AtomicBool,
    on_output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Outcome, Error> {
    const PIPES: &str = "opening pipes for the command";
    let (stdin_read, stdin_write) = sys::high_pipe().during(PIPES)?;
    let (stdout_read, stdout_write) = sys::high_pipe().during(PIPES)?;
    let (stderr_read, stderr_write) = sys::high_pipe().during(PIPES)?;
    let (report_read, report_write) = sys::high_pipe().during(PIPES)?;
    let control = if command.control { Some(sys::high_pipe().during(PIPES)?) } else { None };
    let (control_read, control_write) = control.unzip();
    let source = |stream, fd: OwnedFd, cap| -> Result<Source, Error> {
        Ok(Source { stream, file: Some(sys::nonblocking(fd).during(PIPES)?), cap, seen: 0 })
    };
    let mut sources = vec![
        source(Stream::Stdout, stdout_read, limits.stdout_bytes)?,
        source(Stream::Stderr, stderr_read, limits.stderr_bytes)?,
    ];
    if let Some(fd) = control_read {
        sources.push(source(Stream::Control, fd, limits.control_bytes)?);
    }
    let ends = Ends {
        stdin: stdin_read,
        stdout: stdout_write,
        stderr: stderr_write,
        control: control_write,
        report: report_write,
    };
    let started = Instant::now();
    let pid = keeper::start(plan, &ends).during("cloning the keeper")?;
    drop(ends);
    let mut run = Run {
        pid,
        limits,
        scratch,
        started,
        ending: None,
        truncated: false,
        resident_bytes_max: 0,
        killed_at: None,
        stdin: Some(sys::nonblocking(stdin_write).during(PIPES)?),
        input: &command.stdin,
        sources,
        report: Report { file: sys::nonblocking(report_read).during(PIPES)?, bytes: Vec::new(), open: true },
        stdout: Vec::new(),
        stderr: Vec::new(),
        next_measure: started + MEASURE_EVERY,
        watched,
    };
    run.follow(stop, on_output)?;
    run.sum_up(command)
}

struct Source {
    stream: Stream,
    file: Option<File>,
    cap: usize,
    seen: usize,
}

/// The keeper's pipe; its end means that the keeper is gone.
struct Report {
    file: File,
    bytes: Vec<u8>,
    open: bool,
}

struct Run<'a> {
    pid: i32,
    limits: &'a Limits,
    scratch: &'a Path,
    started: Instant,
    ending: Option<Ending>,
    truncated: bool,
    resident_bytes_max: u64,
    killed_at: Option<Instant>,
    stdin: Option<File>,
    input: &'a [u8],
    sources: Vec<Source>,
    report: Report,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    next_measure: Instant,
    watched: bool,
}

impl Run<'_> {
    fn follow(&mut self, stop: &AtomicBool, on_output: &mut dyn FnMut(Stream, &[u8])) -> Result<(), Error> {
        let mut next_look = self.started;
        while self.report.open {
            self.wait(next_look)?;
            self.feed();
            self.drain(on_output);
            self.report.read();
            let now = Instant::now();
            if now >= self.started + self.limits.wall {
                self.end(Ending::Time);
            }
            if now >= next_look {
                next_look = now + LOOK_EVERY;
                if stop.load(Ordering::Relaxed) {
                    self.end(Ending::Stopped);
                }
                self.look(now);
            }
            if self.killed_at.is_some_and(|at| now > at + KEEPER_PATIENCE) {
                sys::signal_child(self.pid, libc::SIGKILL);
            }
        }
        // Everything is dead; what it wrote before is still in the pipes.
        self.drain(on_output);
        Ok(())
    }

    fn wait(&self, next_look: Instant) -> Result<(), Error> {
        let mut waits = vec![sys::Wait { fd: self.report.file.as_raw_fd(), write: false, ready: false }];
        let open = self.sources.iter().filter_map(|source| source.file.as_ref());
        waits.extend(open.map(|file| sys::Wait { fd: file.as_raw_fd(), write: false, ready: false }));
        if let Some(stdin) = &self.stdin {
            waits.push(sys::Wait { fd: stdin.as_raw_fd(), write: true, ready: false });
        }
        let until = next_look.min(self.started + self.limits.wall);
        let mut patience = until.saturating_duration_since(Instant::now());
        if self.ending.is_some() {
            patience = LOOK_EVERY;
        }
        sys::poll(&mut waits, patience.as_millis() as i32 + 1).during("waiting for the command")
    }

    fn feed(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        loop {
            if self.input.is_empty() {
                break;
            }
            match stdin.write(self.input) {
                Ok(written) => self.input = &self.input[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It does not want the rest.
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    fn drain(&mut self, on_output: &mut dyn FnMut(Stream, &[u8])) {
        let mut over = false;
        for source in &mut self.sources {
            let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
            over |= source.read(&mut |stream, bytes| {
                match stream {
                    Stream::Stdout => stdout.extend_from_slice(bytes),
                    Stream::Stderr => keep_tail(stderr, bytes),
                    Stream::Control => {}
                }
                on_output(stream, bytes);
            });
        }
        if over {
            self.truncated = true;
            self.end(Ending::Output);
        }
    }

    fn look(&mut self, now: Instant) {
        if !self.watched || self.ending.is_some() {
            return;
        }
        let seen = watch::look(self.pid);
        if seen.tasks >= self.limits.processes {
            return self.end(Ending::Processes);
        }
        let mut resident = seen.resident_bytes;
        if resident > self.limits.memory_bytes && seen.tasks > 1 {
            // Forked processes share pages; only what is really there counts.
            resident = watch::proportional_bytes(self.pid);
        }
        self.resident_bytes_max = self.resident_bytes_max.max(resident);
        if resident > self.limits.memory_bytes {
            return self.end(Ending::Memory);
        }
        if now >= self.next_measure {
            self.next_measure = now + MEASURE_EVERY;
            if watch::folder_bytes(self.scratch, self.limits.scratch_bytes) > self.limits.scratch_bytes {
                self.end(Ending::Scratch);
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            self.killed_at = Some(Instant::now());
            sys::signal_child(self.pid, libc::SIGTERM);
        }
    }

    fn sum_up(mut self, command: &Command) -> Result<Outcome, Error> {
        let wall = self.started.elapsed();
        let (_, keeper_cpu_us) = sys::wait_child(self.pid).during("waiting for the keeper")?;
        let mut outcome = Outcome {
            ending: self.ending.take().unwrap_or(Ending::Own),
            exit_code: None,
            signal: None,
            output_truncated: self.truncated,
            wall,
            cpu: Duration::from_micros(keeper_cpu_us),
            resident_bytes_max: self.resident_bytes_max,
            stdout: std::mem::take(&mut self.stdout),
            stderr: std::mem::take(&mut self.stderr),
        };
        let mut failed = None;
        for record in self.report.records() {
            match record {
                [keeper::FAILED, step, errno, _] => failed = Some((step, errno as i32)),
                [keeper::ENDED, status, resident_kib, cpu_us] => {
                    let status = status as i32;
                    outcome.exit_code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
                    outcome.signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
                    outcome.resident_bytes_max = outcome.resident_bytes_max.max(resident_kib as u64 * 1024);
                    outcome.cpu = Duration::from_micros(keeper_cpu_us.max(cpu_us as u64));
                }
                _ => {}
            }
        }
        if let Some((step, errno)) = failed {
            let cause = std::io::Error::from_raw_os_error(errno);
            let program = command.program.to_string_lossy().into_owned();
            return Err(Error::Start { program, step: keeper::step_name(step), cause });
        }
        if outcome.ending == Ending::Own && outcome.signal == Some(libc::SIGXCPU) {
            outcome.ending = Ending::Time;
        }
        Ok(outcome)
    }
}

impl Drop for Run<'_> {
    /// An error on the way must not leave the tree behind.
    fn drop(&mut self) {
        if self.report.open {
            sys::signal_child(self.pid, libc::SIGKILL);
            let _ = sys::wait_child(self.pid);
        }
    }
}

impl Source {
    /// Reads what is there and hands on what the cap allows; true when there was more.
    fn read(&mut self, hand_on: &mut dyn FnMut(Stream, &[u8])) -> bool {
        let mut chunk = [0; CHUNK];
        while let Some(file) = &mut self.file {
            match file.read(&mut chunk) {
                Ok(0) => self.file = None,
                Ok(count) => {
                    let allowed = count.min(self.cap - self.seen);
                    self.seen += allowed;
                    if allowed > 0 {
                        hand_on(self.stream, &chunk[..allowed]);
                    }
                    if allowed < count {
                        self.file = None;
                        return true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => self.file = None,
            }
        }
        false
    }
}

impl Report {
    fn read(&mut self) {
        let mut chunk = [0; 256];
        loop {
            match self.file.read(&mut chunk) {
                Ok(0) => self.open = false,
                Ok(count) => {
                    self.bytes.extend_from_slice(&chunk[..count]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.open = false,
            }
            return;
        }
    }

    fn records(&self) -> impl Iterator<Item = keeper::Record> {
        self.bytes.chunks_exact(size_of::<keeper::Record>()).map(|bytes| {
            let mut record = [0; 4];
            for (number, bytes) in record.iter_mut().zip(bytes.chunks_exact(8)) {
                *number = i64::from_ne_bytes(bytes.try_into().expect("chunks of eight"));
            }
            record
        })
    }
}

fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(bytes);
    if tail.len() > 2 * STDERR_KEPT {
        tail.drain(..tail.len() - STDERR_KEPT);
    }
}
