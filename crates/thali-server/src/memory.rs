//! What the process uses, as the allocator and the kernel say.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::allocator;
use crate::call::Shared;

/// Bytes that the allocator has handed out; what is in physical memory, where it does not count them
/// ([`crate::Counting`]).
pub(crate) fn used_bytes() -> u64 {
    let used = match allocator::used_bytes() {
        0 => rss_bytes(),
        used => used as u64,
    };
    // Those who would write at the same moment have seen about the same.
    if used > PEAK.load(Relaxed) {
        PEAK.fetch_max(used, Relaxed);
    }
    used
}

/// The most that [`used_bytes`] has ever said.
pub(crate) fn peak_bytes() -> u64 {
    PEAK.load(Relaxed).max(used_bytes())
}

static PEAK: AtomicU64 = AtomicU64::new(0);

/// Of these, what is on its way to the disk: it comes with writing and goes by itself, and to make room for it
/// would bring more of it.
pub(crate) fn uncounted_bytes(shared: &Shared) -> u64 {
    journal_bytes(shared) + shared.snapshots.waiting_bytes() as u64
}

/// What was journaled and is not written yet.
pub(crate) fn journal_bytes(shared: &Shared) -> u64 {
    shared.journal.load().as_ref().map_or(0, |journal| journal.pending_bytes() as u64)
}

/// Bytes that count against `maxmemory`.
pub(crate) fn counted_bytes(shared: &Shared) -> u64 {
    used_bytes().saturating_sub(uncounted_bytes(shared))
}

/// Bytes in physical memory.
pub(crate) fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// User and system time of the whole process.
pub(crate) fn cpu_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses and may hold blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // The kernel counts in hundredths of a second on every machine we build for.
    (ticks(11) / 100.0, ticks(12) / 100.0)
}
