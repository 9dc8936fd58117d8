//! What a unit of work has changed under those who keep copies: keys with their readers, for client-side caching.
//!
//! Nothing is collected while no client tracks. Readers are taken out of their shard at the moment of the change;
//! they are told once the shards are let go.

use std::collections::HashMap;
use std::sync::Arc;

use thali_keyspace::{Forgotten, Locked, SessionAddress, Tracker};

use crate::Context;

/// One key that has changed.
#[derive(Debug)]
pub struct StaleKey {
    pub key: Box<[u8]>,
    /// Who changed it last; `None`: time did.
    pub by: Option<SessionAddress>,
    /// Who has read it and wants to be told.
    pub readers: Vec<Arc<Tracker>>,
}

/// All that a unit has changed. Each key stands there once, so it is no longer than what the unit touched.
#[derive(Debug, Default)]
pub struct Stale {
    keys: Vec<StaleKey>,
    at: HashMap<Box<[u8]>, usize>,
    /// Databases were emptied or swapped: nothing that anybody has is good any more.
    pub all: bool,
    /// What nobody is to be told of key by key, to be freed.
    pub forgotten: Vec<Forgotten>,
}

impl Stale {
    /// All that anybody may hold.
    pub fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// The keys, in the order of their first change.
    pub fn keys(&self) -> &[StaleKey] {
        &self.keys
    }

    fn add(&mut self, key: &[u8], by: Option<SessionAddress>, readers: impl Iterator<Item = Arc<Tracker>>) {
        match self.at.get(key) {
            Some(at) => {
                let known = &mut self.keys[*at];
                known.by = by;
                known.readers.extend(readers);
            }
            None => {
                self.at.insert(key.into(), self.keys.len());
                self.keys.push(StaleKey { key: key.into(), by, readers: readers.collect() });
            }
        }
    }
}

impl Context<'_> {
    /// Notes that a key has changed under those who read it. Costs one look where nobody tracks.
    pub(crate) fn note_stale(&mut self, key: &[u8], by: Option<SessionAddress>) {
        if self.locked.keyspace().tracking().is_on() {
            self.collect_stale(key, by);
        }
    }

    #[cold]
    fn collect_stale(&mut self, key: &[u8], by: Option<SessionAddress>) {
        let readers = self.locked.take_readers(key);
        let has_prefixes = self.locked.keyspace().tracking().has_prefixes();
        if readers.is_none() && !has_prefixes {
            return;
        }
        let told = readers.iter().flat_map(|readers| readers.iter()).filter(|reader| reader.wants(by));
        self.stale.get_or_insert_default().add(key, by, told.cloned());
    }

    /// Notes that everything has changed; every shard is held.
    pub(crate) fn note_all_stale(&mut self) {
        // Who tracked once, and does again, is not told of what it read before the data went.
        let tracking = self.locked.keyspace().tracking();
        if tracking.is_on() || tracking.keys_len() > 0 {
            let forgotten = self.locked.forget_readers();
            let stale = self.stale.get_or_insert_default();
            stale.all = true;
            stale.forgotten.push(forgotten);
        }
    }

    /// Notes that the client that this unit works for has read keys, whose shards are held.
    pub fn note_read(&mut self, keys: &[&[u8]]) {
        let Some(reader) = &self.reader else { return };
        note_read(&mut self.locked, reader, keys);
    }
}

fn note_read(locked: &mut Locked<'_>, reader: &Arc<Tracker>, keys: &[&[u8]]) {
    if reader.notes_reading() {
        keys.iter().for_each(|key| locked.note_reader(key, reader));
    }
}

#[cfg(test)]
mod tests {
    use thali_keyspace::{Keyspace, Modes};

    use super::*;
    use crate::{Effects, EventClass, Random};

    fn tracker(client: u64, modes: Modes) -> Arc<Tracker> {
        let tracker = Tracker::new(client, SessionAddress { event_loop: 0, session: client });
        tracker.set_modes(modes);
        Arc::new(tracker)
    }

    /// Changes `k` as client 1 after clients 1 and 2 have read it; who is told.
    fn told(modes: Modes, is_on: bool) -> Option<Vec<u64>> {
        let keyspace = Keyspace::new(4);
        if is_on {
            keyspace.tracking().add_client();
        }
        let (limits, mut random, mut effects) = (Default::default(), Random::new(1), Effects::default());
        let locked = keyspace.lock_all(thali_keyspace::ENDLESS).unwrap();
        let mut cx = Context::new(
            locked,
            0,
            1,
            thali_keyspace::Uses::new(1, None),
            &limits,
            &mut random,
            &mut effects,
        );
        for client in [1, 2] {
            cx.reader = Some(tracker(client, modes));
            cx.note_read(&[b"k", b"other"]);
        }
        cx.session = Some(SessionAddress { event_loop: 0, session: 1 });
        cx.modified(EventClass::STRING, "set", b"k");
        cx.modified(EventClass::STRING, "set", b"k");
        let stale = cx.stale.take()?;
        let [only] = stale.keys() else { panic!("{stale:?}") };
        Some(only.readers.iter().map(|reader| reader.client).collect())
    }

    #[test]
    fn who_has_read_a_key_is_told_once() {
        assert_eq!(told(Modes::ON, true), Some(vec![1, 2]));
    }

    #[test]
    fn without_loops_the_changer_is_spared() {
        assert_eq!(told(Modes::ON.with(Modes::NOLOOP), true), Some(vec![2]));
    }

    #[test]
    fn nothing_is_collected_while_nobody_tracks() {
        assert_eq!(told(Modes::ON, false), None);
        assert_eq!(told(Modes::NONE, true), None);
    }
}
