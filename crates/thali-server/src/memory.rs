//! What the process uses, as the allocator and the kernel say.

use std::sync::atomic::Ordering::Relaxed;

use crate::call::Shared;
use crate::config::Settings;

/// Bytes that the allocator has handed out. `0` until the binary says how to ask ([`set_used_bytes`]).
pub(crate) fn used_bytes() -> u64 {
    match USED.get() {
        Some(used) => used(),
        None => rss_bytes(),
    }
}

static USED: std::sync::OnceLock<fn() -> u64> = std::sync::OnceLock::new();

/// Says how to ask the allocator; the binary chose it, so the binary knows.
pub fn set_used_bytes(used: fn() -> u64) {
    // A second call would name the same allocator.
    let _ = USED.set(used);
}

/// Notes whether more is in use than `maxmemory` allows.
pub(crate) fn look_at_limit(shared: &Shared, settings: &Settings) {
    let is_over = settings.maxmemory > 0 && used_bytes() > settings.maxmemory;
    shared.is_out_of_memory.store(is_over, Relaxed);
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
