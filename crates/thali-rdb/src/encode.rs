//! From values to bytes.

use thali_data::list::Node;
use thali_data::{Hash, Item, Set, SortedSet};
use thali_keyspace::Value;

use crate::Checksum;
use crate::blob::{ListpackWriter, push_intset};
use crate::lzf::Compressor;
use crate::wire::{kind, length, node, opcode, text};

/// Which servers shall be able to read what is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Redis 7.0 and later, Valkey 7.2 and later. Holds everything but the active times of consumers:
    /// readers take the time at which a consumer was last seen for them.
    #[default]
    V10,
    /// Redis 7.2 and later, Valkey 7.2 and later.
    V11,
    /// Redis 7.4 and later.
    V12,
}

impl Version {
    /// The number as it stands in the file.
    pub fn number(self) -> u32 {
        match self {
            Version::V10 => 10,
            Version::V11 => 11,
            Version::V12 => 12,
        }
    }
}

impl Version {
    /// The least one whose readers know the form of a value, which is the same whatever the encoder's version is.
    /// Whoever writes a file with such a value has it in the header.
    pub fn needed_by(value: &Value) -> Self {
        if value.next_field_time().is_some() { Self::V12 } else { Self::V10 }
    }
}

/// What is kept of a key beside its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyMeta {
    /// When the key vanishes, in Unix milliseconds.
    pub expire_at_unix_ms: Option<u64>,
    /// Seconds since the last use; only under an LRU policy.
    pub idle_seconds: Option<u64>,
    /// The logarithmic counter of uses; only under an LFU policy.
    pub freq: Option<u8>,
}

/// Appends records to a vector. One for each thread: it keeps a little scratch memory (64 KiB and the
/// largest encoded collection), and nothing of the file. So records that several encoders made can follow
/// each other in any order behind a [`Encoder::select_db`].
#[derive(Clone, Debug)]
pub struct Encoder {
    pub(crate) version: Version,
    pub(crate) strings: Strings,
}

impl Encoder {
    /// Compresses strings of more than 20 bytes where that pays.
    pub fn new(version: Version) -> Self {
        Self { version, strings: Strings::new(true) }
    }

    /// As [`Encoder::new`], with every string as it is: `rdbcompression no`.
    pub fn uncompressed(version: Version) -> Self {
        Self { version, strings: Strings::new(false) }
    }

    /// The first bytes of a file: with the encoder's version, which is [`Version::needed_by`] all values that follow,
    /// or a later one.
    pub fn header(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("REDIS{:04}", self.version.number()).as_bytes());
    }

    /// A note about the file. Redis writes `redis-ver`, `redis-bits`, `ctime`, `used-mem` and, in the base
    /// of an append-only file, `aof-base` = 1; readers pass over names that they do not know.
    pub fn aux(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        out.push(opcode::AUX);
        self.strings.push(out, name);
        self.strings.push(out, value);
    }

    /// A library of functions, as FUNCTION LOAD takes it.
    pub fn function(&mut self, out: &mut Vec<u8>, code: &[u8]) {
        out.push(opcode::FUNCTION);
        self.strings.push(out, code);
    }

    /// The keys that follow are of this database.
    pub fn select_db(&mut self, out: &mut Vec<u8>, db: u32) {
        out.push(opcode::SELECT_DB);
        Strings::push_count(out, db.into());
    }

    /// About how many keys follow, and how many of them expire: a hint for readers.
    pub fn resize_db(&mut self, out: &mut Vec<u8>, keys: u64, expiring: u64) {
        out.push(opcode::RESIZE_DB);
        Strings::push_count(out, keys);
        Strings::push_count(out, expiring);
    }

    /// A key.
    pub fn key(&mut self, out: &mut Vec<u8>, key: &[u8], value: &Value, meta: KeyMeta) {
        let kind_at = self.push_head(out, key, meta);
        out[kind_at] = self.value(out, value);
    }

    /// What comes before a key's value; gives the place of the value's type.
    pub(crate) fn push_head(&mut self, out: &mut Vec<u8>, key: &[u8], meta: KeyMeta) -> usize {
        if let Some(at) = meta.expire_at_unix_ms {
            out.push(opcode::EXPIRE_MS);
            out.extend_from_slice(&i64::try_from(at).unwrap_or(i64::MAX).to_le_bytes());
        }
        if let Some(seconds) = meta.idle_seconds {
            out.push(opcode::IDLE);
            Strings::push_count(out, seconds);
        }
        if let Some(freq) = meta.freq {
            out.extend_from_slice(&[opcode::FREQ, freq]);
        }
        let kind_at = out.len();
        out.push(0);
        self.strings.push(out, key);
        kind_at
    }

    /// The last bytes of a file. `checksum` has seen all before them; without it the file says that it has
    /// none.
    pub fn end(&mut self, out: &mut Vec<u8>, checksum: Option<Checksum>) {
        out.push(opcode::EOF);
        let sum = checksum.map_or(0, |mut checksum| {
            checksum.update(&[opcode::EOF]);
            checksum.value()
        });
        out.extend_from_slice(&sum.to_le_bytes());
    }

    /// What DUMP replies for a value: its type, the value, the version, the checksum.
    pub fn dump(&mut self, value: &Value) -> Vec<u8> {
        let mut out = vec![0];
        out[0] = self.value(&mut out, value);
        self.sign(out, self.version.max(Version::needed_by(value)))
    }

    /// What FUNCTION DUMP replies: each library as in a file, the version, the checksum.
    pub fn dump_functions<'a>(&mut self, libraries: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        libraries.for_each(|code| self.function(&mut out, code));
        self.sign(out, self.version)
    }

    /// Adds the version and the checksum.
    fn sign(&self, mut out: Vec<u8>, version: Version) -> Vec<u8> {
        out.extend_from_slice(&(version.number() as u16).to_le_bytes());
        let sum = Checksum::of(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Appends a value; gives its type.
    fn value(&mut self, out: &mut Vec<u8>, value: &Value) -> u8 {
        if let Some((kind, first)) = self.begin(out, value) {
            let mut place = Some(first);
            while let Some(from) = place {
                place = self.part(out, value, from, usize::MAX / 64);
            }
            return kind;
        }
        let (version, strings) = (self.version, &mut self.strings);
        match value {
            Value::Str(str) => {
                strings.push_item(out, str.item());
                kind::STRING
            }
            Value::Set(value) => small_set(value, version, strings, out),
            Value::Hash(value) if value.next_time().is_some() => small_timed_hash(value, strings, out),
            Value::Hash(value) => {
                strings.push_listpack(out, value.iter().flat_map(|(field, value)| [field, value]));
                kind::HASH_LISTPACK
            }
            Value::SortedSet(value) => small_sorted_set(value, strings, out),
            Value::List(_) | Value::Stream(_) => unreachable!("they have parts"),
        }
    }
}

/// An element that is longer stands in a node of its own without the frame of a listpack. Redis's largest
/// nodes of several elements have 64 KiB.
const PLAIN_NODE_BYTES_MIN: usize = 64 << 10;

/// A node of a list.
pub(crate) fn push_node(strings: &mut Strings, out: &mut Vec<u8>, elements: &Node) {
    match elements.get_index(0) {
        Some(only) if elements.len() == 1 && only.len() > PLAIN_NODE_BYTES_MIN => {
            Strings::push_count(out, node::PLAIN);
            strings.push_item(out, only);
        }
        _ => {
            Strings::push_count(out, node::PACKED);
            strings.push_listpack(out, elements.iter());
        }
    }
}

fn small_set(set: &Set, version: Version, strings: &mut Strings, out: &mut Vec<u8>) -> u8 {
    match set.encoding() {
        "intset" => {
            let integers: Vec<i64> = set.iter().filter_map(|member| member.as_int()).collect();
            strings.push_made(out, |blob| push_intset(blob, integers.iter().copied()));
            kind::SET_INTSET
        }
        "listpack" if version >= Version::V11 => {
            strings.push_listpack(out, set.iter());
            kind::SET_LISTPACK
        }
        _ => {
            Strings::push_count(out, set.len() as u64);
            set.iter().for_each(|member| strings.push_item(out, member));
            kind::SET
        }
    }
}

/// The earliest time first, those that stay last: its readers rely on it.
/// SOURCE: redis 7.4 `t_hash.c`, `listpackExExpire`.
fn small_timed_hash(hash: &Hash, strings: &mut Strings, out: &mut Vec<u8>) -> u8 {
    out.extend_from_slice(&hash.next_time().unwrap_or(0).to_le_bytes());
    let mut fields: Vec<_> = hash.iter_timed().collect();
    fields.sort_by_key(|(_, _, at)| at.unwrap_or(u64::MAX));
    let items =
        fields.into_iter().flat_map(|(field, value, at)| [field, value, Item::Int(at.unwrap_or(0) as i64)]);
    strings.push_listpack(out, items);
    kind::HASH_LISTPACK_EX
}

fn small_sorted_set(sorted_set: &SortedSet, strings: &mut Strings, out: &mut Vec<u8>) -> u8 {
    strings.push_made(out, |blob| {
        let mut listpack = ListpackWriter::new(blob);
        for (member, score) in sorted_set.iter() {
            listpack.push(Item::Bytes(member));
            listpack.push(Item::Bytes(thali_data::double::format_double(score).as_bytes()));
        }
        listpack.finish();
    });
    kind::ZSET_LISTPACK
}

/// Strings up to this length are never compressed.
const COMPRESS_BYTES_MIN: usize = 21;
/// Scratch memory beyond this is given back.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// Writes lengths and strings.
#[derive(Clone)]
pub(crate) struct Strings {
    compressor: Option<Compressor>,
    /// For encoded collections before their length is known.
    made: Vec<u8>,
}

impl Strings {
    fn new(compress: bool) -> Self {
        Self { compressor: compress.then(Compressor::new), made: Vec::new() }
    }

    pub fn push_count(out: &mut Vec<u8>, count: u64) {
        match count {
            0..=0x3F => out.push(count as u8),
            0x40..=0x3FFF => out.extend_from_slice(&[length::BITS_14 << 6 | (count >> 8) as u8, count as u8]),
            0x4000..=0xFFFF_FFFF => {
                out.push(length::BITS_32);
                out.extend_from_slice(&(count as u32).to_be_bytes());
            }
            _ => {
                out.push(length::BITS_64);
                out.extend_from_slice(&count.to_be_bytes());
            }
        }
    }

    /// Room for a count below 2^32 that is known later; gives its place for [`Strings::fill_count`].
    pub fn reserve_count(out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(&[length::BITS_32, 0, 0, 0, 0]);
        out.len() - 4
    }

    pub fn fill_count(out: &mut [u8], at: usize, count: u32) {
        out[at..at + 4].copy_from_slice(&count.to_be_bytes());
    }

    /// A string that may be an integer.
    pub fn push(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        self.push_item(out, Item::parse(bytes));
    }

    pub fn push_item(&mut self, out: &mut Vec<u8>, item: Item<'_>) {
        let Some(n) = item.as_int() else {
            return item.with_bytes(|bytes| self.push_shortest(out, bytes));
        };
        let special = |form: u8| length::SPECIAL | form;
        if let Ok(n) = i8::try_from(n) {
            out.extend_from_slice(&[special(text::INT_8), n as u8]);
        } else if let Ok(n) = i16::try_from(n) {
            out.push(special(text::INT_16));
            out.extend_from_slice(&n.to_le_bytes());
        } else if let Ok(n) = i32::try_from(n) {
            out.push(special(text::INT_32));
            out.extend_from_slice(&n.to_le_bytes());
        } else {
            item.with_bytes(|digits| self.push_bytes(out, digits));
        }
    }

    /// A string as it is.
    pub fn push_bytes(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        Self::push_count(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    /// A string that `make` writes, compressed where that pays.
    pub fn push_made(&mut self, out: &mut Vec<u8>, make: impl FnOnce(&mut Vec<u8>)) {
        let mut made = std::mem::take(&mut self.made);
        make(&mut made);
        self.push_shortest(out, &made);
        made.clear();
        made.shrink_to(SCRATCH_BYTES_MAX);
        self.made = made;
    }

    pub fn push_listpack<'a>(&mut self, out: &mut Vec<u8>, items: impl Iterator<Item = Item<'a>>) {
        self.push_made(out, |blob| {
            let mut listpack = ListpackWriter::new(blob);
            items.for_each(|item| listpack.push(item));
            listpack.finish();
        });
    }

    fn push_shortest(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        let start = out.len();
        if let Some(compressor) = self.compressor.as_mut().filter(|_| bytes.len() >= COMPRESS_BYTES_MIN) {
            out.push(length::SPECIAL | text::LZF);
            let len_at = Self::reserve_count(out);
            Self::push_count(out, bytes.len() as u64);
            let packed_at = out.len();
            if compressor.compress(bytes, out) {
                let packed_len = (out.len() - packed_at) as u32;
                Self::fill_count(out, len_at, packed_len);
                return;
            }
            out.truncate(start);
        }
        self.push_bytes(out, bytes);
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strings").field("compresses", &self.compressor.is_some()).finish_non_exhaustive()
    }
}
