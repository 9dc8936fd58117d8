//! Sessions that clients may resume: `tls-session-cache-size` and `tls-session-cache-timeout`.
//!
//! A client that comes back in time skips certificates and signatures. What its ticket stands for is kept here and
//! not in the ticket, so that both bounds hold and other files (CONFIG SET) begin with none.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::server::StoresServerSessions;

/// The size where `tls-session-cache-size` is 0, which has no bound in OpenSSL.
const LEN_MAX: usize = 1 << 20;

/// The newest sessions, shared by all loops.
#[derive(Debug)]
pub(super) struct Sessions {
    kept: Mutex<Kept>,
    len_max: usize,
    /// How long each may be resumed.
    within: Duration,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<Vec<u8>, (Instant, Vec<u8>)>,
    /// The oldest first. Names sessions, too, that were taken out meanwhile.
    by_age: VecDeque<(Instant, Vec<u8>)>,
}

impl Sessions {
    pub fn new(len_max: usize, within: Duration) -> Self {
        let len_max = if len_max == 0 { LEN_MAX } else { len_max };
        Self { kept: Mutex::default(), len_max, within }
    }

    fn put_at(&self, key: Vec<u8>, value: Vec<u8>, now: Instant) {
        let mut kept = self.kept.lock();
        while let Some((since, _)) = kept.by_age.front()
            && (kept.by_age.len() >= self.len_max || now.duration_since(*since) > self.within)
        {
            let (since, old) = kept.by_age.pop_front().expect("looked at just now");
            // One that was put anew under its key is younger.
            if kept.by_key.get(&old).is_some_and(|(put_at, _)| *put_at == since) {
                kept.by_key.remove(&old);
            }
        }
        kept.by_age.push_back((now, key.clone()));
        kept.by_key.insert(key, (now, value));
    }

    fn fresh(&self, found: (Instant, Vec<u8>), now: Instant) -> Option<Vec<u8>> {
        (now.duration_since(found.0) <= self.within).then_some(found.1)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(key, value, Instant::now());
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.kept.lock().by_key.get(key).cloned()?;
        self.fresh(found, Instant::now())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.kept.lock().by_key.remove(key)?;
        self.fresh(found, Instant::now())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_where_there_are_too_many_and_all_go_with_their_time() {
        let (sessions, now) = (Sessions::new(2, Duration::from_secs(300)), Instant::now());
        for name in ["a", "b", "c"] {
            sessions.put_at(name.into(), name.into(), now);
        }
        assert_eq!(sessions.get(b"a"), None);
        assert_eq!(sessions.take(b"b"), Some(b"b".to_vec()));
        assert_eq!(sessions.take(b"b"), None);
        assert_eq!(sessions.get(b"c"), Some(b"c".to_vec()));
        let later = now + Duration::from_secs(301);
        assert_eq!(sessions.fresh((now, Vec::new()), later), None);
        sessions.put_at("d".into(), "d".into(), later);
        let kept = sessions.kept.lock();
        assert_eq!((kept.by_key.len(), kept.by_age.len()), (1, 1));
    }
}
