//! The two threads behind a journal: one writes batches (and under `always` syncs them), the other
//! syncs once a second under `everysec`. Batches that need no sync are mostly written by those who appended
//! them. Nobody holds a lock while the disk works, but `tail` and `sync_gate`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Policy;
use crate::journal::{OpenFile, Progress, Shared, Tail};

/// Capacity that an emptied buffer may keep.
const IDLE_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A sync that takes longer breaks the promise of `everysec`.
const SYNC_DELAYED: Duration = Duration::from_secs(1);

pub(crate) fn start(shared: &Arc<Shared>, open: OpenFile) -> Vec<JoinHandle<()>> {
    let open = Arc::new(open);
    shared.tail.lock().open = Some(Arc::clone(&open));
    let spawn = |name: &str, run: fn(&Shared, &OpenFile)| {
        let (shared, open) = (Arc::clone(shared), Arc::clone(&open));
        let body = move || {
            let _guard = AbortOnPanic;
            run(&shared, &open);
        };
        thread::Builder::new().name(name.into()).spawn(body).expect("the system has a thread to spare")
    };
    vec![spawn("journal-write", write_loop), spawn("journal-sync", sync_loop)]
}

/// A dead writer would let the store run on without a journal.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

fn write_loop(shared: &Shared, open: &OpenFile) {
    loop {
        let stopping = {
            let mut buffer = shared.buffer.lock();
            while buffer.bytes.is_empty() && !buffer.stopping && !buffer.poked {
                shared.more.wait(&mut buffer);
            }
            buffer.poked = false;
            buffer.stopping
        };
        let mut tail = shared.tail.lock();
        take_batch(shared, &mut tail);
        let idle = tail.batch.is_empty();
        let went_well = shared.is_stuck() || write_batch(shared, open, &mut tail);
        drop_batch(shared, &mut tail);
        let always = shared.policy() == Policy::Always;
        if always || stopping {
            let synced = sync(shared, open);
            if always && !synced {
                forget_unsynced(shared, open);
            }
        }
        shared.publish();
        drop(tail);
        wake_admission(shared);
        if stopping && (idle || !went_well) {
            return;
        }
    }
}

/// Writes what waits on the calling thread, see [`crate::Journal::flush`]. `false`: the writer is to do it.
pub(crate) fn write_here(shared: &Shared) -> bool {
    let Some(mut tail) = shared.tail.try_lock() else { return false };
    let Some(open) = tail.open.clone() else { return false };
    // Asked while `tail` is held: a change to `always` pokes the writer, which then syncs what is written
    // here. And the kernel may let a write wait for a sync of the same file.
    if shared.policy() == Policy::Always || shared.sync_gate.is_locked() {
        return false;
    }
    take_batch(shared, &mut tail);
    if tail.batch.is_empty() {
        // Written by whoever held `tail` before.
        return true;
    }
    if let Err(error) = try_write(&open, &mut tail) {
        fail(shared, &open, "write", &error, false);
        drop(tail);
        shared.buffer.lock().poked = true;
        return false;
    }
    note_written(shared, &open, &tail);
    drop_batch(shared, &mut tail);
    shared.publish();
    drop(tail);
    wake_admission(shared);
    true
}

/// Moves what was appended into `tail`, unless that still holds a batch.
fn take_batch(shared: &Shared, tail: &mut Tail) {
    if tail.batch.is_empty() {
        let mut buffer = shared.buffer.lock();
        std::mem::swap(&mut buffer.bytes, &mut tail.batch);
        tail.end = buffer.appended;
    }
}

fn drop_batch(shared: &Shared, tail: &mut Tail) {
    shared.pending.fetch_sub(tail.batch.len(), Ordering::AcqRel);
    tail.batch.clear();
    tail.batch.shrink_to(IDLE_BUFFER_BYTES_MAX);
}

/// Writes the whole batch, trying again for as long as it takes. `false`: stopped before that.
fn write_batch(shared: &Shared, open: &OpenFile, tail: &mut Tail) -> bool {
    if tail.batch.is_empty() {
        return true;
    }
    let len = shared.progress.lock().len;
    loop {
        let outcome = if tail.torn { open.file.truncate(len) } else { Ok(()) };
        match outcome.and_then(|()| try_write(open, tail)) {
            Ok(()) => break,
            Err(error) => fail(shared, open, "write", &error, false),
        }
        shared.publish();
        wake_admission(shared);
        let mut buffer = shared.buffer.lock();
        if !buffer.stopping {
            shared.more.wait_for(&mut buffer, shared.config.retry_interval);
        }
        if buffer.stopping {
            drop(buffer);
            // A partial group at the end would be cut at the next start; leaving none is kinder.
            if let Err(error) = open.file.truncate(len) {
                tracing::warn!(file = %open.path.display(), %error, "the tail stays torn");
            }
            return false;
        }
    }
    note_written(shared, open, tail);
    true
}

/// One attempt at the whole batch, onto a file that ends in none of it.
fn try_write(open: &OpenFile, tail: &mut Tail) -> io::Result<()> {
    tail.torn = true;
    write_all(open, &tail.batch)?;
    tail.torn = false;
    Ok(())
}

fn note_written(shared: &Shared, open: &OpenFile, tail: &Tail) {
    {
        let mut progress = shared.progress.lock();
        progress.written = tail.end;
        progress.len += tail.batch.len() as u64;
    }
    let mut health = shared.health.lock();
    health.writes_total += 1;
    if !health.stuck && health.failure.take().is_some() {
        shared.failing.store(false, Ordering::Release);
        tracing::info!(file = %open.path.display(), "the append-only file can be written again");
    }
}

fn write_all(open: &OpenFile, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match open.file.append(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn fail(shared: &Shared, open: &OpenFile, action: &str, error: &io::Error, is_final: bool) {
    let mut health = shared.health.lock();
    health.stuck |= is_final;
    let known = health.failure.is_some();
    health.failure = Some(format!("MISCONF Errors writing to the AOF file: {}", describe(error)).into());
    shared.failing.store(true, Ordering::Release);
    drop(health);
    if !known {
        tracing::error!(
            file = %open.path.display(), %error,
            "cannot {action} the append-only file; writes are refused until it can be"
        );
    }
}

/// The system's words without Rust's "(os error N)", as clients of Redis know them.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// Syncs what is written; after a failure nothing is ever synced or written again. `false`: it failed now.
fn sync(shared: &Shared, open: &OpenFile) -> bool {
    let _gate = shared.sync_gate.lock();
    let Progress { written, len, durable, .. } = *shared.progress.lock();
    if written == durable || shared.is_stuck() {
        return true;
    }
    let begun = Instant::now();
    let outcome = open.file.sync();
    let took = begun.elapsed();
    {
        let mut health = shared.health.lock();
        health.syncs_total += 1;
        health.last_sync_micros = took.as_micros() as u64;
        health.delayed_fsync_total += u64::from(took > SYNC_DELAYED);
    }
    match outcome {
        Ok(()) => {
            let mut progress = shared.progress.lock();
            progress.durable = written;
            progress.durable_len = len;
        }
        Err(error) => {
            fail(shared, open, "sync", &error, true);
            return false;
        }
    }
    true
}

/// Cuts the file back to what a sync has covered. See "Why nothing acknowledged is lost". Only the writer
/// may do so, holding `tail`.
fn forget_unsynced(shared: &Shared, open: &OpenFile) {
    let durable_len = {
        let mut progress = shared.progress.lock();
        // Even a change of policy must not acknowledge it.
        progress.written = progress.durable;
        progress.durable_len
    };
    match open.file.truncate(durable_len) {
        Ok(()) => shared.progress.lock().len = durable_len,
        Err(error) => tracing::error!(
            file = %open.path.display(), %error, durable_len,
            "cannot cut the append-only file back to its synced length; check it before the next start"
        ),
    }
}

/// The mutex makes sure that no one is between looking at `pending` and waiting.
fn wake_admission(shared: &Shared) {
    drop(shared.buffer.lock());
    shared.room.notify_all();
}

fn sync_loop(shared: &Shared, open: &OpenFile) {
    let (stopped, stop) = &shared.sync_stop;
    let mut next = Instant::now() + shared.config.sync_interval;
    loop {
        let mut guard = stopped.lock();
        while !*guard && !stop.wait_until(&mut guard, next).timed_out() {}
        if *guard {
            return;
        }
        drop(guard);
        next = Instant::now() + shared.config.sync_interval;
        if shared.policy() == Policy::Everysec {
            sync(shared, open);
            shared.publish();
        }
    }
}
