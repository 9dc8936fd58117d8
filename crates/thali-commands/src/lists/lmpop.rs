//! LMPOP and, waiting where all lists are empty, BLMPOP: take several elements from the first of
//! several lists that has any.
//!
//! Both are journaled as LPOP or RPOP with a count, of the list that gave.

use thali_data::List;
use thali_data::list::End;
use thali_keyspace::WaitKind;
use thali_resp::Reply;

use super::lpop::reply_popped;
use crate::elements::integer_from;
use crate::{
    Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec, Wait, deadline_from_seconds, is_word,
};

pub const LMPOP: Spec = Spec {
    name: "lmpop",
    summary: "Returns multiple elements from a list after removing them. Deletes the list if the last element \
              was popped.",
    syntax: "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    since: "7.0.0",
    complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
    arity: -4,
    flags: Flags::WRITE.union(Flags::MOVABLE_KEYS),
    keys: Keys::Counted { at: 1, first: 2, access: Access::READ_WRITE, before: &[] },
    ..super::WRITE
};

pub const BLMPOP: Spec = Spec {
    name: "blmpop",
    summary: "Pops the first element from one of multiple lists. Blocks until an element is available \
              otherwise. Deletes the list if the last element was popped.",
    syntax: "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    arity: -5,
    flags: LMPOP.flags.union(Flags::BLOCKING),
    keys: Keys::Counted { at: 2, first: 3, access: Access::READ_WRITE, before: &[] },
    ..LMPOP
};

struct Args<'a> {
    keys: &'a [&'a [u8]],
    end: End,
    count: usize,
}

/// `numkeys key… LEFT|RIGHT [COUNT count]`
fn parse<'a>(args: &'a [&'a [u8]]) -> Result<Args<'a>, ErrorReply> {
    let numkeys = integer_from(args[0], 1, ErrorReply::new("ERR numkeys should be greater than 0"))?;
    let (keys, rest) = args[1..].split_at_checked(numkeys).ok_or(ErrorReply::SYNTAX)?;
    let (end, rest) = rest.split_first().ok_or(ErrorReply::SYNTAX)?;
    let end = super::parse_end(end)?;
    let count = match rest {
        [] => 1,
        [word, count] if is_word(word, "COUNT") => {
            integer_from(count, 1, ErrorReply::new("ERR count should be greater than 0"))?
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    Ok(Args { keys, end, count })
}

pub fn lmpop(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    if !pop_first(cx, &parse(&args[1..])?, reply)? {
        reply.null_array();
    }
    Ok(Flow::Done)
}

pub fn blmpop(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let options = parse(&args[2..])?;
    let deadline_ms = deadline_from_seconds(args[1], cx.now_ms)?;
    if pop_first(cx, &options, reply)? {
        return Ok(Flow::Done);
    }
    let wait = Wait {
        kind: WaitKind::List,
        keys: options.keys.iter().map(|key| Box::from(*key)).collect(),
        deadline_ms,
        request: args.iter().map(|arg| arg.to_vec()).collect(),
        null_array: true,
    };
    Ok(cx.park(reply, wait))
}

/// Replies the key and the elements of the first list that has any; false where none has.
fn pop_first(cx: &mut Context<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Result<bool, ErrorReply> {
    let limits = cx.limits;
    for key in args.keys {
        let Some(list) = cx.write::<List>(key)? else { continue };
        let count = args.count.min(list.len());
        reply.array(2);
        reply.bulk(key);
        reply_popped(list, args.end, count, limits, reply);
        super::popped(cx, key, args.end);
        let name: &[u8] = if args.end == End::Front { b"LPOP" } else { b"RPOP" };
        cx.effect(&[name, key, itoa::Buffer::new().format(count).as_bytes()]);
        return Ok(true);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use crate::Origin;
    use crate::testing::Store;

    #[test]
    fn takes_several_from_one_list() {
        let mut store = Store::new();
        store.check(&[
            ("RPUSH b 1 2 3", ":3"),
            ("RPUSH c 9", ":1"),
            ("LMPOP 3 a b c LEFT", "*2\n$1\nb\n*1\n$1\n1"),
            ("LMPOP 3 a b c RIGHT COUNT 5", "*2\n$1\nb\n*2\n$1\n3\n$1\n2"),
        ]);
        assert_eq!(store.effects, ["RPOP b 2"]);
        assert_eq!(store.events, ["rpop b", "del b"]);
        store.check(&[("BLMPOP 0 2 b c LEFT COUNT 2", "*2\n$1\nc\n*1\n$1\n9"), ("LMPOP 1 c LEFT", "*-1")]);
        store.check(&[("BLMPOP 1 2 b c LEFT", "")]);
        assert_eq!(store.parked.take().unwrap().keys.len(), 2);
        store.origin = Origin::Unit;
        store.check(&[("BLMPOP 1 2 b c LEFT", "*-1")]);
    }

    #[test]
    fn faulty_requests() {
        let mut store = Store::new();
        store.check(&[
            ("LMPOP 0 l LEFT", "-ERR numkeys should be greater than 0"),
            ("LMPOP x l LEFT", "-ERR numkeys should be greater than 0"),
            ("LMPOP 2 l LEFT", "-ERR syntax error"),
            ("LMPOP 9 l LEFT", "-ERR syntax error"),
            ("LMPOP 1 l UP", "-ERR syntax error"),
            ("LMPOP 1 l LEFT COUNT 0", "-ERR count should be greater than 0"),
            ("LMPOP 1 l LEFT COUNT x", "-ERR count should be greater than 0"),
            ("LMPOP 1 l LEFT COUNT 1 COUNT 1", "-ERR syntax error"),
            ("BLMPOP x 1 l LEFT", "-ERR timeout is not a float or out of range"),
            ("BLMPOP -1 0 l LEFT", "-ERR numkeys should be greater than 0"),
        ]);
    }
}
