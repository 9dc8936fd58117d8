//! BullMQ's scripts for adding a job, as the official crate ships them (see build.rs).

use sha1::{Digest, Sha1};
use std::fmt::Write;
use std::sync::LazyLock;

/// A script and the name under which a store remembers it.
pub(crate) struct Script {
    pub text: &'static str,
    pub keys: usize,
    pub sha: String,
}

pub(crate) static ADD_STANDARD: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!(concat!(env!("OUT_DIR"), "/addStandardJob-9.lua")), 9));
pub(crate) static ADD_DELAYED: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!(concat!(env!("OUT_DIR"), "/addDelayedJob-6.lua")), 6));
pub(crate) static ADD_PRIORITIZED: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!(concat!(env!("OUT_DIR"), "/addPrioritizedJob-9.lua")), 9));

impl Script {
    fn new(text: &'static str, keys: usize) -> Self {
        let mut sha = String::with_capacity(40);
        for byte in Sha1::digest(text.as_bytes()) {
            write!(sha, "{byte:02x}").expect("a String takes every character");
        }
        Self { text, keys, sha }
    }
}
