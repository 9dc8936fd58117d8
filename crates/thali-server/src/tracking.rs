//! Client-side caching: who tracks, and how readers are told that what they hold is stale.
//!
//! Who has read what stands in the shards (`thali_keyspace::tracking`). A unit of work collects what it changed,
//! and [`tell`] sends each loop one message with what its sessions are to be told.
//!
//! INVARIANT: once a change is acknowledged, whoever asks anything has the news of it before the reply. Readers are
//! taken out of a shard and the message to their loops is sent in one hold of it: else a second writer, who finds
//! no reader, could be acknowledged before the first one's message is sent. And a loop takes its mail between
//! reading a session's bytes and running them ([`crate::event_loop`]).
//!
//! Lock order: shards, then the lists here, then a mailbox; nothing is waited for with one of them locked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use thali_commands::{Flags, Spec, Stale, StaleKey};
use thali_keyspace::{Modes, Readers, Tracker};
use thali_resp::{Protocol, Reply};

use crate::call::{Call, Core, Shared, Side};
use crate::mailbox::Message;
use crate::scripts::runs_scripts;
use crate::session::{Close, OUTPUT_PAUSE_BYTES, Session, SessionState};

/// Keys that one command takes out of a table that has grown beyond `tracking-table-max-keys`.
pub(crate) const EVICTED_BY_COMMAND_MAX: usize = 100;
/// The same for one run of the cron, which comes ten times a second.
pub(crate) const EVICTED_BY_CRON_MAX: usize = 10_000;
/// Bytes that a client has not taken before what is stale is no longer told key by key: it is told once that
/// everything is, when it reads again.
const BACKLOG_BYTES_MAX: usize = 16 << 20;
/// Where RESP2 subscribers hear of stale keys.
const CHANNEL: &[u8] = b"__redis__:invalidate";

type Trackers = BTreeMap<u64, Arc<Tracker>>;

/// Who tracks, over all loops. Bounded by `maxclients`, prefixes by `maxmemory-clients`.
#[derive(Debug, Default)]
pub(crate) struct Tracking {
    all: Mutex<Trackers>,
    prefixes: RwLock<Prefixes>,
}

/// Who is told of which prefixes.
#[derive(Debug, Default)]
struct Prefixes {
    by_prefix: BTreeMap<Box<[u8]>, Trackers>,
    /// How many prefixes there are of each length: a key is looked up once for each, however many there are.
    lens: BTreeMap<usize, usize>,
}

/// One session's part: CLIENT TRACKING.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub tracker: Arc<Tracker>,
    pub prefixes: BTreeSet<Box<[u8]>>,
    /// Of all prefixes together.
    pub prefixes_bytes: usize,
}

/// What one session is to be told.
#[derive(Debug)]
pub(crate) struct Notice {
    tracker: Arc<Tracker>,
    /// The session that is told: the tracker's own, or the one it redirects to.
    pub session: u64,
    is_redirected: bool,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// An array of keys, in RESP.
    Keys(Arc<[u8]>),
    All,
    /// The client that should be told is gone.
    Broken(u64),
}

impl Tracking {
    pub fn prefixes_len(&self) -> usize {
        self.prefixes.read().by_prefix.len()
    }

    /// Begins or changes a session's tracking. The caller has checked that modes and prefixes go together.
    pub fn enable(
        &self,
        shared: &Shared,
        state: &mut SessionState,
        modes: Modes,
        redirect: u64,
        prefixes: &[&[u8]],
    ) {
        let info = &state.info;
        let tracker = info.tracker.get_or_init(|| Arc::new(Tracker::new(info.id, info.address)));
        let tracked = state.tracked.get_or_insert_with(|| {
            Box::new(Tracked { tracker: Arc::clone(tracker), prefixes: BTreeSet::new(), prefixes_bytes: 0 })
        });
        if !tracker.has(Modes::ON) {
            shared.keyspace.tracking().add_client();
            self.all.lock().insert(tracker.client, Arc::clone(tracker));
        }
        let caching = if tracker.has(Modes::CACHING) { Modes::CACHING } else { Modes::NONE };
        tracker.set_redirect(redirect);
        tracker.set_modes(modes.with(Modes::ON).with(caching));
        if modes.contains(Modes::BCAST) {
            let wanted: &[&[u8]] = if prefixes.is_empty() { &[b""] } else { prefixes };
            let mut all = self.prefixes.write();
            for prefix in wanted {
                if tracked.prefixes.insert((*prefix).into()) {
                    tracked.prefixes_bytes += prefix.len();
                    all.add(prefix, tracker);
                }
            }
            shared.keyspace.tracking().set_prefixes_len(all.by_prefix.len());
        }
    }

    /// Ends a session's tracking. What it has read stays noted until it changes, and then says nothing.
    pub fn disable(&self, shared: &Shared, state: &mut SessionState) {
        let Some(tracked) = state.tracked.take() else { return };
        tracked.tracker.set_modes(Modes::NONE);
        if !tracked.prefixes.is_empty() {
            let mut all = self.prefixes.write();
            tracked.prefixes.iter().for_each(|prefix| all.remove(prefix, &tracked.tracker));
            shared.keyspace.tracking().set_prefixes_len(all.by_prefix.len());
        }
        self.all.lock().remove(&tracked.tracker.client);
        shared.keyspace.tracking().remove_client();
    }
}

impl Prefixes {
    fn add(&mut self, prefix: &[u8], tracker: &Arc<Tracker>) {
        if !self.by_prefix.contains_key(prefix) {
            *self.lens.entry(prefix.len()).or_default() += 1;
        }
        self.by_prefix.entry(prefix.into()).or_default().insert(tracker.client, Arc::clone(tracker));
    }

    fn remove(&mut self, prefix: &[u8], tracker: &Tracker) {
        let Some(trackers) = self.by_prefix.get_mut(prefix) else { return };
        trackers.remove(&tracker.client);
        if trackers.is_empty() {
            self.by_prefix.remove(prefix);
            let len = self.lens.get_mut(&prefix.len()).expect("a prefix has its length counted");
            *len -= 1;
            if *len == 0 {
                self.lens.remove(&prefix.len());
            }
        }
    }

    /// The keys under each prefix that somebody wants to be told of.
    fn matching<'k>(&self, keys: &'k [StaleKey]) -> BTreeMap<&[u8], (&Trackers, Vec<&'k StaleKey>)> {
        let mut found: BTreeMap<&[u8], (&Trackers, Vec<&StaleKey>)> = BTreeMap::new();
        for stale in keys {
            for len in self.lens.keys().take_while(|len| **len <= stale.key.len()) {
                if let Some((prefix, trackers)) = self.by_prefix.get_key_value(&stale.key[..*len]) {
                    found.entry(&**prefix).or_insert_with(|| (trackers, Vec::new())).1.push(stale);
                }
            }
        }
        found
    }
}

/// Notices on their way, by loop.
struct Outbox<'s> {
    shared: &'s Shared,
    by_loop: Vec<Vec<Notice>>,
}

impl<'s> Outbox<'s> {
    fn new(shared: &'s Shared) -> Self {
        Self { shared, by_loop: (0..shared.mailboxes.len()).map(|_| Vec::new()).collect() }
    }

    /// Adds a notice for a client, or for the one that it redirects to.
    fn add(&mut self, tracker: &Arc<Tracker>, what: What) {
        let redirect = tracker.redirect();
        let (to, what) = match redirect {
            0 => (tracker.address, what),
            id => match self.shared.clients.get(id) {
                Some(target) => (target.address, what),
                None => {
                    tracker.add_mode(Modes::BROKEN);
                    (tracker.address, What::Broken(redirect))
                }
            },
        };
        let notice =
            Notice { tracker: Arc::clone(tracker), session: to.session, is_redirected: redirect != 0, what };
        self.by_loop[usize::from(to.event_loop)].push(notice);
    }

    fn send(self, side: &mut Side) {
        for (event_loop, notices) in self.by_loop.into_iter().enumerate() {
            if !notices.is_empty() {
                side.send(self.shared, event_loop as u16, Message::Stale(notices));
            }
        }
    }
}

fn array<'k>(keys: impl ExactSizeIterator<Item = &'k [u8]>) -> What {
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&mut bytes, Protocol::Resp2);
    reply.array(keys.len());
    keys.for_each(|key| reply.bulk(key));
    What::Keys(bytes.into())
}

/// Tells those who may hold what a unit has changed. The caller still holds the shards of the change.
pub(crate) fn tell(shared: &Shared, side: &mut Side, stale: &Stale) {
    let mut outbox = Outbox::new(shared);
    if stale.all {
        let all: Vec<Arc<Tracker>> = shared.tracking.all.lock().values().cloned().collect();
        all.iter().for_each(|tracker| outbox.add(tracker, What::All));
        return outbox.send(side);
    }
    for StaleKey { key, readers, .. } in stale.keys().iter().filter(|stale| !stale.readers.is_empty()) {
        let what = array([&**key].into_iter());
        readers.iter().for_each(|reader| outbox.add(reader, what.clone()));
    }
    let prefixes = shared.tracking.prefixes.read();
    for (trackers, keys) in prefixes.matching(stale.keys()).into_values() {
        let what = array(keys.iter().map(|stale| &*stale.key));
        for tracker in trackers.values() {
            if !tracker.has(Modes::NOLOOP) {
                outbox.add(tracker, what.clone());
                continue;
            }
            let others: Vec<&[u8]> = keys
                .iter()
                .filter(|stale| stale.by != Some(tracker.address))
                .map(|stale| &*stale.key)
                .collect();
            if !others.is_empty() {
                outbox.add(tracker, array(others.into_iter()));
            }
        }
    }
    drop(prefixes);
    outbox.send(side);
}

/// Tells everybody who tracks that nothing is good any more. The caller still holds every shard.
pub(crate) fn tell_all(shared: &Shared, side: &mut Side) {
    tell(shared, side, &Stale::everything());
}

/// Notes what a command has read, where its client may keep it. Scripts' commands count, scripts do not.
pub(crate) fn note_read(call: &mut Call<'_, '_>, spec: &Spec, args: &[&[u8]]) {
    let reads = spec.flags.contains(Flags::READONLY) && !spec.flags.contains(Flags::PUBSUB);
    if reads && !runs_scripts(spec.name) {
        let mut keys: Vec<&[u8]> = Vec::new();
        spec.keys.each(args, &mut |at, _| keys.push(args[at]));
        call.cx.note_read(&keys);
    }
}

/// CLIENT CACHING holds for the next command, or for all of a transaction.
pub(crate) fn after_command(state: &SessionState, name: &[u8]) {
    if let Some(tracked) = &state.tracked
        && state.transaction.is_none()
        && !name.eq_ignore_ascii_case(b"client")
    {
        tracked.tracker.remove_mode(Modes::CACHING);
    }
}

/// Keeps the notes below `tracking-table-max-keys`: takes out up to `taken_max` keys chosen by chance and tells
/// their readers as if they had changed. The caller holds no shard.
pub(crate) fn limit(core: &mut Core, taken_max: usize) {
    let Core { shared, engine, side } = core;
    let keys_max = side.settings.tracking_table_max_keys;
    let mut excess = match keys_max {
        0 => 0,
        max => shared.keyspace.tracking().keys_len().saturating_sub(max).min(taken_max),
    };
    if excess == 0 {
        return;
    }
    let shards = shared.keyspace.shards_len();
    let first = engine.random.below(shards);
    for shard in (first..shards).chain(0..first) {
        // A taken shard has its turn another time.
        let Some(mut locked) = shared.keyspace.try_lock_one(shard as u16) else { continue };
        let taken: Vec<(Box<[u8]>, Readers)> = locked.take_read_keys(excess, || engine.random.next_u64());
        if taken.is_empty() {
            continue;
        }
        excess -= taken.len();
        let mut outbox = Outbox::new(shared);
        for (key, readers) in taken {
            let what = array([&*key].into_iter());
            readers
                .iter()
                .filter(|reader| reader.wants(None))
                .for_each(|reader| outbox.add(reader, what.clone()));
        }
        outbox.send(side);
        drop(locked);
        if excess == 0 {
            break;
        }
    }
}

/// Forgets what was noted for clients that track no more, once none does.
pub(crate) fn forget_if_unused(shared: &Shared) {
    let tracking = shared.keyspace.tracking();
    if tracking.is_on() || tracking.keys_len() == 0 {
        return;
    }
    for shard in 0..shared.keyspace.shards_len() {
        let Some(mut locked) = shared.keyspace.try_lock_one(shard as u16) else { continue };
        // Asked with the shard held: whoever notes a reading here after this tracked before it.
        if !tracking.is_on() {
            let forgotten = locked.forget_held_readers();
            drop(locked);
            drop(forgotten);
        }
    }
}

/// Writes a notice into its session's output; false where there is nothing to send.
pub(crate) fn deliver(session: &mut Session, notice: &Notice) -> bool {
    let Notice { tracker, is_redirected, what, .. } = notice;
    let state = &session.state;
    let is_subscriber = state.subscribed.as_ref().is_some_and(|subscribed| !subscribed.is_empty());
    // RESP2 can say it to subscribers alone.
    let is_told = state.protocol == Protocol::Resp3
        || (*is_redirected && is_subscriber && !matches!(what, What::Broken(_)));
    if !is_told || !tracker.has(Modes::ON) || state.close != Close::No {
        return false;
    }
    if session.owes_stale || session.out.len() - session.out_at > BACKLOG_BYTES_MAX {
        session.owes_stale = true;
        return false;
    }
    write(&mut session.out, session.state.protocol, what);
    true
}

/// Says that everything is stale to a session that had too much to read to be told more, once it has read enough
/// for its requests to run again; false where there is nothing to say.
pub(crate) fn pay(session: &mut Session) -> bool {
    if !session.owes_stale || session.out.len() - session.out_at > OUTPUT_PAUSE_BYTES {
        return false;
    }
    session.owes_stale = false;
    write(&mut session.out, session.state.protocol, &What::All);
    true
}

fn write(out: &mut Vec<u8>, protocol: Protocol, what: &What) {
    let mut reply = Reply::new(out, protocol);
    if let What::Broken(client) = what {
        reply.push(2);
        reply.bulk(b"tracking-redir-broken");
        return reply.integer(*client as i64);
    }
    if reply.is_resp3() {
        reply.push(2);
        reply.bulk(b"invalidate");
    } else {
        reply.push(3);
        reply.bulk(b"message");
        reply.bulk(CHANNEL);
    }
    match what {
        What::Keys(keys) => reply.raw(keys),
        _ => reply.null(),
    }
}

#[cfg(test)]
mod tests {
    use thali_keyspace::SessionAddress;

    use super::*;

    #[test]
    fn a_key_is_found_under_each_of_its_prefixes() {
        let tracker = Arc::new(Tracker::new(1, SessionAddress { event_loop: 0, session: 1 }));
        let mut prefixes = Prefixes::default();
        [&b""[..], b"user:", b"user:1", b"b"].iter().for_each(|prefix| prefixes.add(prefix, &tracker));
        let stale = |key: &str| StaleKey { key: key.as_bytes().into(), by: None, readers: Vec::new() };
        let found = |prefixes: &Prefixes, key: &str| -> Vec<String> {
            let keys = [stale(key)];
            prefixes.matching(&keys).keys().map(|prefix| String::from_utf8_lossy(prefix).into()).collect()
        };
        assert_eq!(found(&prefixes, "user:12"), ["", "user:", "user:1"]);
        assert_eq!(found(&prefixes, "use"), [""]);
        prefixes.remove(b"user:", &tracker);
        prefixes.remove(b"", &tracker);
        assert_eq!(found(&prefixes, "user:12"), ["user:1"]);
        assert_eq!(prefixes.lens.len(), 2);
    }
}
