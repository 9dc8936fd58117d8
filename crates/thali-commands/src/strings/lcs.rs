//! LCS: the longest common subsequence of two strings.

use thali_data::Str;
use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec, integer, is_word};

pub const SPEC: Spec = Spec {
    name: "lcs",
    summary: "Finds the longest common substring.",
    syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
    since: "7.0.0",
    complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
    arity: -3,
    flags: Flags::READONLY,
    keys: Keys::Range { first: 1, last: 2, step: 1, access: Access::READ },
    ..super::READ
};

#[derive(Default)]
struct Options {
    len_only: bool,
    idx: bool,
    with_match_len: bool,
    match_len_min: usize,
}

fn parse(args: &[&[u8]]) -> Result<Options, ErrorReply> {
    let mut options = Options::default();
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        if is_word(word, "IDX") {
            options.idx = true;
        } else if is_word(word, "LEN") {
            options.len_only = true;
        } else if is_word(word, "WITHMATCHLEN") {
            options.with_match_len = true;
        } else if is_word(word, "MINMATCHLEN") {
            let value = rest.next().ok_or(ErrorReply::SYNTAX)?;
            options.match_len_min = integer(value)?.max(0) as usize;
        } else {
            return Err(ErrorReply::SYNTAX);
        }
    }
    if options.idx && options.len_only {
        return Err(ErrorReply::new("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(options)
}

/// Cells of the table that LCS may fill (4 bytes each), as Redis bounds it by memory.
const CELLS_MAX: usize = 1 << 28;

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let options = parse(&args[3..])?;
    let read = |key: &[u8]| -> Result<Vec<u8>, ErrorReply> {
        match cx.read::<Str>(key) {
            Ok(value) => Ok(value.map(Str::to_vec).unwrap_or_default()),
            Err(_) => Err(ErrorReply::new("ERR The specified keys must contain string values")),
        }
    };
    let (a, b) = (read(args[1])?, read(args[2])?);
    let width = b.len() + 1;
    if (a.len() + 1).saturating_mul(width) > CELLS_MAX {
        return Err(ErrorReply::new(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let mut table = vec![0u32; (a.len() + 1) * width];
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            table[i * width + j] = if a[i - 1] == b[j - 1] {
                table[(i - 1) * width + j - 1] + 1
            } else {
                table[(i - 1) * width + j].max(table[i * width + j - 1])
            };
        }
    }
    let len = table[a.len() * width + b.len()];
    if options.len_only {
        reply.integer(i64::from(len));
        return Ok(Flow::Done);
    }
    // Walk back from the end, collecting the sequence and its runs.
    let (mut i, mut j) = (a.len(), b.len());
    let mut sequence = Vec::with_capacity(len as usize);
    let mut runs: Vec<(usize, usize, usize)> = Vec::new();
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            sequence.push(a[i - 1]);
            (i, j) = (i - 1, j - 1);
            match runs.last_mut() {
                Some((from_a, from_b, len)) if *from_a == i + 1 && *from_b == j + 1 => {
                    (*from_a, *from_b, *len) = (i, j, *len + 1);
                }
                _ => runs.push((i, j, 1)),
            }
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    sequence.reverse();
    if !options.idx {
        reply.bulk(&sequence);
        return Ok(Flow::Done);
    }
    runs.retain(|(_, _, len)| *len >= options.match_len_min);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(runs.len());
    for (from_a, from_b, len) in runs {
        reply.array(2 + usize::from(options.with_match_len));
        for from in [from_a, from_b] {
            reply.array(2);
            reply.integer(from as i64);
            reply.integer((from + len - 1) as i64);
        }
        if options.with_match_len {
            reply.integer(len as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(i64::from(len));
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn runs_and_lengths() {
        let mut store = Store::new();
        store.check(&[
            ("MSET a ohmytext b mynewtext", "+OK"),
            ("LCS a b", "$6\nmytext"),
            ("LCS a b LEN", ":6"),
            (
                "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
                "*4\n$7\nmatches\n*1\n*3\n*2\n:4\n:7\n*2\n:5\n:8\n:4\n$3\nlen\n:6",
            ),
        ]);
    }
}
