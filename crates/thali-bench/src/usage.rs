//! What a process has used, from /proc.

use std::fs;

use anyhow::{Context, Result};

#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub rss_mib: f64,
}

pub fn of(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name in parentheses may hold spaces; fields 14 and 15 are user and system time in ticks.
    let after_name = stat.rsplit_once(") ").context("no name in stat")?.1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss_kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .context("no VmRSS in status")?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Ok(Usage { cpu_seconds: ticks as f64 / ticks_per_second as f64, rss_mib: rss_kib / 1024.0 })
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_memory() {
        assert!(super::of(std::process::id()).unwrap().rss_mib > 0.1);
    }
}
