//! The thresholds between the small and the large form of each type, named as in redis.conf.
//! Owned by the configuration; handed in by reference wherever a value may change its form.

/// Defaults are those of Redis 7.2. SOURCE: redis 7.2 `redis.conf`, "ADVANCED CONFIG".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub hash_max_listpack_entries: usize,
    /// Bytes of the longest field or value in a packed hash.
    pub hash_max_listpack_value: usize,
    /// Positive: elements in a node. -1 to -5: 4, 8, 16, 32, 64 KB a node.
    pub list_max_listpack_size: i32,
    pub set_max_intset_entries: usize,
    pub set_max_listpack_entries: usize,
    pub set_max_listpack_value: usize,
    pub zset_max_listpack_entries: usize,
    pub zset_max_listpack_value: usize,
    pub stream_node_max_bytes: usize,
    pub stream_node_max_entries: usize,
    /// Bytes of a sparse HyperLogLog.
    pub hll_sparse_max_bytes: usize,
    /// Bytes of a string that commands make or grow; at most [`Limits::PROTO_MAX_BULK_LEN_MAX`].
    pub proto_max_bulk_len: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            hash_max_listpack_entries: 128,
            hash_max_listpack_value: 64,
            list_max_listpack_size: -2,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            hll_sparse_max_bytes: 3000,
            proto_max_bulk_len: 512 << 20,
        }
    }
}

/// A node limited by count still may not pass this many bytes once it holds two elements.
/// SOURCE: redis 7.2 `quicklist.c`, `SIZE_SAFETY_LIMIT`.
const COUNTED_NODE_BYTES_MAX: usize = 8192;

impl Limits {
    /// No string grows beyond, whatever `proto-max-bulk-len` says: a dump holds no longer one.
    pub const STRING_BYTES_MAX: usize = 2 << 30;
    /// BITFIELD's last field may begin in the last byte.
    pub const PROTO_MAX_BULK_LEN_MAX: usize = Self::STRING_BYTES_MAX - 8;

    /// Bytes that a list node may have, where no number of elements ends it.
    pub fn list_node_bytes(&self) -> Option<usize> {
        match self.list_max_listpack_size {
            0.. => None,
            -1 => Some(4096),
            -2 => Some(8192),
            -3 => Some(16384),
            -4 => Some(32768),
            _ => Some(65536),
        }
    }

    /// Whether a list node of `bytes` bytes and `count` elements is over the limit.
    pub fn list_node_exceeds(&self, bytes: usize, count: usize) -> bool {
        match self.list_node_bytes() {
            Some(bytes_max) => bytes > bytes_max,
            None => count > (self.list_max_listpack_size as usize).max(1) || bytes > COUNTED_NODE_BYTES_MAX,
        }
    }
}
