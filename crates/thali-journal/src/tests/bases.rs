//! Bases: their numbers, what the manifest calls history, and those that are made where nobody appends.

use std::io::Write;

use super::*;
use crate::sim::SimDisk;

/// `k` is `n` in a base of its own.
fn write_lone_base(disk: &SimDisk, n: u32) -> Result<RewriteReport, JournalError> {
    let mut files = LoneBase::begin(&config(Policy::Always), Arc::new(disk.clone()))?;
    let mut base = files.base_writer(BaseForm::Aof)?;
    let io = |source| JournalError::Io { action: "write", path: "base".into(), source };
    base.write_all(&encoded(&["SET", "k", &n.to_string()])).map_err(io)?;
    base.end_group().map_err(io)?;
    files.finish(base)
}

fn rewrite(journal: &Journal) {
    let mut rewrite = journal.begin_rewrite().unwrap();
    rewrite.cut();
    let base = rewrite.base_writer(BaseForm::Aof).unwrap();
    rewrite.finish(base).unwrap();
}

fn manifest(disk: &SimDisk) -> Vec<String> {
    let text = String::from_utf8(disk.get(MANIFEST).unwrap()).unwrap();
    text.lines().map(|line| line.replace("appendonly.aof.", "")).collect()
}

/// The value of `k` in the last group that names it.
fn value(groups: &Groups) -> Option<String> {
    let mut sets = groups.iter().flatten().filter_map(|line| line.strip_prefix("0 SET k "));
    sets.next_back().map(str::to_owned)
}

#[test]
fn a_base_without_a_journal_stands_alone_and_what_follows_begins_anew() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(Policy::Always, &disk);
    append(&journal, &["0 SET k 1"]);
    rewrite(&journal);
    drop(journal);
    assert_eq!(manifest(&disk), ["file 1.base.aof seq 1 type b", "file 2.incr.aof seq 2 type i"]);
    write_lone_base(&disk, 7).unwrap();
    assert_eq!(manifest(&disk), ["file 2.base.aof seq 2 type b"]);
    assert_eq!(disk.get("/data/appendonlydir/appendonly.aof.2.incr.aof"), None);
    // One that is turned on counts its increments anew.
    let (journal, first) = Journal::create(config(Policy::Always), Arc::new(disk.clone())).unwrap();
    assert!(!journal.has_base());
    let mut first = first;
    let base = first.base_writer(BaseForm::Aof).unwrap();
    first.finish(base).unwrap();
    assert!(journal.has_base());
    drop(journal);
    assert_eq!(manifest(&disk), ["file 3.base.aof seq 3 type b", "file 1.incr.aof seq 1 type i"]);
}

#[test]
fn a_lone_base_that_dies_at_any_step_leaves_what_was_there_or_itself() {
    let (mut old, mut new) = (0, 0);
    for (step, seed) in (0..60).flat_map(|step| (0..4).map(move |seed| (step, seed))) {
        let disk = SimDisk::new(seed);
        let (journal, _) = open(Policy::Always, &disk);
        let seq = append(&journal, &["0 SET k 1"]);
        wait_until("the sync", || journal.durable() >= seq);
        drop(journal);
        disk.die_after(step);
        let finished = write_lone_base(&disk, 2).is_ok();
        let image = if seed == 0 { disk.killed() } else { disk.crashed(seed) };
        let opened = open_with(config(Policy::Always), &image);
        let (_, groups, _) = opened.unwrap_or_else(|error| panic!("{error}\n{}", image.dump()));
        match value(&groups).as_deref() {
            Some("1") => {
                assert!(!finished, "step {step}, seed {seed}: it was finished, and is gone");
                old += 1;
            }
            Some("2") => new += 1,
            other => panic!("step {step}, seed {seed}: {other:?}"),
        }
    }
    assert!(old > 10 && new > 10, "{old} old, {new} new");
}

#[test]
fn a_folder_in_use_gets_no_lone_base() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(Policy::Always, &disk);
    assert!(matches!(write_lone_base(&disk, 1), Err(JournalError::Locked { .. })));
    drop(journal);
    write_lone_base(&disk, 1).unwrap();
}

#[test]
fn files_that_are_looked_at_stay_as_they_are() {
    let disk = SimDisk::new(1);
    assert!(Recovery::look(config(Policy::Always), Arc::new(disk.clone())).unwrap().is_none());
    write_lone_base(&disk, 3).unwrap();
    let before = disk.dump();
    let recovery = Recovery::look(config(Policy::Always), Arc::new(disk.clone())).unwrap().unwrap();
    let mut groups = Groups::new();
    let replayed = recovery.replay(&mut |effects| {
        groups.push(lines(effects));
        Ok(())
    });
    assert_eq!((replayed.unwrap().records, value(&groups).as_deref()), (1, Some("3")));
    assert_eq!(disk.dump(), before);
    // And nobody holds the folder.
    open(Policy::Always, &disk);
}

#[test]
fn history_is_kept_where_asked_for_the_latest_first_and_numbers_go_on_by_kind() {
    let disk = SimDisk::new(1);
    let config = JournalConfig { keeps_history: true, ..config(Policy::Always) };
    let (journal, _, _) = open_with(config.clone(), &disk).unwrap();
    (0..2).for_each(|_| rewrite(&journal));
    let kept = [
        "file 2.base.aof seq 2 type b",
        "file 2.incr.aof seq 2 type h",
        "file 1.base.aof seq 1 type h",
        "file 1.incr.aof seq 1 type h",
        "file 3.incr.aof seq 3 type i",
    ];
    assert_eq!(manifest(&disk), kept);
    assert!(disk.get(INCREMENT).is_some());
    drop(journal);
    let (journal, _, report) = open_with(config, &disk).unwrap();
    assert_eq!((report.files_deleted, manifest(&disk)), (0, kept.map(str::to_owned).to_vec()));
    journal.set_keeps_history(false);
    journal.delete_history();
    assert_eq!(manifest(&disk), ["file 2.base.aof seq 2 type b", "file 3.incr.aof seq 3 type i"]);
    assert_eq!(disk.get(INCREMENT), None);
    rewrite(&journal);
    assert_eq!(manifest(&disk), ["file 3.base.aof seq 3 type b", "file 4.incr.aof seq 4 type i"]);
}
