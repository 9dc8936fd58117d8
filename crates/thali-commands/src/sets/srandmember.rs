//! SRANDMEMBER: members drawn at random. A positive count gives different members, a negative one
//! draws each from all; so the reply is an array in RESP3 too.

use thali_data::Set;
use thali_resp::Reply;

use crate::elements::{Draws, ReplyElements, sample};
use crate::{Context, ErrorReply, Flow, Outcome, Random, Spec};

pub const SPEC: Spec = Spec {
    name: "srandmember",
    summary: "Get one or multiple random members from a set",
    syntax: "key [count]",
    complexity: "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed \
                 count.",
    arity: -2,
    ..super::READ
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let mut random = cx.fork_random();
    let draws = match args[2..] {
        [] => None,
        [count] => Some(Draws::parse(count)?),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let Some(set) = cx.read::<Set>(args[1])? else {
        if draws.is_some() {
            reply.array(0)
        } else {
            reply.null()
        }
        return Ok(Flow::Done);
    };
    let draw = |random: &mut Random| set.random(&mut || random.next_u64());
    let bytes_max = cx.reply_bytes_max;
    match draws {
        None => reply.item(draw(&mut random).expect("a set is never empty")),
        Some(Draws::Repeated(count)) => {
            reply.array(count);
            for _ in 0..count {
                reply.item(draw(&mut random).expect("a set is never empty"));
                if reply.len() > bytes_max {
                    break;
                }
            }
        }
        Some(Draws::Distinct(count)) if count >= set.len() => {
            reply.array(set.len());
            set.iter().for_each(|member| reply.item(member));
        }
        Some(Draws::Distinct(count)) => {
            let all = || set.iter().collect();
            let members = sample(count, set.len(), &mut random, all, draw, |member| member.to_vec());
            reply.array(members.len());
            members.into_iter().for_each(|member| reply.item(member));
        }
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn counts_of_both_signs() {
        let mut store = Store::new();
        store.check(&[
            ("SRANDMEMBER s", "$-1"),
            ("SRANDMEMBER s 3", "*0"),
            ("SADD s 1 2 3", ":3"),
            ("SRANDMEMBER s 5", "*3\n$1\n1\n$1\n2\n$1\n3"),
            ("SRANDMEMBER s 0", "*0"),
        ]);
        assert!(store.run("SRANDMEMBER s -10").starts_with("*10\r\n"));
        assert!(store.run("SRANDMEMBER s 2").starts_with("*2\r\n"));
        assert!(store.run("SRANDMEMBER s").starts_with("$1\r\n"));
        store.check(&[("SCARD s", ":3")]);
    }

    #[test]
    fn faulty_requests() {
        let mut store = Store::new();
        store.check(&[
            ("SRANDMEMBER s x", "-ERR value is not an integer or out of range"),
            ("SRANDMEMBER s 1 2", "-ERR syntax error"),
            (
                "SRANDMEMBER s -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ),
        ]);
    }
}
