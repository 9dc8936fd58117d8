//! RESTORE: a key from what DUMP replied, here or on another server.
//!
//! Journaled as itself, with a time to live as a moment (ABSTTL).

use thali_rdb::RestoreError;
use thali_resp::Reply;

use crate::{
    Access, Categories, Context, ErrorReply, EventClass, Flags, Flow, Keys, Origin, Outcome, Spec, integer,
    is_word,
};

pub const SPEC: Spec = Spec {
    name: "restore",
    summary: "Creates a key from the serialized representation of a value.",
    syntax: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
    since: "2.6.0",
    complexity: "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N \
                 is the number of Redis objects composing the value and M their average size. For small string \
                 values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for \
                 sorted set values the complexity is O(N*M*log(N)) because inserting values into sorted sets is \
                 O(log(N)).",
    arity: -4,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: Keys::one(Access::WRITE),
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    ..super::BASE
};

#[derive(Clone, Copy, Debug, Default)]
struct Options {
    replace: bool,
    /// The time to live is a moment.
    absolute: bool,
    /// Seconds since the last use.
    idle: Option<u64>,
    /// A counter of uses.
    freq: Option<u8>,
}

impl Options {
    fn parse(words: &[&[u8]]) -> Result<Self, ErrorReply> {
        let mut options = Self::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if is_word(word, "REPLACE") {
                options.replace = true;
            } else if is_word(word, "ABSTTL") {
                options.absolute = true;
            } else if is_word(word, "IDLETIME") && options.freq.is_none() && !rest.as_slice().is_empty() {
                let idle = u64::try_from(integer(rest.next().expect("is not empty"))?);
                let invalid = ErrorReply::new("ERR Invalid IDLETIME value, must be >= 0");
                options.idle = Some(idle.map_err(|_| invalid)?);
            } else if is_word(word, "FREQ") && options.idle.is_none() && !rest.as_slice().is_empty() {
                let freq = u8::try_from(integer(rest.next().expect("is not empty"))?);
                let invalid = ErrorReply::new("ERR Invalid FREQ value, must be >= 0 and <= 255");
                options.freq = Some(freq.map_err(|_| invalid)?);
            } else {
                return Err(ErrorReply::SYNTAX);
            }
        }
        Ok(options)
    }
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (key, payload) = (args[1], args[3]);
    let options = Options::parse(&args[4..])?;
    if !options.replace && cx.exists(key) {
        return Err(ErrorReply::new("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = u64::try_from(integer(args[2])?)
        .map_err(|_| ErrorReply::new("ERR Invalid TTL value, must be >= 0"))?;
    let decode = if cx.trusts_checksums { thali_rdb::restore_unsummed } else { thali_rdb::restore };
    let value = decode(payload, cx.limits).map_err(|error| match error {
        RestoreError::Footer(_) => ErrorReply::new("ERR DUMP payload version or checksum are wrong"),
        RestoreError::Data(error) => {
            let form = thali_rdb::form_name(payload[0]);
            cx.notes.push(format!("RESTORE: {form} integrity check failed: {error}"));
            ErrorReply::new("ERR Bad data format")
        }
    })?;
    let expire_at = match ttl_ms {
        0 => None,
        at if options.absolute => Some(at),
        after => Some(cx.now_ms.saturating_add(after)),
    };
    reply.simple("OK");
    if expire_at.is_some_and(|at| at <= cx.now_ms) && cx.origin != Origin::Replay {
        // As Redis: the key is over before it began, and takes the one that it replaces with it.
        if cx.delete(key) {
            cx.effect(&[b"DEL", key]);
        }
        return Ok(Flow::Done);
    }
    cx.put_value(cx.db, key, value, expire_at);
    // What the policy has no use for is let go.
    let idle = options.idle.and_then(|seconds| cx.uses.idle_for(seconds));
    let access = idle.or_else(|| options.freq.and_then(|freq| cx.uses.counted(freq)));
    cx.set_access(cx.db, key, access.unwrap_or_else(|| cx.uses.fresh()));
    if let Some(at) = expire_at.filter(|_| !options.absolute) {
        let at = at.to_string();
        let mut request = vec![args[0], key, at.as_bytes(), payload];
        request.extend(&args[4..]);
        request.push(b"ABSTTL");
        cx.effect(&request);
    }
    cx.modified(EventClass::GENERIC, "restore", key);
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use thali_keyspace::Value;
    use thali_rdb::{Encoder, Version};

    use crate::testing::Store;

    fn payload() -> Vec<u8> {
        Encoder::new(Version::V10).dump(&Value::Str(b"hello"[..].into()))
    }

    fn restore(store: &mut Store, ttl: &str, payload: &[u8], options: &[&str]) -> String {
        let mut args: Vec<&[u8]> = vec![b"RESTORE", b"k", ttl.as_bytes(), payload];
        args.extend(options.iter().map(|option| option.as_bytes()));
        store.run_args(&args).trim_end().to_owned()
    }

    #[test]
    fn replies_are_those_of_redis() {
        let good = payload();
        let mut flipped = good.clone();
        flipped[2] ^= 1;
        let mut newer = good.clone();
        let len = newer.len();
        newer[len - 10] = 13;
        let syntax = "-ERR syntax error";
        let mut store = Store::new();
        for (ttl, payload, options, expected) in [
            ("0", &good, &[][..], "+OK"),
            ("0", &good, &[], "-BUSYKEY Target key name already exists."),
            ("0", &good, &["replace"], "+OK"),
            ("-1", &good, &["REPLACE"], "-ERR Invalid TTL value, must be >= 0"),
            ("x", &good, &["REPLACE"], "-ERR value is not an integer or out of range"),
            ("0", &flipped, &["REPLACE"], "-ERR DUMP payload version or checksum are wrong"),
            ("0", &newer, &["REPLACE"], "-ERR DUMP payload version or checksum are wrong"),
            ("0", &Vec::new(), &["REPLACE"], "-ERR DUMP payload version or checksum are wrong"),
            ("0", &good, &["REPLACE", "IDLETIME", "-1"], "-ERR Invalid IDLETIME value, must be >= 0"),
            ("0", &good, &["REPLACE", "FREQ", "256"], "-ERR Invalid FREQ value, must be >= 0 and <= 255"),
            ("0", &good, &["REPLACE", "FREQ", "255"], "+OK"),
            ("0", &good, &["REPLACE", "IDLETIME", "5", "FREQ", "5"], syntax),
            ("0", &good, &["REPLACE", "FREQ"], syntax),
            ("0", &good, &["WHAT"], syntax),
        ] {
            let reply = restore(&mut store, ttl, payload, options);
            assert_eq!(reply, expected, "{ttl} {options:?}");
        }
    }

    #[test]
    fn times_are_journaled_as_moments() {
        let mut store = Store::new();
        assert_eq!(restore(&mut store, "500", &payload(), &["REPLACE"]), "+OK");
        let effect = store.effects[0].clone();
        assert!(effect.starts_with("RESTORE k 1700000000500 "), "{effect}");
        assert!(effect.ends_with(" REPLACE ABSTTL"), "{effect}");
        assert_eq!(store.events, ["new k", "restore k"]);
        assert_eq!(store.run("PTTL k"), ":500\r\n");
        assert_eq!(restore(&mut store, "1700000000700", &payload(), &["REPLACE", "ABSTTL"]), "+OK");
        assert_eq!(store.run("PTTL k"), ":700\r\n");
        assert!(store.effects.is_empty());
    }

    #[test]
    fn a_time_that_has_passed_removes_what_would_be_replaced() {
        let mut store = Store::new();
        assert_eq!(restore(&mut store, "5", &payload(), &["ABSTTL"]), "+OK");
        assert_eq!(store.effects, [""; 0]);
        store.run("SET k v");
        assert_eq!(restore(&mut store, "5", &payload(), &["ABSTTL", "REPLACE"]), "+OK");
        assert_eq!(
            (store.effects.clone(), store.run("EXISTS k")),
            (vec!["DEL k".to_owned()], ":0\r\n".into())
        );
    }

    #[test]
    fn uses_before_are_taken_over() {
        let mut store = Store::new();
        for (options, idle) in [(&["IDLETIME", "1000"][..], 1000), (&["FREQ", "100"], 0), (&[], 0)] {
            store.run("DEL k");
            assert_eq!(restore(&mut store, "0", &payload(), options), "+OK");
            assert_eq!(store.run("OBJECT IDLETIME k"), format!(":{idle}\r\n"), "{options:?}");
        }
        store.lfu = Some(thali_keyspace::Lfu { log_factor: 10, decay_minutes: 1 });
        for (options, freq) in [(&["IDLETIME", "1000"][..], 5), (&["FREQ", "100"], 100), (&[], 5)] {
            store.run("DEL k");
            assert_eq!(restore(&mut store, "0", &payload(), options), "+OK");
            assert_eq!(store.run("OBJECT FREQ k"), format!(":{freq}\r\n"), "{options:?}");
        }
    }

    #[test]
    fn every_type_comes_back() {
        let mut store = Store::new();
        for (fill, look) in [
            ("SET k 12345", "GET k"),
            ("RPUSH k a b 1", "LRANGE k 0 -1"),
            ("SADD k 1 2 3", "SMEMBERS k"),
            ("HSET k a 1 b 2", "HGETALL k"),
            ("ZADD k 1.5 a 2 b", "ZRANGE k 0 -1 WITHSCORES"),
            ("XADD k 5-1 a b", "XRANGE k - +"),
        ] {
            store.run("DEL k");
            store.run(fill);
            let before = store.run(look);
            let reply = store.run_bytes(&[b"DUMP", b"k"]);
            let start = reply.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
            let value = reply[start..reply.len() - 2].to_vec();
            store.run("DEL k");
            assert_eq!(restore(&mut store, "0", &value, &[]), "+OK", "{fill}");
            assert_eq!(store.run(look), before, "{fill}");
        }
    }
}
