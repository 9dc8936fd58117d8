//! HRANDFIELD: fields drawn at random. A positive count gives different fields, a negative one draws
//! each from all. In RESP3 fields with values come as pairs.

use thali_data::{Hash, Item};
use thali_resp::Reply;

use crate::elements::{Draws, ReplyElements, sample};
use crate::{Context, ErrorReply, Flags, Flow, Outcome, Spec, is_word};

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

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let mut random = cx.fork_random();
    if args.len() == 2 {
        match cx.read::<Hash>(args[1])?.and_then(|hash| hash.random(&mut || random.next_u64())) {
            Some((field, _)) => reply.item(field),
            None => reply.null(),
        }
        return Ok(Flow::Done);
    }
    let Args { draws, values } = parse(&args[2..])?;
    let Some(hash) = cx.read::<Hash>(args[1])? else {
        reply.array(0);
        return Ok(Flow::Done);
    };
    let len = match draws {
        Draws::Distinct(count) => count.min(hash.len()),
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
                if !write(hash.random(&mut || random.next_u64()).expect("a hash is never empty")) {
                    break;
                }
            }
        }
        Draws::Distinct(_) if len == hash.len() => hash.iter().for_each(|pair| _ = write(pair)),
        Draws::Distinct(_) => {
            let all = || hash.iter().collect();
            let draw = |random: &mut crate::Random| hash.random(&mut || random.next_u64());
            sample(len, hash.len(), &mut random, all, draw, |(field, _)| field.to_vec())
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
