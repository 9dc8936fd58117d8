//! The lines of former sessions: a file of plain lines, which others than its owner cannot read.
//!
//! Lines with passwords are not written to it, nor lines that could not be split, as nobody knows what is in them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Lines that are kept; older ones go when twice as many are there.
pub(crate) const LINES_MAX: usize = 1_000;
/// Bytes of the file that are read, from its beginning; a longer one was not made here.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(crate) struct History {
    path: Option<PathBuf>,
}

impl History {
    /// `$REDISCLI_HISTFILE`, or a file in the home folder; `/dev/null` keeps nothing.
    pub fn from_environment() -> Self {
        let path = match std::env::var_os("REDISCLI_HISTFILE").filter(|path| !path.is_empty()) {
            Some(path) => Some(PathBuf::from(path)),
            None => std::env::var_os("HOME").map(|home| Path::new(&home).join(".thalicli_history")),
        };
        Self { path: path.filter(|path| path != Path::new("/dev/null")) }
    }

    /// The lines, oldest first.
    pub fn load(&self) -> Vec<String> {
        let Some(path) = &self.path else { return Vec::new() };
        let mut bytes = Vec::new();
        // No file yet, or one that cannot be read, is a history without lines.
        if File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)).is_err() {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let kept = lines[lines.len().saturating_sub(LINES_MAX)..].to_vec();
        if lines.len() > 2 * LINES_MAX {
            // Left as it is where that fails; it is tried again at the next start.
            let _ = replace(path, &kept);
        }
        kept
    }

    /// Writes a line down.
    pub fn add(&self, line: &str) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}

fn replace(path: &Path, lines: &[String]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all((lines.join("\n") + "\n").as_bytes())?;
    std::fs::rename(new, path)
}

/// Whether a command bears a password, or tells of one.
pub(crate) fn is_secret(words: &[Vec<u8>]) -> bool {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()));
    let any = |at: usize, names: &[&str]| names.iter().any(|name| is(at, name));
    let len = words.len();
    if is(0, "auth") {
        true
    } else if is(0, "acl") {
        any(1, &["setuser", "deluser", "getuser"])
    } else if is(0, "config") && is(1, "set") {
        let secrets =
            ["requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass"];
        (2..len).step_by(2).any(|at| any(at, &secrets))
    } else if is(0, "hello") {
        (1..len).any(|at| is(at, "auth"))
    } else if is(0, "migrate") {
        (6..len).take_while(|at| !is(*at, "keys")).any(|at| any(at, &["auth", "auth2"]))
    } else if is(0, "sentinel") && is(1, "config") {
        is(2, "set") && any(3, &["sentinel-pass", "sentinel-user"])
    } else if is(0, "sentinel") && is(1, "set") {
        any(3, &["auth-pass", "auth-user"])
    } else {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_with_passwords_are_known() {
        let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        for secret in [
            "AUTH pw",
            "auth user pw",
            "HELLO 3 AUTH u p",
            "hello 3 SETNAME n AUTH u p",
            "ACL SETUSER u >pw",
            "acl getuser u",
            "CONFIG SET requirepass pw",
            "config set maxmemory 1 masterauth pw",
            "MIGRATE h 1 k 0 10 COPY AUTH pw",
            "MIGRATE h 1  0 10 AUTH2 u p KEYS a",
            "SENTINEL SET m auth-pass pw",
        ] {
            assert!(is_secret(&words(secret)), "{secret}");
        }
        for open in [
            "GET auth",
            "HELLO 3",
            "ACL LIST",
            "CONFIG GET requirepass",
            "CONFIG SET maxmemory requirepass",
            "MIGRATE h 1  0 10 KEYS auth",
        ] {
            assert!(!is_secret(&words(open)), "{open}");
        }
    }

    #[test]
    fn the_file_keeps_its_last_lines_and_is_private() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let history = History { path: Some(path.clone()) };
        assert!(history.load().is_empty());
        for n in 0..=2 * LINES_MAX {
            history.add(&format!("GET {n}")).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let lines = history.load();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines.last().unwrap(), &format!("GET {}", 2 * LINES_MAX));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), LINES_MAX);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
