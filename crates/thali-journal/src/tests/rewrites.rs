//! Rewrites: a keyspace in miniature as the model, beside a disk that fails and dies at each step.

use std::collections::BTreeMap;
use std::io::Write;

use super::*;

/// Values by `db key`.
type Keys = BTreeMap<String, String>;

fn apply(keys: &mut Keys, group: &[String]) {
    for line in group {
        let words: Vec<_> = line.split(' ').collect();
        let key = format!("{} {}", words[0], words[2]);
        let number = || keys.get(&key).map_or(0, |value| value.parse::<i64>().unwrap());
        let value = match words[1] {
            "SET" => words[3].to_owned(),
            "INCRBY" => (number() + words[3].parse::<i64>().unwrap()).to_string(),
            "DECRBY" => (number() - words[3].parse::<i64>().unwrap()).to_string(),
            "APPEND" => keys.get(&key).cloned().unwrap_or_default() + words[3],
            other => panic!("{other}"),
        };
        keys.insert(key, value);
    }
}

fn write_base(base: &mut BaseWriter, keys: &Keys) -> std::io::Result<()> {
    let mut db = "0";
    for (key, value) in keys {
        let (key_db, key) = key.split_once(' ').unwrap();
        if key_db != db {
            db = key_db;
            base.write_all(&encoded(&["SELECT", db]))?;
        }
        base.write_all(&encoded(&["SET", key, value]))?;
        base.end_group()?;
    }
    Ok(())
}

/// A store with one shard: what it holds, what it held after each group, and what is running.
struct Store {
    disk: SimDisk,
    journal: Journal,
    keys: Keys,
    /// After each group since the start, with the group's place in the stream; the first is the start's.
    states: Vec<(Seq, Keys)>,
    rewrite: Option<(Rewrite, Option<Keys>)>,
}

impl Store {
    fn open(policy: Policy, disk: &SimDisk) -> Result<Store, JournalError> {
        let (journal, groups, _) = open_with(config(policy), disk)?;
        let mut keys = Keys::new();
        groups.iter().for_each(|group| apply(&mut keys, group));
        let states = vec![(Seq(0), keys.clone())];
        Ok(Store { disk: disk.clone(), journal, keys, states, rewrite: None })
    }

    fn append(&mut self, group: &[String]) -> Seq {
        apply(&mut self.keys, group);
        let seq = append(&self.journal, group);
        self.states.push((seq, self.keys.clone()));
        seq
    }

    /// The next step of a rewrite.
    fn step(&mut self) -> Result<(), JournalError> {
        match self.rewrite.take() {
            None => self.rewrite = Some((self.journal.begin_rewrite()?, None)),
            Some((mut rewrite, None)) => {
                rewrite.cut();
                self.rewrite = Some((rewrite, Some(self.keys.clone())));
            }
            Some((mut rewrite, Some(keys))) => {
                let mut base = rewrite.base_writer(BaseForm::Aof)?;
                let path = std::path::Path::new("base");
                write_base(&mut base, &keys).map_err(|source| JournalError::Io {
                    action: "write",
                    path: path.into(),
                    source,
                })?;
                rewrite.finish(base)?;
            }
        }
        Ok(())
    }

    /// How many of `states` are acknowledged.
    fn acknowledged(&self) -> usize {
        let synced = self.journal.synced();
        self.states.iter().take_while(|(seq, _)| *seq <= synced).count()
    }

    /// Ends all, and gives what `disk` brings back, which must be one of the states from `acknowledged` on.
    fn check(self, policy: Policy, image: &SimDisk, acknowledged: usize) -> Store {
        let states = self.states.clone();
        self.disk.fail_after(None);
        self.disk.set_space(u64::MAX);
        drop(self.rewrite);
        drop(self.journal);
        let store = Store::open(policy, image).unwrap_or_else(|error| panic!("{error}\n{}", image.dump()));
        let found = states.iter().rposition(|(_, keys)| *keys == store.keys);
        let found = found.unwrap_or_else(|| panic!("no state that ever was: {:?}", store.keys));
        assert!(found + 1 >= acknowledged, "state {found} came back, {acknowledged} were acknowledged");
        store
    }
}

fn random_group(rng: &mut fastrand::Rng, n: usize) -> Vec<String> {
    let amount = rng.u32(1..100);
    match rng.u8(..4) {
        0 => vec![format!("{} SET k{} {n}", n % 3, n % 7)],
        1 => vec![format!("0 DECRBY a {amount}"), format!("1 INCRBY b {amount}")],
        2 => vec![format!("2 SET long{} {}", n % 3, "x".repeat(rng.usize(..3000)))],
        _ => (0..rng.usize(1..6)).map(|i| format!("{i} APPEND log {}", n % 10)).collect(),
    }
}

fn sums_up(keys: &Keys) -> bool {
    let number = |key: &str| keys.get(key).map_or(0, |value| value.parse::<i64>().unwrap());
    number("0 a") + number("1 b") == 0
}

/// Lives with rewrites on a disk with faults; each ends with the death of the process or of the machine.
fn lives(seed: u64, policy: Policy, has_faults: bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut disk = SimDisk::new(seed);
    let mut store = Store::open(policy, &disk).unwrap();
    for _ in 0..3 {
        for n in 0..rng.usize(1..60) {
            if has_faults {
                match rng.u8(..24) {
                    0 => disk.set_space(rng.u64(..20_000)),
                    1 => disk.set_space(u64::MAX),
                    2 => disk.set_sync_failures(rng.u32(..300)),
                    3 => disk.set_sync_failures(0),
                    4 => disk.set_name_failures(rng.u32(..500)),
                    5 => disk.set_name_failures(0),
                    _ => {}
                }
            }
            if store.journal.refusal().is_none() {
                store.append(&random_group(&mut rng, n));
            }
            match rng.u8(..6) {
                0 | 1 => drop(store.step()),
                2 => std::thread::yield_now(),
                3 if rng.u8(..8) == 0 => store.rewrite = None,
                _ => {}
            }
        }
        let acknowledged = store.acknowledged();
        let durable = store.states.iter().take_while(|(seq, _)| *seq <= store.journal.durable()).count();
        let (image, promised) = match rng.u8(..3) {
            0 => (disk.killed(), acknowledged),
            _ if policy == Policy::Always => (disk.crashed(rng.u64(..)), acknowledged),
            _ => (disk.crashed(rng.u64(..)), durable),
        };
        store = store.check(policy, &image, promised);
        assert!(sums_up(&store.keys), "half a transaction: {:?}", store.keys);
        disk = image;
    }
}

fn many(seeds: std::ops::Range<u64>, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    // `JOURNAL_SEEDS=20` runs twenty times as many.
    let times = std::env::var("JOURNAL_SEEDS").map_or(1, |times| times.parse().unwrap());
    for seed in (0..times).flat_map(|round| seeds.clone().map(move |seed| seed + round * 1_000_000)) {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "failed with seed {seed}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_while_rewrites_run_under_always() {
    many(0..500, |seed| lives(seed, Policy::Always, true));
}

#[test]
fn what_comes_back_is_a_prefix_while_rewrites_run_without_always() {
    many(1000..1300, |seed| lives(seed, Policy::Everysec, false));
    many(2000..2300, |seed| lives(seed, Policy::No, false));
}

/// A rewrite with groups before, between and behind its steps. Gives whether it succeeded.
fn one_rewrite(store: &mut Store) -> bool {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut went_well = true;
    for n in 0..12 {
        if store.journal.refusal().is_none() {
            store.append(&random_group(&mut rng, n));
        }
        if n % 4 == 1 && went_well {
            went_well = store.step().is_ok();
        }
    }
    went_well
}

#[test]
fn a_rewrite_that_fails_at_any_step_leaves_all_as_it_was_and_the_next_one_heals() {
    for policy in [Policy::Always, Policy::Everysec] {
        for n in 0.. {
            let disk = SimDisk::new(n);
            let mut store = Store::open(policy, &disk).unwrap();
            disk.fail_after(Some(n));
            let went_well = one_rewrite(&mut store);
            store.rewrite = None;
            if disk.has_failure_ahead() {
                assert!(went_well, "without a failure the rewrite succeeds");
                break;
            }
            disk.fail_after(None);
            // A write that failed is tried again; only a failed sync needs the rewrite.
            wait_until("healing", || store.journal.refusal().is_none() || store.journal.is_stuck());
            // A cut that could not be undone is in the writer's hands yet.
            wait_until("the next rewrite", || match store.journal.begin_rewrite() {
                Err(JournalError::RewriteRunning) => false,
                other => other.map(drop).map(|()| true).unwrap_or_else(|error| panic!("{n}: {error}")),
            });
            for _ in 0..3 {
                store.step().unwrap_or_else(|error| panic!("{n}: {error}"));
            }
            assert_eq!(store.journal.refusal(), None, "step {n}");
            let seq = store.append(&["0 SET after 1".into()]);
            wait_until("the write", || store.journal.synced() >= seq);
            let all = store.states.len();
            let image = if policy == Policy::Always { disk.crashed(n) } else { disk.killed() };
            let store = store.check(policy, &image, all);
            let names = image.list(std::path::Path::new("/data/appendonlydir")).unwrap();
            assert!(names.len() <= 4, "step {n} left files: {names:?}");
            drop(store);
        }
    }
}

#[test]
fn a_crash_at_any_step_of_a_rewrite_loses_nothing_acknowledged() {
    for n in 0..120 {
        for seed in 0..6 {
            let disk = SimDisk::new(seed);
            let mut store = Store::open(Policy::Always, &disk).unwrap();
            disk.die_after(n);
            one_rewrite(&mut store);
            let acknowledged = store.acknowledged();
            let image = if seed == 0 { disk.killed() } else { disk.crashed(seed) };
            let mut store = store.check(Policy::Always, &image, acknowledged);
            // Nothing of it stays once the next one has succeeded.
            (0..3).for_each(|_| store.step().unwrap());
            assert_eq!(files_of(&image), named_files(&image), "died at step {n}, seed {seed}");
        }
    }
}

fn files_of(disk: &SimDisk) -> Vec<String> {
    let names = disk.list(std::path::Path::new("/data/appendonlydir")).unwrap();
    names.into_iter().filter(|name| !name.ends_with(".manifest")).collect()
}

fn named_files(disk: &SimDisk) -> Vec<String> {
    let manifest = String::from_utf8(disk.get(MANIFEST).unwrap()).unwrap();
    let mut names: Vec<_> = manifest.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A disk that lies may lose what it called safe; then what comes back is an earlier state, or a refusal.
#[test]
fn a_lying_disk_is_found_out_or_sets_back_to_an_earlier_state() {
    let mut refused = 0;
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = SimDisk::new(seed);
        let mut store = Store::open(Policy::Always, &disk).unwrap();
        disk.set_lies(rng.u32(..400));
        for n in 0..rng.usize(1..60) {
            store.append(&random_group(&mut rng, n));
            if rng.u8(..4) == 0 {
                let _ = store.step();
            }
        }
        let image = disk.crashed(seed);
        let states = store.states.clone();
        drop(store.rewrite);
        drop(store.journal);
        match Store::open(Policy::Always, &image) {
            Ok(store) => {
                let is_known = states.iter().any(|(_, keys)| *keys == store.keys);
                assert!(is_known, "seed {seed}: no state that ever was");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused < 400);
}

#[test]
fn a_stuck_journal_is_healed_by_a_rewrite_and_then_acknowledges() {
    let disk = SimDisk::new(3);
    let mut store = Store::open(Policy::Always, &disk).unwrap();
    let first = store.append(&["0 SET a 1".into()]);
    wait_until("the first", || store.journal.synced() >= first);
    disk.set_sync_failures(1000);
    let lost = store.append(&["0 SET a 2".into()]);
    wait_until("the failure", || store.journal.is_stuck());
    assert!(store.journal.wants_rewrite(0, 0, Instant::now()));
    disk.set_sync_failures(0);
    store.step().unwrap();
    store.step().unwrap();
    std::thread::sleep(Duration::from_millis(5));
    assert!(store.journal.is_stuck() && store.journal.synced() == first, "a cut alone acknowledges nothing");
    store.step().unwrap();
    assert!(!store.journal.is_stuck() && store.journal.synced() >= lost);
    let last = store.append(&["0 SET b 3".into()]);
    wait_until("the last", || store.journal.durable() >= last);
    let all = store.states.len();
    let image = disk.crashed(1);
    let _ = store.check(Policy::Always, &image, all);
}

#[test]
fn a_rewrite_leaves_one_base_and_one_increment() {
    let disk = SimDisk::new(3);
    let mut store = Store::open(Policy::Everysec, &disk).unwrap();
    for round in 1..4 {
        for n in 0..100 {
            store.append(&[format!("0 SET key{} {n}", n % 3)]);
        }
        let before = store.journal.state().size_bytes;
        assert!(store.journal.wants_rewrite(100, 1000, Instant::now()));
        // A stream that rests may have got a mark since.
        assert!(!store.journal.wants_rewrite(100, before + HEADER_LEN as u64, Instant::now()));
        assert!(!store.journal.wants_rewrite(0, 0, Instant::now()));
        for _ in 0..3 {
            store.step().unwrap();
        }
        let state = store.journal.state();
        assert!(state.size_bytes < before / 5 && state.size_bytes == state.base_size_bytes, "{state:?}");
        let next = round + 1;
        let expected = [
            format!("appendonly.aof.{round}.base.aof"),
            format!("appendonly.aof.{next}.incr.aof"),
            "appendonly.aof.manifest".into(),
        ];
        assert_eq!(disk.list(std::path::Path::new("/data/appendonlydir")).unwrap(), expected);
        let size =
            expected[..2].iter().map(|name| disk.get(format!("/data/appendonlydir/{name}")).unwrap().len());
        assert_eq!(state.size_bytes, size.sum::<usize>() as u64);
    }
    let keys = store.keys.clone();
    drop(store);
    assert_eq!(Store::open(Policy::Everysec, &disk).unwrap().keys, keys);
}

#[test]
fn automatic_rewrites_rest_after_failures() {
    let disk = SimDisk::new(3);
    let mut store = Store::open(Policy::Everysec, &disk).unwrap();
    for n in 0..100 {
        store.append(&[format!("0 SET key {n}")]);
    }
    let wants = |store: &Store, after_secs: u64| {
        store.journal.wants_rewrite(100, 100, Instant::now() + Duration::from_secs(after_secs))
    };
    for failures in 0..6 {
        assert_eq!(wants(&store, 0), failures < 3, "after {failures} failures");
        store.step().unwrap();
        assert!(!wants(&store, 100_000), "while one runs");
        assert!(matches!(store.journal.begin_rewrite(), Err(JournalError::RewriteRunning)));
        store.rewrite = None;
    }
    // One minute, doubled three times.
    assert!(!wants(&store, 470) && wants(&store, 490));
}

#[test]
fn what_cannot_be_deleted_is_deleted_at_the_next_start() {
    let disk = SimDisk::new(3);
    let mut store = Store::open(Policy::Everysec, &disk).unwrap();
    store.append(&["0 SET a 1".into()]);
    store.step().unwrap();
    store.step().unwrap();
    let image = {
        let (mut rewrite, keys) = store.rewrite.take().unwrap();
        let mut base = rewrite.base_writer(BaseForm::Aof).unwrap();
        write_base(&mut base, &keys.unwrap()).unwrap();
        // Removals are the only changes of names after the manifest's.
        disk.set_removal_failures(true);
        assert_eq!(rewrite.finish(base).unwrap().files_deleted, 0);
        disk.killed()
    };
    assert!(image.get(INCREMENT).is_some());
    let (_journal, _, report) = open_with(config(Policy::Everysec), &image).unwrap();
    assert_eq!(report.files_deleted, 1);
    assert!(image.get(INCREMENT).is_none());
    assert!(!String::from_utf8(image.get(MANIFEST).unwrap()).unwrap().contains("type h"));
}

#[test]
fn a_cut_base_is_refused() {
    let disk = SimDisk::new(3);
    let mut store = Store::open(Policy::Everysec, &disk).unwrap();
    for n in 0..5 {
        store.append(&[format!("0 SET key{n} {n}")]);
    }
    for _ in 0..3 {
        store.step().unwrap();
    }
    drop(store);
    let path = "/data/appendonlydir/appendonly.aof.1.base.aof";
    let whole = disk.get(path).unwrap();
    for len in 0..whole.len() {
        let copy = disk.killed();
        copy.put(path, &whole[..len]);
        let result = open_with(config(Policy::Everysec), &copy);
        assert!(result.is_err() || len == 0, "cut to {len}");
    }
}

/// redis-server goes on in the file that a rewrite made and did not come to use.
#[test]
fn a_file_that_redis_server_began_needs_no_mark_before_it() {
    let disk = SimDisk::new(3);
    let mut store = Store::open(Policy::Everysec, &disk).unwrap();
    store.append(&["0 SET a 1".into()]);
    store.step().unwrap();
    drop(store);
    let next = "/data/appendonlydir/appendonly.aof.2.incr.aof";
    let begun = [disk.get(next).unwrap(), encoded(&["SELECT", "0"]), encoded(&["SET", "b", "1"])].concat();
    disk.put(next, &begun);
    assert!(
        check_manifest(&disk, std::path::Path::new(MANIFEST))
            .unwrap()
            .iter()
            .all(|file| file.damage.is_none())
    );
    assert_eq!(open(Policy::Everysec, &disk).1, [["0 SET a 1"], ["0 SET b 1"]]);
}

#[test]
fn an_increment_that_another_follows_is_refused_if_it_lacks_its_end() {
    let disk = SimDisk::new(3);
    let mut store = Store::open(Policy::Everysec, &disk).unwrap();
    store.append(&["0 SET a 1".into()]);
    let first_len = disk.get(INCREMENT).unwrap().len();
    store.append(&["0 SET a 2".into()]);
    store.step().unwrap();
    store.step().unwrap();
    store.append(&["0 SET a 3".into()]);
    let next = "/data/appendonlydir/appendonly.aof.2.incr.aof";
    wait_until("the next file", || disk.get(next).unwrap().len() > 48);
    drop(store);
    let whole = disk.get(INCREMENT).unwrap();
    disk.put(INCREMENT, &whole[..first_len]);
    let error = open_with(config(Policy::Everysec), &disk).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("the mark is missing"), "{error}");
    let reports = check_manifest(&disk, std::path::Path::new(MANIFEST)).unwrap();
    assert!(reports[0].damage.as_ref().unwrap().why.contains("the mark is missing"));
}

/// Threads count under locks of their own; who rewrites holds all of them for the cut. A count that came back
/// twice or not at all would show.
#[test]
fn threads_that_write_during_rewrites_are_counted_once() {
    use parking_lot::Mutex;
    for policy in [Policy::Always, Policy::Everysec, Policy::No] {
        let disk = SimDisk::new(3);
        let (journal, _) = open(policy, &disk);
        let counts: Vec<_> = (0..4).map(|_| Mutex::new(0)).collect();
        let running = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            for (thread, count) in counts.iter().enumerate() {
                let (journal, running) = (&journal, &running);
                scope.spawn(move || {
                    while running.load(std::sync::atomic::Ordering::Relaxed) {
                        journal.admit().unwrap();
                        let mut count = count.lock();
                        *count += 1;
                        let bytes = encoded(&["INCRBY", &thread.to_string(), "1"]);
                        let seq = journal.append([(thread as u32, &bytes[..])], true);
                        drop(count);
                        journal.flush(seq);
                    }
                });
            }
            for _ in 0..20 {
                let mut rewrite = journal.begin_rewrite().unwrap();
                let locked: Vec<_> = counts.iter().map(|count| count.lock()).collect();
                rewrite.cut();
                let copy: Vec<i32> = locked.iter().map(|count| **count).collect();
                drop(locked);
                let mut base = rewrite.base_writer(BaseForm::Aof).unwrap();
                let keys = copy
                    .iter()
                    .enumerate()
                    .map(|(n, count)| (format!("{n} {n}"), count.to_string()))
                    .collect();
                write_base(&mut base, &keys).unwrap();
                rewrite.finish(base).unwrap();
            }
            running.store(false, std::sync::atomic::Ordering::Relaxed);
        });
        journal.close().unwrap();
        assert_eq!(journal.durable(), journal.appended());
        drop(journal);
        let store = Store::open(policy, &disk).unwrap();
        for (n, count) in counts.iter().enumerate() {
            assert_eq!(store.keys[&format!("{n} {n}")], count.lock().to_string(), "{policy:?}");
        }
    }
}

/// One that begins while the process runs: a group before, between and behind the steps of its first base.
/// Gives what the keyspace then holds, each state with its place, and whether the base counts.
fn begin_late(disk: &SimDisk, journals: &mut Vec<Journal>) -> (Vec<(Seq, Keys)>, Result<(), JournalError>) {
    const FROM: Seq = Seq(1000);
    let mut keys = Keys::from([("0 k".to_owned(), "memory".to_owned())]);
    let mut states = vec![(FROM, keys.clone())];
    let (journal, mut rewrite) =
        match Journal::create(JournalConfig { at: FROM, ..config(Policy::Always) }, Arc::new(disk.clone())) {
            Ok(made) => made,
            Err(error) => return (states, Err(error)),
        };
    journals.push(journal);
    let journal = &journals[0];
    let at_the_cut = keys.clone();
    let mut write = |value: &str| {
        let group = vec![format!("0 SET k {value}"), format!("1 SET l {value}")];
        apply(&mut keys, &group);
        states.push((append(journal, &group), keys.clone()));
    };
    write("1");
    let finished = rewrite.base_writer(BaseForm::Aof).and_then(|mut base| {
        let written = write_base(&mut base, &at_the_cut);
        written.map_err(JournalError::io("write", std::path::Path::new("base")))?;
        write("2");
        rewrite.finish(base).map(drop)
    });
    write("3");
    (states, finished)
}

#[test]
fn a_journal_that_begins_late_counts_from_its_first_base_on_whenever_it_dies() {
    let mut counted = 0;
    for n in 0..70 {
        for (seed, had_files) in (0..4).flat_map(|seed| [(seed, false), (seed, true)]) {
            let disk = SimDisk::new(seed);
            let mut before = Keys::new();
            if had_files {
                let mut store = Store::open(Policy::Always, &disk).unwrap();
                let seq = store.append(&["0 SET old 1".into()]);
                wait_until("the sync", || store.journal.durable() >= seq);
                before = store.keys.clone();
            }
            disk.die_after(n);
            let mut journals = Vec::new();
            let (states, finished) = begin_late(&disk, &mut journals);
            let synced = journals.first().map_or(Seq(0), Journal::synced);
            let image = if seed == 0 { disk.killed() } else { disk.crashed(seed) };
            drop(journals);
            let opened = Store::open(Policy::Always, &image);
            let mut store = opened.unwrap_or_else(|error| panic!("{error}\n{}", image.dump()));
            let place = states.iter().find(|(_, keys)| *keys == store.keys).map(|(seq, _)| *seq);
            match place {
                Some(seq) => assert!(finished.is_err() || seq >= synced.min(states.last().unwrap().0)),
                None => assert!(finished.is_err() && store.keys == before, "step {n}: {:?}", store.keys),
            }
            counted += u32::from(finished.is_ok());
            (0..3).for_each(|_| store.step().unwrap());
            let others = |name: &String| name.starts_with("temp-");
            let left: Vec<_> = files_of(&image).into_iter().filter(|name| !others(name)).collect();
            assert_eq!(left, named_files(&image), "died at step {n}, seed {seed}");
        }
    }
    assert!(counted > 10, "only {counted} came to their end");
}
