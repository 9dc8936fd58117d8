//! Development only: starts servers and peers on free ports, speaks to them, reads their logs.
//!
//! - [`Port`]: a free TCP port that no other test takes while the value lives.
//! - [`Process`]: one child with its log; ends with the value, shows its log when a test fails.
//! - [`Engine`] and [`Running`]: the engine under test, chosen by name: Debian's redis-server,
//!   Thali with its own store, or Thali on a redis-server.
//! - [`RespClient`]: a small blocking client of the Redis protocol.
//! - [`http`]: one HTTP/1.1 request over a fresh connection.
//!
//! Product crates may use it as a dev-dependency only; `cargo xtask wall` enforces it.

mod engine;
pub mod http;
mod port;
mod process;
mod resp;

pub use engine::{Engine, Running, ThaliOptions, start_redis, start_thali, thali_bin};
pub use port::Port;
pub use process::{Process, wait_until};
pub use resp::{Reply, RespClient};
