//! `maxmemory-clients`: what connections take, and which of them go when it is too much.
//!
//! Each loop counts its own sessions after each turn; whoever finds that all loops together are over the limit
//! chooses who leaves, the largest first, and tells their loops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::call::{Core, Shared};
use crate::clients::ClientInfo;
use crate::config::Settings;
use crate::mailbox::Message;
use crate::session::Session;

/// A lower limit would leave no client to raise it. SOURCE: Valkey 8.0 `networking.c`.
const LIMIT_BYTES_MIN: u64 = 128 << 10;
/// After a search that found nobody to evict, protected clients that grow bring the next one so much later.
const SEARCH_AGAIN_MS: u64 = 100;

/// What sessions take, by loop.
#[derive(Debug)]
pub(crate) struct ClientMemory {
    loops: Box<[Bytes]>,
    /// Held by who chooses; with the moment before which protected clients need not look again.
    search_again_at_ms: Mutex<u64>,
}

/// One loop's sum, on a cache line of its own: it is written after each turn.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Bytes(AtomicU64);

impl ClientMemory {
    pub fn new(loops_len: usize) -> Self {
        Self { loops: (0..loops_len).map(|_| Bytes::default()).collect(), search_again_at_ms: Mutex::new(0) }
    }

    /// Bytes that all clients take.
    pub fn total(&self) -> u64 {
        self.loops.iter().map(|Bytes(bytes)| bytes.load(Relaxed)).sum()
    }

    /// A session of this loop took `before` and takes `now` bytes.
    fn change(&self, event_loop: u16, before: u64, now: u64) {
        let Bytes(bytes) = &self.loops[usize::from(event_loop)];
        bytes.store(bytes.load(Relaxed).wrapping_add(now).wrapping_sub(before), Relaxed);
    }
}

/// Bytes that clients may take; `None`: any.
pub(crate) fn limit(settings: &Settings) -> Option<u64> {
    let bytes = settings.maxmemory_clients.of(settings.maxmemory);
    (bytes > 0).then_some(bytes.max(LIMIT_BYTES_MIN))
}

/// Counts a session anew after it has changed.
pub(crate) fn count(core: &Core, session: &Session) {
    let info = &session.state.info;
    let now = session.memory_bytes();
    // No other loop writes here.
    let before = info.memory_bytes.load(Relaxed);
    info.memory_bytes.store(now, Relaxed);
    if now != before {
        core.shared.client_memory.change(core.side.event_loop, before, now);
    }
    // What has come of the argument that is arriving, as Redis moves others out of its buffer.
    let read_len = session.parser.read_len(&session.input).min(session.input.len());
    info.input_len.store((session.input.len() - read_len) as u64, Relaxed);
    info.input_free_len.store((session.input.capacity() - session.input.len()) as u64, Relaxed);
    info.output_len.store((session.out.len() - session.out_at) as u64, Relaxed);
    info.output_room.store(session.out.capacity() as u64, Relaxed);
    let peak = info.output_peak.load(Relaxed).max(session.out.len() as u64);
    info.output_peak.store(peak, Relaxed);
}

/// Bytes of clients that were told to leave and are not gone.
pub(crate) fn leaving_bytes(shared: &Shared) -> u64 {
    let staying: u64 = shared.clients.all().iter().map(|info| info.memory_bytes.load(Relaxed)).sum();
    shared.client_memory.total().saturating_sub(staying)
}

/// A session has left.
pub(crate) fn forget(core: &Core, info: &ClientInfo) {
    core.shared.client_memory.change(core.side.event_loop, info.memory_bytes.swap(0, Relaxed), 0);
}

/// Chooses who leaves where clients take more than they may. `is_protected`: the one that has just changed will not
/// leave, so that where a search has just found nobody else, another one would find nobody, too.
pub(crate) fn evict(core: &mut Core, is_protected: bool) {
    let Some(limit) = limit(&core.side.settings) else { return };
    let shared = Arc::clone(&core.shared);
    if shared.client_memory.total() <= limit {
        return;
    }
    // Whoever else looks at the moment may choose the one that asks, which must not run what it has sent.
    let mut search_again_at_ms = shared.client_memory.search_again_at_ms.lock();
    if is_protected && core.side.now_ms < *search_again_at_ms {
        return;
    }
    // Those who leave already are not in the list.
    let all = shared.clients.all();
    let mut total: u64 = all.iter().map(|info| info.memory_bytes.load(Relaxed)).sum();
    let mut candidates: Vec<(u64, Arc<ClientInfo>)> = all
        .into_iter()
        .filter(|info| !info.no_evict.load(Relaxed))
        .map(|info| (info.memory_bytes.load(Relaxed), info))
        .collect();
    // By powers of two, as Redis does: who is older among much the same goes first.
    candidates.sort_by_key(|(bytes, _)| std::cmp::Reverse(bytes.checked_ilog2()));
    for (bytes, info) in candidates {
        if total <= limit {
            return;
        }
        tracing::info!(client = info.id, bytes, "client evicted: clients take more than maxmemory-clients");
        total = total.saturating_sub(bytes);
        info.is_leaving.store(true, Relaxed);
        shared.stats_of(core.side.event_loop).evicted_clients.add(1);
        let message = Message::Kill { session: info.address.session };
        core.side.send(&shared, info.address.event_loop, message);
    }
    if total > limit {
        *search_again_at_ms = core.side.now_ms + SEARCH_AGAIN_MS;
    }
}
