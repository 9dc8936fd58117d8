//! The file of a snapshot: header, what is saved, end, while the walk goes on.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thali_journal::{BaseForm, BaseWriter};
use thali_keyspace::Keyspace;
use thali_rdb::{Checksum, Encoder};

use super::file::AsideFile;
use super::requests;
use super::walk::{Pace, Stepped, Walk, Walker};
use crate::REDIS_VERSION;
use crate::functions::LibrarySet;

/// How long the thread waits for what others save.
const PATIENCE: Duration = Duration::from_millis(10);
/// Where the loops have not walked for this long, they are busy with a script, or ended: the thread walks.
const LOOPS_GONE: Duration = Duration::from_millis(50);
/// Room that the buffer keeps.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// What the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A dump, with a checksum at its end or not.
    Dump { checksum: bool },
    /// A base of the append-only file.
    Base(BaseForm),
}

/// Where it goes.
pub(super) trait Target: Write {
    /// What was written ends behind a whole key.
    fn end_keys(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for AsideFile<'_> {}

impl Target for BaseWriter {
    fn end_keys(&mut self) -> io::Result<()> {
        self.end_group()
    }
}

/// What a snapshot came to.
#[derive(Clone, Copy, Debug, Default)]
#[expect(dead_code, reason = "the log shows it whole")]
pub(super) struct Outcome {
    pub keys: u64,
    pub bytes: u64,
    /// The longest time for which a shard was held.
    pub longest_hold: Duration,
}

/// Writes all that was there at the point in time. After an error the walk still runs to its end, as the
/// marks in the keyspace demand; `gives_up` ends it for good, when the process is about to end, too.
pub(super) fn write(
    keyspace: &Keyspace,
    walk: &Arc<Walk>,
    functions: &LibrarySet,
    form: Form,
    file: &mut dyn Target,
    gives_up: &dyn Fn() -> bool,
) -> io::Result<Outcome> {
    let mut to = Output { file, checksum: Checksum::new(), bytes: 0, failed: None };
    let mut encoder = Encoder::uncompressed(walk.version());
    let mut buffer = Vec::new();
    head(&mut encoder, form, functions, &mut buffer);
    to.write(&buffer, walk);
    let mut walker = Walker::new(Arc::clone(walk), 0, 1);
    let mut loops = LoopsSeen { holds: walk.holds_of_loops(), at: Instant::now() };
    loop {
        // Asked before what is saved is taken: then nothing comes after it.
        let is_through = walk.is_through();
        let pace = walk.pace();
        let walks = pace != Pace::Shared || loops.are_gone(walk);
        buffer.clear();
        walk.pieces.take(&mut buffer, if walks || is_through { Duration::ZERO } else { PATIENCE });
        to.write(&buffer, walk);
        buffer.shrink_to(BUFFER_KEPT_BYTES);
        if is_through {
            break;
        }
        if gives_up() {
            return Err(given_up(walk));
        }
        if walk.is_broken_off() {
            to.fail(broken_off(), walk);
        }
        if walks {
            let stepped = walker.step_of_thread(keyspace, gives_up).ok_or_else(|| given_up(walk))?;
            if let (Pace::Delayed(pause), Stepped::More) = (pace, stepped)
                && !walk.is_through()
            {
                walk.rest(pause, gives_up);
            }
        }
    }
    if walk.is_broken_off() {
        to.fail(broken_off(), walk);
    }
    let Output { file, checksum, mut bytes, failed } = to;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut end = Vec::new();
    match form {
        Form::Dump { checksum: false } => encoder.end(&mut end, None),
        Form::Dump { .. } | Form::Base(BaseForm::Rdb) => encoder.end(&mut end, Some(checksum)),
        Form::Base(BaseForm::Aof) => {}
    }
    file.write_all(&end)?;
    bytes += end.len() as u64;
    Ok(Outcome { keys: walk.pieces.count(), bytes, longest_hold: walk.longest_hold() })
}

/// Nobody takes what writers save from here on; they are not to wait for that.
fn given_up(walk: &Walk) -> io::Error {
    walk.pieces.discard();
    io::Error::new(io::ErrorKind::Interrupted, "the server is shutting down")
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "it was broken off")
}

/// When the loops were last seen walking.
struct LoopsSeen {
    holds: u64,
    at: Instant,
}

impl LoopsSeen {
    fn are_gone(&mut self, walk: &Walk) -> bool {
        let holds = walk.holds_of_loops();
        if holds != self.holds {
            *self = Self { holds, at: Instant::now() };
        }
        self.at.elapsed() > LOOPS_GONE
    }
}

fn head(encoder: &mut Encoder, form: Form, functions: &LibrarySet, out: &mut Vec<u8>) {
    if form == Form::Base(BaseForm::Aof) {
        return functions.libraries().for_each(|library| requests::library(out, library.text()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    encoder.header(out);
    encoder.aux(out, b"redis-ver", REDIS_VERSION.as_bytes());
    encoder.aux(out, b"redis-bits", usize::BITS.to_string().as_bytes());
    encoder.aux(out, b"ctime", now.to_string().as_bytes());
    encoder.aux(out, b"used-mem", crate::memory::used_bytes().to_string().as_bytes());
    encoder.aux(out, b"aof-base", if form == Form::Base(BaseForm::Rdb) { b"1" } else { b"0" });
    functions.libraries().for_each(|library| encoder.function(out, library.text()));
}

struct Output<'a> {
    file: &'a mut dyn Target,
    checksum: Checksum,
    bytes: u64,
    failed: Option<io::Error>,
}

impl Output<'_> {
    /// Writes, unless writing has failed before.
    fn write(&mut self, bytes: &[u8], walk: &Walk) {
        if self.failed.is_some() || bytes.is_empty() {
            return;
        }
        self.checksum.update(bytes);
        self.bytes += bytes.len() as u64;
        if let Err(error) = self.file.write_all(bytes).and_then(|()| self.file.end_keys()) {
            self.fail(error, walk);
        }
    }

    /// Nothing is written from here on. The first error is the one to tell.
    fn fail(&mut self, error: io::Error, walk: &Walk) {
        if self.failed.is_none() {
            self.failed = Some(error);
            walk.pieces.discard();
        }
    }
}
