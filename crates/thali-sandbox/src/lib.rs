//! Runs one untrusted command boxed in by time, memory, files, system calls and network.
//!
//! A [`Sandbox`] owns a scratch directory and, when the caller is root, a user id that nobody else
//! has. [`Sandbox::run`] starts one command in it under a [`Policy`], feeds it its input, collects
//! what it says, ends it (and everything it started) when it goes over a limit, and returns an
//! [`Outcome`]. [`probe`] tells which mechanisms the running kernel has; a policy that needs one
//! which is lacking is refused with an error that names it, unless the policy allows its absence.
//!
//! What holds the command:
//!
//! | threat | held by |
//! |---|---|
//! | reads or writes other files | Landlock: system folders read-only, the scratch folder, nothing else |
//! | network | seccomp refuses sockets; Landlock refuses TCP as well |
//! | kernel surface | seccomp refuses ptrace, mounts, namespaces, keys, bpf, io_uring, … |
//! | fork bombs | a process limit on a user id of its own (root) or on a user namespace, watched as well |
//! | memory | the whole tree's resident memory is watched; `RLIMIT_DATA` is the backstop |
//! | signals to others | own pid namespace, own user, Landlock's signal scope; without them `kill` is refused |
//! | daemons left behind | the pid namespace dies with its keeper; without one, sessions are refused and the process group dies |
//! | endless loops, output | a deadline, `RLIMIT_CPU`, caps on every pipe |
//!
//! What this crate refuses: it gives no virtual machine and no file-system image, it cannot be
//! nested (the inner one would see the outer `/proc`), and it runs on Linux only.
//!
//! The calling thread blocks until the command and everything it started are gone.

mod calls;
mod error;
mod files;
mod keeper;
mod plan;
mod policy;
mod supervise;
mod support;
mod sys;
mod user;
mod watch;

mod sandbox;
mod scratch;

pub use error::Error;
pub use policy::{Command, Limits, Mechanism, Network, OnRefusal, Policy};
pub use sandbox::{InForce, Sandbox};
pub use supervise::{Ending, Outcome, Stream};
pub use support::{Support, Tree, probe};
