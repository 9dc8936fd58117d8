use super::*;
use crate::Limits;
use proptest::prelude::*;

type OwnedFields = Vec<(Vec<u8>, Vec<u8>)>;
type Owned = (StreamId, OwnedFields);

fn small_nodes() -> Limits {
    Limits { stream_node_max_entries: 5, stream_node_max_bytes: 200, ..Limits::default() }
}

fn owned(entry: Entry<'_>) -> Owned {
    (entry.id, entry.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
}

#[derive(Clone, Debug)]
enum Step {
    Append { ms: u64, seq: u64, names: u8, value: Vec<u8> },
    Delete(usize),
    Keep(u64),
    KeepFrom(usize),
    KeepAbout(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let value = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        10 => (0..3u64, prop_oneof![Just(0u64), 0..300u64], 0..3u8, value)
            .prop_map(|(ms, seq, names, value)| Step::Append { ms, seq, names, value }),
        4 => (0..30usize).prop_map(Step::Delete),
        1 => (0..20u64).prop_map(Step::Keep),
        1 => (0..30usize).prop_map(Step::KeepFrom),
        1 => (0..20u64, 0..12u64).prop_map(|(keep, limit)| Step::KeepAbout(keep, limit)),
    ]
}

fn fields(names: u8, value: &[u8]) -> Vec<Vec<u8>> {
    let names: &[&[u8]] = match names {
        0 => &[b"temperature", b"unit"],
        1 => &[b"temperature", b"place"],
        _ => &[b""],
    };
    names.iter().flat_map(|name| [name.to_vec(), value.to_vec()]).collect()
}

proptest! {
    #[test]
    fn a_log_does_as_an_ordered_map(steps in proptest::collection::vec(step(), 0..120)) {
        let mut log = Log::default();
        let mut model: BTreeMap<StreamId, OwnedFields> = BTreeMap::new();
        for step in steps {
            let at = |n: usize| model.keys().nth(n).copied().unwrap_or(StreamId::new(n as u64, 1));
            match step {
                Step::Append { ms, seq, names, value } => {
                    let last = log.last_id();
                    let id = match ms {
                        0 => StreamId::new(last.ms, last.seq + 1 + seq),
                        _ => StreamId::new(last.ms + ms, seq),
                    };
                    let fields = fields(names, &value);
                    log.append(id, &fields, &small_nodes());
                    model.insert(id, fields.chunks(2).map(|p| (p[0].clone(), p[1].clone())).collect());
                }
                Step::Delete(n) => {
                    let id = at(n);
                    prop_assert_eq!(log.delete(id), model.remove(&id).is_some());
                }
                Step::Keep(keep) => {
                    let removed = log.trim(Trim { keep: Keep::Newest(keep), approximate: false, limit: 0 });
                    let expected = (model.len() as u64).saturating_sub(keep);
                    prop_assert_eq!(removed, expected);
                    (0..expected).for_each(|_| drop(model.pop_first()));
                }
                Step::KeepFrom(n) => {
                    let id = at(n);
                    let removed = log.trim(Trim { keep: Keep::From(id), approximate: false, limit: 0 });
                    let kept = model.split_off(&id);
                    prop_assert_eq!(removed, model.len() as u64);
                    model = kept;
                }
                Step::KeepAbout(keep, limit) => {
                    let removed = log.trim(Trim { keep: Keep::Newest(keep), approximate: true, limit });
                    prop_assert!(removed <= (model.len() as u64).saturating_sub(keep));
                    prop_assert!(limit == 0 || removed <= limit);
                    (0..removed).for_each(|_| drop(model.pop_first()));
                }
            }
            prop_assert_eq!(log.len(), model.len() as u64);
            let first = model.keys().next().copied().unwrap_or_default();
            prop_assert_eq!(log.first_id(), first);
        }
        let all: Vec<Owned> = model.into_iter().collect();
        let ids: Vec<StreamId> = all.iter().map(|(id, _)| *id).collect();
        let mut bounds = vec![StreamId::MIN, StreamId::MAX];
        bounds.extend(ids.iter().step_by(3).flat_map(|id| [*id, id.next().unwrap(), id.prev().unwrap()]));
        for start in &bounds {
            for end in &bounds {
                let expected: Vec<Owned> =
                    all.iter().filter(|(id, _)| start <= id && id <= end).cloned().collect();
                let found: Vec<Owned> = log.range(*start, *end).map(owned).collect();
                prop_assert_eq!(&found, &expected);
                let mut backwards: Vec<Owned> = log.range_reverse(*start, *end).map(owned).collect();
                backwards.reverse();
                prop_assert_eq!(&backwards, &expected);
            }
        }
    }

    #[test]
    fn a_group_does_as_an_ordered_map(
        steps in proptest::collection::vec((0..4u8, 0..20u64, 0..3usize), 0..100),
    ) {
        let names: [&[u8]; 3] = [b"alice", b"bob", b"carol"];
        let mut group = Group::new(StreamId::MIN, Some(0));
        let mut model: BTreeMap<StreamId, (usize, u64)> = BTreeMap::new();
        for (now, (kind, id, who)) in steps.into_iter().enumerate() {
            let (now, id) = (now as u64, StreamId::new(id, 0));
            match kind {
                0 | 1 => {
                    let created = group.create_consumer(names[who], now);
                    let consumer = created.or(group.consumer_no(names[who])).unwrap();
                    group.assign(id, Pending { consumer, delivered_at_unix_ms: now, deliveries: 1 });
                    model.insert(id, (who, now));
                }
                2 => prop_assert_eq!(group.acknowledge(id).is_some(), model.remove(&id).is_some()),
                _ => {
                    let expected = model.values().filter(|(owner, _)| *owner == who).count();
                    prop_assert_eq!(group.delete_consumer(names[who]).unwrap_or(0), expected);
                    model.retain(|_, (owner, _)| *owner != who);
                }
            }
            let everything = StreamId::MIN..=StreamId::MAX;
            let seen: Vec<_> = group
                .pending_range(everything.clone())
                .map(|(id, pending)| (id, group.consumer(pending.consumer).name(), pending.delivered_at_unix_ms))
                .collect();
            let expected: Vec<_> = model.iter().map(|(id, (who, at))| (*id, names[*who], *at)).collect();
            prop_assert_eq!(seen, expected);
            for consumer in group.consumers() {
                let own: Vec<_> = consumer.pending_ids(everything.clone()).collect();
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(_, (who, _))| names[*who] == consumer.name())
                    .map(|(id, _)| *id)
                    .collect();
                prop_assert_eq!(own, expected);
            }
        }
    }
}

fn log_of(count: u64) -> Log {
    let mut log = Log::default();
    for ms in 1..=count {
        log.append(StreamId::new(ms, 0), &["field", "value"], &Limits::default());
    }
    log
}

#[test]
fn approximate_trimming_removes_whole_nodes_only() {
    let mut log = log_of(1000);
    let about = |keep, limit| Trim { keep, approximate: true, limit };
    assert_eq!(log.trim(about(Keep::Newest(555), 0)), 400);
    assert_eq!(log.trim(about(Keep::Newest(0), 250)), 200);
    assert_eq!(log.trim(about(Keep::From(StreamId::new(750, 0)), 0)), 100);
    assert_eq!((log.len(), log.first_id()), (300, StreamId::new(701, 0)));
    assert_eq!(log.trim(Trim { keep: Keep::Newest(0), approximate: false, limit: 0 }), 300);
    assert_eq!((log.len(), log.first_id(), log.last_id()), (0, StreamId::MIN, StreamId::new(1000, 0)));
    assert_eq!(log.entries_added(), 1000);
    assert!(log.max_deleted_id().is_zero(), "trimming leaves no tombstone");
}

#[test]
fn lag_is_known_until_deletion_hides_it() {
    let mut log = log_of(5);
    let mut group = Group::new(StreamId::MIN, Some(0));
    assert_eq!(group.lag(&log), Some(5));
    group.advance(&log, StreamId::new(1, 0));
    assert_eq!((group.entries_read, group.lag(&log)), (Some(1), Some(4)));
    log.delete(StreamId::new(3, 0));
    assert_eq!(group.lag(&log), None, "one of the five is gone ahead of the group");
    group.advance(&log, StreamId::new(2, 0));
    assert_eq!(group.entries_read, None);
    group.advance(&log, StreamId::new(4, 0));
    group.advance(&log, StreamId::new(5, 0));
    assert_eq!((group.entries_read, group.lag(&log)), (Some(5), Some(0)));
}

#[test]
fn entries_with_the_same_names_store_them_once() {
    let mut log = Log::default();
    for ms in 1..=10_000u64 {
        let fields = ["event", "completed", "jobId", "123456", "returnvalue", "null"];
        log.append(StreamId::new(1_700_000_000_000 + ms, 0), &fields, &Limits::default());
    }
    let bytes_each = log.memory_bytes() as u64 / log.len();
    assert!(bytes_each < 40, "{bytes_each} bytes an entry");
}

#[test]
fn an_entry_with_the_next_id_and_one_value_costs_it_and_two_bytes() {
    let mut log = Log::default();
    for seq in 1..=10_000 {
        log.append(StreamId::new(1_700_000_000_000, seq), &["field", &"v".repeat(32)], &Limits::default());
    }
    // Beside it each node has its names, its first ID and its place in the log, and the last one spare room.
    let node_bytes = log.memory_bytes() / 100;
    assert!((34 * 100..34 * 100 + 120).contains(&node_bytes), "{node_bytes}");
}
