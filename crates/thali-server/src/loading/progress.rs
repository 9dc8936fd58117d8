//! Whether data is being loaded, and how far that is: clients get LOADING meanwhile, and INFO and the log say
//! how long it will take.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use thali_commands::ErrorReply;

/// What commands get that need the data.
pub(crate) const LOADING: ErrorReply = ErrorReply::new("LOADING Redis is loading the dataset in memory");

/// How often the log says how far it is.
const LOG_EVERY: Duration = Duration::from_secs(2);

/// Gives the bytes that were read, and those that there are.
type Bytes = Box<dyn Fn() -> (u64, u64) + Send>;

#[derive(Default)]
pub(crate) struct Loading {
    is_on: AtomicBool,
    running: Mutex<Option<Running>>,
    /// Of the last dump: keys that came, and those whose time was over.
    last_keys: AtomicU64,
    last_expired: AtomicU64,
}

struct Running {
    begun: Instant,
    begun_unix_s: u64,
    logged: Instant,
    bytes: Bytes,
}

impl Loading {
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// From here on, until the guard is dropped, commands that need the data are refused.
    pub fn begin(&self) -> LoadingGuard<'_> {
        let now = Instant::now();
        let begun_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let bytes: Bytes = Box::new(|| (0, 0));
        *self.running.lock() = Some(Running { begun: now, begun_unix_s, logged: now, bytes });
        self.is_on.store(true, Ordering::Release);
        LoadingGuard(self)
    }

    /// What is read now: `bytes` gives how much of how much.
    pub fn watch(&self, bytes: impl Fn() -> (u64, u64) + Send + 'static) {
        if let Some(running) = &mut *self.running.lock() {
            running.bytes = Box::new(bytes);
        }
    }

    /// The lines of INFO.
    pub fn info(&self, text: &mut String) -> std::fmt::Result {
        let running = self.running.lock();
        writeln!(text, "loading:{}\nasync_loading:0", i32::from(running.is_some()))?;
        let Some(running) = &*running else { return Ok(()) };
        let (read, total) = (running.bytes)();
        let eta = running.seconds_left(read, total).unwrap_or(1);
        writeln!(text, "loading_start_time:{}", running.begun_unix_s)?;
        writeln!(text, "loading_total_bytes:{total}\nloading_rdb_used_mem:0")?;
        writeln!(text, "loading_loaded_bytes:{read}")?;
        writeln!(text, "loading_loaded_perc:{:.2}\nloading_eta_seconds:{eta}", percent(read, total))
    }

    /// A dump was loaded.
    pub fn note_dump(&self, keys: u64, expired: u64) {
        self.last_keys.store(keys, Ordering::Relaxed);
        self.last_expired.store(expired, Ordering::Relaxed);
    }

    /// The lines of INFO about the last dump.
    pub fn last_info(&self, text: &mut String) -> std::fmt::Result {
        let [expired, keys] = [&self.last_expired, &self.last_keys].map(|n| n.load(Ordering::Relaxed));
        writeln!(text, "rdb_last_load_keys_expired:{expired}\nrdb_last_load_keys_loaded:{keys}")
    }

    /// Says in the log how far it is, now and then.
    pub fn log(&self) {
        let Some(running) = &mut *self.running.lock() else { return };
        if running.logged.elapsed() < LOG_EVERY {
            return;
        }
        running.logged = Instant::now();
        let (read, total) = (running.bytes)();
        let seconds_left = running.seconds_left(read, total);
        tracing::info!(read, total, seconds_left, "loading the data: {:.0}%", percent(read, total));
    }
}

impl Running {
    fn seconds_left(&self, read: u64, total: u64) -> Option<u64> {
        let left = total.checked_sub(read)?;
        let spent = self.begun.elapsed().as_secs_f64();
        (read > 0).then(|| (spent * left as f64 / read as f64) as u64)
    }
}

fn percent(read: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { read as f64 * 100.0 / total as f64 }
}

/// Dropped, the data is there.
pub(crate) struct LoadingGuard<'a>(&'a Loading);

impl Drop for LoadingGuard<'_> {
    fn drop(&mut self) {
        *self.0.running.lock() = None;
        self.0.is_on.store(false, Ordering::Release);
    }
}
