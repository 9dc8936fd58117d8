//! The numbers of the format, and nothing else.
//!
//! SOURCE: redis 7.0, 7.2 and 7.4 `rdb.h`; valkey 8.1 and 9.0 `rdb.h`.

/// What may stand where a record begins, beside the type of a key's value.
pub(crate) mod opcode {
    pub const SLOT_INFO: u8 = 0xF4;
    pub const FUNCTION: u8 = 0xF5;
    /// Libraries as release candidates of Redis 7.0 wrote them.
    pub const FUNCTION_PRE_RELEASE: u8 = 0xF6;
    pub const MODULE_AUX: u8 = 0xF7;
    pub const IDLE: u8 = 0xF8;
    pub const FREQ: u8 = 0xF9;
    pub const AUX: u8 = 0xFA;
    pub const RESIZE_DB: u8 = 0xFB;
    pub const EXPIRE_MS: u8 = 0xFC;
    pub const EXPIRE_SECONDS: u8 = 0xFD;
    pub const SELECT_DB: u8 = 0xFE;
    pub const EOF: u8 = 0xFF;
}

/// How a value is written.
pub(crate) mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    /// Scores as text.
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    /// Scores as eight bytes.
    pub const ZSET_2: u8 = 5;
    pub const MODULE_PRE_RELEASE: u8 = 6;
    pub const MODULE: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    /// Nodes are ziplists.
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM_1: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    /// Nodes are listpacks or single elements.
    pub const LIST_QUICKLIST_2: u8 = 18;
    /// With first ID, greatest deleted ID and entries added.
    pub const STREAM_2: u8 = 19;
    /// Since version 11.
    pub const SET_LISTPACK: u8 = 20;
    /// With the active times of consumers; since version 11.
    pub const STREAM_3: u8 = 21;
    /// A hash with times: of each field the time, the name, the value. As release candidates of Redis 7.4 wrote it.
    pub const HASH_METADATA_PRE_RELEASE: u8 = 22;
    /// Field, value, time, … in a listpack, the earliest time first. As release candidates of Redis 7.4 wrote it.
    pub const HASH_LISTPACK_EX_PRE_RELEASE: u8 = 23;
    /// The smallest time in front, and times relative to it; since version 12.
    pub const HASH_METADATA: u8 = 24;
    /// The smallest time in front; since version 12.
    pub const HASH_LISTPACK_EX: u8 = 25;
    /// A hash with times as Valkey 9 writes it: of each field the name, the value, the time. It stands as 22 in
    /// files of version 80, and has a number of its own only here: no file has it.
    pub const HASH_2: u8 = 128;
    const HASH_2_IN_FILE: u8 = 22;

    /// What a file or payload of this version means by a type.
    pub fn of(version: u32, in_file: u8) -> u8 {
        match (version, in_file) {
            (super::VALKEY_VERSION, HASH_2_IN_FILE) => HASH_2,
            _ => in_file,
        }
    }
}

/// The version of Valkey 9.
pub(crate) const VALKEY_VERSION: u32 = 80;

/// The two highest bits of a length say how it goes on.
pub(crate) mod length {
    pub const BITS_6: u8 = 0;
    pub const BITS_14: u8 = 1;
    pub const WIDE: u8 = 2;
    pub const BITS_32: u8 = 0x80;
    pub const BITS_64: u8 = 0x81;
    /// With the two highest bits set, the others name a form of string.
    pub const SPECIAL: u8 = 0xC0;
}

/// Strings that are not just their bytes.
pub(crate) mod text {
    pub const INT_8: u8 = 0;
    pub const INT_16: u8 = 1;
    pub const INT_32: u8 = 2;
    pub const LZF: u8 = 3;
}

/// Nodes of [`kind::LIST_QUICKLIST_2`].
pub(crate) mod node {
    pub const PLAIN: u64 = 1;
    pub const PACKED: u64 = 2;
}

/// What a module's data consists of.
pub(crate) mod module {
    pub const END: u64 = 0;
    pub const SIGNED: u64 = 1;
    pub const UNSIGNED: u64 = 2;
    pub const FLOAT: u64 = 3;
    pub const DOUBLE: u64 = 4;
    pub const STRING: u64 = 5;
}

/// What stands in the place of a score's length in [`kind::ZSET`].
pub(crate) mod score {
    pub const NAN: u8 = 253;
    pub const INFINITE: u8 = 254;
    pub const NEGATIVE_INFINITE: u8 = 255;
}

/// Flags of an entry within a stream's listpack.
pub(crate) mod entry {
    pub const DELETED: i64 = 1;
    pub const SAME_FIELDS: i64 = 2;
}

/// Since this version eight bytes of checksum follow the end.
pub(crate) const CHECKSUM_VERSION_MIN: u32 = 5;
/// Bytes of the magic and the version in front of a file.
pub(crate) const HEADER_BYTES: usize = 9;
/// Bytes of version and checksum at the end of a DUMP payload.
pub(crate) const FOOTER_BYTES: usize = 10;

/// A longer string is refused: buffers stop at 4 GiB, and Redis's strings at 512 MB unless configured
/// otherwise.
pub(crate) const STRING_BYTES_MAX: u64 = thali_data::Limits::STRING_BYTES_MAX as u64;
