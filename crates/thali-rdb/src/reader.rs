//! A file, record by record.

use std::borrow::Cow;
use std::io::Read;

use thali_data::Limits;
use thali_keyspace::Value;

use crate::error::{Error, Fault};
use crate::feed::Feed;
use crate::input::{Input, Source};
use crate::wire::{CHECKSUM_VERSION_MIN, HEADER_BYTES, VALKEY_VERSION, kind, opcode};
use crate::{Checksum, KeyMeta, decode, scan};

/// Versions that Redis wrote: 1 to 12 (Redis 7.4 to 8.2); Valkey 9 writes 80.
const REDIS_VERSIONS: std::ops::RangeInclusive<u32> = 1..=12;

/// Whether files and payloads of this version can be read.
pub(crate) fn is_known_version(version: u32) -> bool {
    REDIS_VERSIONS.contains(&version) || version == VALKEY_VERSION
}

/// One part of a file.
#[derive(Debug)]
pub enum Record<'a> {
    /// A note about the file.
    Aux { name: Cow<'a, [u8]>, value: Cow<'a, [u8]> },
    /// The keys that follow are of this database. They also say it themselves.
    SelectDb(u32),
    /// About how many keys follow, and how many of them expire. Not to be relied on.
    ResizeDb { keys: u64, expiring: u64 },
    /// A key with its value, which is still to be decoded.
    Key(KeyRecord<'a>),
    /// The text of a library of functions.
    Function(Cow<'a, [u8]>),
    /// The file ended as it should.
    End { checksum: ChecksumVerdict },
}

/// What the end of a file says about all before. A checksum that does not match is an error instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumVerdict {
    Verified,
    /// The file is older than checksums, or was written without one.
    Absent,
}

/// A key as it stands in the file. Cutting it out was cheap; [`KeyRecord::value`] is the work, and may be
/// done on another thread (see [`crate::Batch`]).
#[derive(Clone, Debug)]
pub struct KeyRecord<'a> {
    pub db: u32,
    pub key: Cow<'a, [u8]>,
    pub meta: KeyMeta,
    /// The type of the value, as a byte of the format.
    pub(crate) kind: u8,
    /// The bytes of the value, and where they stand in the file.
    pub(crate) body: &'a [u8],
    pub(crate) body_offset: u64,
}

impl KeyRecord<'_> {
    /// What the value is, see [`crate::form_name`].
    pub fn form_name(&self) -> &'static str {
        crate::form_name(self.kind)
    }

    /// Builds the value. The limits decide its form. `None` is a collection without elements, as old
    /// servers wrote by mistake: Redis leaves such keys out, and so should the caller.
    pub fn value(&self, limits: &Limits) -> Result<Option<Value>, Error> {
        let mut input = Input::new(self.body, self.body_offset);
        let value = decode::value(self.kind, &mut input, limits)?;
        debug_assert!(input.is_empty(), "scanning and decoding agree on where a value ends");
        Ok(value)
    }

    /// The name that TYPE replies for the value.
    pub fn type_name(&self) -> &'static str {
        crate::inspect::type_name(self.kind)
    }

    /// Where the value begins in the file.
    pub fn body_offset(&self) -> u64 {
        self.body_offset
    }

    /// Bytes of the value in the file.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }
}

/// Reads a file from its first byte on.
#[derive(Debug)]
pub struct Reader<R> {
    feed: Feed<R>,
    version: u32,
    db: u32,
}

/// A record before its parts are borrowed from the buffer: how long the parts in front of its body are.
enum Cut {
    Aux,
    SelectDb,
    ResizeDb(u64, u64),
    Function,
    Key { kind: u8, meta: KeyMeta, key_at: u64, body_at: u64 },
    End(ChecksumVerdict),
}

impl<R: Read> Reader<R> {
    /// Reads magic and version.
    pub fn new(source: R) -> Result<Self, Error> {
        let mut feed = Feed::new(source);
        let header: [u8; HEADER_BYTES] = feed.array("the magic and version of an RDB file")?;
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u32>().ok();
        let version = match (header.strip_prefix(b"REDIS"), header.strip_prefix(b"VALKEY")) {
            (Some(digits), _) | (_, Some(digits)) if digits.iter().all(u8::is_ascii_digit) => number(digits),
            _ => None,
        };
        let version = version.ok_or_else(|| Error::damaged(0, "the magic and version of an RDB file"))?;
        if !is_known_version(version) {
            let known = "known are 1 to 12 and Valkey's 80";
            return Err(Error::unsupported(
                5,
                format!("version {version} of the format is not known; {known}"),
            ));
        }
        Ok(Self { feed, version, db: 0 })
    }

    /// The version of the format.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bytes taken so far; after a record, where the next one begins.
    pub fn offset(&self) -> u64 {
        self.feed.offset()
    }

    /// The checksum of the bytes taken so far.
    pub fn checksum(&mut self) -> &Checksum {
        self.feed.checksum()
    }

    /// What was read from the source but is not part of the file (in an append-only file that begins with
    /// RDB: the first commands), and the source itself.
    pub fn into_rest(self) -> (Vec<u8>, R) {
        self.feed.into_rest()
    }

    /// The next record; the last one is [`Record::End`], after which nothing may be asked for. An error is
    /// final, too. What was read counts only when the end was reached without an error: a damaged byte may
    /// show in the checksum alone.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Record<'_>, Error> {
        self.feed.begin_record();
        let cut = self.cut()?;
        let (bytes, start) = (self.feed.record(), self.feed.record_offset());
        let mut input = Input::new(bytes, start);
        Ok(match cut {
            Cut::Aux => {
                input.slice(1, "an opcode")?;
                let name = input.text("the name of a note")?.into_bytes();
                Record::Aux { name, value: input.text("the value of a note")?.into_bytes() }
            }
            Cut::SelectDb => Record::SelectDb(self.db),
            Cut::ResizeDb(keys, expiring) => Record::ResizeDb { keys, expiring },
            Cut::Function => {
                input.slice(1, "an opcode")?;
                Record::Function(input.text("a library of functions")?.into_bytes())
            }
            Cut::Key { kind, meta, key_at, body_at } => {
                let key = &bytes[(key_at - start) as usize..];
                let key = Input::new(key, key_at).text("a key")?.into_bytes();
                let body = &bytes[(body_at - start) as usize..];
                Record::Key(KeyRecord { db: self.db, key, meta, kind, body, body_offset: body_at })
            }
            Cut::End(checksum) => Record::End { checksum },
        })
    }

    /// Takes one record, and what may be passed over in front of it.
    fn cut(&mut self) -> Result<Cut, Error> {
        let mut meta = KeyMeta::default();
        let mut has_meta = false;
        loop {
            let at = self.feed.offset();
            let first = self.feed.byte("the next record or the end of the file")?;
            let is_of_key =
                matches!(first, opcode::EXPIRE_MS | opcode::EXPIRE_SECONDS | opcode::IDLE | opcode::FREQ);
            if has_meta && !is_of_key && first >= opcode::SLOT_INFO {
                return Err(Error::damaged(at, "the key that expiry, idle time or frequency belong to"));
            }
            has_meta |= is_of_key;
            match first {
                opcode::EXPIRE_MS => {
                    let ms = i64::from_le_bytes(self.feed.array("when a key expires")?);
                    meta.expire_at_unix_ms = expire_at(ms);
                }
                opcode::EXPIRE_SECONDS => {
                    let seconds = i32::from_le_bytes(self.feed.array("when a key expires")?);
                    meta.expire_at_unix_ms = expire_at(i64::from(seconds) * 1000);
                }
                opcode::IDLE => meta.idle_seconds = Some(self.feed.count("how long a key was idle")?),
                opcode::FREQ => meta.freq = Some(self.feed.byte("how often a key was used")?),
                opcode::MODULE_AUX => {
                    scan::module_aux(&mut self.feed)?;
                    self.feed.begin_record();
                }
                opcode::SLOT_INFO => {
                    for _ in 0..3 {
                        self.feed.count("the number and sizes of a slot")?;
                    }
                    self.feed.begin_record();
                }
                opcode::AUX => {
                    self.feed.skip_string("the name of a note")?;
                    self.feed.skip_string("the value of a note")?;
                    return Ok(Cut::Aux);
                }
                opcode::SELECT_DB => {
                    let db = self.feed.count("the number of a database")?;
                    self.db = u32::try_from(db)
                        .map_err(|_| Error::damaged(at, "the number of a database below 2^32"))?;
                    return Ok(Cut::SelectDb);
                }
                opcode::RESIZE_DB => {
                    let keys = self.feed.count("the number of keys")?;
                    return Ok(Cut::ResizeDb(keys, self.feed.count("the number of keys that expire")?));
                }
                opcode::FUNCTION => {
                    self.feed.skip_string("a library of functions")?;
                    return Ok(Cut::Function);
                }
                opcode::FUNCTION_PRE_RELEASE => {
                    let what = "functions in the form of a release candidate of Redis 7.0 cannot be read";
                    return Err(Error::unsupported(at, what));
                }
                opcode::EOF => return self.cut_end().map(Cut::End),
                kind => return self.cut_key(kind, at, meta),
            }
        }
    }

    fn cut_key(&mut self, kind: u8, kind_at: u64, meta: KeyMeta) -> Result<Cut, Error> {
        scan::check_kind(kind, kind_at)?;
        let kind = kind::of(self.version, kind);
        let key_at = self.feed.offset();
        self.feed.skip_string("a key")?;
        let body_at = self.feed.offset();
        scan::value(kind, kind_at, &mut self.feed)?;
        Ok(Cut::Key { kind, meta, key_at, body_at })
    }

    fn cut_end(&mut self) -> Result<ChecksumVerdict, Error> {
        if self.version < CHECKSUM_VERSION_MIN {
            return Ok(ChecksumVerdict::Absent);
        }
        let computed = self.feed.checksum().value();
        let offset = self.feed.offset();
        let stored = u64::from_le_bytes(self.feed.array("the checksum of the file")?);
        match stored {
            0 => Ok(ChecksumVerdict::Absent),
            _ if stored == computed => Ok(ChecksumVerdict::Verified),
            _ => Err(Error { offset, fault: Fault::Checksum { stored, computed } }),
        }
    }
}

/// Redis's -1 is "never"; what else is negative is long over.
fn expire_at(unix_ms: i64) -> Option<u64> {
    (unix_ms != -1).then(|| u64::try_from(unix_ms).unwrap_or(0))
}
