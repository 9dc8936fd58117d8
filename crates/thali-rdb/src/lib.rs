//! Redis's RDB format: files and DUMP payloads, read, written and checked.
//!
//! Owns the bytes. Refuses files, threads, locks and clocks: bytes go out into vectors and come in from an
//! [`std::io::Read`]; pacing, syncing and renaming are the caller's.
//!
//! # Writing a snapshot
//! An [`Encoder`] appends records to a vector, and knows nothing of the file that they will stand in. So
//! each thread has its own, encodes the keys of a shard while it holds it, and hands the vector on; whoever
//! writes the file puts the pieces behind each other and runs one [`Checksum`] over them.
//!
//! ```
//! # use thali_rdb::{Checksum, Encoder, KeyMeta, Version};
//! # use thali_keyspace::Value;
//! # let value = Value::Str("v".as_bytes().into());
//! let mut encoder = Encoder::new(Version::V10);
//! let (mut file, mut piece, mut checksum) = (Vec::new(), Vec::new(), Checksum::new());
//! encoder.header(&mut piece);
//! encoder.aux(&mut piece, b"redis-ver", b"7.2.4");
//! encoder.select_db(&mut piece, 0); // in front of each piece of another shard, too: it costs two bytes
//! encoder.key(&mut piece, b"key", &value, KeyMeta::default());
//! checksum.update(&piece); // and for each further piece
//! file.append(&mut piece);
//! encoder.end(&mut piece, Some(checksum));
//! file.append(&mut piece);
//! # assert_eq!(thali_rdb::inspect(&file[..], &Default::default()).unwrap().keys(), 1);
//! ```
//! One key is one call: a caller that may not stop for long looks at the size of a value first. The base
//! of an append-only file is such a file with the note `aof-base` = `1`.
//!
//! # Loading
//! A [`Reader`] cuts the file into [`Record`]s. That reads lengths only, at several GB/s, and decodes names
//! but no values. [`KeyRecord::value`] builds a value, on the same thread or on another: push the records
//! into a [`Batch`] until it has some 256 KiB, hand it on, and let the workers call [`Batch::iter`] and
//! [`KeyRecord::value`]. Nothing of a file counts before [`Record::End`]: a damaged byte may show in the
//! checksum alone, which is looked at last. Whoever loads keeps what came apart until then, or starts empty
//! and ends the process on an error.
//!
//! The reader takes every file of Redis from 1.x to 8.2 and of Valkey, whose values can be held: values
//! of modules are refused by name with their offset. What modules wrote beside the keys is passed over.
//!
//! Hashes whose fields have times are in forms that Redis 7.4 brought, whatever version an encoder has; a file with
//! one says version 12 in its header ([`Version::needed_by`]), and a payload does so by itself.
//!
//! # Trust
//! Bytes may be hostile. Every length is held against the bytes that are there before memory is taken;
//! every structure is checked while it is built: order and back lengths of the encoded collections,
//! duplicates, scores that are no numbers, streams whose groups and consumers disagree. Each [`Error`] says
//! at which byte what was expected.
//!
//! | module | owns |
//! |---|---|
//! | [`encode`], [`parts`], [`stream`] | values to bytes, large ones in parts; streams back |
//! | [`reader`], [`feed`], [`scan`], [`batch`] | a file's records |
//! | [`decode`], [`blob`], [`lzf`], [`input`] | bytes to values |
//! | [`restore`](mod@restore), [`inspect`](mod@inspect) | payloads of DUMP and FUNCTION DUMP; what is in a file and where it is damaged |
//! | [`wire`], [`checksum`], [`error`] | the format's numbers, CRC-64, what can be wrong |

mod batch;
mod blob;
mod checksum;
mod decode;
mod encode;
mod error;
mod feed;
mod input;
mod inspect;
mod lzf;
mod parts;
mod reader;
mod restore;
mod scan;
mod stream;
mod wire;

pub use batch::Batch;
pub use checksum::Checksum;
pub use encode::{Encoder, KeyMeta, Version};
pub use error::{Error, Fault};
pub use inspect::{DbSummary, Summary, TypeSummary, inspect};
pub use parts::{Place, is_large};
pub use reader::{ChecksumVerdict, KeyRecord, Reader, Record};
pub use restore::{
    RestoreError, RestoreFunctionsError, form_name, restore, restore_functions, restore_unsummed,
};
