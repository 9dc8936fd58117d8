//! What a process has used, from /proc.

use std::fs;

use anyhow::{Context, Result};

#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub rss_mib: f64,
}

pub fn of(pid: u32) -> Result<Usage> {
    Ok(Usage { cpu_seconds: cpu_seconds(pid)?, rss_mib: rss_bytes(pid)? as f64 / f64::from(1 << 20) })
}

/// On a core, user and system together, of all threads that live: to the nanosecond, where /proc/PID/stat has
/// ticks of 10 ms. A thread that has ended takes its time with it; the servers' loops never end.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
        // A thread may end between the two looks.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let on_core = line.split(' ').next().and_then(|field| field.parse::<u64>().ok());
        ns += on_core.context("no time in schedstat; the kernel lacks CONFIG_SCHED_INFO")?;
    }
    Ok(ns as f64 / 1e9)
}

pub fn rss_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok(1024 * line.context("no VmRSS in status")?.parse::<u64>()?)
}

/// Of this process, with threads that have ended and, in ticks of 10 ms, children that were waited for.
pub fn own_cpu_seconds() -> Result<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let stat = fs::read_to_string("/proc/self/stat")?;
    // What follows the name, which may hold blanks, begins with the third field; children's times are 16 and 17.
    let fields = stat.rsplit_once(')').context("no name in /proc/self/stat")?.1.split_whitespace();
    let ticks: Vec<u64> = fields.skip(13).take(2).map_while(|field| field.parse().ok()).collect();
    let children = ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9 + children)
}

/// Seconds that the machine's cores were busy since it started, for whomever; in ticks of 10 ms.
pub fn busy_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let cores = stat.lines().next().context("no line in /proc/stat")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in the first two.
    let ticks: Vec<u64> =
        cores.split_whitespace().skip(1).take(8).map_while(|field| field.parse().ok()).collect();
    let idle = ticks.get(3..5).context("no idle time in /proc/stat")?.iter().sum::<u64>();
    Ok((ticks.iter().sum::<u64>() - idle) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let pid = std::process::id();
        let before = of(pid).unwrap();
        assert!(before.rss_mib > 0.1);
        let mut busy = 0_u64;
        while cpu_seconds(pid).unwrap() < before.cpu_seconds + 0.01 {
            busy = std::hint::black_box(busy + 1);
        }
    }

    #[test]
    fn children_count_once_they_have_ended() {
        let before = own_cpu_seconds().unwrap();
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        while cpu_seconds(child.id()).unwrap() < 0.2 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A tick is lost at most in each of the two sums.
        assert!(own_cpu_seconds().unwrap() - before > 0.17);
    }
}
