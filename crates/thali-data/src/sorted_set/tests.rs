use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// Limits under which sets soon grow up.
fn small() -> Limits {
    Limits { zset_max_listpack_entries: 4, zset_max_listpack_value: 8, ..Limits::default() }
}

/// Limits under which sets never grow up.
fn packed() -> Limits {
    Limits { zset_max_listpack_entries: usize::MAX, zset_max_listpack_value: usize::MAX, ..Limits::default() }
}

/// The plainest sorted set there is.
#[derive(Default)]
struct Model(BTreeMap<Vec<u8>, f64>);

impl Model {
    fn sorted(&self) -> Vec<(Vec<u8>, f64)> {
        let mut all: Vec<_> = self.0.iter().map(|(member, score)| (member.clone(), *score)).collect();
        all.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap().then_with(|| a.0.cmp(&b.0)));
        all
    }
}

fn collect<'a>(items: impl Iterator<Item = (&'a [u8], f64)>) -> Vec<(Vec<u8>, f64)> {
    items.map(|(member, score)| (member.to_vec(), score)).collect()
}

fn check(set: &SortedSet) {
    if let Ref::Large(large) = set.0.get() {
        large.tree.check(&large.members);
        assert_eq!(large.tree.len(), large.index.len());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, f64),
    Remove(u16),
    PopMin,
    PopMax,
    RemoveRanks(usize, usize),
}

fn member(number: u16) -> Vec<u8> {
    // Some members are longer than a slot's inline room.
    let tail = if number.is_multiple_of(7) { "-with-a-tail-that-needs-a-box" } else { "" };
    format!("m{number}{tail}").into_bytes()
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-3i64..3).prop_map(|n| n as f64),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(0.5),
        any::<i64>().prop_map(|n| n as f64),
        any::<f64>().prop_filter("no NaN", |d| !d.is_nan()),
    ]
}

fn step(members: u16) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..members, score()).prop_map(|(m, s)| Step::Insert(m, s)),
        4 => (0..members).prop_map(Step::Remove),
        1 => Just(Step::PopMin),
        1 => Just(Step::PopMax),
        1 => (0..40usize, 0..20usize).prop_map(|(a, n)| Step::RemoveRanks(a, a + n)),
    ]
}

fn run(steps: Vec<Step>, limits: &Limits) {
    let mut set = SortedSet::new();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Insert(number, score) => {
                let member = member(number);
                let expected = match model.0.get(&member) {
                    None => Inserted::Added,
                    Some(&old) if old == score => Inserted::Unchanged,
                    Some(&old_score) => Inserted::Updated { old_score },
                };
                assert_eq!(set.insert(&member, score, limits), expected);
                if expected != Inserted::Unchanged {
                    model.0.insert(member, score);
                }
            }
            Step::Remove(number) => {
                assert_eq!(set.remove(&member(number)), model.0.remove(&member(number)))
            }
            Step::PopMin => {
                let expected = model.sorted().first().cloned();
                assert_eq!(set.pop_min(), expected);
                expected.map(|(member, _)| model.0.remove(&member));
            }
            Step::PopMax => {
                let expected = model.sorted().last().cloned();
                assert_eq!(set.pop_max(), expected);
                expected.map(|(member, _)| model.0.remove(&member));
            }
            Step::RemoveRanks(start, end) => {
                let all = model.sorted();
                let gone = all[start.min(all.len())..end.min(all.len())].to_vec();
                let mut seen = Vec::new();
                set.remove_range(start..end, |member, score| seen.push((member.to_vec(), score)));
                assert_eq!(seen, gone);
                model.0.retain(|member, _| !gone.iter().any(|(other, _)| other == member));
            }
        }
    }
    check(&set);
    compare(&set, &model);
}

fn compare(set: &SortedSet, model: &Model) {
    let all = model.sorted();
    assert_eq!(set.len(), all.len());
    assert_eq!(collect(set.iter()), all);
    let mut backwards = collect(set.iter().rev());
    backwards.reverse();
    assert_eq!(backwards, all);
    for (rank, (member, score)) in all.iter().enumerate() {
        assert_eq!(set.rank(member), Some((rank, *score)));
        assert_eq!(set.reverse_rank(member), Some((all.len() - 1 - rank, *score)));
        assert_eq!(set.score(member), Some(*score));
        assert_eq!(set.at(rank), Some((member.as_slice(), *score)));
    }
    let bounds = [f64::NEG_INFINITY, -2.0, 0.0, 0.5, 1.0, 1e9, f64::INFINITY];
    for (min, max) in bounds.iter().flat_map(|min| bounds.iter().map(move |max| (*min, *max))) {
        for flags in 0..4 {
            let range = ScoreRange {
                min: ScoreBound { score: min, exclusive: flags & 1 != 0 },
                max: ScoreBound { score: max, exclusive: flags & 2 != 0 },
            };
            let expected: Vec<_> = all.iter().filter(|(_, s)| range.contains(*s)).cloned().collect();
            assert_eq!(collect(set.range(set.ranks_by_score(&range))), expected, "{range:?}");
        }
    }
}

proptest! {
    #[test]
    fn packed_sets_do_as_the_model(steps in proptest::collection::vec(step(40), 0..80)) {
        run(steps, &packed());
    }

    #[test]
    fn large_sets_do_as_the_model(steps in proptest::collection::vec(step(60), 0..200)) {
        run(steps, &small());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn deep_trees_do_as_the_model(steps in proptest::collection::vec(step(2000), 1500..2500)) {
        run(steps, &small());
    }

    #[test]
    fn lex_ranges_do_as_the_model(
        members in proptest::collection::btree_set("[a-c]{0,3}", 0..60),
        min in "[a-c]{0,3}",
        max in "[a-c]{0,3}",
        is_packed in any::<bool>(),
    ) {
        let mut set = SortedSet::new();
        for member in &members {
            set.insert(member.as_bytes(), 7.0, &if is_packed { packed() } else { small() });
        }
        for (low, high) in [('[', '['), ('(', '['), ('[', '('), ('(', '(')] {
            let (low_text, high_text) = (format!("{low}{min}"), format!("{high}{max}"));
            let range = LexRange::parse(low_text.as_bytes(), high_text.as_bytes()).unwrap();
            let expected: Vec<_> = members
                .iter()
                .filter(|m| if low == '[' { **m >= min } else { **m > min })
                .filter(|m| if high == '[' { **m <= max } else { **m < max })
                .map(|m| (m.clone().into_bytes(), 7.0))
                .collect();
            prop_assert_eq!(collect(set.range(set.ranks_by_lex(&range))), expected);
        }
        let everything = LexRange::parse(b"-", b"+").unwrap();
        prop_assert_eq!(set.ranks_by_lex(&everything), 0..members.len());
        prop_assert_eq!(set.ranks_by_lex(&LexRange::parse(b"+", b"-").unwrap()).len(), 0);
    }
}

#[test]
fn a_tree_grown_and_emptied_keeps_its_invariants() {
    for reverse in [false, true] {
        let mut set = SortedSet::new();
        for number in 0..20_000u32 {
            let score = if reverse { 20_000 - number } else { number };
            set.insert(&number.to_be_bytes(), f64::from(score), &Limits::default());
        }
        check(&set);
        assert_eq!(set.encoding(), "skiplist");
        for number in (0..20_000u32).step_by(3) {
            assert!(set.remove(&number.to_be_bytes()).is_some());
        }
        check(&set);
        while set.pop_max().is_some() {
            if set.len().is_multiple_of(997) {
                check(&set);
            }
        }
        check(&set);
        assert!(set.is_empty() && set.iter().next().is_none());
    }
}

#[test]
fn scan_visits_what_stays_while_the_set_grows_and_shrinks() {
    let mut set = SortedSet::new();
    for number in 0..3000u32 {
        set.insert(&number.to_be_bytes(), f64::from(number), &small());
    }
    let mut seen = HashSet::new();
    let (mut cursor, mut round) = (0, 0u32);
    loop {
        cursor = set.scan(cursor, 10, |member, _| {
            seen.insert(member.to_vec());
        });
        if cursor == 0 {
            break;
        }
        round += 1;
        // Odd numbers below 3000 come and go, even ones stay and change their scores.
        set.remove(&((round * 7 % 3000) | 1).to_be_bytes());
        set.insert(&(10_000 + round).to_be_bytes(), 1.0, &small());
        set.insert(&(round * 2 % 3000).to_be_bytes(), f64::from(round), &small());
    }
    for number in (0..3000u32).step_by(2) {
        assert!(seen.contains(number.to_be_bytes().as_slice()), "{number} was there all the time");
    }
}

#[test]
fn a_set_leaves_its_packed_form_as_redis_does() {
    let limits = &Limits::default();
    let mut set = SortedSet::new();
    for number in 0..128u32 {
        set.insert(&number.to_be_bytes(), 0.0, limits);
    }
    assert_eq!(set.encoding(), "listpack");
    set.insert(b"one more", 0.0, limits);
    assert_eq!(set.encoding(), "skiplist");

    let mut set = SortedSet::new();
    set.insert(&[b'x'; 64], 0.0, limits);
    assert_eq!(set.encoding(), "listpack");
    set.insert(&[b'x'; 65], 0.0, limits);
    assert_eq!(set.encoding(), "skiplist");
}

#[test]
fn a_member_of_sixteen_bytes_costs_less_than_seventy() {
    let mut set = SortedSet::new();
    for number in 0..100_000u64 {
        let member = format!("user:{:011}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 100_000_000_000);
        set.insert(member.as_bytes(), (number * 7919 % 100_003) as f64, &Limits::default());
    }
    let bytes_each = set.memory_bytes() / set.len();
    assert!(bytes_each < 70, "{bytes_each} bytes a member");
}
