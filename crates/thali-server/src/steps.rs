//! Commands that run in steps: each a unit of work that holds one shard after the other, with other clients' requests
//! in between. Their session waits meanwhile.

use std::time::Instant;

use thali_commands::{Origin, Steps};

use crate::call::{Call, Core};
use crate::session::{SessionState, borrowed};
use crate::table::Row;
use crate::unit;

/// A command of which some steps are done.
#[derive(Debug)]
pub(crate) struct Stepping {
    pub steps: Box<dyn Steps>,
    pub row: &'static Row,
    pub args: Vec<Vec<u8>>,
    /// What its steps have taken.
    pub nanos: u64,
}

/// Does one step of the session's command. `Some` at its end: the reply, from the given byte on.
pub(crate) fn step(core: &mut Core, state: &mut SessionState) -> Option<(Vec<u8>, usize)> {
    let mut stepping = state.stepping.take()?;
    let Core { shared, engine, side } = core;
    side.clock = Instant::now();
    let begun = side.clock;
    let own = side.event_loop;
    let gives_up = || shared.busy.elsewhere(own);
    let mut cx = unit::client_context(shared.keyspace.lock_none(), state, engine, side, &gives_up);
    debug_assert_eq!(cx.origin, Origin::Client);
    let outcome = stepping.steps.step(&mut cx);
    let outcome = outcome.map_err(|error| unit::named_refusal(shared, side, error));
    stepping.nanos += side.lap(begun);
    if let Ok(false) = outcome {
        unit::settle(cx, shared, side);
        state.stepping = Some(stepping);
        return None;
    }
    let mut call = Call { cx: &mut cx, shared, side, state: Some(state) };
    unit::count(stepping.row, &mut call, &borrowed(&stepping.args), stepping.nanos, outcome.as_ref().err());
    unit::settle(cx, shared, side);
    crate::clients::add(&state.info.commands, 1);
    Some(match outcome {
        Ok(_) => stepping.steps.reply(),
        Err(error) => {
            let mut reply = Vec::new();
            state.error(&mut reply, &error);
            (reply, 0)
        }
    })
}
