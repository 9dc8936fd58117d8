//! Frees what is large on a thread of its own, so that no loop's clients wait for it: a set of a million
//! members takes 0.1 s, a database of a million keys half a second.

use std::sync::mpsc::{Sender, channel};

use thali_keyspace::{Db, Value};

/// Values with more elements, and databases with more keys, are freed later.
const ELEMENTS_MAX: usize = 4096;

/// The way to that thread, which ends with this. What is under way is bounded by the memory that it holds:
/// it was data a moment ago.
#[derive(Debug)]
pub(crate) struct Freer(Sender<Box<dyn Send>>);

impl Freer {
    pub fn start() -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        std::thread::Builder::new()
            .name("store-free".into())
            .spawn(move || receiver.into_iter().for_each(drop::<Box<dyn Send>>))?;
        Ok(Self(sender))
    }

    /// Frees what commands have taken out of the keyspace; the caller holds no shard.
    pub fn free(&self, values: Vec<Value>, dbs: Vec<Db>) {
        for value in values {
            if value.elements_len() > ELEMENTS_MAX {
                self.later(value);
            }
        }
        for db in dbs {
            if !db.is_empty() {
                self.later(db);
            }
        }
    }

    fn later(&self, thing: impl Send + 'static) {
        // Where the thread is gone, sending gives the thing back and it is freed here.
        let _ = self.0.send(Box::new(thing));
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
        freer.later(Noisy(sender));
        assert_ne!(freed_on.recv().unwrap(), current().id());
    }
}
