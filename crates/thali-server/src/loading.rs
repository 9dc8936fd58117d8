//! Dumps into the keyspace: one thread cuts the file into records, the others decode values and put them
//! into their shards.

mod progress;
pub(crate) mod workers;

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thali_data::Limits;
use thali_keyspace::{ENDLESS, Entry, Keyspace, Uses};
use thali_rdb::{Batch, Reader, Record};

pub(crate) use self::progress::{LOADING, Loading};
use self::workers::{Failure, Shape, Workers, with_workers};
use crate::call::Shared;
use crate::functions::Loader;

/// Bytes of records that are handed to another thread at once.
const BATCH_BYTES: usize = 256 << 10;
/// A key in a file, of the smaller kind.
const KEY_BYTES_MIN: u64 = 8;

/// What a dump is loaded into.
pub(crate) struct Target<'a> {
    pub keyspace: &'a Keyspace,
    pub limits: &'a Limits,
    /// How uses of keys are noted.
    pub uses: Uses,
    /// How many databases there are.
    pub dbs_len: u32,
    /// Keys that vanished before this moment are left out; `None` keeps them, as commands that follow in an
    /// append-only file may count on them.
    pub expired_before_ms: Option<u64>,
    /// Bytes of the source.
    pub source_len: u64,
    /// Whether a key that is there already is replaced; else it stops the loading.
    pub replaces: bool,
    /// `key-load-delay`.
    pub delay: Duration,
    /// Says that the loading is to end with an error.
    pub gives_up: &'a (dyn Fn() -> bool + Sync),
    /// Bytes that were read so far.
    pub read: &'a AtomicU64,
}

/// What an ended loading says of it.
pub(crate) const GIVEN_UP: &str = "the server is shutting down";

/// What a dump held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loaded {
    pub keys: u64,
    pub expired: u64,
    /// Collections without elements, which are left out.
    pub empty: u64,
    pub bytes: u64,
}

/// Loads the file that dumps are written to; `None` where there is none. `replaces` and `gives_up`: see
/// [`Target`].
pub(crate) fn load_dump(
    shared: &Shared,
    now_ms: u64,
    replaces: bool,
    gives_up: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Loaded>, String> {
    let settings = shared.settings.load_full();
    let mut file = match File::open(settings.dump_path()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let source_len = file.metadata().map_or(0, |meta| meta.len());
    let read = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&read);
    shared.loading.watch(move || (watched.load(Ordering::Relaxed), source_len));
    let target = Target {
        keyspace: &shared.keyspace,
        limits: &settings.limits,
        uses: settings.uses(now_ms),
        dbs_len: settings.databases,
        expired_before_ms: Some(now_ms),
        source_len,
        replaces,
        delay: settings.key_load_delay,
        gives_up,
        read: &read,
    };
    let mut functions = Loader::new(shared).map_err(|error| error.to_string())?;
    let loaded = load(&mut file, &target, &mut functions)?;
    functions.finish(shared);
    shared.loading.note_dump(loaded.keys, loaded.expired);
    Ok(Some(loaded))
}

/// Loads a dump into an empty keyspace. After an error the keyspace holds a part of it, and the caller is
/// to end the process.
pub(crate) fn load(
    source: &mut dyn Read,
    target: &Target<'_>,
    functions: &mut Loader,
) -> Result<Loaded, String> {
    let (keys, expired, empty) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let insert = |(offset, batch): (u64, Batch)| {
        let counts = insert(&batch, target).map_err(|why| Failure { at: (offset, 0), why })?;
        keys.fetch_add(counts.keys, Ordering::Relaxed);
        expired.fetch_add(counts.expired, Ordering::Relaxed);
        empty.fetch_add(counts.empty, Ordering::Relaxed);
        Ok(())
    };
    // Keys come in no order: each thread takes the next batch.
    let shape = Shape { lanes: 1, threads_each: threads() };
    let bytes = with_workers(shape, &insert, |workers| {
        let cut = cut(source, target, functions, workers);
        // It stands before what was cut last.
        workers.settle().map_err(|Failure { why, .. }| {
            tracing::error!("{why}");
            why
        })?;
        cut
    })?;
    let [keys, expired, empty] = [keys, expired, empty].map(AtomicU64::into_inner);
    if empty > 0 {
        tracing::warn!("empty keys skipped: {empty}");
    }
    Ok(Loaded { keys, expired, empty, bytes })
}

/// Threads that load: one for each core.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cuts the source into batches; gives its length.
fn cut(
    source: &mut dyn Read,
    target: &Target<'_>,
    functions: &mut Loader,
    to: &Workers<'_, (u64, Batch)>,
) -> Result<u64, String> {
    let mut reader = Reader::new(source).map_err(|error| error.to_string())?;
    let mut batch = Batch::new();
    let mut db = 0;
    loop {
        let at = reader.offset();
        match reader.next().map_err(|error| error.to_string())? {
            Record::Key(record) => {
                if record.db >= target.dbs_len {
                    return Err(format!(
                        "at byte {}: a key in database {}, and 'databases' is {}: raise it, unless the file is damaged",
                        record.body_offset(),
                        record.db,
                        target.dbs_len
                    ));
                }
                batch.push(&record);
                if !target.delay.is_zero() {
                    std::thread::sleep(target.delay);
                }
                if batch.bytes_len() >= BATCH_BYTES || !target.delay.is_zero() {
                    if (target.gives_up)() {
                        return Err(GIVEN_UP.into());
                    }
                    target.read.store(at, Ordering::Relaxed);
                    if !hand_on(&mut batch, at, to) {
                        break;
                    }
                }
            }
            Record::Function(code) => functions.add(&code, target.replaces).map_err(|why| {
                format!("at byte {at}: a library of functions that cannot be loaded: {why}")
            })?,
            Record::End { .. } => {
                hand_on(&mut batch, at, to);
                break;
            }
            Record::SelectDb(number) => db = number,
            Record::ResizeDb { keys, .. } if db < target.dbs_len => reserve(target, db, keys),
            Record::Aux { .. } | Record::ResizeDb { .. } => {}
        }
    }
    Ok(reader.offset())
}

/// Makes room for the keys that a file announces; what a file says of itself is believed up to what its
/// length can hold.
fn reserve(target: &Target<'_>, db: u32, keys: u64) {
    let shards = target.keyspace.shards_len();
    let each = keys.min(target.source_len / KEY_BYTES_MIN) as usize / shards;
    for shard in 0..shards as u16 {
        let mut locked = target.keyspace.lock_one(shard, ENDLESS).expect("patience without end");
        locked.shards_mut().for_each(|(_, shard)| shard.db_mut(db).reserve(each));
    }
}

/// Hands over what was cut before `at`; false when there is no use in reading on.
fn hand_on(batch: &mut Batch, at: u64, to: &Workers<'_, (u64, Batch)>) -> bool {
    let batch = std::mem::take(batch);
    to.give(0, (at, 0), batch.bytes_len(), (at, batch))
}

fn insert(batch: &Batch, target: &Target<'_>) -> Result<Loaded, String> {
    let mut loaded = Loaded::default();
    let mut decoded = Vec::with_capacity(batch.len());
    for record in batch.iter() {
        let at = record.meta.expire_at_unix_ms;
        if let (Some(at), Some(now)) = (at, target.expired_before_ms)
            && at < now
        {
            loaded.expired += 1;
            continue;
        }
        let damaged = |error| format!("{} integrity check failed: {error}", record.form_name());
        let Some(value) = record.value(target.limits).map_err(damaged)? else {
            tracing::info!("skipping empty key: {}", record.key.escape_ascii());
            loaded.empty += 1;
            continue;
        };
        let place = (target.keyspace.shard_of(&record.key), record.db);
        let idle = record.meta.idle_seconds.and_then(|seconds| target.uses.idle_for(seconds));
        let access = idle.or_else(|| record.meta.freq.and_then(|freq| target.uses.counted(freq)));
        let access = access.unwrap_or_else(|| target.uses.fresh());
        decoded.push((place, record.key, Entry::expiring(value, at), access));
        loaded.keys += 1;
    }
    // One lock for all that goes into one shard.
    decoded.sort_unstable_by_key(|(place, ..)| *place);
    let mut decoded = decoded.into_iter().peekable();
    let mut twice = None;
    while let Some(place @ (shard, db)) = decoded.peek().map(|(place, ..)| *place) {
        let mut locked = target.keyspace.lock_one(shard, ENDLESS).expect("patience without end");
        let (_, held) = locked.shards_mut().next().expect("it was locked just now");
        let of_place = std::iter::from_fn(|| decoded.next_if(|(other, ..)| *other == place));
        let entries = of_place.map(|(_, key, entry, access)| (key, entry, access));
        held.db_mut(db).insert_all(entries, |key| {
            twice.get_or_insert((db, key));
        });
    }
    match twice {
        Some((db, key)) if !target.replaces => {
            let of_key = batch.iter().filter(|record| record.db == db && *record.key == *key);
            let at = of_key.last().map_or(0, |record| record.body_offset());
            Err(format!(
                "at byte {at}: the key '{}' of database {db}, which was there already",
                key.escape_ascii()
            ))
        }
        _ => Ok(loaded),
    }
}
