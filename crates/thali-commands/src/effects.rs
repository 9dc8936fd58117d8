//! What units of work leave for the journal.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// Requests that bring a copy of the data to the same state, in RESP, one after the other.
#[derive(Debug)]
pub struct Effects {
    bytes: Vec<u8>,
    /// Database and start of each.
    starts: Vec<(u32, usize)>,
    /// How many there were at the end of each group that has any.
    groups: Vec<usize>,
    /// Whether anybody keeps them.
    are_wanted: Arc<AtomicBool>,
}

impl Default for Effects {
    fn default() -> Self {
        Self::wanted_while(Arc::new(true.into()))
    }
}

impl Effects {
    /// What is pushed while `are_wanted` is false is dropped, unencoded. It becomes true only while nobody holds a
    /// shard: a unit of work keeps either all of its effects or, where nobody will ask for them, none.
    pub fn wanted_while(are_wanted: Arc<AtomicBool>) -> Self {
        Self { bytes: Vec::new(), starts: Vec::new(), groups: Vec::new(), are_wanted }
    }

    /// Adds a request.
    pub fn push<A: AsRef<[u8]>>(&mut self, db: u32, request: &[A]) {
        if !self.are_wanted.load(Relaxed) {
            return;
        }
        let start = self.bytes.len();
        self.starts.push((db, start));
        // Room once for all: this runs for each write.
        let len_max =
            request.iter().map(|arg| NUMBER_LEN_MAX + arg.as_ref().len()).sum::<usize>() + NUMBER_LEN_MAX;
        self.bytes.resize(start + len_max, 0);
        let mut at = start;
        let mut put = |part: &[u8]| {
            self.bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put_number(&mut put, b'*', request.len());
        for arg in request {
            let arg = arg.as_ref();
            put_number(&mut put, b'$', arg.len());
            put(arg);
            put(b"\r\n");
        }
        self.bytes.truncate(at);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Each effect with its database.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let ends = self.starts.iter().skip(1).map(|(_, start)| *start).chain([self.bytes.len()]);
        self.starts.iter().zip(ends).map(|(&(db, start), end)| (db, &self.bytes[start..end]))
    }

    /// What is pushed from now on need not be kept together with what was pushed before.
    pub fn end_group(&mut self) {
        if self.groups.last().is_none_or(|end| *end < self.len()) && !self.is_empty() {
            self.groups.push(self.len());
        }
    }

    /// All of them in one piece with their database, where they have one and each is a group of its own.
    pub fn singles(&self) -> Option<(u32, &[u8])> {
        let (db, _) = *self.starts.first()?;
        let is_each_alone = self.len() == 1 || self.len() == self.groups.len();
        let are_of_one_db = self.starts.iter().all(|(other, _)| *other == db);
        (is_each_alone && are_of_one_db).then_some((db, &self.bytes))
    }

    /// The groups, each as [`Effects::iter`]: all of one are kept or none.
    pub fn groups(&self) -> impl Iterator<Item = impl Iterator<Item = (u32, &[u8])>> {
        let last = self.groups.last().copied().unwrap_or(0);
        let ends = self.groups.iter().copied().chain((last < self.len()).then_some(self.len()));
        ends.scan(0, |begin, end| {
            let group = self.iter().skip(*begin).take(end - *begin);
            *begin = end;
            Some(group)
        })
    }

    /// Forgets all, keeping a little memory.
    pub fn clear(&mut self) {
        if self.is_empty() {
            return;
        }
        self.bytes.clear();
        self.starts.clear();
        self.groups.clear();
        self.bytes.shrink_to(64 << 10);
        self.starts.shrink_to(1024);
    }
}

/// What a number takes with its mark, its line's end and that of the argument behind it.
const NUMBER_LEN_MAX: usize = 1 + 20 + 2 + 2;

#[inline(always)]
fn put_number(put: &mut impl FnMut(&[u8]), mark: u8, number: usize) {
    match number {
        0..10 => put(&[mark, b'0' + number as u8, b'\r', b'\n']),
        10..100 => put(&[mark, b'0' + (number / 10) as u8, b'0' + (number % 10) as u8, b'\r', b'\n']),
        _ => {
            put(&[mark]);
            put(itoa::Buffer::new().format(number).as_bytes());
            put(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Request<'r> = (u32, &'r [&'r str]);

    fn pushed(groups: &[&[Request<'_>]]) -> Effects {
        let mut effects = Effects::default();
        for group in groups {
            group.iter().for_each(|(db, request)| effects.push(*db, request));
            effects.end_group();
        }
        effects
    }

    #[test]
    fn requests_are_in_resp() {
        let effects = pushed(&[&[(3, &["SET", "", "twelve bytes"])]]);
        let encoded = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$12\r\ntwelve bytes\r\n";
        assert_eq!(effects.iter().collect::<Vec<_>>(), [(3, &encoded[..])]);
    }

    #[test]
    fn groups_of_one_request_in_one_database_are_one_piece() {
        let (a, b): (Request<'_>, Request<'_>) = ((0, &["DEL", "a"]), (0, &["DEL", "b"]));
        let both = b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n*2\r\n$3\r\nDEL\r\n$1\r\nb\r\n";
        assert_eq!(pushed(&[&[a], &[], &[b]]).singles(), Some((0, &both[..])));
        assert_eq!(pushed(&[&[a, b]]).singles(), None);
        assert_eq!(pushed(&[&[a], &[a, b]]).singles(), None);
        assert_eq!(pushed(&[&[a], &[(1, b.1)]]).singles(), None);
        assert_eq!(pushed(&[]).singles(), None);
        let mut one = Effects::default();
        one.push(7, b.1);
        assert_eq!(one.singles(), Some((7, &both[20..])));
        one.push(7, a.1);
        assert_eq!(one.singles(), None);
        assert_eq!(one.groups().map(Iterator::count).collect::<Vec<_>>(), [2]);
    }
}
