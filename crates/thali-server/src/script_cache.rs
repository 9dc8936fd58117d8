//! The texts of scripts, by their SHA1, which all loops share.
//!
//! What SCRIPT LOAD brought stays until SCRIPT FLUSH, as who loads it counts on it. What came with EVAL makes
//! room when there is too much of it, the longest unused first: its sender has the text, and some send a new one
//! with each call. SOURCE: Valkey 8 and Redis 7.4, whose bound is the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;
use thali_script::{Script, Sha};

/// Scripts that came with EVAL and are kept.
const EVALUATED_MAX: usize = 500;

#[derive(Debug, Default)]
pub(crate) struct ScriptCache {
    kept: RwLock<Kept>,
    /// Counts uses, as a clock.
    uses: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    by_sha: HashMap<Sha, Entry>,
    /// How many of them came with EVAL.
    evaluated: usize,
}

#[derive(Debug)]
struct Entry {
    script: Script,
    /// 0 where it stays.
    last_used: AtomicU64,
}

impl ScriptCache {
    pub fn get(&self, sha: &Sha) -> Option<Script> {
        let kept = self.kept.read();
        let Entry { script, last_used } = kept.by_sha.get(sha)?;
        if last_used.load(Relaxed) != 0 {
            last_used.store(self.now(), Relaxed);
        }
        Some(script.clone())
    }

    /// Keeps what SCRIPT LOAD brought.
    pub fn insert_loaded(&self, script: Script) {
        let mut kept = self.kept.write();
        let sha = *script.sha();
        let old = kept.by_sha.insert(sha, Entry { script, last_used: AtomicU64::new(0) });
        kept.evaluated -= usize::from(old.is_some_and(|old| old.last_used.load(Relaxed) != 0));
    }

    /// Keeps what EVAL brought, for as long as there is room.
    pub fn insert_evaluated(&self, script: Script) {
        let mut kept = self.kept.write();
        if kept.by_sha.contains_key(script.sha()) {
            return;
        }
        if kept.evaluated >= EVALUATED_MAX {
            let used = |entry: &Entry| entry.last_used.load(Relaxed);
            let evaluated = kept.by_sha.iter().filter(|(_, entry)| used(entry) != 0);
            let oldest = evaluated.min_by_key(|(_, entry)| used(entry)).map(|(sha, _)| *sha);
            kept.evaluated -= usize::from(oldest.is_some_and(|sha| kept.by_sha.remove(&sha).is_some()));
            self.evicted.fetch_add(1, Relaxed);
        }
        let last_used = AtomicU64::new(self.now());
        kept.by_sha.insert(*script.sha(), Entry { script, last_used });
        kept.evaluated += 1;
    }

    pub fn clear(&self) {
        *self.kept.write() = Kept::default();
    }

    pub fn len(&self) -> usize {
        self.kept.read().by_sha.len()
    }

    pub fn bytes(&self) -> usize {
        self.kept.read().by_sha.values().map(|entry| entry.script.body().len() + 128).sum()
    }

    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    fn now(&self) -> u64 {
        self.uses.fetch_add(1, Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(n: usize) -> Script {
        Script::new(format!("return {n}").into_bytes()).unwrap()
    }

    #[test]
    fn evaluated_scripts_make_room_and_loaded_ones_stay() {
        let cache = ScriptCache::default();
        let (loaded, promoted, used) = (script(1_000_000), script(0), script(1));
        cache.insert_loaded(loaded.clone());
        for n in 0..EVALUATED_MAX {
            cache.insert_evaluated(script(n));
        }
        cache.insert_loaded(promoted.clone());
        assert_eq!((cache.len(), cache.evicted()), (EVALUATED_MAX + 1, 0));
        assert!(cache.get(used.sha()).is_some());
        for n in 0..EVALUATED_MAX {
            cache.insert_evaluated(script(EVALUATED_MAX + n));
            assert!(cache.get(used.sha()).is_some(), "it is used all the time");
        }
        assert_eq!(cache.len(), EVALUATED_MAX + 2);
        assert_eq!(cache.evicted(), EVALUATED_MAX as u64 - 1);
        assert!(cache.get(loaded.sha()).is_some() && cache.get(promoted.sha()).is_some());
        assert!(cache.get(script(2).sha()).is_none());
        cache.clear();
        assert_eq!(cache.len(), 0);
    }
}
