//! Lengths that lie take no memory: counted by the allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use thali_data::Limits;
use thali_rdb::{Checksum, Encoder, KeyMeta, Reader, Record, Version, restore};

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: hands everything to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were taken at once while `run` ran, beyond those before.
fn peak_of(run: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    run();
    PEAK.load(Ordering::Relaxed) - before
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn memory_follows_the_bytes_that_are_there() {
    const HUGE: &[u8] = b"\x81\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF";
    const GIGABYTE: &[u8] = b"\x80\x40\0\0\0";
    const PEAK_MAX: usize = 4 << 20;
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for len in [HUGE, GIGABYTE] {
        // A string, compressed strings, counts of elements, each type in turn.
        bodies.extend(
            [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]
                .map(|kind| [&[kind][..], b"\x01k", len, b"abc"].concat()),
        );
        bodies.push([b"\0\x01k\xC3", len, len, b"abc"].concat());
        bodies.push([b"\0\x01k\xC3\x03", len, b"\x01ab"].concat());
        bodies.push([b"\x12\x01k\x01\x02", len].concat());
        bodies.push([b"\x13\x01k\0\0\0\0\0\0\0\0\0\x01\x01g\0\0\0", len].concat());
        bodies.push([b"\xFA", len, b"abc"].concat());
        bodies.push([b"\xF5", len, b"abc"].concat());
    }
    for body in &bodies {
        let file = [b"REDIS0011", &body[..]].concat();
        let peak = peak_of(|| {
            let mut reader = Reader::new(&file[..]).unwrap();
            let outcome = reader.next().and_then(|record| match record {
                Record::Key(key) => key.value(&Limits::default()).map(drop),
                _ => Ok(()),
            });
            assert!(outcome.is_err(), "{body:?}");
        });
        assert!(peak < PEAK_MAX, "{peak} bytes for {body:?}");
        if body[0] < 0xF0 {
            let mut payload = [&body[..1], &body[3..], b"\x0B\0"].concat();
            payload.extend(Checksum::of(&payload).to_le_bytes());
            let peak = peak_of(|| assert!(restore(&payload, &Limits::default()).is_err(), "{body:?}"));
            assert!(peak < PEAK_MAX, "{peak} bytes for {body:?}");
        }
    }
    names_shared_by_many_entries();
    a_large_value_takes_little_more_than_itself();
}

/// A node of a stream names its fields once; entries of their own would name them each.
fn names_shared_by_many_entries() {
    let mut node = Vec::new();
    let mut push = |head: &[u8], bytes: &[u8], back: &[u8]| {
        node.extend_from_slice(head);
        node.extend_from_slice(bytes);
        node.extend_from_slice(back);
    };
    let entries = 100_000u32;
    let name = vec![b'n'; 1 << 20];
    push(b"\xF3", &entries.to_le_bytes(), b"\x05");
    push(b"\0", b"", b"\x01");
    push(b"\x01", b"", b"\x01");
    push(b"\xF0", &(name.len() as u32).to_le_bytes(), b"");
    push(b"", &name, b"\x40\x80\x85");
    push(b"\0", b"", b"\x01");
    for n in 0..entries {
        push(b"\x02", b"", b"\x01");
        push(b"\0", b"", b"\x01");
        push(b"\xF3", &n.to_le_bytes(), b"\x05");
        push(b"\x01", b"", b"\x01");
        push(b"\x04", b"", b"\x01");
    }
    node.push(0xFF);
    let mut blob = ((node.len() + 6) as u32).to_le_bytes().to_vec();
    blob.extend_from_slice(b"\xFF\xFF");
    blob.extend_from_slice(&node);
    let mut payload = b"\x0F\x01\x10\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01\x80".to_vec();
    payload.extend_from_slice(&(blob.len() as u32).to_be_bytes());
    payload.extend_from_slice(&blob);
    payload.extend_from_slice(b"\0\0\0\0\x0B\0");
    payload.extend(Checksum::of(&payload).to_le_bytes());
    let peak = peak_of(|| {
        let error = restore(&payload, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains("fewer bytes of shared names"), "{error}");
    });
    assert!(peak < 2 * 256 * payload.len(), "{peak} bytes for {}", payload.len());
}

fn a_large_value_takes_little_more_than_itself() {
    let bytes = vec![b'x'; 64 << 20];
    let value = thali_keyspace::Value::Str(bytes.as_slice().into());
    let mut encoder = Encoder::uncompressed(Version::V10);
    let mut file = Vec::new();
    encoder.header(&mut file);
    encoder.key(&mut file, b"k", &value, KeyMeta::default());
    drop((bytes, value));
    let peak = peak_of(|| {
        let mut reader = Reader::new(&file[..]).unwrap();
        assert!(matches!(reader.next().unwrap(), Record::Key(_)));
    });
    assert!(peak < 2 * file.len() + (8 << 20), "{peak}");
}
