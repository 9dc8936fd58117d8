//! PFDEBUG: looks into a HyperLogLog. GETREG and TODENSE make it dense.

use thali_data::Str;
use thali_data::hyperloglog::{Encoding, Registers};
use thali_resp::Reply;

use crate::{Access, Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "pfdebug",
    summary: "Internal commands for debugging HyperLogLog values.",
    syntax: "subcommand key",
    complexity: "N/A",
    arity: 3,
    flags: super::WRITE.flags.union(Flags::ADMIN),
    keys: Keys::Range { first: 2, last: 2, step: 1, access: Access::READ },
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let (word, key) = (args[1], args[2]);
    let hll = super::read(cx, key)?.ok_or(ErrorReply::new("ERR The specified key does not exist"))?;
    if is_word(word, "GETREG") {
        let mut registers = Registers::new();
        hll.merge_into(&mut registers).map_err(super::corrupt)?;
        make_dense(cx, key)?;
        reply.array(registers.iter().len());
        registers.iter().for_each(|value| reply.integer(value.into()));
    } else if is_word(word, "DECODE") {
        let runs = hll.decode().ok_or(ErrorReply::new("ERR HLL encoding is not sparse"))?;
        reply.bulk(runs.map_err(super::corrupt)?.as_bytes());
    } else if is_word(word, "ENCODING") {
        reply.simple(match hll.encoding() {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        });
    } else if is_word(word, "TODENSE") {
        let was_sparse = make_dense(cx, key)?;
        reply.integer(i64::from(was_sparse));
    } else {
        let shown = String::from_utf8_lossy(word);
        return Err(ErrorReply::owned(format!("ERR Unknown PFDEBUG subcommand '{shown}'")));
    }
    Ok(Flow::Done)
}

/// Whether it was sparse. Journaled, but no event is told, as in Redis.
fn make_dense(cx: &mut Context<'_>, key: &[u8]) -> Result<bool, ErrorReply> {
    let Some(string) = cx.write::<Str>(key)? else { return Ok(false) };
    let was_sparse = super::change(string)?.make_dense();
    if was_sparse {
        cx.dirty += 1;
        cx.changed_in(cx.db, key);
    }
    Ok(was_sparse)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn what_is_inside() {
        let mut store = Store::new();
        store.check(&[
            ("PFDEBUG ENCODING k", "-ERR The specified key does not exist"),
            ("PFADD k a b c", ":1"),
            ("PFDEBUG DECODE k", "$44\nZ:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603"),
            ("PFDEBUG what k", "-ERR Unknown PFDEBUG subcommand 'what'"),
        ]);
        assert_eq!(store.run("PFDEBUG GETREG k").matches(":0\r\n").count(), 16_381);
        assert_eq!(store.effects, ["PFDEBUG GETREG k"]);
        store.check(&[
            ("PFDEBUG ENCODING k", "+dense"),
            ("PFDEBUG DECODE k", "-ERR HLL encoding is not sparse"),
            ("PFDEBUG TODENSE k", ":0"),
            ("PFCOUNT k", ":3"),
        ]);
    }
}
