//! Claim: whatever clients on several loops do at the same time, there is one order of all that explains every reply,
//! and in which nothing moves before it was asked or behind it was answered.
//!
//! Clients run chosen operations on a few keys in different shards: of one key, of several, transactions, scripts
//! that declare their keys and such that do not, and pops that wait. When each was sent and answered is
//! noted; [`histories::check`] then looks for the order against a plain model. The seed is printed; `LINEARIZABILITY_ROUNDS`
//! runs more of them than every test run does.

mod harness;
mod histories;

use std::time::Instant;

use harness::{connect, start};
use histories::model::Operation;
use histories::{Call, check};
use thali_testkit::RespClient;

const CLIENTS: usize = 6;
const CALLS_OF_A_CLIENT: usize = 18;
const ROUNDS: u64 = 40;

#[test]
fn every_history_has_an_order_that_explains_it() {
    let seed = fastrand::u64(..);
    let rounds = std::env::var("LINEARIZABILITY_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = start(&dir, &[("appendonly", "yes"), ("loops", "3")]);
    for round in 0..rounds {
        let mut clients: Vec<RespClient> = (0..CLIENTS).map(|_| connect(&address)).collect();
        clients[0].command(&["FLUSHALL"]).unwrap();
        let history = run(&mut clients, seed.wrapping_add(round));
        if let Err(longest) = check(&history) {
            let lines: Vec<String> = history.iter().map(Call::to_string).collect();
            panic!(
                "seed {seed}, round {round}: no order explains all replies; the longest explains {longest} of \
                 {}\n{}",
                history.len(),
                lines.join("\n")
            );
        }
    }
    server.shutdown().unwrap();
}

/// Lets each client run its operations beside the others.
fn run(clients: &mut [RespClient], seed: u64) -> Vec<Call> {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap();
    let barrier = std::sync::Barrier::new(clients.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                let (now, barrier) = (&now, &barrier);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed ^ (number as u64) << 48);
                    barrier.wait();
                    let mut calls = Vec::new();
                    for call in 0..CALLS_OF_A_CLIENT {
                        let operation = Operation::choose(&mut rng, number * 1000 + call);
                        let sent_ns = now();
                        let outcome = operation.run(client);
                        calls.push(Call { client: number, sent_ns, answered_ns: now(), operation, outcome });
                    }
                    calls
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}
