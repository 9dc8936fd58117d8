//! HRANDFIELD: fields drawn at random. A positive count gives different fields, a negative one draws
//! each from all. In RESP3 fields with values come as pairs.

use thali_data::Item;
use thali_resp::Reply;

use crate::elements::{Draws, ReplyElements, sample};
use crate::{Context, ErrorReply, Fields, Flags, Flow, Outcome, Random, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "hrandfield",
    summary: "Returns one or more random fields from a hash.",
    syntax: "key [count [WITHVALUES]]",
    since: "6.2.0",
    complexity: "O(N) where N is the number of fields returned",
    arity: -2,
    flags: Flags::READONLY,
    ..super::READ
};

struct Args {
    draws: Draws,
    values: bool,
}

/// `count [WITHVALUES]`
fn parse(args: &[&[u8]]) -> Result<Args, ErrorReply> {
    let draws = Draws::parse(args[0])?;
    let values = match args[1..] {
        [] => false,
        [word] if is_word(word, "WITHVALUES") => true,
        _ => return Err(ErrorReply::SYNTAX),
    };
    let (Draws::Distinct(count) | Draws::Repeated(count)) = draws;
    if values && count > i64::MAX as usize / 2 {
        return Err(ErrorReply::OUT_OF_RANGE);
    }
    Ok(Args { draws, values })
}

/// What is drawn from.
enum Pool<'f, 'c, 'k> {
    Hash(&'f Fields<'c, 'k>),
    /// What is there of a hash with fields that have expired and are not removed yet.
    Living(Vec<(Item<'c>, Item<'c>)>),
}

impl<'f, 'c, 'k> Pool<'f, 'c, 'k> {
    fn of(hash: &'f Fields<'c, 'k>) -> Self {
        // They go with this command, so that the next one need not look at each field.
        hash.note_expired();
        if hash.has_expired() { Self::Living(hash.iter().collect()) } else { Self::Hash(hash) }
    }

    fn len(&self) -> usize {
        match self {
            Self::Hash(hash) => hash.live_len(),
            Self::Living(pairs) => pairs.len(),
        }
    }

    fn draw(&self, random: &Random) -> Option<(Item<'c>, Item<'c>)> {
        match self {
            Self::Hash(hash) => hash.random(&mut || random.next_u64()),
            Self::Living(pairs) if pairs.is_empty() => None,
            Self::Living(pairs) => Some(pairs[random.below(pairs.len())]),
        }
    }

    fn all(&self) -> Vec<(Item<'c>, Item<'c>)> {
        match self {
            Self::Hash(hash) => hash.iter().collect(),
            Self::Living(pairs) => pairs.clone(),
        }
    }
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let mut random = cx.fork_random();
    if args.len() == 2 {
        let drawn = cx.fields(args[1])?.and_then(|hash| Pool::of(&hash).draw(&random));
        match drawn {
            Some((field, _)) => reply.item(field),
            None => reply.null(),
        }
        return Ok(Flow::Done);
    }
    let Args { draws, values } = parse(&args[2..])?;
    let hash = cx.fields(args[1])?;
    let Some(pool) = hash.as_ref().map(Pool::of).filter(|pool| pool.len() > 0) else {
        reply.array(0);
        return Ok(Flow::Done);
    };
    let len = match draws {
        Draws::Distinct(count) => count.min(pool.len()),
        Draws::Repeated(count) => count,
    };
    reply.array(if values && !reply.is_resp3() { len * 2 } else { len });
    let bytes_max = cx.reply_bytes_max;
    let mut write = |(field, value): (Item<'_>, Item<'_>)| {
        if values && reply.is_resp3() {
            reply.array(2);
        }
        reply.item(field);
        if values {
            reply.item(value);
        }
        reply.len() <= bytes_max
    };
    match draws {
        Draws::Repeated(_) => {
            for _ in 0..len {
                if !write(pool.draw(&random).expect("it is not empty")) {
                    break;
                }
            }
        }
        Draws::Distinct(_) if len == pool.len() => pool.all().into_iter().for_each(|pair| _ = write(pair)),
        Draws::Distinct(_) => {
            let all = || pool.all();
            let draw = |random: &mut Random| pool.draw(random);
            sample(len, pool.len(), &mut random, all, draw, |(field, _)| field.to_vec())
                .into_iter()
                .for_each(|pair| _ = write(pair));
        }
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn all_of_a_small_hash_and_pairs_in_resp3() {
        let mut store = Store::new();
        store.check(&[
            ("HRANDFIELD h", "$-1"),
            ("HRANDFIELD h 3", "*0"),
            ("HSET h a 1 b 2", ":2"),
            ("HRANDFIELD h 5 WITHVALUES", "*4\n$1\na\n$1\n1\n$1\nb\n$1\n2"),
            ("HRANDFIELD h 0", "*0"),
        ]);
        assert!(store.run("HRANDFIELD h -7").starts_with("*7\r\n"));
        store.protocol = thali_resp::Protocol::Resp3;
        store.check(&[
            ("HRANDFIELD h 5 WITHVALUES", "*2\n*2\n$1\na\n$1\n1\n*2\n$1\nb\n$1\n2"),
            ("HRANDFIELD none", "_"),
        ]);
    }

    #[test]
    fn what_has_expired_is_never_drawn_and_goes() {
        for fields in [5, 300] {
            let mut store = Store::new();
            (0..fields).for_each(|n| drop(store.run(&format!("HSET h f{n} {n}"))));
            (1..fields).for_each(|n| drop(store.run(&format!("HPEXPIRE h 5 FIELDS 1 f{n}"))));
            store.now_ms += 6;
            store.check(&[("HRANDFIELD h -3", "*3\n$2\nf0\n$2\nf0\n$2\nf0")]);
            assert_eq!(store.events, ["hexpired h"]);
            store.check(&[("HLEN h", ":1"), ("HPEXPIRE h 5 FIELDS 1 f0", "*1\n:1")]);
            store.now_ms += 6;
            store.check(&[("EXISTS h", ":1"), ("HRANDFIELD h", "$-1"), ("EXISTS h", ":0")]);
            store.check(&[("HRANDFIELD h 2", "*0")]);
        }
    }

    #[test]
    fn a_positive_count_gives_different_fields() {
        let mut store = Store::new();
        for n in 0..1000 {
            store.run(&format!("HSET h f{n} {n}"));
        }
        for count in [1, 50, 900] {
            let reply = store.run(&format!("HRANDFIELD h {count}"));
            let mut fields: Vec<_> = reply.split("\r\n").filter(|line| line.starts_with('f')).collect();
            assert_eq!(fields.len(), count);
            fields.sort();
            fields.dedup();
            assert_eq!(fields.len(), count);
        }
    }

    #[test]
    fn counts_out_of_range() {
        let mut store = Store::new();
        store.check(&[
            ("HRANDFIELD h x", "-ERR value is not an integer or out of range"),
            ("HRANDFIELD h 1 WITH", "-ERR syntax error"),
            ("HRANDFIELD h 1 WITHVALUES x", "-ERR syntax error"),
            ("HRANDFIELD h 9223372036854775807 WITHVALUES", "-ERR value is out of range"),
            (
                "HRANDFIELD h -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ),
        ]);
    }
}
