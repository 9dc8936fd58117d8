//! What is known of each connection, for CLIENT LIST, CLIENT KILL and INFO.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use thali_keyspace::{Modes, SessionAddress, Tracker, Waiter, WatchFlag};

use crate::acl::User;
use crate::table;

/// One connection, as others see it. Its loop writes, anybody reads.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    /// CLIENT ID; never used twice.
    pub id: u64,
    pub address: SessionAddress,
    pub peer: String,
    pub local: String,
    pub fd: i32,
    pub is_unix: bool,
    pub connected_at_ms: u64,
    pub active_at_ms: AtomicU64,
    pub db: AtomicU32,
    pub resp3: AtomicBool,
    pub in_transaction: AtomicBool,
    pub watched_len: AtomicU32,
    pub channels_len: AtomicU32,
    pub patterns_len: AtomicU32,
    pub shard_channels_len: AtomicU32,
    pub queued_len: AtomicU32,
    pub monitor: AtomicBool,
    pub no_evict: AtomicBool,
    pub no_touch: AtomicBool,
    /// Its command waits for the end of CLIENT PAUSE.
    pub is_postponed: AtomicBool,
    /// Killed or evicted: for all others it is gone, and its loop closes it.
    pub is_leaving: AtomicBool,
    pub import_source: AtomicBool,
    pub input_len: AtomicU64,
    pub input_free_len: AtomicU64,
    pub output_len: AtomicU64,
    /// Room of the output buffer, and the most that was in it.
    pub output_room: AtomicU64,
    pub output_peak: AtomicU64,
    /// Bytes of the running command's arguments, and of what EXEC will run.
    pub args_len: AtomicU64,
    pub queued_bytes: AtomicU64,
    /// What `maxmemory-clients` counts.
    pub memory_bytes: AtomicU64,
    pub net_in_bytes: AtomicU64,
    pub net_out_bytes: AtomicU64,
    pub commands: AtomicU64,
    /// Its place among [`table::all`]; [`NO_COMMAND`] before the first.
    pub last_command: AtomicU32,
    pub name: Mutex<Vec<u8>>,
    pub lib_name: Mutex<Vec<u8>>,
    pub lib_version: Mutex<Vec<u8>>,
    pub user: Mutex<Arc<User>>,
    /// The parked command, where there is one.
    pub waiter: Mutex<Option<Arc<Waiter>>>,
    /// What its watched keys raise.
    pub watch: Mutex<Option<Arc<WatchFlag>>>,
    /// Made at its first CLIENT TRACKING.
    pub tracker: OnceLock<Arc<Tracker>>,
}

impl ClientInfo {
    pub fn new(
        id: u64,
        address: SessionAddress,
        user: Arc<User>,
        (peer, local): (String, String),
        fd: i32,
        now_ms: u64,
    ) -> Self {
        Self {
            id,
            address,
            peer,
            local,
            fd,
            is_unix: false,
            connected_at_ms: now_ms,
            active_at_ms: AtomicU64::new(now_ms),
            db: AtomicU32::new(0),
            resp3: AtomicBool::new(false),
            in_transaction: AtomicBool::new(false),
            watched_len: AtomicU32::new(0),
            channels_len: AtomicU32::new(0),
            patterns_len: AtomicU32::new(0),
            shard_channels_len: AtomicU32::new(0),
            queued_len: AtomicU32::new(0),
            monitor: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            is_postponed: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            import_source: AtomicBool::new(false),
            input_len: AtomicU64::new(0),
            input_free_len: AtomicU64::new(0),
            output_len: AtomicU64::new(0),
            output_room: AtomicU64::new(0),
            output_peak: AtomicU64::new(0),
            args_len: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            net_in_bytes: AtomicU64::new(0),
            net_out_bytes: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            last_command: AtomicU32::new(NO_COMMAND),
            name: Mutex::default(),
            lib_name: Mutex::default(),
            lib_version: Mutex::default(),
            user: Mutex::new(user),
            waiter: Mutex::default(),
            watch: Mutex::default(),
            tracker: OnceLock::new(),
        }
    }

    /// Whether it listens to channels.
    pub fn is_subscriber(&self) -> bool {
        [&self.channels_len, &self.patterns_len, &self.shard_channels_len].iter().any(|n| n.load(Relaxed) > 0)
    }

    /// The word that CLIENT LIST TYPE uses.
    pub fn kind(&self) -> &'static str {
        if self.is_subscriber() { "pubsub" } else { "normal" }
    }

    /// Whether its command waits: for a key, or for the end of a pause.
    pub fn is_blocked(&self) -> bool {
        self.is_postponed.load(Relaxed) || self.waiter.lock().is_some()
    }

    /// Bytes have come from it.
    pub fn note_input(&self, len: usize, now_ms: u64) {
        self.active_at_ms.store(now_ms, Relaxed);
        add(&self.net_in_bytes, len as u64);
    }

    fn tracking_modes(&self) -> Modes {
        self.tracker.get().map_or(Modes::NONE, |tracker| tracker.modes())
    }

    /// SOURCE for the letters: Valkey 8.0 `networking.c`.
    fn flags(&self) -> String {
        let modes = self.tracking_modes();
        let is_dirty = self.watch.lock().as_ref().is_some_and(|flag| flag.is_raised());
        let all = [
            ('O', self.monitor.load(Relaxed)),
            ('P', self.is_subscriber()),
            ('x', self.in_transaction.load(Relaxed)),
            ('b', self.is_blocked()),
            ('t', modes.contains(Modes::ON)),
            ('R', modes.contains(Modes::BROKEN)),
            ('B', modes.contains(Modes::BCAST)),
            ('d', is_dirty),
            ('A', self.is_leaving.load(Relaxed)),
            ('U', self.is_unix),
            ('e', self.no_evict.load(Relaxed)),
            ('T', self.no_touch.load(Relaxed)),
            ('I', self.import_source.load(Relaxed)),
        ];
        let flags: String = all.iter().filter(|(_, on)| *on).map(|(flag, _)| *flag).collect();
        if flags.is_empty() { "N".into() } else { flags }
    }

    /// The line that CLIENT LIST and CLIENT INFO show.
    pub fn line(&self, now_ms: u64) -> String {
        let text = |bytes: &Mutex<Vec<u8>>| String::from_utf8_lossy(&bytes.lock()).into_owned();
        let command = table::all().nth(self.last_command.load(Relaxed) as usize);
        let cmd = command.map_or("NULL".into(), |(row, spec)| table::full_name(row, spec));
        let multi = match self.in_transaction.load(Relaxed) {
            true => i64::from(self.queued_len.load(Relaxed)),
            false => -1,
        };
        let of = |figure: &AtomicU64| figure.load(Relaxed);
        let seconds = |since_ms: u64| now_ms.saturating_sub(since_ms) / 1000;
        // Redis has a small buffer for each client, and a list of blocks for what is more.
        let output = of(&self.output_len);
        let more = output.saturating_sub(OUTPUT_BLOCK_BYTES);
        let redirect = match self.tracking_modes().contains(Modes::ON) {
            true => self.tracker.get().map_or(-1, |tracker| tracker.redirect() as i64),
            false => -1,
        };
        [
            format!("id={} addr={} laddr={} fd={}", self.id, self.peer, self.local, self.fd),
            format!("name={}", text(&self.name)),
            format!("age={} idle={}", seconds(self.connected_at_ms), seconds(of(&self.active_at_ms))),
            format!("flags={} db={}", self.flags(), self.db.load(Relaxed)),
            format!("sub={}", self.channels_len.load(Relaxed)),
            format!("psub={}", self.patterns_len.load(Relaxed)),
            format!("ssub={}", self.shard_channels_len.load(Relaxed)),
            format!("multi={multi} watch={}", self.watched_len.load(Relaxed)),
            format!("qbuf={} qbuf-free={}", of(&self.input_len), of(&self.input_free_len)),
            format!("argv-mem={} multi-mem={}", of(&self.args_len), of(&self.queued_bytes)),
            format!("rbs={} rbp={}", of(&self.output_room), of(&self.output_peak)),
            format!("obl={} oll={} omem={more}", output - more, more.div_ceil(OUTPUT_BLOCK_BYTES)),
            format!("tot-mem={}", of(&self.memory_bytes)),
            format!("events={} cmd={cmd}", if output > 0 { "rw" } else { "r" }),
            format!("user={}", String::from_utf8_lossy(self.user.lock().name())),
            format!("redir={redirect} resp={}", if self.resp3.load(Relaxed) { 3 } else { 2 }),
            format!("lib-name={} lib-ver={}", text(&self.lib_name), text(&self.lib_version)),
            format!("tot-net-in={} tot-net-out={}", of(&self.net_in_bytes), of(&self.net_out_bytes)),
            format!("tot-cmds={}", of(&self.commands)),
        ]
        .join(" ")
    }
}

/// A client that has sent nothing.
const NO_COMMAND: u32 = u32::MAX;

/// Adds to a figure that only its client's loop writes: a load and a store cost less than a locked addition.
pub(crate) fn add(figure: &AtomicU64, n: u64) {
    figure.store(figure.load(Relaxed) + n, Relaxed);
}

/// Redis's size of a client's own buffer and of a block in the list behind it.
const OUTPUT_BLOCK_BYTES: u64 = 16 << 10;

/// All connections, by id. Bounded by `maxclients`.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<ClientInfo>>>,
    last_id: AtomicU64,
}

impl Clients {
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    pub fn add(&self, info: Arc<ClientInfo>) {
        self.by_id.lock().insert(info.id, info);
    }

    pub fn remove(&self, id: u64) {
        self.by_id.lock().remove(&id);
    }

    pub fn get(&self, id: u64) -> Option<Arc<ClientInfo>> {
        self.by_id.lock().get(&id).filter(|info| !info.is_leaving.load(Relaxed)).cloned()
    }

    /// All but those who leave.
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        let by_id = self.by_id.lock();
        by_id.values().filter(|info| !info.is_leaving.load(Relaxed)).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.by_id.lock().len()
    }
}
