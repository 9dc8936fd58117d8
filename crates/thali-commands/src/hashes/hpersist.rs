//! HPERSIST: takes the times of fields away. Of each field the reply says: −2 it is not there, −1 it had no time,
//! 1 it stays from now on.

use thali_resp::Reply;

use super::field_args::{self, NUMBER_NOT_POSITIVE};
use crate::{Context, EventClass, Flags, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "hpersist",
    syntax: "key FIELDS numfields field [field ...]",
    summary: "Removes the expiration time for each specified field",
    since: "7.4.0",
    complexity: "O(N) where N is the number of specified fields",
    arity: -5,
    flags: Flags::WRITE.union(Flags::FAST),
    ..super::WRITE
};

const MISSING: i64 = -2;
const HAD_NONE: i64 = -1;
const PERSISTED: i64 = 1;

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let key = args[1];
    cx.has_hash(key)?;
    let fields = field_args::fields(&args[2..], NUMBER_NOT_POSITIVE)?;
    cx.expire_fields(key, fields.iter().copied());
    let mut changed = false;
    reply.array(fields.len());
    let mut hash = cx.hash_mut(key)?;
    for field in fields {
        let time = hash.as_ref().and_then(|hash| hash.get_timed(field)).map(|(_, at)| at);
        reply.integer(match time {
            None => MISSING,
            Some(None) => HAD_NONE,
            Some(Some(_)) => {
                changed = true;
                hash.as_mut().map(|hash| hash.set_time(field, None));
                PERSISTED
            }
        });
    }
    drop(hash);
    if changed {
        cx.modified(EventClass::HASH, "hpersist", key);
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn fields_with_a_time_stay() {
        let mut store = Store::new();
        store.check(&[
            ("HPERSIST h FIELDS 1 a", "*1\n:-2"),
            ("HSET h a 1 b 2", ":2"),
            ("HEXPIRE h 10 FIELDS 1 a", "*1\n:1"),
            ("HPERSIST h FIELDS 3 a b x", "*3\n:1\n:-1\n:-2"),
        ]);
        assert_eq!(store.effects, ["HPERSIST h FIELDS 3 a b x"]);
        assert_eq!(store.events, ["hpersist h"]);
        store.check(&[("HTTL h FIELDS 1 a", "*1\n:-1"), ("HPERSIST h FIELDS 1 a", "*1\n:-1")]);
        assert!(store.effects.is_empty() && store.events.is_empty());
        store.now_ms += 20_000;
        store.check(&[("HGET h a", "$1\n1")]);
    }

    #[test]
    fn what_has_expired_does_not_come_back() {
        let mut store = Store::new();
        store.run("HSET h a 1");
        store.run("HPEXPIRE h 5 FIELDS 1 a");
        store.now_ms += 6;
        store.check(&[("HPERSIST h FIELDS 1 a", "*1\n:-2"), ("EXISTS h", ":0")]);
    }
}
