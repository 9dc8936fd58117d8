//! The generator: an open loop that offers jobs at a fixed rate and counts each verdict.
//!
//! A user is a socket. For each job its user subscribes to the job's room (ids are the generator's,
//! so no answer is awaited), the job is posted over a kept connection, and the verdict must arrive
//! at that user's socket. Latency runs from the moment the job was due, so a stalled server cannot
//! hide behind a generator that waits for it.
//!
//! Runs on one thread of its own; its CPU share is part of the outcome.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::socket::{self, Sender};

pub const QUEUE: &str = "bench";
const POSTS_AT_ONCE: usize = 64;
const TICK: Duration = Duration::from_micros(500);
/// Jobs offered in the window must be answered this long after its end.
const DRAIN: Duration = Duration::from_millis(1500);
const ANSWER_MAX: usize = 16 << 10;
const NEVER: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub users: usize,
    pub rate_per_second: u32,
    pub warm_up: Duration,
    pub window: Duration,
}

/// What came of a load. Only jobs due within the window count.
#[derive(Debug)]
pub struct Outcome {
    pub offered: usize,
    pub delivered: usize,
    pub wrong_socket: usize,
    /// Sorted, in microseconds from due to delivered.
    pub latencies_us: Vec<u32>,
}

impl Outcome {
    /// The latency in milliseconds below which `part` of the delivered jobs stayed.
    pub fn percentile_ms(&self, part: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        let at = (part * last as f64).round() as usize;
        self.latencies_us.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    }
}

/// State of one run, shared by the tasks of the one thread.
struct Run {
    load: Load,
    address: String,
    start: Instant,
    total: usize,
    due: RefCell<VecDeque<usize>>,
    wake: Notify,
    latency_us: RefCell<Vec<u32>>,
    open: Cell<usize>,
    wrong_socket: Cell<usize>,
    refused: RefCell<Option<String>>,
}

impl Run {
    fn due_at(&self, job: usize) -> Duration {
        Duration::from_secs_f64(job as f64 / f64::from(self.load.rate_per_second))
    }

    fn user_of(&self, job: usize) -> usize {
        job % self.load.users
    }

    fn delivered(&self, job: usize, user: usize) {
        if user != self.user_of(job) {
            self.wrong_socket.set(self.wrong_socket.get() + 1);
            return;
        }
        let slot = &mut self.latency_us.borrow_mut()[job];
        // The event and the answer to the subscription may both tell it.
        if *slot != NEVER {
            return;
        }
        let took = self.start.elapsed().saturating_sub(self.due_at(job));
        *slot = u32::try_from(took.as_micros()).unwrap_or(NEVER - 1);
        self.open.set(self.open.get() - 1);
    }
}

/// Runs `load` against the HTTP `address`. `at_window` is called when the window begins and ends.
pub fn run(address: &str, load: Load, at_window: impl FnMut() -> Result<()>) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, drive(address, load, at_window))
}

async fn drive(address: &str, load: Load, mut at_window: impl FnMut() -> Result<()>) -> Result<Outcome> {
    let mut sockets = Vec::with_capacity(load.users);
    for _ in 0..load.users {
        sockets.push(socket::connect(address).await.context("connect a user")?);
    }
    let seconds = (load.warm_up + load.window).as_secs_f64();
    let total = (f64::from(load.rate_per_second) * seconds) as usize;
    let run = Rc::new(Run {
        load,
        address: address.to_owned(),
        start: Instant::now(),
        total,
        due: RefCell::default(),
        wake: Notify::new(),
        latency_us: RefCell::new(vec![NEVER; total]),
        open: Cell::new(total),
        wrong_socket: Cell::new(0),
        refused: RefCell::default(),
    });
    let mut senders = Vec::with_capacity(load.users);
    for (user, (sender, receiver)) in sockets.into_iter().enumerate() {
        senders.push(sender.clone());
        tokio::task::spawn_local(listen(run.clone(), user, sender, receiver));
    }
    for _ in 0..POSTS_AT_ONCE {
        tokio::task::spawn_local(post(run.clone()));
    }
    offer(&run, &senders, &mut at_window).await?;
    at_window()?;
    let deadline = Instant::now() + DRAIN;
    while run.open.get() > 0 && Instant::now() < deadline {
        tokio::time::sleep(TICK).await;
    }
    if let Some(refused) = run.refused.borrow_mut().take() {
        bail!(refused);
    }
    Ok(outcome(&run))
}

/// Hands out the jobs as they fall due, subscribing each job's user first.
async fn offer(run: &Run, senders: &[Sender], at_window: &mut impl FnMut() -> Result<()>) -> Result<()> {
    let window_begins = first_of_window(&run.load);
    let mut next = 0;
    while next < run.total {
        let now = run.start.elapsed();
        while next < run.total && run.due_at(next) <= now {
            if next == window_begins {
                at_window()?;
            }
            // With an acknowledgement, which tells of a job that was quicker than its subscription.
            let packet = format!("42{next}[\"subscribe\",\"job:{QUEUE}:j{next}\"]");
            senders[run.user_of(next)].send(&packet)?;
            run.due.borrow_mut().push_back(next);
            run.wake.notify_one();
            next += 1;
        }
        if let Some(refused) = run.refused.borrow_mut().take() {
            bail!(refused);
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

fn first_of_window(load: &Load) -> usize {
    (f64::from(load.rate_per_second) * load.warm_up.as_secs_f64()) as usize
}

/// One kept HTTP connection that posts whatever job is due.
async fn post(run: Rc<Run>) {
    if let Err(error) = post_all(&run).await {
        *run.refused.borrow_mut() = Some(format!("posting a job: {error:#}"));
    }
}

async fn post_all(run: &Run) -> Result<()> {
    let mut stream = TcpStream::connect(&run.address).await?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        let job = run.due.borrow_mut().pop_front();
        let Some(job) = job else {
            run.wake.notified().await;
            continue;
        };
        if !run.due.borrow().is_empty() {
            run.wake.notify_one();
        }
        let body = format!(
            "{{\"name\":\"bench\",\"data\":{{\"user\":{},\"text\":\"what a form of a web page holds, about a hundred bytes of it in all\"}},\
             \"opts\":{{\"jobId\":\"j{job}\"}}}}",
            run.user_of(job)
        );
        let request = format!(
            "POST /api/queues/{QUEUE}/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            run.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        answer.clear();
        while !is_complete(&answer)? {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the server ended the connection");
        }
        ensure!(answer.starts_with(b"HTTP/1.1 201"), "refused: {}", answer.escape_ascii());
    }
}

/// Whether `answer` holds a whole response; only Content-Length bodies are known.
fn is_complete(answer: &[u8]) -> Result<bool> {
    ensure!(answer.len() < ANSWER_MAX, "an answer over {ANSWER_MAX} bytes");
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(&answer[..head])?;
    let length: usize = text
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        })
        .context("an answer without Content-Length")?;
    Ok(answer.len() >= head + 4 + length)
}

/// One user's socket: takes verdicts and leaves the rooms of jobs that have one.
async fn listen(run: Rc<Run>, user: usize, sender: Sender, mut receiver: socket::Receiver) {
    loop {
        let text = match receiver.next().await {
            Ok(text) => text,
            Err(error) => {
                *run.refused.borrow_mut() = Some(format!("user {user}'s socket: {error:#}"));
                return;
            }
        };
        if !text.contains("\"state\":\"completed\"") {
            continue;
        }
        let Some(job) = job_of(text) else { continue };
        run.delivered(job, user);
        if sender.send(&format!("42[\"unsubscribe\",\"job:{QUEUE}:j{job}\"]")).is_err() {
            return;
        }
    }
}

/// The generator's own number in `"id":"j<number>"`.
fn job_of(text: &str) -> Option<usize> {
    let rest = &text[text.find("\"id\":\"j")? + 7..];
    rest[..rest.find('"')?].parse().ok()
}

fn outcome(run: &Run) -> Outcome {
    let latencies = run.latency_us.borrow();
    let window = &latencies[first_of_window(&run.load)..];
    let mut delivered: Vec<u32> = window.iter().copied().filter(|us| *us != NEVER).collect();
    delivered.sort_unstable();
    Outcome {
        offered: window.len(),
        delivered: delivered.len(),
        wrong_socket: run.wrong_socket.get(),
        latencies_us: delivered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_where_their_length_says() {
        assert!(!is_complete(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\nab").unwrap());
        assert!(is_complete(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\nabcd").unwrap());
        assert!(is_complete(b"HTTP/1.1 201 Created\r\n\r\n").is_err());
    }

    #[test]
    fn verdicts_name_their_job() {
        assert_eq!(job_of(r#"42["job",{"queue":"bench","id":"j17","state":"completed"}]"#), Some(17));
        assert_eq!(job_of(r#"42["job",{"queue":"bench","id":"other"}]"#), None);
    }
}
