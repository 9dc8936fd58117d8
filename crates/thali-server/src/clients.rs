//! What is known of each connection, for CLIENT LIST, CLIENT KILL and INFO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use thali_keyspace::{SessionAddress, Waiter};

use crate::acl::User;

/// One connection, as others see it. Its loop writes, anybody reads.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    /// CLIENT ID; never used twice.
    pub id: u64,
    pub address: SessionAddress,
    pub peer: String,
    pub local: String,
    pub fd: i32,
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
    pub input_len: AtomicU64,
    pub output_len: AtomicU64,
    /// Index into the command table, and of the subcommand there plus one.
    pub last_command: Mutex<(&'static str, &'static str)>,
    pub name: Mutex<Vec<u8>>,
    pub lib_name: Mutex<Vec<u8>>,
    pub lib_version: Mutex<Vec<u8>>,
    pub user: Mutex<Arc<User>>,
    /// The parked command, where there is one.
    pub waiter: Mutex<Option<Arc<Waiter>>>,
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
            input_len: AtomicU64::new(0),
            output_len: AtomicU64::new(0),
            last_command: Mutex::new(("NULL", "")),
            name: Mutex::default(),
            lib_name: Mutex::default(),
            lib_version: Mutex::default(),
            user: Mutex::new(user),
            waiter: Mutex::default(),
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

    /// The line that CLIENT LIST and CLIENT INFO show.
    pub fn line(&self, now_ms: u64) -> String {
        let text = |bytes: &Mutex<Vec<u8>>| String::from_utf8_lossy(&bytes.lock()).into_owned();
        let mut flags = String::new();
        let blocked = self.waiter.lock().is_some();
        for (flag, on) in [
            ('O', self.monitor.load(Relaxed)),
            ('P', self.is_subscriber()),
            ('x', self.in_transaction.load(Relaxed)),
            ('b', blocked),
            ('e', self.no_evict.load(Relaxed)),
            ('T', self.no_touch.load(Relaxed)),
        ] {
            if on {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let (command, subcommand) = *self.last_command.lock();
        let cmd = if subcommand.is_empty() { command.to_owned() } else { format!("{command}|{subcommand}") };
        let multi = match self.in_transaction.load(Relaxed) {
            true => i64::from(self.queued_len.load(Relaxed)),
            false => -1,
        };
        let (input, output) = (self.input_len.load(Relaxed), self.output_len.load(Relaxed));
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} \
             multi={multi} watch={} qbuf={input} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={output} \
             oll=0 omem={output} tot-mem={} events=r cmd={cmd} user={} redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            self.fd,
            text(&self.name),
            now_ms.saturating_sub(self.connected_at_ms) / 1000,
            now_ms.saturating_sub(self.active_at_ms.load(Relaxed)) / 1000,
            self.db.load(Relaxed),
            self.channels_len.load(Relaxed),
            self.patterns_len.load(Relaxed),
            self.shard_channels_len.load(Relaxed),
            self.watched_len.load(Relaxed),
            input + output,
            String::from_utf8_lossy(self.user.lock().name()),
            if self.resp3.load(Relaxed) { 3 } else { 2 },
            text(&self.lib_name),
            text(&self.lib_version),
        )
    }
}

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
        self.by_id.lock().get(&id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.by_id.lock().values().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.by_id.lock().len()
    }
}
