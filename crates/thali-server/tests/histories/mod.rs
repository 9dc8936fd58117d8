//! Histories of concurrent calls, and whether they are linearizable.

pub mod model;

use std::collections::HashSet;

use model::{Operation, State};
use thali_testkit::Reply;

/// A call with its reply; the times are of one clock.
pub struct Call {
    pub client: usize,
    pub sent_ns: u64,
    pub answered_ns: u64,
    pub operation: Operation,
    pub outcome: Reply,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client, sent_ns, answered_ns, operation, outcome } = self;
        write!(f, "  {sent_ns:>10}..{answered_ns:<10} client {client}: {operation:?} = {outcome:?}")
    }
}

/// Which calls have their place in the order already.
type Placed = u128;

/// Looks for an order of all calls that the model answers in the same way; the error is how many calls the longest
/// order that does so has. SOURCE: Wing and Gong, "Testing and verifying concurrent objects", 1993; what was
/// looked at already is kept, as by Lowe, "Testing for linearizability", 2017.
pub fn check(history: &[Call]) -> Result<(), usize> {
    assert!(history.len() <= Placed::BITS as usize, "a longer history needs a wider set");
    let all: Placed = if history.len() == 128 { !0 } else { (1 << history.len()) - 1 };
    let mut seen: HashSet<(Placed, State)> = HashSet::new();
    let mut open: Vec<(Placed, State)> = vec![(0, State::default())];
    let mut longest = 0;
    while let Some((placed, state)) = open.pop() {
        if placed == all {
            return Ok(());
        }
        longest = longest.max(placed.count_ones() as usize);
        let waiting = || (0..history.len()).filter(|at| placed & (1 << at) == 0);
        // Whoever was sent behind somebody's answer has its place behind, too.
        let first_answer = waiting().map(|at| history[at].answered_ns).min().expect("some wait");
        for at in waiting().filter(|at| history[*at].sent_ns <= first_answer) {
            let mut next = state.clone();
            if history[at].operation.explains(&mut next, &history[at].outcome) {
                let step = (placed | 1 << at, next);
                if seen.insert(step.clone()) {
                    open.push(step);
                }
            }
        }
    }
    Err(longest)
}

#[test]
fn a_stale_read_has_no_order() {
    let call = |client, sent_ns, answered_ns, operation, outcome| Call {
        client,
        sent_ns,
        answered_ns,
        operation,
        outcome,
    };
    let ok = || Reply::Status("OK".into());
    let value = |text: &str| Reply::Bulk(text.into());
    let mut history = vec![
        call(0, 0, 10, Operation::Set(0, 1), ok()),
        call(1, 5, 15, Operation::Get(0), Reply::Nil),
        call(1, 20, 30, Operation::Get(0), value("1")),
    ];
    assert_eq!(check(&history), Ok(()));
    // Behind the answer to SET, nobody may read what was before it.
    history.push(call(2, 25, 40, Operation::Get(0), Reply::Nil));
    assert_eq!(check(&history), Err(3));
    history.pop();
    // Two cannot take the same element.
    history.push(call(0, 50, 60, Operation::Push(0, 7), Reply::Integer(1)));
    history.push(call(1, 50, 70, Operation::Pop(0), value("7")));
    assert_eq!(check(&history), Ok(()));
    history.push(call(2, 50, 70, Operation::Pop(0), value("7")));
    assert_eq!(check(&history), Err(5));
}
