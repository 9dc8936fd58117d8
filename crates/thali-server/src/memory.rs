//! What the process uses, as the allocator and the kernel say.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::call::Shared;
use crate::counting;

/// What the allocator can tell and do beyond what is counted ([`crate::Counting`]); the binary chose it, so the
/// binary knows.
#[derive(Clone, Copy, Debug)]
pub struct Allocator {
    pub name: &'static str,
    pub figures: fn() -> AllocatorFigures,
    /// Gives unused pages back to the kernel; false where it would not.
    pub purge: fn() -> bool,
    /// All that it knows, as text.
    pub report: fn() -> String,
}

/// Bytes from the allocator's view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorFigures {
    /// Handed out.
    pub allocated: u64,
    /// In pages of which some is handed out.
    pub active: u64,
    /// In physical memory, for all that the allocator knows.
    pub resident: u64,
    /// Given back to the kernel, which may not have taken it yet.
    pub muzzy: u64,
}

static ALLOCATOR: OnceLock<Allocator> = OnceLock::new();
static PEAK_BYTES: AtomicU64 = AtomicU64::new(0);
static STARTUP_BYTES: OnceLock<u64> = OnceLock::new();

/// Says whom to ask.
pub fn set_allocator(allocator: Allocator) {
    // A second call would name the same one.
    let _ = ALLOCATOR.set(allocator);
}

/// The allocator, where the binary has named it ([`set_allocator`]).
pub(crate) fn allocator() -> Option<&'static Allocator> {
    ALLOCATOR.get()
}

/// Bytes that the allocator has handed out; what is in physical memory, where nobody counts them
/// ([`crate::Counting`]).
pub(crate) fn used_bytes() -> u64 {
    let used = match counting::used_bytes() {
        0 => rss_bytes(),
        used => used as u64,
    };
    // Those who would write at the same moment have seen about the same.
    if used > PEAK_BYTES.load(Relaxed) {
        PEAK_BYTES.fetch_max(used, Relaxed);
    }
    used
}

/// The most that [`used_bytes`] has ever said.
pub(crate) fn peak_bytes() -> u64 {
    PEAK_BYTES.load(Relaxed).max(used_bytes())
}

/// To be called before data is loaded.
pub(crate) fn note_startup() {
    STARTUP_BYTES.get_or_init(used_bytes);
}

/// Bytes that were in use before there was data.
pub(crate) fn startup_bytes() -> u64 {
    STARTUP_BYTES.get().copied().unwrap_or_default()
}

/// The allocator's figures; without one, what the kernel says stands for all.
pub(crate) fn figures() -> AllocatorFigures {
    match allocator() {
        Some(allocator) => (allocator.figures)(),
        None => {
            let rss = rss_bytes();
            AllocatorFigures { allocated: rss, active: rss, resident: rss, muzzy: 0 }
        }
    }
}

/// Of the bytes in use, what is on its way to the disk: it comes with writing and goes by itself, and to make room
/// for it would bring more of it.
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
