//! ZPOPMIN, ZPOPMAX, ZMPOP and the forms that wait (BZPOPMIN, BZPOPMAX, BZMPOP): take members from an end.
//!
//! All are journaled as the ZPOPMIN or ZPOPMAX that they came to. Where several keys are given, the first that
//! holds anything is served.

use thali_data::sorted_set::SortedSet;
use thali_keyspace::WaitKind;
use thali_resp::Reply;

use super::{WRITE_ONE, write_score};
use crate::elements::integer_from;
use crate::{
    Access, Context, ErrorReply, EventClass, Flags, Flow, Keys, Outcome, Spec, Wait, deadline_from_seconds,
    is_word,
};

pub const ZPOPMIN: Spec = Spec {
    name: "zpopmin",
    summary: "Returns the lowest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
    syntax: "key [count]",
    since: "5.0.0",
    complexity: "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.",
    arity: -2,
    flags: Flags::WRITE.union(Flags::FAST),
    keys: Keys::one(Access::READ_WRITE),
    ..WRITE_ONE
};

pub const ZPOPMAX: Spec = Spec {
    name: "zpopmax",
    summary: "Returns the highest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
    syntax: "key [count]",
    ..ZPOPMIN
};

pub const BZPOPMIN: Spec = Spec {
    name: "bzpopmin",
    summary: "Removes and returns the member with the lowest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
    syntax: "key [key ...] timeout",
    complexity: "O(log(N)) with N being the number of elements in the sorted set.",
    arity: -3,
    flags: ZPOPMIN.flags.union(Flags::BLOCKING),
    keys: Keys::Range { first: 1, last: -2, step: 1, access: Access::READ_WRITE },
    ..ZPOPMIN
};

pub const BZPOPMAX: Spec = Spec {
    name: "bzpopmax",
    summary: "Removes and returns the member with the highest score from one or more sorted sets. Blocks until a member available otherwise.  Deletes the sorted set if the last element was popped.",
    syntax: "key [key ...] timeout",
    ..BZPOPMIN
};

pub const ZMPOP: Spec = Spec {
    name: "zmpop",
    summary: "Returns the highest- or lowest-scoring members from one or more sorted sets after removing them. Deletes the sorted set if the last member was popped.",
    syntax: "numkeys key [key ...] <MIN | MAX> [COUNT count]",
    since: "7.0.0",
    complexity: "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.",
    arity: -4,
    flags: Flags::WRITE.union(Flags::MOVABLE_KEYS),
    keys: Keys::Counted { at: 1, first: 2, access: Access::READ_WRITE, before: &[] },
    ..WRITE_ONE
};

pub const BZMPOP: Spec = Spec {
    name: "bzmpop",
    summary: "Removes and returns a member by score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
    syntax: "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
    arity: -5,
    flags: ZMPOP.flags.union(Flags::BLOCKING),
    keys: Keys::Counted { at: 2, first: 3, access: Access::READ_WRITE, before: &[] },
    ..ZMPOP
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

impl End {
    fn command(self) -> &'static str {
        match self {
            Self::Min => "ZPOPMIN",
            Self::Max => "ZPOPMAX",
        }
    }

    fn event(self) -> &'static str {
        match self {
            Self::Min => "zpopmin",
            Self::Max => "zpopmax",
        }
    }
}

type Popped = Vec<(Vec<u8>, f64)>;

/// Takes up to `count` members off one end; `None` where the key is missing.
fn pop(cx: &mut Context<'_>, key: &[u8], end: End, count: usize) -> Result<Option<Popped>, ErrorReply> {
    let Some(set) = cx.write::<SortedSet>(key)? else { return Ok(None) };
    let len = set.len();
    let count = count.min(len);
    let ranks = match end {
        End::Min => 0..count,
        End::Max => len - count..len,
    };
    let mut popped = Popped::with_capacity(count);
    set.remove_range(ranks, |member, score| popped.push((member.to_vec(), score)));
    if end == End::Max {
        popped.reverse();
    }
    if count > 0 {
        cx.modified(EventClass::SORTED_SET, end.event(), key);
        cx.remove_if_empty(key);
    }
    Ok(Some(popped))
}

pub fn zpopmin(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    pop_one_key(cx, args, End::Min, reply)
}

pub fn zpopmax(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    pop_one_key(cx, args, End::Max, reply)
}

fn pop_one_key(cx: &mut Context<'_>, args: &[&[u8]], end: End, reply: &mut Reply<'_>) -> Outcome {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(integer_from(count, 0, ErrorReply::POSITIVE)?),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let popped = pop(cx, args[1], end, count.unwrap_or(1))?.unwrap_or_default();
    // A count asks for pairs, which RESP2 has never shown as such.
    let nested = count.is_some() && reply.is_resp3();
    reply.array(popped.len() * if nested { 1 } else { 2 });
    write_popped(reply, &popped, nested);
    Ok(Flow::Done)
}

fn write_popped(reply: &mut Reply<'_>, popped: &[(Vec<u8>, f64)], nested: bool) {
    for (member, score) in popped {
        if nested {
            reply.array(2);
        }
        reply.bulk(member);
        write_score(reply, *score);
    }
}

pub fn bzpopmin(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    pop_or_wait(cx, args, End::Min, reply)
}

pub fn bzpopmax(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    pop_or_wait(cx, args, End::Max, reply)
}

fn pop_or_wait(cx: &mut Context<'_>, args: &[&[u8]], end: End, reply: &mut Reply<'_>) -> Outcome {
    let (timeout, keys) = args[1..].split_last().expect("the arity asks for two");
    let deadline_ms = deadline_from_seconds(timeout, cx.now_ms)?;
    for key in keys {
        if let Some(popped) = pop(cx, key, end, 1)? {
            cx.effect(&[end.command().as_bytes(), key]);
            reply.array(3);
            reply.bulk(key);
            write_popped(reply, &popped, false);
            return Ok(Flow::Done);
        }
    }
    Ok(cx.park(reply, wait(args, keys, deadline_ms)))
}

fn wait(args: &[&[u8]], keys: &[&[u8]], deadline_ms: Option<u64>) -> Wait {
    Wait {
        kind: WaitKind::SortedSet,
        keys: keys.iter().map(|key| Box::from(*key)).collect(),
        deadline_ms,
        request: args.iter().map(|arg| arg.to_vec()).collect(),
        null_array: true,
    }
}

/// The arguments of ZMPOP and BZMPOP from the number of keys on.
struct Many<'a, 'b> {
    keys: &'a [&'b [u8]],
    end: End,
    count: usize,
}

impl<'a, 'b> Many<'a, 'b> {
    fn parse(args: &'a [&'b [u8]]) -> Result<Self, ErrorReply> {
        let keys_len = integer_from(args[0], 1, ErrorReply::new("ERR numkeys should be greater than 0"))?;
        if keys_len >= args.len() - 1 {
            return Err(ErrorReply::SYNTAX);
        }
        let (keys, rest) = args[1..].split_at(keys_len);
        let end = match rest[0] {
            word if is_word(word, "MIN") => End::Min,
            word if is_word(word, "MAX") => End::Max,
            _ => return Err(ErrorReply::SYNTAX),
        };
        let count = match &rest[1..] {
            [] => 1,
            [word, count] if is_word(word, "COUNT") => {
                integer_from(count, 1, ErrorReply::new("ERR count should be greater than 0"))?
            }
            _ => return Err(ErrorReply::SYNTAX),
        };
        Ok(Self { keys, end, count })
    }

    /// Serves the first key that holds anything; false where none does.
    fn pop(&self, cx: &mut Context<'_>, reply: &mut Reply<'_>) -> Result<bool, ErrorReply> {
        for key in self.keys {
            let Some(popped) = pop(cx, key, self.end, self.count)? else { continue };
            let count = itoa::Buffer::new().format(popped.len()).to_owned();
            cx.effect(&[self.end.command().as_bytes(), key, count.as_bytes()]);
            reply.array(2);
            reply.bulk(key);
            reply.array(popped.len());
            write_popped(reply, &popped, true);
            return Ok(true);
        }
        Ok(false)
    }
}

pub fn zmpop(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    if !Many::parse(&args[1..])?.pop(cx, reply)? {
        reply.null_array();
    }
    Ok(Flow::Done)
}

pub fn bzmpop(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let many = Many::parse(&args[2..])?;
    let deadline_ms = deadline_from_seconds(args[1], cx.now_ms)?;
    if many.pop(cx, reply)? {
        return Ok(Flow::Done);
    }
    Ok(cx.park(reply, wait(args, many.keys, deadline_ms)))
}

#[cfg(test)]
mod tests {
    use crate::Origin;
    use crate::testing::Store;
    use thali_resp::Protocol;

    #[test]
    fn from_one_key() {
        let mut store = Store::new();
        store.check(&[
            ("ZPOPMIN z", "*0"),
            ("ZADD z 1 a 2 b 3 c 4 d", ":4"),
            ("ZPOPMIN z", "*2\n$1\na\n$1\n1"),
            ("ZPOPMAX z 2", "*4\n$1\nd\n$1\n4\n$1\nc\n$1\n3"),
            ("ZPOPMIN z 0", "*0"),
            ("ZPOPMIN z -1", "-ERR value is out of range, must be positive"),
            ("ZPOPMIN z 1 2", "-ERR syntax error"),
        ]);
        store.protocol = Protocol::Resp3;
        store.check(&[("ZPOPMIN z 5", "*1\n*2\n$1\nb\n,2")]);
        assert_eq!(store.events, ["zpopmin z", "del z"]);
    }

    #[test]
    fn from_the_first_key_that_holds_anything() {
        let mut store = Store::new();
        store.check(&[
            ("ZMPOP 2 x y MIN", "*-1"),
            ("ZADD y 1 a 2 b", ":2"),
            ("ZMPOP 2 x y MAX COUNT 5", "*2\n$1\ny\n*2\n*2\n$1\nb\n$1\n2\n*2\n$1\na\n$1\n1"),
        ]);
        assert_eq!(store.effects, ["ZPOPMAX y 2"]);
        store.check(&[
            ("ZMPOP 0 x MIN", "-ERR numkeys should be greater than 0"),
            ("ZMPOP 3 x y MIN", "-ERR syntax error"),
            ("ZMPOP 1 x UP", "-ERR syntax error"),
            ("ZMPOP 1 x MIN COUNT 0", "-ERR count should be greater than 0"),
            ("ZMPOP 1 x MIN COUNT 1 COUNT 2", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn waiting_parks_a_client_but_not_a_script() {
        let mut store = Store::new();
        store.check(&[("BZPOPMIN x y 1.5", "")]);
        let wait = store.parked.take().unwrap();
        assert_eq!(wait.deadline_ms, Some(store.now_ms + 1500));
        assert_eq!(wait.keys, [Box::from(*b"x"), Box::from(*b"y")]);
        store.check(&[("BZMPOP 0 1 x MAX", "")]);
        assert_eq!(store.parked.take().unwrap().deadline_ms, None);
        store.origin = Origin::Unit;
        store.check(&[("BZPOPMIN x 0", "*-1")]);
        store.check(&[
            ("BZPOPMIN x -1", "-ERR timeout is negative"),
            ("BZPOPMIN x t", "-ERR timeout is not a float or out of range"),
        ]);
        store.origin = Origin::Client;
        store.check(&[("ZADD y 1 a 2 b 3 c", ":3"), ("BZPOPMAX x y 0", "*3\n$1\ny\n$1\nc\n$1\n3")]);
        assert_eq!(store.effects, ["ZPOPMAX y"]);
        store.check(&[("BZMPOP 1 2 x y MIN COUNT 1", "*2\n$1\ny\n*1\n*2\n$1\na\n$1\n1")]);
        assert_eq!(store.effects, ["ZPOPMIN y 1"]);
    }
}
