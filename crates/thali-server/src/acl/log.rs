//! ACL LOG: what was refused, the newest first. Like refusals within a minute are one entry.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Refusals alike fall together when the last one is no older. SOURCE: Redis 7.2, `acl.c`.
const GROUPING_MS_MAX: u64 = 60_000;
/// How many of the newest entries are looked at for one alike. SOURCE: as above.
const GROUPING_ENTRIES_MAX: usize = 10;
/// Bytes of a key, channel or name that an entry keeps: who is refused must not choose the log's size.
const SHOWN_BYTES_MAX: usize = 1024;

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Command,
    Key,
    Channel,
    /// A wrong password, or no such user.
    Auth,
    /// The name in a client's certificate is no user's that is on. SOURCE for the word: Redis 8.6.
    Certificate,
}

impl Reason {
    const LEN: usize = 5;

    pub fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Key => "key",
            Self::Channel => "channel",
            Self::Auth => "auth",
            Self::Certificate => "tls-cert",
        }
    }
}

/// Where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    TopLevel,
    Transaction,
    Script,
}

impl Place {
    pub fn word(self) -> &'static str {
        match self {
            Self::TopLevel => "toplevel",
            Self::Transaction => "multi",
            Self::Script => "lua",
        }
    }
}

/// One refusal.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub reason: Reason,
    pub place: Place,
    /// The command, key or channel.
    pub object: &'a [u8],
    pub user: &'a [u8],
    /// The client as CLIENT LIST shows it.
    pub client: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub id: u64,
    pub count: u64,
    pub reason: Reason,
    pub place: Place,
    pub object: Box<[u8]>,
    pub user: Box<[u8]>,
    pub client: String,
    pub begun_at_ms: u64,
    pub last_at_ms: u64,
}

/// At most `acllog-max-len` entries, and the counts that INFO shows.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Mutex<Entries>,
    counts: [AtomicU64; Reason::LEN],
}

#[derive(Debug, Default)]
struct Entries {
    newest_first: VecDeque<Entry>,
    next_id: u64,
}

impl Log {
    pub fn note(&self, event: Event<'_>, now_ms: u64, len_max: usize) {
        self.counts[event.reason as usize].fetch_add(1, Relaxed);
        if len_max == 0 {
            return self.clear();
        }
        let shown = |bytes: &[u8]| -> Box<[u8]> { bytes[..bytes.len().min(SHOWN_BYTES_MAX)].into() };
        let (object, user) = (shown(event.object), shown(event.user));
        let mut entries = self.entries.lock();
        let is_alike = |old: &Entry| {
            old.reason == event.reason
                && old.place == event.place
                && old.object == object
                && old.user == user
                && now_ms.abs_diff(old.last_at_ms) <= GROUPING_MS_MAX
        };
        let found = entries.newest_first.iter().take(GROUPING_ENTRIES_MAX).position(is_alike);
        let entry = match found.and_then(|at| entries.newest_first.remove(at)) {
            Some(old) => Entry { count: old.count + 1, client: event.client, last_at_ms: now_ms, ..old },
            None => {
                entries.next_id += 1;
                Entry {
                    id: entries.next_id - 1,
                    count: 1,
                    reason: event.reason,
                    place: event.place,
                    object,
                    user,
                    client: event.client,
                    begun_at_ms: now_ms,
                    last_at_ms: now_ms,
                }
            }
        };
        entries.newest_first.push_front(entry);
        entries.newest_first.truncate(len_max);
    }

    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.entries.lock().newest_first.iter().take(count).cloned().collect()
    }

    pub fn clear(&self) {
        self.entries.lock().newest_first.clear();
    }

    /// How often something was refused since the start or CONFIG RESETSTAT.
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Relaxed)
    }

    pub fn reset_counts(&self) {
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
    }
}
