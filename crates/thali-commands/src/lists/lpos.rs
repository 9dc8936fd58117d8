//! LPOS: the indexes of elements equal to a value.

use thali_data::{Item, List};
use thali_resp::Reply;

use crate::elements::{integer_but_min, integer_from};
use crate::{Context, ErrorReply, Flow, Outcome, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "lpos",
    summary: "Returns the index of matching elements in a list.",
    syntax: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
    since: "6.0.6",
    complexity: "O(N) where N is the number of elements in the list, for the average case. When searching for \
                 elements near the head or the tail of the list, or when the MAXLEN option is provided, the \
                 command may run in constant time.",
    arity: -3,
    ..super::READ
};

struct Args {
    /// From the end when negative.
    backwards: bool,
    /// Matches to pass over.
    skip: usize,
    /// Matches to reply as an array, 0 for all; a single index or null where not given.
    count: Option<usize>,
    /// Elements to look at, 0 for all.
    len_max: usize,
}

fn parse(options: &[&[u8]]) -> Result<Args, ErrorReply> {
    let mut args = Args { backwards: false, skip: 0, count: None, len_max: 0 };
    let (pairs, rest) = options.as_chunks::<2>();
    for [word, value] in pairs {
        if is_word(word, "RANK") {
            let rank = integer_but_min(value)?;
            if rank == 0 {
                return Err(ErrorReply::new(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                     negative to start from the end of the list",
                ));
            }
            (args.backwards, args.skip) = (rank < 0, rank.unsigned_abs() as usize - 1);
        } else if is_word(word, "COUNT") {
            args.count = Some(integer_from(value, 0, ErrorReply::new("ERR COUNT can't be negative"))?);
        } else if is_word(word, "MAXLEN") {
            args.len_max = integer_from(value, 0, ErrorReply::new("ERR MAXLEN can't be negative"))?;
        } else {
            return Err(ErrorReply::SYNTAX);
        }
    }
    if rest.is_empty() { Ok(args) } else { Err(ErrorReply::SYNTAX) }
}

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let options = parse(&args[3..])?;
    let wanted = Item::parse(args[2]);
    let no_limit = |n: usize| if n == 0 { usize::MAX } else { n };
    let matches = match cx.read::<List>(args[1])? {
        None => Vec::new(),
        Some(list) => {
            let len = list.len();
            let mut elements = list.iter();
            std::iter::from_fn(|| if options.backwards { elements.next_back() } else { elements.next() })
                .take(no_limit(options.len_max))
                .enumerate()
                .filter(|(_, element)| *element == wanted)
                .map(|(i, _)| if options.backwards { len - 1 - i } else { i })
                .skip(options.skip)
                .take(options.count.map_or(1, no_limit))
                .collect()
        }
    };
    if options.count.is_some() {
        reply.array(matches.len());
        matches.iter().for_each(|index| reply.integer(*index as i64));
    } else {
        match matches.first() {
            Some(index) => reply.integer(*index as i64),
            None => reply.null(),
        }
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn rank_count_and_maxlen() {
        let mut store = Store::new();
        store.check(&[
            ("RPUSH l a b c 1 2 3 c c", ":8"),
            ("LPOS l a", ":0"),
            ("LPOS l 2", ":4"),
            ("LPOS l c RANK 2", ":6"),
            ("LPOS l c RANK -1", ":7"),
            ("LPOS l c RANK 4", "$-1"),
            ("LPOS l c COUNT 0", "*3\n:2\n:6\n:7"),
            ("LPOS l c COUNT 2 RANK -2", "*2\n:6\n:2"),
            ("LPOS l c COUNT 0 MAXLEN 3", "*1\n:2"),
            ("LPOS l c COUNT 0 MAXLEN 2 RANK -1", "*2\n:7\n:6"),
            ("LPOS l z", "$-1"),
            ("LPOS l z COUNT 1", "*0"),
            ("LPOS none z", "$-1"),
            ("LPOS none z COUNT 1", "*0"),
        ]);
    }

    #[test]
    fn faulty_options() {
        let mut store = Store::new();
        store.check(&[
            ("LPOS l a COUNT -1", "-ERR COUNT can't be negative"),
            ("LPOS l a COUNT x", "-ERR COUNT can't be negative"),
            ("LPOS l a MAXLEN -1", "-ERR MAXLEN can't be negative"),
            ("LPOS l a RANK x", "-ERR value is not an integer or out of range"),
            ("LPOS l a RANK", "-ERR syntax error"),
            ("LPOS l a PLACE 1", "-ERR syntax error"),
        ]);
        assert!(store.run("LPOS l a RANK 0").starts_with("-ERR RANK can't be zero: use 1 to start"));
    }
}
