//! `thali check`: what the files of a store hold, in words for a person.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use thali_journal::{FileKind, FileReport, RealDisk};

/// Commands that are listed for a file.
const COMMANDS_LISTED: usize = 10;

#[derive(clap::Args)]
pub struct CheckArgs {
    /// A data folder, its appendonlydir, a manifest, or an append-only file.
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
    Ok(damaged.is_empty())
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
        out += "  not looked into\n";
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
