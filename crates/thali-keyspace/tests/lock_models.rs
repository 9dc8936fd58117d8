//! Claims about the lock protocol in every order that Shuttle tries. Waiting in a circle shows as a deadlock.

use std::collections::BTreeMap;

use shuttle::sync::Arc;
use shuttle::thread;
use thali_keyspace::{ENDLESS, Extend, Hold, Keyspace, Locked};

const ORDERS: usize = 5_000;
const SHARDS: u16 = 4;

/// What is done to a shard: kept beside the keyspace, behind locks that must never be contended.
type Counters = Arc<BTreeMap<u16, std::sync::RwLock<u32>>>;

/// Chance, and chance with few changes of thread, which finds other faults.
fn in_many_orders(model: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_random(model, ORDERS);
    shuttle::check_pct(model, ORDERS, 3);
}

fn store() -> (Arc<Keyspace>, Counters) {
    let counters = (0..SHARDS).map(|shard| (shard, std::sync::RwLock::new(0))).collect();
    (Arc::new(Keyspace::new(usize::from(SHARDS))), Arc::new(counters))
}

/// Adds to each held shard's counter, with other threads let in between: they must not touch the same ones.
fn work(locked: &Locked<'_>, counters: &Counters) {
    let mut guards: Vec<_> = locked
        .ids()
        .iter()
        .map(|id| counters[id].try_write().expect("another holds a shard that is held alone"))
        .collect();
    thread::yield_now();
    guards.iter_mut().for_each(|count| **count += 1);
}

/// Looks at each held shard's counter, with other threads let in between: they may look, too.
fn look(locked: &Locked<'_>, counters: &Counters) {
    let guards: Vec<_> =
        locked.ids().iter().map(|id| counters[id].try_read().expect("a shared shard is changed")).collect();
    let before: Vec<u32> = guards.iter().map(|count| **count).collect();
    thread::yield_now();
    assert!(guards.iter().zip(before).all(|(count, before)| **count == before));
}

fn counts(counters: &Counters) -> Vec<u32> {
    counters.values().map(|count| *count.read().unwrap()).collect()
}

/// A script: works on shards that it did not declare, lets go and starts over where one is taken, and takes the token
/// before it writes, as `thali-server`'s scripts do.
fn script(keyspace: &Keyspace, counters: &Counters, declared: &[u16], reached: &[u16]) {
    let mut wanted = declared.to_vec();
    let mut with_token = false;
    'from_the_start: loop {
        let locked = match with_token {
            true => keyspace.lock_with_token(&wanted, ENDLESS),
            false => keyspace.lock(&wanted, ENDLESS),
        };
        let mut locked = locked.expect("patience is endless");
        for shard in reached {
            if let Extend::Taken(shard) = locked.extend(*shard, ENDLESS) {
                wanted.push(shard);
                continue 'from_the_start;
            }
        }
        if !locked.claim_token() {
            with_token = true;
            continue;
        }
        // From its first write on it waits for what it reaches, and holds shards meanwhile.
        work(&locked, counters);
        for shard in 0..SHARDS {
            assert_eq!(locked.extend(shard, ENDLESS), Extend::Held);
        }
        return;
    }
}

#[test]
fn sets_exclude_each_other_and_never_wait_in_a_circle() {
    in_many_orders(|| {
        let (keyspace, counters) = store();
        let threads: Vec<_> = [vec![0, 1], vec![1, 2, 0], vec![2, 0]]
            .into_iter()
            .map(|set| {
                let (keyspace, counters) = (Arc::clone(&keyspace), Arc::clone(&counters));
                thread::spawn(move || {
                    for _ in 0..2 {
                        work(&keyspace.lock(&set, ENDLESS).unwrap(), &counters);
                    }
                })
            })
            .collect();
        work(&keyspace.lock_all(ENDLESS).unwrap(), &counters);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(counts(&counters), [7, 5, 5, 1]);
    });
}

#[test]
fn who_shares_shards_is_never_there_with_one_who_has_them_alone() {
    in_many_orders(|| {
        let (keyspace, counters) = store();
        let threads: Vec<_> =
            [(Hold::Shared, vec![0, 1, 2]), (Hold::Shared, vec![2, 1]), (Hold::Alone, vec![1, 3])]
                .into_iter()
                .map(|(hold, set)| {
                    let (keyspace, counters) = (Arc::clone(&keyspace), Arc::clone(&counters));
                    thread::spawn(move || {
                        for _ in 0..2 {
                            let locked = keyspace.hold(&set, hold, ENDLESS).unwrap();
                            match hold {
                                Hold::Shared => look(&locked, &counters),
                                Hold::Alone => work(&locked, &counters),
                            }
                        }
                    })
                })
                .collect();
        work(&keyspace.lock(&[2, 0], ENDLESS).unwrap(), &counters);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(counts(&counters), [1, 2, 1, 2]);
    });
}

#[test]
fn commands_in_a_row_get_their_shards_a_part_at_a_time() {
    in_many_orders(|| {
        let (keyspace, counters) = store();
        let threads: Vec<_> = [[0, 1, 0, 2], [2, 1, 1, 0]]
            .into_iter()
            .map(|row| {
                let (keyspace, counters) = (Arc::clone(&keyspace), Arc::clone(&counters));
                thread::spawn(move || {
                    let mut ran = 0;
                    while ran < row.len() {
                        let (locked, places) =
                            keyspace.lock_first(row[ran..].iter().copied(), Hold::Alone, ENDLESS).unwrap();
                        assert!(!places.is_empty(), "the first one's is waited for");
                        for (shard, place) in row[ran..].iter().zip(&places) {
                            assert!(std::ptr::eq(locked.at(*place), locked.by_id(*shard).unwrap()));
                        }
                        work(&locked, &counters);
                        ran += places.len();
                    }
                })
            })
            .collect();
        look(&keyspace.hold(&[2, 1], Hold::Shared, ENDLESS).unwrap(), &counters);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn scripts_that_reach_further_and_sets_get_all_done() {
    in_many_orders(|| {
        let (keyspace, counters) = store();
        let scripts: Vec<_> = [(vec![0], vec![1]), (vec![1], vec![2, 0]), (vec![], vec![3, 2])]
            .into_iter()
            .map(|(declared, reached): (Vec<u16>, Vec<u16>)| {
                let (keyspace, counters) = (Arc::clone(&keyspace), Arc::clone(&counters));
                thread::spawn(move || script(&keyspace, &counters, &declared, &reached))
            })
            .collect();
        for set in [[3, 0], [1, 2]] {
            work(&keyspace.lock(&set, ENDLESS).unwrap(), &counters);
        }
        scripts.into_iter().for_each(|script| script.join().unwrap());
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_model_shows_two_that_wait_for_each_other() {
    shuttle::check_random(
        || {
            let locks = Arc::new([thali_sync::Mutex::new(()), thali_sync::Mutex::new(())]);
            let other = {
                let locks = Arc::clone(&locks);
                thread::spawn(move || {
                    let _first = locks[1].lock();
                    let _second = locks[0].lock();
                })
            };
            let first = locks[0].lock();
            let second = locks[1].lock();
            drop((first, second));
            other.join().unwrap();
        },
        ORDERS,
    );
}
