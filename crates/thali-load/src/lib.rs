//! The load generator: requests to any server that speaks RESP, latencies back.
//!
//! Owns connections, their pace and what is measured. Refuses to know commands beyond the names of redis-benchmark's
//! tests, and to start servers. Each thread has one event loop and its share of the connections; nothing is
//! allocated between the first request and the last, so that the server stays the limit on a small machine.
//!
//! - [`Plan`]: what is sent, by how many clients, at which pace, for how long.
//! - [`Template`]: a request with places for random numbers.
//! - [`run`]: does it and gives the [`Outcome`]; [`Connected`] is the same in two steps.
//! - [`publish`]: the case of publishers and subscribers.
//! - [`BenchArgs`] and [`main`]: the command `thali bench`.
//!
//! Latency is taken from a request's **intended** time. In the closed loop that is when it was sent; in the open
//! loop (`--rate`) it is its place in the timetable, so that a server that stalls is charged for the requests that
//! should have come meanwhile.

mod arguments;
mod connection;
mod outcome;
mod plan;
mod pubsub;
mod replies;
mod template;
mod worker;

pub use arguments::{BenchArgs, main};
pub use outcome::{KindOutcome, Outcome, PubSubOutcome};
pub use plan::{Kind, Length, LoadError, Pace, Plan};
pub use pubsub::{PubSub, publish};
pub use template::Template;
pub use worker::{Connected, run};
