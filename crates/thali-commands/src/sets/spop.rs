//! SPOP: takes members drawn at random. Journaled as SREM of what was drawn, or DEL where all were.

use thali_data::Set;
use thali_resp::Reply;

use crate::elements::{ReplyElements, integer_from, sample};
use crate::{Access, Context, ErrorReply, EventClass, Flow, Keys, Outcome, Random, Spec};

pub const SPEC: Spec = Spec {
    name: "spop",
    summary: "Returns one or more random members from a set after removing them. Deletes the set if the last \
              member was popped.",
    syntax: "key [count]",
    complexity: "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
    arity: -2,
    keys: Keys::one(Access::READ_WRITE),
    ..super::WRITE
};

/// Members that one journaled SREM names.
const EFFECT_MEMBERS_MAX: usize = 1024;

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    match args[2..] {
        [] => pop_one(cx, args[1], reply),
        [count] => pop_several(cx, args[1], integer_from(count, 0, ErrorReply::POSITIVE)?, reply),
        _ => Err(ErrorReply::SYNTAX),
    }
}

fn pop_one(cx: &mut Context<'_>, key: &[u8], reply: &mut Reply<'_>) -> Outcome {
    let random = cx.fork_random();
    let Some(set) = cx.write::<Set>(key)? else {
        reply.null();
        return Ok(Flow::Done);
    };
    let member = set.pop(&mut || random.next_u64()).expect("a set is never empty");
    reply.item(member.item());
    cx.modified(EventClass::SET, "spop", key);
    cx.remove_if_empty(key);
    member.with_bytes(|member| cx.effect(&[b"SREM", key, member]));
    Ok(Flow::Done)
}

fn pop_several(cx: &mut Context<'_>, key: &[u8], count: usize, reply: &mut Reply<'_>) -> Outcome {
    let mut random = cx.fork_random();
    let Some(set) = cx.write::<Set>(key)? else {
        reply.set(0);
        return Ok(Flow::Done);
    };
    if count == 0 {
        reply.set(0);
        return Ok(Flow::Done);
    }
    if count >= set.len() {
        super::reply_set(reply, set)?;
        cx.modified(EventClass::SET, "spop", key);
        cx.delete(key);
        cx.effect(&[b"DEL", key]);
        return Ok(Flow::Done);
    }
    let members: Vec<Vec<u8>> = {
        let all = || set.iter().collect();
        let draw = |random: &mut Random| set.random(&mut || random.next_u64());
        let drawn = sample(count, set.len(), &mut random, all, draw, |member| member.to_vec());
        drawn.iter().map(|member| member.to_vec()).collect()
    };
    reply.set(members.len());
    for member in &members {
        set.remove(member);
        reply.bulk(member);
    }
    cx.modified(EventClass::SET, "spop", key);
    for members in members.chunks(EFFECT_MEMBERS_MAX) {
        let request: Vec<&[u8]> =
            [&b"SREM"[..], key].into_iter().chain(members.iter().map(Vec::as_slice)).collect();
        cx.effect(&request);
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn journals_what_was_drawn() {
        let mut store = Store::new();
        store.check(&[("SPOP s", "$-1"), ("SPOP s 3", "*0"), ("SADD s a b c d", ":4")]);
        let one = store.run("SPOP s").split("\r\n").nth(1).unwrap().to_string();
        assert_eq!(store.effects, [format!("SREM s {one}")]);
        assert_eq!(store.events, ["spop s"]);
        store.check(&[("SISMEMBER s x", ":0"), ("SPOP s 0", "*0"), ("SCARD s", ":3")]);
        let two = store.run("SPOP s 2");
        assert!(two.starts_with("*2\r\n"), "{two}");
        assert!(store.effects[0].starts_with("SREM s "));
        store.check(&[("SCARD s", ":1")]);
        assert!(store.run("SPOP s 9").starts_with("*1\r\n"));
        assert_eq!(store.effects, ["DEL s"]);
        assert_eq!(store.events, ["spop s", "del s"]);
    }

    #[test]
    fn draws_from_a_large_set_without_repeating() {
        let mut store = Store::new();
        for n in 0..2000 {
            store.run(&format!("SADD s m{n}"));
        }
        for (count, left) in [(100, 1900), (1500, 400), (399, 1)] {
            assert!(store.run(&format!("SPOP s {count}")).starts_with(&format!("*{count}\r\n")));
            store.check(&[("SCARD s", format!(":{left}").as_str())]);
        }
        assert_eq!(store.run("SPOP s").matches('m').count(), 1);
        assert_eq!(store.events, ["spop s", "del s"]);
    }

    #[test]
    fn faulty_requests() {
        let mut store = Store::new();
        store.check(&[
            ("SPOP s 1 1", "-ERR syntax error"),
            ("SPOP s -1", "-ERR value is out of range, must be positive"),
            ("SPOP s x", "-ERR value is out of range, must be positive"),
        ]);
        store.protocol = thali_resp::Protocol::Resp3;
        store.check(&[("SPOP s 2", "~0"), ("SPOP s", "_")]);
    }
}
