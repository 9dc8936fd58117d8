//! Seeded lives: append, acknowledge, fail, die, come back; each compared with a model.

use super::*;

const SEEDS: u64 = 400;
const LIVES: usize = 4;

/// Under `always`: what comes back is the acknowledged groups and, behind them, perhaps some of the
/// others, in the order in which they were appended, each whole.
#[test]
fn nothing_acknowledged_is_lost_under_always() {
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| lives(seed));
        assert!(result.is_ok(), "failed with seed {seed}");
    }
}

fn lives(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut disk = SimDisk::new(seed);
    let mut model = Groups::new();
    let mut acknowledged = 0;
    for life in 0..LIVES {
        let (journal, groups) = open(Policy::Always, &disk);
        assert!(groups.len() >= acknowledged, "{} of {acknowledged} came back", groups.len());
        assert_eq!(groups, model[..groups.len()], "what came back is not what was appended");
        model = groups;
        acknowledged = model.len();
        if rng.u8(..) < 80 {
            disk.set_sync_failures(rng.u32(..300));
        }
        let mut waiting = Vec::new();
        for n in 0..rng.usize(1..40) {
            let amount = rng.u32(1..100);
            let group: Vec<String> = match rng.u8(..3) {
                0 => vec![format!("{} SET k{n} {life}", n % 3)],
                1 => vec![format!("0 DECRBY a {amount}"), format!("0 INCRBY b {amount}")],
                _ => (0..rng.usize(2..6)).map(|i| format!("{i} APPEND log {}", "x".repeat(i * 50))).collect(),
            };
            waiting.push((append(&journal, &group), model.len() + 1));
            model.push(group);
            match rng.u8(..10) {
                0 => disk.set_space(rng.u64(..200)),
                1 => disk.set_space(u64::MAX),
                2 | 3 => std::thread::yield_now(),
                4 => {
                    disk.set_space(u64::MAX);
                    let seq = waiting.last().unwrap().0;
                    wait_until("sync or its failure", || journal.synced() >= seq || journal.is_stuck());
                }
                _ => {}
            }
        }
        // What is acknowledged before the crash is a promise; the order of these two lines matters.
        let synced = journal.synced();
        let image = if rng.u8(..3) == 0 { disk.killed() } else { disk.crashed(rng.u64(..)) };
        let promised = waiting.iter().filter(|(seq, _)| *seq <= synced).map(|(_, len)| *len);
        acknowledged = acknowledged.max(promised.max().unwrap_or(0));
        disk.set_space(u64::MAX);
        drop(journal);
        disk = image;
    }
}

/// The death of the process alone loses nothing that `synced` covered, whatever the policy.
#[test]
fn a_killed_process_loses_nothing_it_answered() {
    for (seed, policy) in [(1, Policy::Everysec), (2, Policy::No), (3, Policy::Always)] {
        let disk = SimDisk::new(seed);
        let (journal, _) = open(policy, &disk);
        let mut last = Seq(0);
        for n in 0..100 {
            last = append(&journal, &[format!("0 SET k{n} v"), format!("0 INCR n{n}")]);
        }
        wait_until("the write", || journal.synced() >= last);
        assert_eq!(open(policy, &disk.killed()).1.len(), 100);
    }
}

#[test]
fn everysec_syncs_within_its_interval() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(Policy::Everysec, &disk);
    let seq = append(&journal, &["0 SET a 1"]);
    wait_until("the sync", || journal.durable() >= seq);
    assert_eq!(open(Policy::Everysec, &disk.crashed(7)).1, [["0 SET a 1"]]);
}

/// A crash at any moment of the first start leaves a folder that opens.
#[test]
fn a_crash_while_the_folder_is_made_is_healed() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (journal, recovery) = Journal::open(config(Policy::Always), Arc::new(disk.clone())).unwrap();
        drop((journal, recovery));
        open(Policy::Always, &disk.crashed(seed));
    }
    let disk = SimDisk::new(0);
    disk.put(INCREMENT, b"");
    disk.put("/data/appendonlydir/temp-appendonly.aof.manifest", b"file app");
    open(Policy::Always, &disk);
}
