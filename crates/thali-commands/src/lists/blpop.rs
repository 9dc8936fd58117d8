//! BLPOP, BRPOP: take an element from the first of several lists that has one, or wait.
//!
//! Journaled as LPOP or RPOP of the list that gave.

use thali_data::List;
use thali_data::list::End;
use thali_keyspace::WaitKind;
use thali_resp::Reply;

use crate::elements::ReplyElements;
use crate::{Access, Context, Flags, Flow, Keys, Outcome, Spec, Wait, deadline_from_seconds};

pub const BLPOP: Spec = Spec {
    name: "blpop",
    summary: "Removes and returns the first element in a list. Blocks until an element is available otherwise. \
              Deletes the list if the last element was popped.",
    syntax: "key [key ...] timeout",
    since: "2.0.0",
    complexity: "O(N) where N is the number of provided keys.",
    arity: -3,
    flags: Flags::WRITE.union(Flags::BLOCKING),
    keys: Keys::Range { first: 1, last: -2, step: 1, access: Access::READ_WRITE },
    ..super::WRITE
};

pub const BRPOP: Spec = Spec {
    name: "brpop",
    summary: "Removes and returns the last element in a list. Blocks until an element is available otherwise. \
              Deletes the list if the last element was popped.",
    syntax: "key [key ...] timeout",
    ..BLPOP
};

pub fn blpop(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    pop_or_wait(cx, args, reply, End::Front)
}

pub fn brpop(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    pop_or_wait(cx, args, reply, End::Back)
}

fn pop_or_wait(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>, end: End) -> Outcome {
    let (keys, timeout, limits) = (&args[1..args.len() - 1], args[args.len() - 1], cx.limits);
    let deadline_ms = deadline_from_seconds(timeout, cx.now_ms)?;
    for key in keys {
        let Some(list) = cx.write::<List>(key)? else { continue };
        let value = list.pop(end, limits).expect("a list is never empty");
        reply.array(2);
        reply.bulk(key);
        reply.item(value.item());
        super::popped(cx, key, end);
        cx.effect(&[if end == End::Front { &b"LPOP"[..] } else { b"RPOP" }, key]);
        return Ok(Flow::Done);
    }
    let wait = Wait {
        kind: WaitKind::List,
        keys: keys.iter().map(|key| Box::from(*key)).collect(),
        deadline_ms,
        request: args.iter().map(|arg| arg.to_vec()).collect(),
        null_array: true,
    };
    Ok(cx.park(reply, wait))
}

#[cfg(test)]
mod tests {
    use crate::Origin;
    use crate::testing::Store;

    #[test]
    fn the_first_list_with_elements_gives() {
        let mut store = Store::new();
        store.check(&[("RPUSH b 1 2 3", ":3"), ("BLPOP a b 0", "*2\n$1\nb\n$1\n1")]);
        assert_eq!(store.effects, ["LPOP b"]);
        assert_eq!(store.events, ["lpop b"]);
        store.check(&[("BRPOP a b 0", "*2\n$1\nb\n$1\n3")]);
        assert_eq!(store.effects, ["RPOP b"]);
    }

    #[test]
    fn without_elements_a_client_waits_and_a_transaction_gets_null() {
        let mut store = Store::new();
        store.check(&[("BLPOP a b 1.5", "")]);
        let wait = store.parked.take().unwrap();
        assert_eq!(wait.deadline_ms, Some(store.now_ms + 1500));
        assert_eq!(wait.keys, [Box::from(&b"a"[..]), Box::from(&b"b"[..])]);
        store.check(&[("BLPOP a 0", "")]);
        assert_eq!(store.parked.take().unwrap().deadline_ms, None);
        store.origin = Origin::Unit;
        store.check(&[("BLPOP a b 1", "*-1")]);
    }

    #[test]
    fn faulty_requests() {
        let mut store = Store::new();
        store.check(&[
            ("BLPOP a -1", "-ERR timeout is negative"),
            ("BLPOP a x", "-ERR timeout is not a float or out of range"),
            ("SET s v", "+OK"),
            ("BLPOP a s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
