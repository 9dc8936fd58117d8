//! What was appended and waits to be written.

use std::sync::Arc;

use crate::batch::Batches;
use crate::journal::OpenFile;

/// The stream's end in memory.
#[derive(Default)]
pub(crate) struct Buffer {
    /// For the growing file.
    pub current: Batches,
    /// Since a rewrite's cut and until the writer has gone over to the next file.
    pub cut: Option<Cut>,
    /// The database that the file's reader stands in at the end.
    pub db: Option<u32>,
    /// The stream's end. Counts the lines before batches, too.
    pub appended: u64,
    pub stopping: bool,
    /// Something but new bytes for the writer to look at.
    pub poked: bool,
}

/// A place in the stream at which the next file begins.
pub(crate) struct Cut {
    pub at: u64,
    /// The next file; empty.
    pub file: Arc<OpenFile>,
    /// What was appended since, for that file alone.
    pub behind: Batches,
    /// The base that holds everything before the cut is durable and named by the manifest; its length.
    pub covered_by: Option<u64>,
}

impl Buffer {
    /// Appends a group; gives the number of bytes added and whether they are the first of their file's.
    pub fn append<'a>(
        &mut self,
        first: (u32, &'a [u8]),
        rest: impl Iterator<Item = (u32, &'a [u8])>,
        is_group: bool,
    ) -> (usize, bool) {
        let batches = match &mut self.cut {
            Some(cut) => &mut cut.behind,
            None => &mut self.current,
        };
        let before = batches.len();
        batches.begin_group();
        let bytes = &mut batches.bytes;
        select(bytes, &mut self.db, first.0);
        if is_group {
            bytes.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
        }
        bytes.extend_from_slice(first.1);
        for (db, request) in rest {
            select(bytes, &mut self.db, db);
            bytes.extend_from_slice(request);
        }
        if is_group {
            bytes.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
        }
        let added = bytes.len() - before;
        self.appended += added as u64;
        (added, before == 0)
    }

    /// Lets the stream go on in `file`; gives the number of bytes added.
    pub fn cut(&mut self, file: Arc<OpenFile>) -> usize {
        let before = self.current.len();
        self.current.begin_batch();
        let added = self.current.len() - before;
        self.appended += added as u64;
        self.cut = Some(Cut { at: self.appended, file, behind: Batches::default(), covered_by: None });
        // The next file's reader begins without a SELECT.
        self.db = None;
        self.poked = true;
        added
    }

    /// Lets the stream go on in the growing file, if the writer has not gone over to the next one, which is
    /// given back then.
    pub fn undo_cut(&mut self) -> Option<Arc<OpenFile>> {
        let cut = self.cut.take()?;
        self.current.append(cut.behind);
        self.poked = true;
        Some(cut.file)
    }
}

fn select(bytes: &mut Vec<u8>, current: &mut Option<u32>, db: u32) {
    if *current != Some(db) {
        *current = Some(db);
        let mut text = itoa::Buffer::new();
        encode_request(bytes, &[b"SELECT", text.format(db).as_bytes()]);
    }
}

/// Appends a request in the form that [`crate::Journal::append`] takes.
pub fn encode_request(out: &mut Vec<u8>, args: &[&[u8]]) {
    fn header(out: &mut Vec<u8>, mark: u8, n: usize) {
        out.push(mark);
        out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    header(out, b'*', args.len());
    for arg in args {
        header(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}
