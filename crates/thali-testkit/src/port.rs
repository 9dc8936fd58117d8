//! Free TCP ports for tests that run side by side.
//!
//! Owns: the choice of a port and a claim on it. The range lies below the kernel's ephemeral
//! ports, so no outgoing connection can take a port between the choice and the server's bind;
//! a lock file for each number keeps two test processes from choosing the same one.

use std::fs::{self, File};
use std::net::TcpListener;

use anyhow::{Context, Result, bail};

const RANGE: std::ops::Range<u16> = 12_000..30_000;
const TRIES_MAX: usize = 200;

/// A port that was free when chosen and stays claimed until the value is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: File,
}

impl Port {
    pub fn free() -> Result<Port> {
        let folder = std::env::temp_dir().join("thali-test-ports");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        for _ in 0..TRIES_MAX {
            let number = fastrand::u16(RANGE);
            let claim = File::create(folder.join(number.to_string()))?;
            if claim.try_lock().is_err() {
                continue;
            }
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Port { number, _claim: claim });
            }
        }
        bail!("no free port in {RANGE:?} after {TRIES_MAX} tries")
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:<number>`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimed_ports_differ() {
        let ports: Vec<Port> = (0..20).map(|_| Port::free().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 20);
    }
}
