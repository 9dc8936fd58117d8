//! The two threads behind a journal: one writes batches (and under `always` syncs them), the other
//! syncs once a second under `everysec`. Batches that need no sync are mostly written by those who appended
//! them. Nobody holds a lock while the disk works, but `tail` and `sync_gate`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::batch::{self, HEADER_LEN};
use crate::buffer::Cut;
use crate::journal::{OpenFile, Progress, Shared, Tail};
use crate::{DiskFile, DiskStep, Policy};

/// Capacity that an emptied buffer may keep.
const IDLE_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A sync that takes longer breaks the promise of `everysec`.
const SYNC_DELAYED: Duration = Duration::from_secs(1);

pub(crate) fn start(shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    let spawn = |name: &str, run: fn(&Shared)| {
        let shared = Arc::clone(shared);
        let body = move || {
            let _guard = AbortOnPanic;
            run(&shared);
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

fn write_loop(shared: &Shared) {
    loop {
        let stopping = {
            let mut buffer = shared.buffer.lock();
            while buffer.current.is_empty() && !buffer.stopping && !buffer.poked {
                shared.more.wait(&mut buffer);
            }
            buffer.poked = false;
            buffer.stopping
        };
        let mut tail = shared.tail.lock();
        take_batch(shared, &mut tail);
        let idle = tail.batch.is_empty();
        let went_well = shared.is_stuck() || write_batch(shared, &mut tail);
        drop_batch(shared, &mut tail);
        let always = shared.policy() == Policy::Always;
        if always || stopping {
            let synced = sync(shared);
            if always && !synced {
                forget_unsynced(shared, &tail);
            }
        }
        let moved = went_well && move_on(shared, &mut tail);
        let ends = stopping && ((idle && !moved) || !went_well);
        if ends {
            mark_close(shared, &tail);
        }
        shared.publish();
        drop(tail);
        wake_admission(shared);
        if ends {
            return;
        }
    }
}

/// Says at the end of a file that is closed in peace, or rests, that all before was synced: what is damaged
/// there later cannot pass for what a dying machine leaves. Where it cannot be written, the end just stays
/// unproven. `true`: the mark is there and wants a sync of its own.
fn mark_end(shared: &Shared, tail: &Tail) -> bool {
    let Progress { written, durable, len, durable_len, is_marked } = *shared.progress.lock();
    // Nothing was appended, or not all is safe: then there is nothing to say.
    if shared.is_stuck() || tail.torn || written != durable || len != durable_len || is_marked {
        return false;
    }
    let Some(open) = &tail.open else { return false };
    let mark = batch::synced_mark(len);
    match write_all(&*open.file, &mark) {
        Ok(()) => {
            let mut progress = shared.progress.lock();
            (progress.len, progress.is_marked) = (len + mark.len() as u64, true);
            true
        }
        Err(error) => {
            forget_mark(open, len, &error);
            false
        }
    }
}

fn forget_mark(open: &OpenFile, len: u64, error: &io::Error) {
    tracing::warn!(file = %open.path.display(), %error, "the append-only file ends without a mark");
    if let Err(error) = open.file.truncate(len) {
        tracing::warn!(file = %open.path.display(), %error, "the tail stays torn");
    }
}

/// The mark of a file that is closed. That its sync fails takes nothing back of what was synced before.
fn mark_close(shared: &Shared, tail: &Tail) {
    if !mark_end(shared, tail) {
        return;
    }
    let outcome = tail.open().file.sync();
    let mut progress = shared.progress.lock();
    match outcome {
        Ok(()) => progress.durable_len = progress.len,
        Err(error) => {
            progress.len = progress.durable_len;
            forget_mark(tail.open(), progress.durable_len, &error);
        }
    }
}

/// The mark of a stream that rests: nothing came since the last sync, and nothing is under way.
fn mark_rest(shared: &Shared) {
    let Some(tail) = shared.tail.try_lock() else { return };
    let is_busy = {
        let buffer = shared.buffer.lock();
        !buffer.current.is_empty() || buffer.cut.is_some() || buffer.stopping
    };
    if !is_busy && tail.batch.is_empty() && mark_end(shared, &tail) {
        drop(tail);
        sync(shared);
    }
}

/// Writes what waits on the calling thread, see [`crate::Journal::flush`]. `false`: the writer is to do it.
pub(crate) fn write_here(shared: &Shared) -> bool {
    let Some(mut tail) = shared.tail.try_lock() else { return false };
    if tail.open.is_none() || tail.torn {
        return false;
    }
    // Asked while `tail` is held: a change to `always` pokes the writer, which then syncs what is written
    // here. And the kernel may let a write wait for a sync of the same file.
    if shared.policy() == Policy::Always || shared.sync_gate.is_locked() {
        return false;
    }
    let is_cut = take_batch(shared, &mut tail);
    if !tail.batch.is_empty() {
        if let Err(error) = try_write(shared, &mut tail) {
            fail(shared, tail.open(), "write", &error, false);
            drop(tail);
            shared.buffer.lock().poked = true;
            return false;
        }
        note_written(shared, &tail);
        drop_batch(shared, &mut tail);
        shared.publish();
    }
    drop(tail);
    wake_admission(shared);
    if is_cut {
        // Going over to the next file takes a sync.
        shared.buffer.lock().poked = true;
    }
    !is_cut
}

/// Moves what was appended for the growing file into `tail`, unless that still holds a batch. `true`: a cut
/// waits behind it.
fn take_batch(shared: &Shared, tail: &mut Tail) -> bool {
    let mut buffer = shared.buffer.lock();
    if tail.batch.is_empty() {
        std::mem::swap(&mut buffer.current, &mut tail.batch);
        tail.end = buffer.cut.as_ref().map_or(buffer.appended, |cut| cut.at);
    }
    buffer.cut.is_some()
}

fn drop_batch(shared: &Shared, tail: &mut Tail) {
    shared.pending.fetch_sub(tail.batch.len(), Ordering::AcqRel);
    tail.batch.clear(IDLE_BUFFER_BYTES_MAX);
}

/// Writes the whole batch, trying again for as long as it takes, or until a new base makes it needless.
/// `false`: stopped before that.
fn write_batch(shared: &Shared, tail: &mut Tail) -> bool {
    if tail.batch.is_empty() {
        return true;
    }
    let len = shared.progress.lock().len;
    loop {
        let outcome = if tail.torn { tail.open().file.truncate(len) } else { Ok(()) };
        match outcome.and_then(|()| try_write(shared, tail)) {
            Ok(()) => break,
            Err(error) => fail(shared, tail.open(), "write", &error, false),
        }
        shared.publish();
        wake_admission(shared);
        let mut buffer = shared.buffer.lock();
        let is_covered = || buffer.cut.as_ref().is_some_and(|cut| cut.covered_by.is_some());
        if is_covered() {
            return true;
        }
        if !buffer.stopping {
            shared.more.wait_for(&mut buffer, shared.config.retry_interval);
        }
        if buffer.stopping {
            drop(buffer);
            // A partial group at the end would be cut at the next start; leaving none is kinder.
            if let Err(error) = tail.open().file.truncate(len) {
                tracing::warn!(file = %tail.open().path.display(), %error, "the tail stays torn");
            }
            return false;
        }
    }
    note_written(shared, tail);
    true
}

/// One attempt at the whole batch, onto a file that ends in none of it.
fn try_write(shared: &Shared, tail: &mut Tail) -> io::Result<()> {
    let Progress { len, durable_len, .. } = *shared.progress.lock();
    tail.batch.seal(len, durable_len);
    tail.torn = true;
    let begun = Instant::now();
    let outcome = write_all(&*tail.open().file, &tail.batch.bytes);
    shared.note_disk(DiskStep::Write, begun.elapsed());
    outcome?;
    tail.torn = false;
    Ok(())
}

fn note_written(shared: &Shared, tail: &Tail) {
    {
        let mut progress = shared.progress.lock();
        progress.written = tail.end;
        progress.len += tail.batch.len() as u64;
        progress.is_marked = false;
    }
    let mut health = shared.health.lock();
    health.writes_total += 1;
    if !health.stuck && health.failure.take().is_some() {
        shared.failing.store(false, Ordering::Release);
        tracing::info!(file = %tail.open().path.display(), "the append-only file can be written again");
    }
}

/// Goes over to the next file once a rewrite has cut the stream and all before the cut is synced in the old
/// file, or held by a durable base. The next file gets nothing before: what a crash leaves must be a prefix
/// of the stream. `true`: it did.
pub(crate) fn move_on(shared: &Shared, tail: &mut Tail) -> bool {
    {
        let buffer = shared.buffer.lock();
        let Some(cut) = &buffer.cut else { return false };
        let is_drained = buffer.current.is_empty() && tail.batch.is_empty();
        if cut.covered_by.is_none() && (!is_drained || shared.is_stuck()) {
            return false;
        }
        if cut.covered_by.is_none() {
            drop(buffer);
            if !sync(shared) && shared.policy() == Policy::Always {
                forget_unsynced(shared, tail);
            }
        }
    }
    let mut gate = shared.sync_gate.lock();
    let mut buffer = shared.buffer.lock();
    // Asked again: the cut may have been undone since, and another made.
    let durable = shared.progress.lock().durable;
    let is_safe = |cut: &mut Cut| cut.covered_by.is_some() || (cut.at == durable && !shared.is_stuck());
    let Some(cut) = buffer.cut.take_if(is_safe) else { return false };
    let needless = std::mem::replace(&mut buffer.current, cut.behind);
    shared.pending.fetch_sub(needless.len() + tail.batch.len(), Ordering::AcqRel);
    tail.batch.clear(IDLE_BUFFER_BYTES_MAX);
    tail.torn = false;
    tail.open = Some(Arc::clone(&cut.file));
    *gate = Some(cut.file);
    let mut progress = shared.progress.lock();
    let mut health = shared.health.lock();
    health.closed_bytes = cut.covered_by.unwrap_or(health.closed_bytes + progress.len);
    let len = HEADER_LEN as u64;
    *progress = Progress { written: cut.at, durable: cut.at, len, durable_len: len, is_marked: true };
    if cut.covered_by.is_some() && health.failure.take().is_some() {
        // The failure was the old file's.
        health.stuck = false;
        shared.failing.store(false, Ordering::Release);
        let file = tail.open().path.display();
        tracing::info!(%file, "a new base and this file took over from a failed one; writes are taken again");
    }
    true
}

pub(crate) fn write_all(file: &dyn DiskFile, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match file.append(rest) {
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
pub(crate) fn sync(shared: &Shared) -> bool {
    let gate = shared.sync_gate.lock();
    let Some(open) = &*gate else { return true };
    let Progress { written, len, durable, durable_len, .. } = *shared.progress.lock();
    if (written == durable && len == durable_len) || shared.is_stuck() {
        return true;
    }
    let begun = Instant::now();
    let outcome = open.file.sync();
    let took = begun.elapsed();
    shared.note_disk(DiskStep::Sync { awaited: shared.policy() == Policy::Always }, took);
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
fn forget_unsynced(shared: &Shared, tail: &Tail) {
    let open = tail.open();
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
pub(crate) fn wake_admission(shared: &Shared) {
    drop(shared.buffer.lock());
    shared.room.notify_all();
}

fn sync_loop(shared: &Shared) {
    let (stopped, stop) = &shared.sync_stop;
    let mut next = Instant::now() + shared.config.sync_interval;
    let mut written_before = 0;
    loop {
        let mut guard = stopped.lock();
        while !*guard && !stop.wait_until(&mut guard, next).timed_out() {}
        if *guard {
            return;
        }
        drop(guard);
        next = Instant::now() + shared.config.sync_interval;
        let written = shared.progress.lock().written;
        if shared.policy() == Policy::Everysec {
            sync(shared);
            shared.publish();
        }
        if written == std::mem::replace(&mut written_before, written) {
            mark_rest(shared);
        }
    }
}
