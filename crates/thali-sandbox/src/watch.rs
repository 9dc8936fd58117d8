//! Counts the processes of a tree and their memory, through `/proc`. Reads only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys;

/// Visited processes of one look; a tree with more is over any limit.
const VISITS_MAX: usize = 4096;
/// Visited entries of one look at a scratch directory.
const ENTRIES_MAX: usize = 20_000;

/// One look at a process tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Processes and threads.
    pub tasks: u64,
    /// Resident bytes, shared pages counted for each process that maps them.
    pub resident_bytes: u64,
}

/// Looks at everything below `keeper`, the keeper itself excluded. Processes may come and go meanwhile.
pub fn look(keeper: i32) -> Look {
    let mut look = Look::default();
    let page = sys::page_bytes();
    for pid in descendants(keeper) {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The second field is a name in parentheses that may hold anything, so count from its end.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let field =
            |index: usize| rest.split_ascii_whitespace().nth(index).and_then(|text| text.parse::<u64>().ok());
        look.tasks += field(17).unwrap_or(1);
        look.resident_bytes += field(21).unwrap_or(0) * page;
    }
    look
}

/// The tree's memory with shared pages counted once: dearer, for when `look` raises suspicion.
pub fn proportional_bytes(keeper: i32) -> u64 {
    let of = |pid: i32| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    descendants(keeper).into_iter().filter_map(of).sum()
}

fn descendants(root: i32) -> Vec<i32> {
    let mut found = children(root);
    let mut next = 0;
    while next < found.len() && found.len() < VISITS_MAX {
        let more = children(found[next]);
        found.extend(more);
        next += 1;
    }
    found
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for task in tasks.flatten().take(VISITS_MAX) {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(list.split_ascii_whitespace().filter_map(|text| text.parse::<i32>().ok()));
    }
    found
}

/// Processes and threads that a user has on this machine now.
pub fn tasks_of_user(uid: u32) -> u64 {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let mut tasks = 0;
    for entry in entries.flatten() {
        let numbered =
            entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if numbered && entry.metadata().is_ok_and(|meta| meta.uid() == uid) {
            tasks += fs::read_dir(entry.path().join("task")).map_or(1, |list| list.count() as u64);
        }
    }
    tasks
}

/// Bytes on disk below a directory; stops counting when it is over `limit` or has too many entries.
pub fn folder_bytes(folder: &Path, limit: u64) -> u64 {
    let (mut total, mut entries) = (0, 0);
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(list) = fs::read_dir(folder) else { continue };
        for entry in list.flatten() {
            entries += 1;
            if entries > ENTRIES_MAX {
                return u64::MAX;
            }
            let Ok(meta) = entry.metadata() else { continue };
            total += meta.blocks() * 512;
            if total > limit {
                return total;
            }
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    total
}
