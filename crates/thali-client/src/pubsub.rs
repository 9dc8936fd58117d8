//! A subscription connection that outlives the store's absences.
//!
//! Owns: one connection in subscribed state, the set of topics its owner wants, and the rule for
//! getting both back after a loss. Refuses: hiding a loss. Pub/sub has no history, so whenever the
//! connection was away the owner hears [`PubSubEvent::Down`] and then [`PubSubEvent::Up`] with
//! `gap: true`, and decides what a gap means to it.
//!
//! A subscription is wanted from the moment [`PubSub::subscribe`] returns, and live once its ticket
//! resolves. While the store is away tickets fail at once, yet the topic stays wanted and is live
//! again before `Up` is reported; whoever gives up must unsubscribe.
//!
//! An idle subscription says nothing for ever, dead or alive. So a silent connection is probed with
//! PING, and one that does not answer is dialled again.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::{Backoff, StoreAddress};

/// Topics in one SUBSCRIBE; larger sets go in several commands so that none delays the rest.
const BATCH_TOPICS_MAX: usize = 512;
/// Changes that may wait for the connection; past it [`PubSub::subscribe`] refuses.
const COMMANDS_QUEUED_MAX: usize = 65_536;
/// Messages that may wait for the owner. A slower owner loses the connection, and so learns of it.
const EVENTS_QUEUED_MAX: usize = 65_536;
/// Silence after which the connection is asked whether it lives.
const PROBE_AFTER: Duration = Duration::from_secs(30);
/// What the store may take for any answer before it counts as gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What to listen to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// One channel, by its exact name.
    Channel(Arc<str>),
    /// Every channel that fits a glob pattern.
    Pattern(Arc<str>),
}

/// What the owner of a [`PubSub`] hears, in order.
#[derive(Debug)]
pub enum PubSubEvent {
    /// Every wanted topic is live. `gap` says that messages may have been missed before this.
    Up { gap: bool },
    /// The connection is lost and being dialled again.
    Down { reason: String },
    /// A message on a wanted topic.
    Message(redis::Msg),
}

/// Why a subscription is not live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// More changes are waiting than the connection may owe.
    #[error("too many subscription changes are waiting")]
    Busy,
    /// The store is away; the topic is live again when it is back.
    #[error("the store is not reachable")]
    Down,
}

/// Resolves once the store confirmed the subscription.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<()>);

impl Ticket {
    /// Waits for the store's confirmation.
    pub async fn live(self) -> Result<(), SubscribeError> {
        self.0.await.map_err(|_| SubscribeError::Down)
    }
}

enum Command {
    Subscribe(Vec<Topic>, oneshot::Sender<()>),
    Unsubscribe(Vec<Topic>),
}

/// The handle; cheap to clone. The connection ends when its event receiver is dropped.
#[derive(Clone, Debug)]
pub struct PubSub {
    commands: mpsc::Sender<Command>,
}

impl PubSub {
    /// Dials in the background; the first event is `Up` once the store answered.
    pub fn open(address: StoreAddress) -> (Self, mpsc::Receiver<PubSubEvent>) {
        let (commands, inbox) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let (events, outbox) = mpsc::channel(EVENTS_QUEUED_MAX);
        let actor = Actor { address, inbox, events, wanted: HashSet::new() };
        tokio::spawn(actor.run());
        (Self { commands }, outbox)
    }

    /// Adds topics. Never blocks, and keeps the order of calls.
    pub fn subscribe(&self, topics: Vec<Topic>) -> Result<Ticket, SubscribeError> {
        let (done, ticket) = oneshot::channel();
        self.commands.try_send(Command::Subscribe(topics, done)).map_err(|_| SubscribeError::Busy)?;
        Ok(Ticket(ticket))
    }

    /// Takes topics away. Never blocks, and keeps the order of calls.
    pub fn unsubscribe(&self, topics: Vec<Topic>) -> Result<(), SubscribeError> {
        self.commands.try_send(Command::Unsubscribe(topics)).map_err(|_| SubscribeError::Busy)
    }
}

struct Actor {
    address: StoreAddress,
    inbox: mpsc::Receiver<Command>,
    events: mpsc::Sender<PubSubEvent>,
    wanted: HashSet<Topic>,
}

/// A conversation with the store that must end well, and whom to tell then.
type Exchange = Pin<Box<dyn Future<Output = Result<Vec<oneshot::Sender<()>>, String>> + Send>>;

/// Why a connection stopped being served.
enum End {
    Lost(String),
    OwnerGone,
}

impl Actor {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut gap = false;
        loop {
            match self.dial().await {
                Ok((sink, stream)) => {
                    backoff.reset();
                    if self.events.send(PubSubEvent::Up { gap }).await.is_err() {
                        return;
                    }
                    gap = true;
                    match self.serve(sink, stream).await {
                        End::OwnerGone => return,
                        End::Lost(reason) => {
                            tracing::warn!(%reason, "subscription connection lost; dialling again");
                            if self.events.send(PubSubEvent::Down { reason }).await.is_err() {
                                return;
                            }
                        }
                    }
                }
                Err(reason) => tracing::debug!(%reason, "the store does not answer"),
            }
            if !self.rest(backoff.next_delay()).await {
                return;
            }
        }
    }

    /// Waits before dialling, meanwhile refusing tickets. False when the owner is gone.
    async fn rest(&mut self, delay: Duration) -> bool {
        let wake = sleep(delay);
        tokio::pin!(wake);
        loop {
            tokio::select! {
                () = &mut wake => return !self.events.is_closed(),
                command = self.inbox.recv() => match command {
                    // Dropping the ticket's sender is what tells its holder.
                    Some(command) => drop(self.note(command)),
                    None => return false,
                },
            }
        }
    }

    /// Connects and makes every wanted topic live.
    async fn dial(&mut self) -> Result<(PubSubSink, PubSubStream), String> {
        let connected = timeout(ANSWER_WITHIN, self.address.client().get_async_pubsub()).await;
        let pubsub = connected.map_err(|_| "no answer in time".to_owned())?.map_err(|e| e.to_string())?;
        let (sink, stream) = pubsub.split();
        let topics: Vec<Topic> = self.wanted.iter().cloned().collect();
        apply(sink.clone(), topics, Vec::new()).await?;
        Ok((sink, stream))
    }

    async fn serve(&mut self, sink: PubSubSink, mut stream: PubSubStream) -> End {
        let mut exchange: Option<Exchange> = None;
        let mut batch = Vec::new();
        let mut heard_at = Instant::now();
        loop {
            let probe_at = heard_at + PROBE_AFTER;
            tokio::select! {
                message = stream.next() => {
                    let Some(message) = message else { return End::Lost("the store hung up".into()) };
                    heard_at = Instant::now();
                    match self.events.try_send(PubSubEvent::Message(message)) {
                        Ok(()) => {}
                        Err(mpsc::error::TrySendError::Closed(_)) => return End::OwnerGone,
                        Err(mpsc::error::TrySendError::Full(_)) => {
                            return End::Lost("messages came faster than they were handled".into());
                        }
                    }
                }
                outcome = async { exchange.as_mut().expect("guarded").await }, if exchange.is_some() => {
                    exchange = None;
                    heard_at = Instant::now();
                    match outcome {
                        Ok(tickets) => confirm(tickets),
                        Err(reason) => return End::Lost(reason),
                    }
                }
                count = self.inbox.recv_many(&mut batch, BATCH_TOPICS_MAX), if exchange.is_none() => {
                    if count == 0 {
                        return End::OwnerGone;
                    }
                    exchange = Some(self.change(&sink, &mut batch));
                }
                () = tokio::time::sleep_until(probe_at), if exchange.is_none() => {
                    let mut sink = sink.clone();
                    exchange = Some(Box::pin(async move {
                        answered(sink.ping::<redis::Value>()).await.map(|_| Vec::new())
                    }));
                }
                () = self.events.closed() => return End::OwnerGone,
            }
        }
    }

    /// Turns a run of commands into the fewest exchanges that keep their meaning.
    fn change(&mut self, sink: &PubSubSink, batch: &mut Vec<Command>) -> Exchange {
        let before = self.touched(batch);
        let mut tickets = Vec::new();
        for command in batch.drain(..) {
            tickets.extend(self.note(command));
        }
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (topic, was) in before {
            match (was, self.wanted.contains(&topic)) {
                (false, true) => added.push(topic),
                (true, false) => removed.push(topic),
                _ => {}
            }
        }
        let sink = sink.clone();
        Box::pin(async move { apply(sink, added, removed).await.map(|()| tickets) })
    }

    /// Which topics a batch names, and whether each is wanted before it.
    fn touched(&self, batch: &[Command]) -> Vec<(Topic, bool)> {
        let mut seen = HashSet::new();
        let topics = batch.iter().flat_map(|command| match command {
            Command::Subscribe(topics, _) | Command::Unsubscribe(topics) => topics,
        });
        topics
            .filter(|topic| seen.insert((*topic).clone()))
            .map(|topic| (topic.clone(), self.wanted.contains(topic)))
            .collect()
    }

    /// Records what a command wants; gives back its ticket.
    fn note(&mut self, command: Command) -> Option<oneshot::Sender<()>> {
        match command {
            Command::Subscribe(topics, done) => {
                self.wanted.extend(topics);
                Some(done)
            }
            Command::Unsubscribe(topics) => {
                for topic in &topics {
                    self.wanted.remove(topic);
                }
                None
            }
        }
    }
}

/// Holders that stopped waiting are no concern.
fn confirm(tickets: Vec<oneshot::Sender<()>>) {
    for ticket in tickets {
        let _ = ticket.send(());
    }
}

async fn apply(mut sink: PubSubSink, added: Vec<Topic>, removed: Vec<Topic>) -> Result<(), String> {
    let (channels, patterns) = names(&added);
    for names in channels.chunks(BATCH_TOPICS_MAX) {
        answered(sink.subscribe(names)).await?;
    }
    for names in patterns.chunks(BATCH_TOPICS_MAX) {
        answered(sink.psubscribe(names)).await?;
    }
    let (channels, patterns) = names(&removed);
    for names in channels.chunks(BATCH_TOPICS_MAX) {
        answered(sink.unsubscribe(names)).await?;
    }
    for names in patterns.chunks(BATCH_TOPICS_MAX) {
        answered(sink.punsubscribe(names)).await?;
    }
    Ok(())
}

fn names(topics: &[Topic]) -> (Vec<&str>, Vec<&str>) {
    let (mut channels, mut patterns) = (Vec::new(), Vec::new());
    for topic in topics {
        match topic {
            Topic::Channel(name) => channels.push(&**name),
            Topic::Pattern(name) => patterns.push(&**name),
        }
    }
    (channels, patterns)
}

async fn answered<T>(request: impl Future<Output = redis::RedisResult<T>>) -> Result<T, String> {
    match timeout(ANSWER_WITHIN, request).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("the store did not answer in time".to_owned()),
    }
}
