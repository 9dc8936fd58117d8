//! Looking at files without opening the journal: what they hold and where they are damaged. Changes nothing.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::folder::{Folder, NO_END_MARK, len_of, manifest_files};
use crate::manifest::Kind;
use crate::reader::{GroupReader, Next};
use crate::recovery::RDB_MAGIC;
use crate::{Disk, JournalError};

/// Commands that are counted apart; a file that names more is hardly one.
const COMMANDS_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Base,
    Increment,
    /// Superseded by a rewrite; never read.
    History,
    /// Not looked up in a manifest.
    Single,
}

/// The first place at which a file is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub offset: u64,
    pub why: String,
    /// What a crash leaves at the end of the file that was growing; the start cuts it by itself.
    pub is_tear: bool,
}

/// What one file holds, up to its first damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    pub path: PathBuf,
    pub kind: FileKind,
    /// The file is in RDB form, or begins so; nothing of it was read here.
    pub is_rdb: bool,
    pub bytes: u64,
    pub batches: u64,
    pub groups: u64,
    pub records: u64,
    /// Requests by command, the most frequent first.
    pub commands: Vec<(String, u64)>,
    /// Bytes that a checksum vouches for.
    pub checked_bytes: u64,
    /// The end of the last group before the damage, or of the file.
    pub good_len: u64,
    pub damage: Option<Damage>,
    has_end_mark: bool,
}

/// Reads the append-only file `path`.
pub fn check_file(disk: &dyn Disk, path: &Path, kind: FileKind) -> Result<FileReport, JournalError> {
    let bytes = len_of(disk, path)?;
    let mut report = FileReport {
        path: path.to_owned(),
        kind,
        is_rdb: is_rdb(disk, path)?,
        bytes,
        batches: 0,
        groups: 0,
        records: 0,
        commands: Vec::new(),
        checked_bytes: 0,
        good_len: 0,
        damage: None,
        has_end_mark: false,
    };
    if report.is_rdb || kind == FileKind::History {
        report.good_len = bytes;
        return Ok(report);
    }
    let source = disk.open_read(path, 0).map_err(JournalError::io("read", path))?;
    let mut reader = GroupReader::new(source, 0, bytes);
    let mut commands: HashMap<Vec<u8>, u64> = HashMap::new();
    loop {
        match reader.next_group().map_err(JournalError::io("read", path))? {
            Next::Group => reader.with_effects(|effects| {
                report.groups += 1;
                report.records += effects.len() as u64;
                for effect in effects {
                    let name = effect.args[0].to_ascii_uppercase();
                    if commands.len() < COMMANDS_MAX || commands.contains_key(&name) {
                        *commands.entry(name).or_default() += 1;
                    }
                }
            }),
            Next::End => break,
            Next::Torn => {
                let why = "the file ends inside a record, or in zeros".into();
                report.damage = Some(Damage { offset: reader.offset(), why, is_tear: true });
                break;
            }
            Next::Damaged(offset, why) => {
                report.damage = Some(Damage { offset, why, is_tear: false });
                break;
            }
        }
    }
    report.good_len = reader.offset();
    report.has_end_mark = reader.has_end_mark();
    report.batches = reader.batches();
    report.checked_bytes = reader.checked_bytes();
    let text = |(name, count): (Vec<u8>, u64)| (name.escape_ascii().to_string(), count);
    report.commands = commands.into_iter().map(text).collect();
    report.commands.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(report)
}

/// Reads all files that a manifest names, in its order.
pub fn check_manifest(disk: &dyn Disk, path: &Path) -> Result<Vec<FileReport>, JournalError> {
    let folder = Folder::look(disk, path)?;
    let mut reports = Vec::new();
    for entry in &folder.manifest.entries {
        let file = folder.path(entry);
        let is_there = disk.file_len(&file).map_err(JournalError::io("look at", &file))?.is_some();
        match entry.kind {
            Kind::History if is_there => reports.push(check_file(disk, &file, FileKind::History)?),
            Kind::History => {}
            _ if !is_there => return Err(JournalError::Missing { path: file }),
            Kind::Base => reports.push(check_file(disk, &file, FileKind::Base)?),
            Kind::Increment => reports.push(check_file(disk, &file, FileKind::Increment)?),
        }
    }
    let live: Vec<_> = folder.manifest.live().cloned().collect();
    for index in 0..live.len() {
        let path = folder.path(&live[index]);
        let report = reports.iter_mut().find(|report| report.path == path).expect("looked at above");
        let may_tear = folder.may_tear(disk, &live[index..])?;
        match &mut report.damage {
            Some(damage) => damage.is_tear &= may_tear,
            None if !report.has_end_mark && folder.wants_end_mark(disk, &live[index..]) => {
                report.damage =
                    Some(Damage { offset: report.bytes, why: NO_END_MARK.into(), is_tear: false });
            }
            None => {}
        }
    }
    Ok(reports)
}

/// The manifests of a data folder: in it, or in a folder in it.
pub fn find_manifests(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let mut found = manifest_files(disk, dir)?;
    for name in disk.list(dir).map_err(JournalError::io("list", dir))? {
        let inner = dir.join(name);
        // What is no folder holds no manifest.
        found.extend(manifest_files(disk, &inner).unwrap_or_default());
    }
    found.sort();
    Ok(found)
}

/// Writes the good part of a file to a new one, durably. Never touches the file itself.
pub fn copy_good_part(report: &FileReport, to: &Path) -> Result<u64, JournalError> {
    let source = fs::File::open(&report.path).map_err(JournalError::io("read", &report.path))?;
    let mut copy =
        OpenOptions::new().write(true).create_new(true).open(to).map_err(JournalError::io("create", to))?;
    let copied =
        io::copy(&mut source.take(report.good_len), &mut copy).and_then(|n| copy.sync_all().map(|()| n));
    copied.map_err(JournalError::io("write", to))
}

fn is_rdb(disk: &dyn Disk, path: &Path) -> Result<bool, JournalError> {
    let mut magic = [0; RDB_MAGIC.len()];
    let mut source = disk.open_read(path, 0).map_err(JournalError::io("read", path))?;
    match source.read_exact(&mut magic) {
        Ok(()) => Ok(magic == *RDB_MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(source) => Err(JournalError::Io { action: "read", path: path.to_owned(), source }),
    }
}
