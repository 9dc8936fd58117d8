//! `thali check`: what the files of a store hold, in words for a person.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use thali_data::Limits;
use thali_journal::{FileKind, FileReport, RealDisk};
use thali_rdb::{ChecksumVerdict, Summary};

/// Commands that are listed for a file.
const COMMANDS_LISTED: usize = 10;

#[derive(clap::Args)]
pub struct CheckArgs {
    /// A data folder, its appendonlydir, a manifest, an append-only file, or a dump.
    path: PathBuf,
    /// Writes a copy of the damaged file that ends with the last good record. The file itself stays as it is.
    #[arg(long, value_name = "COPY")]
    cut_to: Option<PathBuf>,
}

pub fn run(args: &CheckArgs) -> ExitCode {
    match check(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("thali check: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// `true`: all is good.
fn check(args: &CheckArgs) -> Result<bool> {
    let dumps = dumps(&args.path)?;
    if args.path.is_file() && !dumps.is_empty() {
        return check_dump(&args.path, args.cut_to.as_deref());
    }
    let mut dumps_are_good = true;
    for dump in &dumps {
        dumps_are_good &= check_dump(dump, None)?;
    }
    if !dumps.is_empty() && thali_journal::find_manifests(&RealDisk, &args.path)?.is_empty() {
        return Ok(dumps_are_good);
    }
    let reports = reports(&args.path)?;
    reports.iter().for_each(|report| print!("{}", text(report)));
    let damaged: Vec<_> = reports.iter().filter(|report| report.damage.is_some()).collect();
    if let Some(to) = &args.cut_to {
        match damaged[..] {
            [] => println!("nothing is damaged, so no copy was made"),
            [report] => cut(report, to)?,
            _ => bail!("several files are damaged; check them one by one to cut copies of them"),
        }
    }
    for base in reports.iter().filter(|report| report.is_rdb && report.kind != FileKind::History) {
        dumps_are_good &= check_dump(&base.path, None)?;
    }
    Ok(damaged.is_empty() && dumps_are_good)
}

/// The path itself where it is a dump, or the dumps in the folder.
fn dumps(path: &Path) -> Result<Vec<PathBuf>> {
    let is_dump = |path: &Path| {
        let is_named_so = path.extension().is_some_and(|extension| extension == "rdb");
        path.is_file() && (is_named_so || starts_as_dump(path))
    };
    if !path.is_dir() {
        return Ok(if is_dump(path) { vec![path.to_owned()] } else { Vec::new() });
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rdb") && is_dump(path))
        .collect())
}

/// Whether it begins as a dump and not as an append-only file with one in front.
fn starts_as_dump(path: &Path) -> bool {
    let mut magic = [0; 5];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && (&magic == b"REDIS" || &magic == b"VALKE") && path.extension().is_none_or(|e| e != "aof")
}

/// Looks into a dump, value by value; `true`: it is good.
fn check_dump(path: &Path, cut_to: Option<&Path>) -> Result<bool> {
    let named = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(named)?;
    let len = file.metadata().with_context(named)?.len();
    let summary = match thali_rdb::inspect(file, &Limits::default()) {
        Ok(summary) => summary,
        Err(error) => {
            println!("{}: no dump: {error}", path.display());
            return Ok(false);
        }
    };
    print!("{}", dump_text(path, len, &summary));
    match (&summary.damage, cut_to) {
        (Some(_), Some(to)) => cut_dump(path, &summary, to)?,
        (None, Some(_)) => println!("nothing is damaged, so no copy was made"),
        (_, None) => {}
    }
    Ok(summary.damage.is_none())
}

fn dump_text(path: &Path, len: u64, summary: &Summary) -> String {
    let mut out = format!("{}: dump of version {}, {len} bytes\n", path.display(), summary.version);
    for (name, value) in &summary.aux {
        out += &format!("  {} {}\n", name.escape_ascii(), value.escape_ascii());
    }
    for (number, db) in &summary.dbs {
        out += &format!("  database {number}: {} keys, {} of them expire", db.keys, db.expiring);
        out += &match db.timed_hashes {
            0 => "\n".to_owned(),
            hashes => format!(", {hashes} hashes have fields that expire\n"),
        };
    }
    for (name, of_type) in &summary.types {
        out += &format!(
            "  {name}: {} keys, {} bytes, the largest has {}\n",
            of_type.keys, of_type.bytes, of_type.largest_bytes
        );
    }
    if summary.functions > 0 {
        out += &format!("  {} libraries of functions\n", summary.functions);
    }
    match (&summary.damage, summary.checksum) {
        (Some(damage), _) => {
            out += &format!("  DAMAGED: {damage}\n  good up to offset {}\n", summary.intact_bytes);
        }
        (None, Some(ChecksumVerdict::Verified)) => out += "  its checksum is right\n",
        (None, _) => out += "  it bears no checksum\n",
    }
    out
}

/// The whole records in front of the damage, as a dump of their own.
fn cut_dump(path: &Path, summary: &Summary, to: &Path) -> Result<()> {
    let named = || format!("cannot write {}", to.display());
    let mut copy = std::fs::OpenOptions::new().write(true).create_new(true).open(to).with_context(named)?;
    let source = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    std::io::copy(&mut source.take(summary.intact_bytes), &mut copy).with_context(named)?;
    copy.write_all(&summary.tail).with_context(named)?;
    copy.sync_all().with_context(named)?;
    println!(
        "{} holds the {} keys in front of the damage. Keep the old file until the copy has proved good",
        to.display(),
        summary.keys()
    );
    Ok(())
}

fn reports(path: &Path) -> Result<Vec<FileReport>> {
    let meta = std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if meta.is_dir() {
        let manifests = thali_journal::find_manifests(&RealDisk, path)?;
        if manifests.is_empty() {
            bail!(
                "{} holds no append-only files: there is no manifest in it or one folder below",
                path.display()
            );
        }
        let mut reports = Vec::new();
        for manifest in manifests {
            reports.extend(thali_journal::check_manifest(&RealDisk, &manifest)?);
        }
        return Ok(reports);
    }
    if !meta.is_file() {
        bail!("{} is neither a file nor a folder", path.display());
    }
    if path.extension().is_some_and(|extension| extension == "manifest") {
        return Ok(thali_journal::check_manifest(&RealDisk, path)?);
    }
    Ok(vec![thali_journal::check_file(&RealDisk, path, FileKind::Single)?])
}

fn cut(report: &FileReport, to: &Path) -> Result<()> {
    let bytes = thali_journal::copy_good_part(report, to)?;
    println!(
        "{} holds the first {bytes} bytes; {} bytes were left out. Keep the old file until the copy has proved good",
        to.display(),
        report.bytes - bytes
    );
    Ok(())
}

fn text(report: &FileReport) -> String {
    let kind = match (report.kind, report.is_rdb) {
        (FileKind::Base, true) => "base in RDB form",
        (FileKind::Base, false) => "base",
        (FileKind::Increment, _) => "increment",
        (FileKind::History, _) => "history, superseded and not read",
        (FileKind::Single, true) => "file in RDB form",
        (FileKind::Single, false) => "append-only file",
    };
    let mut out = format!("{}: {kind}, {} bytes\n", report.path.display(), report.bytes);
    if report.is_rdb {
        out += "  looked into below\n";
    } else if report.kind != FileKind::History {
        out += &format!(
            "  {} records in {} groups; {} of {} good bytes bear checksums, in {} batches\n",
            report.records, report.groups, report.checked_bytes, report.good_len, report.batches
        );
        let commands = report.commands.iter().take(COMMANDS_LISTED);
        let listed: Vec<_> = commands.map(|(name, count)| format!("{name} {count}")).collect();
        if !listed.is_empty() {
            out += &format!("  {}\n", listed.join(", "));
        }
    }
    if let Some(damage) = &report.damage {
        out += &format!("  DAMAGED at offset {}: {}\n", damage.offset, damage.why);
        out += &format!(
            "  good up to offset {}, {} bytes before the end\n",
            report.good_len,
            report.bytes - report.good_len
        );
        out += match damage.is_tear {
            true => "  that is what a crash leaves; the next start cuts it by itself\n",
            false => "  the next start refuses this file; put it back from a backup, or use --cut-to\n",
        };
    }
    out
}
