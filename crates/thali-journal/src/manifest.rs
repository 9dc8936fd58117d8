//! The manifest: which files make up the journal, in which order.
//!
//! One line a file: `file NAME seq N type b|i|h`. NAME may be quoted; it is a plain name, never a
//! path. SOURCE: redis 7.0 `aof.c`, "AOF manifest file implementation".

use std::path::{Path, PathBuf};

use crate::{Disk, JournalError};

/// SOURCE: redis 7.0 `MANIFEST_MAX_LINE`.
const LINE_BYTES_MAX: usize = 1024;

const BAD_FORMAT: &str = "Invalid AOF manifest file format, `file NAME seq N type b|i|h` was expected";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Base,
    Increment,
    /// Superseded by a rewrite; kept until someone deletes it, never read.
    History,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: String,
    pub seq: u64,
    pub kind: Kind,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// Parses the text of `path`, which only serves the error.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, JournalError> {
        let mut manifest = Manifest::default();
        let lines = text.iter().filter(|b| **b == b'\n').count();
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            let ended = index == lines;
            let fail = |why: String| JournalError::Manifest { path: path.to_owned(), line: index + 1, why };
            // What follows the last line's end is no line.
            if line.first() == Some(&b'#') || (line.is_empty() && ended) {
                continue;
            }
            let entry = parse_line(line).map_err(fail)?;
            let increments_before =
                manifest.entries.iter().rev().find(|e| e.kind == Kind::Increment).map(|e| e.seq);
            match entry.kind {
                Kind::Base if manifest.base().is_some() => {
                    return Err(fail("Found duplicate base file information".into()));
                }
                Kind::Increment if increments_before.is_some_and(|seq| seq >= entry.seq) => {
                    return Err(fail("Found a non-monotonic sequence number".into()));
                }
                _ => manifest.entries.push(entry),
            }
        }
        if manifest.entries.is_empty() {
            let why = "Found an empty AOF manifest, which names no file".into();
            return Err(JournalError::Manifest { path: path.to_owned(), line: 1, why });
        }
        Ok(manifest)
    }

    /// The bytes of the file.
    pub fn format(&self) -> Vec<u8> {
        let mut out = String::new();
        for entry in &self.entries {
            let kind = match entry.kind {
                Kind::Base => 'b',
                Kind::Increment => 'i',
                Kind::History => 'h',
            };
            let name = quote(&entry.name);
            out.push_str(&format!("file {name} seq {} type {kind}\n", entry.seq));
        }
        out.into_bytes()
    }

    pub fn base(&self) -> Option<&Entry> {
        self.entries.iter().find(|e| e.kind == Kind::Base)
    }

    /// The files to read, in order: the base, then the increments.
    pub fn live(&self) -> impl Iterator<Item = &Entry> {
        let increments = self.entries.iter().filter(|e| e.kind == Kind::Increment);
        self.base().into_iter().chain(increments)
    }

    /// The increment that grows.
    pub fn last_increment(&self) -> Option<&Entry> {
        self.entries.iter().rfind(|e| e.kind == Kind::Increment)
    }

    /// The manifest before `files` bear their names: as history, so that a crash leaves none that nobody
    /// names, and that therefore nobody may delete.
    pub fn announcing<'a>(&self, files: impl IntoIterator<Item = &'a Entry>) -> Manifest {
        let announced = files.into_iter().map(|entry| Entry { kind: Kind::History, ..entry.clone() });
        Manifest { entries: self.entries.iter().cloned().chain(announced).collect() }
    }

    /// The manifest once `base` stands for all before `increment`; without one, for all. What becomes history
    /// stands in the order in which Redis writes it, the latest first.
    pub fn superseded_by(&self, base: &Entry, increment: Option<&Entry>) -> Manifest {
        let stays =
            |entry: &Entry| entry.name == base.name || increment.is_some_and(|it| entry.name == it.name);
        let old: Vec<&Entry> = self.live().filter(|entry| !stays(entry)).collect();
        let before = self.entries.iter().filter(|entry| entry.kind == Kind::History && !stays(entry));
        let history = old.into_iter().rev().chain(before);
        let history = history.map(|entry| Entry { kind: Kind::History, ..entry.clone() });
        let entries = [base.clone()].into_iter().chain(history).chain(increment.cloned());
        Manifest { entries: entries.collect() }
    }

    /// Replaces the manifest file in one step that a crash cannot halve.
    pub fn store(&self, disk: &dyn Disk, dir: &Path, name: &str) -> Result<(), JournalError> {
        let aside: PathBuf = dir.join(format!("temp-{name}"));
        let bytes = self.format();
        let written = (|| {
            let file = disk.open_append(&aside)?;
            file.truncate(0)?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                rest = &rest[file.append(rest)?..];
            }
            file.sync()
        })();
        written.map_err(JournalError::io("write", &aside))?;
        disk.rename(&aside, &dir.join(name)).map_err(JournalError::io("rename", &aside))?;
        disk.sync_dir(dir).map_err(JournalError::io("sync", dir))
    }
}

fn parse_line(line: &[u8]) -> Result<Entry, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!(
            "The AOF manifest file contains too long line, longer than {LINE_BYTES_MAX} bytes"
        ));
    }
    let words = words(line).ok_or_else(|| format!("{BAD_FORMAT}: a quote stays open"))?;
    if words.len() < 6 || words.len() % 2 != 0 {
        return Err(BAD_FORMAT.into());
    }
    let (mut name, mut seq, mut kind) = (None, None, None);
    // Later versions add pairs of their own; they don't change what is to be read.
    for pair in words.chunks_exact(2) {
        match pair[0].to_ascii_lowercase().as_str() {
            "file" if pair[1].contains('/') || pair[1].is_empty() => {
                return Err(format!("`{}` is not a plain file name", pair[1]));
            }
            "file" => name = Some(pair[1].clone()),
            "seq" => seq = Some(pair[1].parse().map_err(|_| format!("`{}` is not a number", pair[1]))?),
            "type" => {
                kind = Some(match pair[1].as_str() {
                    "b" => Kind::Base,
                    "i" => Kind::Increment,
                    "h" => Kind::History,
                    other => return Err(format!("Unknown AOF file type `{other}`")),
                });
            }
            _ => {}
        }
    }
    match (name, seq, kind) {
        (Some(name), Some(seq), Some(kind)) => Ok(Entry { name, seq, kind }),
        _ => Err(BAD_FORMAT.into()),
    }
}

/// Words split by blanks; `"…"` knows `\"`, `\\`, `\n`, `\r`, `\t`, `\b`, `\a` and `\xHH`.
/// SOURCE: redis 7.0 `sds.c`, `sdssplitargs`.
fn words(line: &[u8]) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut bytes = line.iter().copied().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(first) = bytes.peek().copied() else { return Some(words) };
        let mut word = Vec::new();
        if first != b'"' {
            while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                word.push(byte);
            }
        } else {
            bytes.next();
            loop {
                word.push(match bytes.next()? {
                    b'"' => break,
                    b'\\' => match bytes.next()? {
                        b'x' => {
                            let digits = [bytes.next()?, bytes.next()?];
                            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                        }
                        escaped => match ESCAPES.iter().find(|(_, letter)| *letter == escaped) {
                            Some((byte, _)) => *byte,
                            None => escaped,
                        },
                    },
                    byte => byte,
                });
            }
        }
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
}

/// Bytes that a letter behind a backslash stands for.
const ESCAPES: &[(u8, u8)] = &[
    (b'\n', b'n'),
    (b'\r', b'r'),
    (b'\t', b't'),
    (b'\x07', b'a'),
    (b'\x08', b'b'),
    (b'"', b'"'),
    (b'\\', b'\\'),
];

/// SOURCE: redis 7.0 `sds.c`, `sdscatrepr`.
fn quote(name: &str) -> String {
    if name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\')) {
        return name.to_owned();
    }
    let mut quoted = String::from("\"");
    for byte in name.bytes() {
        match ESCAPES.iter().find(|(escaped, _)| *escaped == byte) {
            Some((_, letter)) => quoted.extend(['\\', char::from(*letter)]),
            None if byte.is_ascii_graphic() || byte == b' ' => quoted.push(char::from(byte)),
            None => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, u64, Kind)], &str>) {
        let parsed = Manifest::parse(text.as_bytes(), Path::new("m"));
        match (parsed, expected) {
            (Ok(parsed), Ok(expected)) => {
                let got: Vec<_> = parsed.entries.iter().map(|e| (e.name.as_str(), e.seq, e.kind)).collect();
                assert_eq!(got, expected, "{text:?}");
                assert_eq!(Manifest::parse(&parsed.format(), Path::new("m")).unwrap(), parsed);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expected) => panic!("{text:?}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn names_are_quoted_as_redis_does() {
        assert_eq!(quote("appendonly.aof.1.base.rdb"), "appendonly.aof.1.base.rdb");
        assert_eq!(quote(" file seq \n\n.aof .2.base.rdb"), r#"" file seq \n\n.aof .2.base.rdb""#);
        assert_eq!(quote("ä\"\\\x01"), r#""\xc3\xa4\"\\\x01""#);
    }

    #[test]
    fn manifest_lines() {
        use Kind::*;
        check(
            "file a.1.base.aof seq 1 type b\nfile a.2.incr.aof seq 2 type i\n",
            Ok(&[("a.1.base.aof", 1, Base), ("a.2.incr.aof", 2, Increment)]),
        );
        check("# note\nfile \"a b\\\"c\" seq 1 type i\n", Ok(&[("a b\"c", 1, Increment)]));
        check("file \" a\\n\\t\\x07.aof\" seq 1 type b\n", Ok(&[(" a\n\t\x07.aof", 1, Base)]));
        check("file \"\\xc3\\xa4.aof\" seq 1 type b\n", Ok(&[("ä.aof", 1, Base)]));
        check("file ä.aof seq 1 type b\n", Ok(&[("ä.aof", 1, Base)]));
        check("file a seq 1 type i startoffset 5\n", Ok(&[("a", 1, Increment)]));
        check("file a seq 1 type h\nfile b seq 1 type i", Ok(&[("a", 1, History), ("b", 1, Increment)]));
        check("", Err("names no file"));
        check("file ../a seq 1 type i\n", Err("plain file name"));
        check("file a seq x type i\n", Err("line 1: `x` is not a number"));
        check("file a seq 1 type q\n", Err("Unknown AOF file type"));
        check("file a seq 1\n", Err("was expected"));
        check("file a seq 2 type i\nfile b seq 2 type i\n", Err("line 2: Found a non-monotonic"));
        check("file a seq 1 type b\nfile b seq 2 type b\n", Err("duplicate base file"));
        check("file \"a seq 2 type i\n", Err("quote"));
        check("file a seq 1 type i\n\nfile b seq 2 type i\n", Err("line 2: Invalid AOF manifest"));
    }
}
