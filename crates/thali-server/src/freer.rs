//! Frees what is large on a thread of its own, so that no loop's clients wait for it: a set of a million
//! members takes 0.1 s, a database of a million keys half a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};

use thali_keyspace::{Db, Value};

/// Values with more elements, and databases with more keys, are freed later.
const ELEMENTS_MAX: usize = 4096;

/// The way to that thread, which ends with this. What is under way is bounded by the memory that it holds:
/// it was data a moment ago.
#[derive(Debug)]
pub(crate) struct Freer {
    sender: Sender<Box<dyn Send>>,
    counts: Arc<Counts>,
}

/// Values and keys that were handed over, and that are freed.
#[derive(Debug, Default)]
struct Counts {
    handed: AtomicU64,
    freed: AtomicU64,
    /// Freed before CONFIG RESETSTAT.
    forgotten: AtomicU64,
}

impl Freer {
    pub fn start() -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        std::thread::Builder::new()
            .name("store-free".into())
            .spawn(move || receiver.into_iter().for_each(drop::<Box<dyn Send>>))?;
        Ok(Self { sender, counts: Arc::default() })
    }

    /// Values and keys that wait to be freed.
    pub fn pending(&self) -> u64 {
        self.counts.handed.load(Relaxed).saturating_sub(self.counts.freed.load(Relaxed))
    }

    /// Values and keys freed since the last [`Freer::reset`].
    pub fn freed(&self) -> u64 {
        self.counts.freed.load(Relaxed).saturating_sub(self.counts.forgotten.load(Relaxed))
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.counts.forgotten.store(self.counts.freed.load(Relaxed), Relaxed);
    }

    /// Whether a value is freed later.
    pub fn is_large(value: &Value) -> bool {
        value.elements_len() > ELEMENTS_MAX
    }

    /// Frees what commands have taken out of the keyspace; the caller holds no shard.
    pub fn free(&self, values: Vec<Value>, dbs: Vec<Db>) {
        for value in values {
            if Self::is_large(&value) {
                self.later(value, 1);
            }
        }
        for db in dbs {
            if !db.is_empty() {
                let keys = db.len() as u64;
                self.later(db, keys);
            }
        }
    }

    fn later(&self, thing: impl Send + 'static, objects: u64) {
        self.counts.handed.fetch_add(objects, Relaxed);
        let counts = Arc::clone(&self.counts);
        // Where the thread is gone, sending gives the thing back and it is freed here.
        let _ = self.sender.send(Box::new(Counted { thing: Some(thing), objects, counts }));
    }
}

/// Counts what it held once that is freed.
struct Counted<T> {
    thing: Option<T>,
    objects: u64,
    counts: Arc<Counts>,
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        drop(self.thing.take());
        self.counts.freed.fetch_add(self.objects, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::{ThreadId, current};

    use super::*;

    struct Noisy(mpsc::Sender<ThreadId>);

    impl Drop for Noisy {
        fn drop(&mut self) {
            self.0.send(current().id()).unwrap();
        }
    }

    #[test]
    fn what_is_large_is_freed_elsewhere() {
        let (sender, freed_on) = mpsc::channel();
        let freer = Freer::start().unwrap();
        freer.later(Noisy(sender), 3);
        assert_ne!(freed_on.recv().unwrap(), current().id());
        while freer.pending() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(freer.freed(), 3);
        freer.reset();
        assert_eq!((freer.freed(), freer.pending()), (0, 0));
    }
}
