//! Publishers and subscribers: how many messages a server delivers.
//!
//! One thread. Publishers go in turn over the channels, each subscriber hears one channel. A publisher sends its next
//! pipeline when the last is answered and subscribers are not too far behind, so that no server has to drop one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connection, Lost, READ_BYTES, allow_files};
use crate::replies::Seen;
use crate::worker::{EVENTS_MAX, FILES_BESIDE, LOOK_UP, PATIENCE_NS, cpu_seconds};
use crate::{LoadError, PubSubOutcome, Template};

/// Messages that a subscriber may be behind on average before publishers wait.
const BEHIND_MAX: u64 = 64;

#[derive(Debug, Clone)]
pub struct PubSub {
    pub address: SocketAddr,
    pub greeting: Vec<Template>,
    pub publishers: usize,
    /// A multiple of the channels.
    pub subscribers: usize,
    pub channels: usize,
    pub pipeline: usize,
    pub data_len: usize,
    pub time: Duration,
}

struct Publisher {
    connection: Connection,
    unanswered: usize,
}

struct Run<'a> {
    plan: &'a PubSub,
    publishers: Vec<Publisher>,
    subscribers: Vec<Connection>,
    template: Template,
    /// The channel of the next message.
    next: u64,
    published: u64,
    answered: u64,
    delivered: u64,
    first_error: Option<String>,
    requests: Vec<u8>,
}

/// Publishes for the plan's time, then waits for what is on its way.
pub fn publish(plan: &PubSub) -> Result<PubSubOutcome, LoadError> {
    check(plan)?;
    allow_files(plan.publishers + plan.subscribers + FILES_BESIDE)?;
    let mut run = Run::connect(plan)?;
    let poll = Poll::new().map_err(|error| LoadError::System { what: "make a poll", error })?;
    let publishers = run.publishers.iter_mut().map(|publisher| &mut publisher.connection);
    for (token, connection) in publishers.chain(&mut run.subscribers).enumerate() {
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut connection.stream, Token(token), interest)
            .map_err(|error| LoadError::System { what: "watch a connection", error })?;
    }
    let cpu_before = cpu_seconds();
    let begun = Instant::now();
    run.go(poll, begun)?;
    Ok(PubSubOutcome {
        seconds: begun.elapsed().as_secs_f64(),
        published: run.published,
        delivered: run.delivered,
        expected: run.expected(),
        generator_cpu_seconds: cpu_seconds() - cpu_before,
    })
}

fn check(plan: &PubSub) -> Result<(), LoadError> {
    if plan.publishers == 0 || plan.pipeline == 0 || plan.channels == 0 {
        return Err(LoadError::Plan("publishers, pipeline and channels are at least 1".to_owned()));
    }
    if plan.subscribers == 0 || !plan.subscribers.is_multiple_of(plan.channels) {
        let words =
            "each channel has as many subscribers as the others: subscribers is a multiple of channels";
        return Err(LoadError::Plan(words.to_owned()));
    }
    Ok(())
}

impl<'a> Run<'a> {
    fn connect(plan: &'a PubSub) -> Result<Self, LoadError> {
        let mut subscribers = Vec::new();
        for at in 0..plan.subscribers {
            let mut greeting = plan.greeting.clone();
            greeting.push(Template::of_line(&format!("SUBSCRIBE channel:{:012}", at % plan.channels), 0));
            subscribers.push(Connection::dial(plan.address, &greeting)?);
        }
        let dial = || Connection::dial(plan.address, &plan.greeting);
        let publishers = (0..plan.publishers)
            .map(|_| Ok(Publisher { connection: dial()?, unanswered: 0 }))
            .collect::<Result<_, LoadError>>()?;
        Ok(Self {
            plan,
            publishers,
            subscribers,
            template: Template::of_line("PUBLISH channel:__rand_int__ __data__", plan.data_len),
            next: 0,
            published: 0,
            answered: 0,
            delivered: 0,
            first_error: None,
            requests: Vec::new(),
        })
    }

    fn expected(&self) -> u64 {
        self.published * self.fan_out()
    }

    fn fan_out(&self) -> u64 {
        (self.plan.subscribers / self.plan.channels) as u64
    }

    fn go(&mut self, mut poll: Poll, begun: Instant) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; READ_BYTES];
        let patience = self.plan.time + Duration::from_nanos(PATIENCE_NS);
        loop {
            let elapsed = begun.elapsed();
            if elapsed < self.plan.time {
                self.publish_more().map_err(|lost| self.gone(lost))?;
            } else if self.answered == self.published && self.delivered >= self.expected()
                || elapsed > patience
            {
                return Ok(());
            }
            if let Err(error) = poll.poll(&mut events, Some(LOOK_UP))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(LoadError::System { what: "wait for events", error });
            }
            for event in &events {
                self.take(event.token().0, event.is_writable(), &mut buffer)
                    .map_err(|lost| self.gone(lost))?;
            }
            if let Some(words) = self.first_error.take() {
                return Err(LoadError::Greeting { address: self.plan.address, words });
            }
        }
    }

    /// Sends a pipeline from each publisher that has none under way, while subscribers keep up.
    fn publish_more(&mut self) -> Result<(), Lost> {
        let behind_max = BEHIND_MAX * self.plan.subscribers as u64;
        for at in 0..self.publishers.len() {
            let behind = self.expected().saturating_sub(self.delivered);
            if behind > 0 && behind + self.plan.pipeline as u64 * self.fan_out() > behind_max {
                return Ok(());
            }
            let Self { publishers, template, next, plan, requests, .. } = self;
            let publisher = &mut publishers[at];
            if publisher.unanswered > 0 {
                continue;
            }
            requests.clear();
            for _ in 0..plan.pipeline {
                template.write(requests, || {
                    *next += 1;
                    (*next - 1) % plan.channels as u64
                });
            }
            publisher.unanswered = plan.pipeline;
            publisher.connection.send(requests)?;
            self.published += self.plan.pipeline as u64;
        }
        Ok(())
    }

    fn take(&mut self, at: usize, is_writable: bool, buffer: &mut [u8]) -> Result<(), Lost> {
        if let Some(at) = at.checked_sub(self.publishers.len()) {
            let (subscriber, delivered) = (&mut self.subscribers[at], &mut self.delivered);
            while subscriber.receive(buffer, |_| *delivered += 1)? {}
            return Ok(());
        }
        let Publisher { connection, unanswered } = &mut self.publishers[at];
        if is_writable {
            connection.flush()?;
        }
        let (answered, first_error) = (&mut self.answered, &mut self.first_error);
        let mut seen = |seen: Seen<'_>| {
            if let Seen::Error(words) = seen {
                first_error.get_or_insert_with(|| String::from_utf8_lossy(words).into_owned());
            }
            *unanswered = unanswered.saturating_sub(1);
            *answered += 1;
        };
        while connection.receive(buffer, &mut seen)? {}
        Ok(())
    }

    fn gone(&self, lost: Lost) -> LoadError {
        lost.at(self.plan.address, self.answered, self.first_error.clone())
    }
}
