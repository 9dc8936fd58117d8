//! LPOP, RPOP: take elements from an end. With a count the reply is an array, and null, not empty,
//! where the key is missing.

use thali_data::List;
use thali_data::list::End;
use thali_resp::Reply;

use crate::elements::{ReplyElements, integer_from};
use crate::{Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec};

pub const LPOP: Spec = Spec {
    name: "lpop",
    summary: "Returns the first elements in a list after removing it. Deletes the list if the last element was \
              popped.",
    syntax: "key [count]",
    complexity: "O(N) where N is the number of elements returned",
    arity: -2,
    flags: Flags::WRITE.union(Flags::FAST),
    keys: Keys::one(Access::READ_WRITE),
    ..super::WRITE
};

pub const RPOP: Spec = Spec {
    name: "rpop",
    summary: "Returns and removes the last elements of a list. Deletes the list if the last element was popped.",
    syntax: "key [count]",
    ..LPOP
};

pub fn lpop(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    pop(cx, args, reply, End::Front, LPOP.name)
}

pub fn rpop(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    pop(cx, args, reply, End::Back, RPOP.name)
}

fn pop(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>, end: End, name: &str) -> Outcome {
    let (key, limits) = (args[1], cx.limits);
    let count = match args[2..] {
        [] => None,
        [count] => Some(integer_from(count, 0, ErrorReply::POSITIVE)?),
        _ => return Err(ErrorReply::wrong_arity(name)),
    };
    let Some(list) = cx.write::<List>(key)? else {
        if count.is_some() {
            reply.null_array()
        } else {
            reply.null()
        }
        return Ok(Flow::Done);
    };
    match count {
        None => reply.item(list.pop(end, limits).expect("a list is never empty").item()),
        Some(count) => {
            reply_popped(list, end, count, limits, reply);
            if count == 0 {
                return Ok(Flow::Done);
            }
        }
    }
    super::popped(cx, key, end);
    Ok(Flow::Done)
}

/// Replies an array of up to `count` elements taken from an end.
pub(super) fn reply_popped(
    list: &mut List,
    end: End,
    count: usize,
    limits: &thali_data::Limits,
    reply: &mut Reply<'_>,
) {
    let count = count.min(list.len());
    reply.array(count);
    match end {
        End::Front => {
            list.range(0, count).for_each(|element| reply.item(element));
            list.remove_range(0, count, limits);
        }
        End::Back => {
            let start = list.len() - count;
            list.range(start, count).rev().for_each(|element| reply.item(element));
            list.remove_range(start, count, limits);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn takes_from_either_end_until_the_list_is_gone() {
        let mut store = Store::new();
        store.check(&[
            ("RPUSH l a b c d e", ":5"),
            ("LPOP l", "$1\na"),
            ("RPOP l", "$1\ne"),
            ("RPOP l 2", "*2\n$1\nd\n$1\nc"),
            ("LPOP l 0", "*0"),
            ("LPOP l 9", "*1\n$1\nb"),
        ]);
        assert_eq!(store.events, ["lpop l", "del l"]);
        store.check(&[("LPOP l", "$-1"), ("LPOP l 0", "*-1"), ("RPOP l 2", "*-1")]);
    }

    #[test]
    fn counts_are_not_negative() {
        let mut store = Store::new();
        store.check(&[
            ("LPOP l -1", "-ERR value is out of range, must be positive"),
            ("RPOP l x", "-ERR value is out of range, must be positive"),
            ("RPOP l 1 2", "-ERR wrong number of arguments for 'rpop' command"),
        ]);
    }
}
