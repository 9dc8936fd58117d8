//! jemalloc, as the store asks it.

use thali_server::Counting;
use thali_server::memory::{Allocator, AllocatorFigures};
use tikv_jemalloc_ctl::{Access, AsName, arenas, epoch, stats, stats_print};

#[global_allocator]
static ALLOCATED: Counting<tikv_jemallocator::Jemalloc> = Counting(tikv_jemallocator::Jemalloc);

/// For INFO, MEMORY and maxmemory.
pub const ALLOCATOR: Allocator = Allocator { name: "jemalloc", figures, purge, report };

fn figures() -> AllocatorFigures {
    let _ = epoch::advance();
    let muzzy_pages: usize = b"stats.arenas.4096.pmuzzy\0"[..].name().read().unwrap_or(0);
    let page: usize = b"arenas.page\0"[..].name().read().unwrap_or(0);
    AllocatorFigures {
        allocated: stats::allocated::read().unwrap_or(0) as u64,
        active: stats::active::read().unwrap_or(0) as u64,
        resident: stats::resident::read().unwrap_or(0) as u64,
        muzzy: (muzzy_pages * page) as u64,
    }
}

/// Gives the unused pages of each arena back. jemalloc does so at once when a page's time to decay becomes 0;
/// the command for it takes no argument, which the safe interface cannot say.
fn purge() -> bool {
    let arenas = arenas::narenas::read().unwrap_or(0);
    let mut went_well = arenas > 0;
    for arena in 0..arenas {
        for kind in ["dirty", "muzzy"] {
            let name = format!("arena.{arena}.{kind}_decay_ms\0");
            let name = name.name();
            let read: Result<isize, _> = name.read();
            // An arena that was never used has no time.
            let Ok(before) = read else { continue };
            went_well &= name.write(0isize).and_then(|()| name.write(before)).is_ok();
        }
    }
    went_well
}

fn report() -> String {
    let mut text = Vec::new();
    match stats_print::stats_print(&mut text, stats_print::Options::default()) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => format!("jemalloc does not say: {error}\n"),
    }
}
