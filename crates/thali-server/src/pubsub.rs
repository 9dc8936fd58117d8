//! Publish/subscribe: who listens where.
//!
//! Each loop knows its own sessions' subscriptions ([`Subscriptions`]); all loops share the count of
//! subscribers a loop has for each channel ([`PubSub`]). A publisher asks the shared part which loops
//! to tell and sends each one message; the loop fans out. So a message costs one hop a loop, however
//! many listen.

use std::collections::HashMap;
use std::sync::OnceLock;

use parking_lot::RwLock;
use smallvec::SmallVec;
use thali_keyspace::glob;
use thali_resp::{Protocol, Reply};

/// The three spaces of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    /// Sharded channels: names of their own, without patterns.
    Shard,
}

type Name = Box<[u8]>;
type Map<V> = HashMap<Name, V, foldhash::fast::RandomState>;
/// Subscribers a loop, by the loop's number.
type Counts = SmallVec<[u32; 4]>;

/// What all loops share.
#[derive(Debug)]
pub(crate) struct PubSub {
    loops_len: usize,
    channels: RwLock<Map<Counts>>,
    patterns: RwLock<Map<Counts>>,
    shards: RwLock<Map<Counts>>,
}

impl PubSub {
    pub fn new(loops_len: usize) -> Self {
        Self {
            loops_len,
            channels: RwLock::default(),
            patterns: RwLock::default(),
            shards: RwLock::default(),
        }
    }

    fn map(&self, kind: Kind) -> &RwLock<Map<Counts>> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shards,
        }
    }

    fn add(&self, kind: Kind, name: &[u8], event_loop: usize) {
        let mut map = self.map(kind).write();
        let counts = map.entry(name.into()).or_insert_with(|| SmallVec::from_elem(0, self.loops_len));
        counts[event_loop] += 1;
    }

    fn remove(&self, kind: Kind, name: &[u8], event_loop: usize) {
        let mut map = self.map(kind).write();
        if let Some(counts) = map.get_mut(name) {
            counts[event_loop] = counts[event_loop].saturating_sub(1);
            if counts.iter().all(|n| *n == 0) {
                map.remove(name);
            }
        }
    }

    /// How many sessions a message to this channel reaches, and in which loops they live.
    pub fn receivers(&self, kind: Kind, channel: &[u8]) -> (u64, SmallVec<[usize; 4]>) {
        let mut total: Counts = SmallVec::new();
        let mut add = |counts: &Counts| {
            total.resize(self.loops_len, 0);
            total.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        };
        if let Some(counts) = self.map(kind).read().get(channel) {
            add(counts);
        }
        if kind == Kind::Channel {
            let patterns = self.patterns.read();
            patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel)).for_each(|(_, c)| add(c));
        }
        let loops = (0..total.len()).filter(|i| total[*i] > 0).collect();
        (total.iter().map(|n| u64::from(*n)).sum(), loops)
    }

    /// The channels somebody listens to, optionally only those that match.
    pub fn active(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Name> {
        let map = self.map(kind).read();
        map.keys().filter(|name| pattern.is_none_or(|p| glob::matches(p, name))).cloned().collect()
    }

    /// Subscribers of exactly this name.
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> u64 {
        self.map(kind).read().get(name).map_or(0, |counts| counts.iter().map(|n| u64::from(*n)).sum())
    }

    /// Names in use.
    pub fn len(&self, kind: Kind) -> usize {
        self.map(kind).read().len()
    }
}

/// One message on its way. The frames are made once for each protocol and shared by all receivers.
#[derive(Debug)]
pub(crate) struct Publication {
    pub kind: Kind,
    pub channel: Vec<u8>,
    pub message: Vec<u8>,
    frames: [OnceLock<Vec<u8>>; 2],
}

impl Publication {
    pub fn new(kind: Kind, channel: &[u8], message: &[u8]) -> Self {
        Self { kind, channel: channel.into(), message: message.into(), frames: Default::default() }
    }
}

fn frame(protocol: Protocol, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 16).sum());
    let mut reply = Reply::new(&mut out, protocol);
    reply.push(parts.len());
    parts.iter().for_each(|part| reply.bulk(part));
    out
}

/// One loop's sessions by what they listen to.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    event_loop: usize,
    channels: Map<Vec<u64>>,
    patterns: Map<Vec<u64>>,
    shards: Map<Vec<u64>>,
}

impl Subscriptions {
    pub fn new(event_loop: usize) -> Self {
        Self { event_loop, channels: Map::default(), patterns: Map::default(), shards: Map::default() }
    }

    fn map(&mut self, kind: Kind) -> &mut Map<Vec<u64>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }

    pub fn subscribe(&mut self, shared: &PubSub, kind: Kind, name: &[u8], session: u64) {
        self.map(kind).entry(name.into()).or_default().push(session);
        shared.add(kind, name, self.event_loop);
    }

    pub fn unsubscribe(&mut self, shared: &PubSub, kind: Kind, name: &[u8], session: u64) {
        let map = self.map(kind);
        let Some(sessions) = map.get_mut(name) else { return };
        let Some(at) = sessions.iter().position(|s| *s == session) else { return };
        sessions.swap_remove(at);
        if sessions.is_empty() {
            map.remove(name);
        }
        shared.remove(kind, name, self.event_loop);
    }

    /// Hands each of this loop's receivers its message: `deliver(session, frames)`.
    pub fn deliver(&self, publication: &Publication, mut deliver: impl FnMut(u64, &Frames<'_>)) {
        let map = if publication.kind == Kind::Shard { &self.shards } else { &self.channels };
        if let Some(sessions) = map.get(publication.channel.as_slice()) {
            let frames = Frames { publication, pattern: None, made: &publication.frames };
            sessions.iter().for_each(|session| deliver(*session, &frames));
        }
        if publication.kind != Kind::Channel {
            return;
        }
        for (pattern, sessions) in &self.patterns {
            if glob::matches(pattern, &publication.channel) {
                let made = Default::default();
                let frames = Frames { publication, pattern: Some(pattern), made: &made };
                sessions.iter().for_each(|session| deliver(*session, &frames));
            }
        }
    }
}

/// A message's frames, made when the first receiver of a protocol asks.
pub(crate) struct Frames<'a> {
    publication: &'a Publication,
    pattern: Option<&'a [u8]>,
    made: &'a [OnceLock<Vec<u8>>; 2],
}

impl Frames<'_> {
    pub fn bytes(&self, protocol: Protocol) -> &[u8] {
        let Publication { kind, channel, message, .. } = self.publication;
        self.made[protocol as usize].get_or_init(|| match (self.pattern, kind) {
            (Some(pattern), _) => frame(protocol, &[b"pmessage", pattern, channel, message]),
            (None, Kind::Shard) => frame(protocol, &[b"smessage", channel, message]),
            (None, _) => frame(protocol, &[b"message", channel, message]),
        })
    }
}
