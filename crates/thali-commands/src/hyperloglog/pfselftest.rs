//! PFSELFTEST: tests the structure on random elements. Takes about a second, in which its event loop does nothing
//! else.

use thali_data::hyperloglog::{SelfTest, self_test};
use thali_resp::Reply;

use crate::{Context, ErrorReply, Flags, Flow, Keys, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "pfselftest",
    summary: "An internal command for testing HyperLogLog values.",
    complexity: "N/A",
    arity: 1,
    flags: Flags::ADMIN,
    keys: Keys::None,
    ..super::WRITE
};

pub fn run(cx: &mut Context<'_>, _: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let how = SelfTest::of_redis(cx.limits.hll_sparse_max_bytes);
    self_test(how, || cx.random.next_u64()).map_err(|failed| ErrorReply::owned(format!("ERR {failed}")))?;
    reply.ok();
    Ok(Flow::Done)
}
