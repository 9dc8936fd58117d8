//! The members of a large sorted set, each stored once under a number that it keeps for life.
//!
//! Tree and index hold these numbers (4 bytes) instead of the bytes. A slot is 32 bytes: the score, and the
//! member inline up to 22 bytes or boxed. Slots come in chunks of 64, so growth copies nothing and an empty
//! chunk is given back. Because numbers never move, walking them in order is a SCAN that keeps its promise.

use crate::prefetch::prefetch;

/// The number of a member within its set.
pub(super) type MemberId = u32;

/// Slots in a chunk: one machine word of occupancy.
const CHUNK_SLOTS: usize = 64;

/// Longest member kept within its slot, in bytes.
const INLINE_LEN_MAX: usize = 22;

#[derive(Clone)]
enum MemberBytes {
    Inline { len: u8, bytes: [u8; INLINE_LEN_MAX] },
    Boxed(Box<[u8]>),
}

impl MemberBytes {
    fn new(member: &[u8]) -> Self {
        if member.len() > INLINE_LEN_MAX {
            return Self::Boxed(member.into());
        }
        let mut bytes = [0; INLINE_LEN_MAX];
        bytes[..member.len()].copy_from_slice(member);
        Self::Inline { len: member.len() as u8, bytes }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Boxed(bytes) => bytes,
        }
    }
}

#[derive(Clone)]
struct Slot {
    score: f64,
    bytes: MemberBytes,
}

const _: () = assert!(size_of::<Option<Slot>>() == 32, "a member's slot is 32 bytes");

#[derive(Clone, Default)]
struct Chunk {
    /// Bit i is set when slot i is taken.
    taken: u64,
    /// Absent while no slot is taken.
    slots: Option<Box<[Option<Slot>; CHUNK_SLOTS]>>,
}

#[derive(Clone, Default)]
pub(super) struct Members {
    chunks: Vec<Chunk>,
    /// Chunks with a free slot.
    open: Vec<u32>,
    /// Bytes of boxed members.
    boxed_bytes: usize,
}

impl Members {
    /// Stores a member. Panics beyond 2^32 members, which need 130 GB of slots.
    pub fn insert(&mut self, member: &[u8], score: f64) -> MemberId {
        let chunk_no = match self.open.last() {
            Some(&chunk_no) => chunk_no,
            None => {
                let chunk_no = self.chunks.len() as u32;
                assert!(chunk_no < u32::MAX / CHUNK_SLOTS as u32, "too many members in one sorted set");
                self.chunks.push(Chunk::default());
                self.open.push(chunk_no);
                chunk_no
            }
        };
        let chunk = &mut self.chunks[chunk_no as usize];
        let slot_no = chunk.taken.trailing_ones();
        chunk.taken |= 1 << slot_no;
        if chunk.taken == u64::MAX {
            self.open.pop();
        }
        let bytes = MemberBytes::new(member);
        if let MemberBytes::Boxed(boxed) = &bytes {
            self.boxed_bytes += boxed.len();
        }
        let slots = chunk.slots.get_or_insert_with(|| Box::new([const { None }; CHUNK_SLOTS]));
        slots[slot_no as usize] = Some(Slot { score, bytes });
        chunk_no * CHUNK_SLOTS as u32 + slot_no
    }

    pub fn remove(&mut self, id: MemberId) {
        let (chunk_no, slot_no) = split(id);
        let chunk = &mut self.chunks[chunk_no];
        let slots = chunk.slots.as_mut().expect("a live member's chunk has slots");
        let slot = slots[slot_no].take().expect("the member is live");
        if let MemberBytes::Boxed(boxed) = &slot.bytes {
            self.boxed_bytes -= boxed.len();
        }
        if chunk.taken == u64::MAX {
            self.open.push(chunk_no as u32);
        }
        chunk.taken &= !(1 << slot_no);
        if chunk.taken == 0 {
            chunk.slots = None;
        }
    }

    /// Asks for a member's slot.
    pub fn touch(&self, id: MemberId) {
        let (chunk_no, slot_no) = split(id);
        if let Some(slots) = &self.chunks[chunk_no].slots {
            prefetch(&slots[slot_no]);
        }
    }

    fn slot(&self, id: MemberId) -> Option<&Slot> {
        let (chunk_no, slot_no) = split(id);
        self.chunks.get(chunk_no)?.slots.as_ref()?[slot_no].as_ref()
    }

    pub fn bytes(&self, id: MemberId) -> &[u8] {
        self.slot(id).expect("the member is live").bytes.as_bytes()
    }

    pub fn score(&self, id: MemberId) -> f64 {
        self.slot(id).expect("the member is live").score
    }

    pub fn set_score(&mut self, id: MemberId, score: f64) {
        let (chunk_no, slot_no) = split(id);
        let slots = self.chunks[chunk_no].slots.as_mut().expect("a live member's chunk has slots");
        slots[slot_no].as_mut().expect("the member is live").score = score;
    }

    /// Numbers below this one may be live.
    pub fn id_end(&self) -> u64 {
        (self.chunks.len() * CHUNK_SLOTS) as u64
    }

    /// The member under a number, if it is live.
    pub fn live(&self, id: MemberId) -> Option<(&[u8], f64)> {
        self.slot(id).map(|slot| (slot.bytes.as_bytes(), slot.score))
    }

    pub fn memory_bytes(&self) -> usize {
        let slots = self.chunks.iter().filter(|chunk| chunk.slots.is_some()).count();
        slots * CHUNK_SLOTS * size_of::<Option<Slot>>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.open.capacity() * size_of::<u32>()
            + self.boxed_bytes
    }
}

fn split(id: MemberId) -> (usize, usize) {
    (id as usize / CHUNK_SLOTS, id as usize % CHUNK_SLOTS)
}
