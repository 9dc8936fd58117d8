//! Valkey's Tcl suite in spawn mode.
//!
//! The harness starts `src/valkey-server` of its folder with a configuration file, and other programs of that
//! folder beside it. Links put the program under test and Debian's tools in their places. Each file runs by
//! itself: an exception ends the harness, and should end one file only.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process_group};

use super::output::Outcome;
use super::published::{self, Published};
use super::reasons::Reasons;
use super::record::{FileRecord, Record};
use crate::shell;

/// Beside the server: what the suite calls a tool, and what stands in for it.
const TOOLS: &[(&str, &str)] = &[
    ("valkey-cli", "redis-cli"),
    ("valkey-benchmark", "redis-benchmark"),
    ("valkey-check-aof", "redis-check-aof"),
    ("valkey-check-rdb", "redis-check-rdb"),
];

/// What `--group persistence` runs.
const PERSISTENCE: &[&str] = &[
    "integration/aof",
    "integration/aof-multi-part",
    "integration/aof-race",
    "integration/convert-ziplist-hash-on-load",
    "integration/convert-ziplist-zset-on-load",
    "integration/convert-zipmap-hash-on-load",
    "integration/corrupt-dump",
    "integration/corrupt-dump-fuzzer",
    "integration/logging",
    "integration/rdb",
    "integration/shutdown",
    "unit/aofrw",
];

/// Tests with these tags need what one server of its own does not have: a replica, a cluster bus, modules.
const TAGS_DENIED: &str = "-needs:repl -repl -cluster -modules";

/// Loops of each server. A busy script keeps its loop's clients waiting, and the suite's clients expect to be
/// told BUSY: so many that two of a test's clients rarely share one.
const LOOPS: &str = "8";

/// The first port, and how many each job has: the harness's own and those of its servers.
const PORTS_FIRST: usize = 21_200;
const PORTS_PER_JOB: usize = 1_000;

#[derive(Args)]
pub struct ValkeyArguments {
    /// A work tree of valkey-io/valkey; its `tests` folder is run, its `src` folder gets links.
    #[arg(long)]
    path: PathBuf,
    /// A file such as `unit/type/string`, or a folder such as `unit/type`; may be given again.
    #[arg(long)]
    file: Vec<String>,
    /// `persistence` or `unit`; both where neither this nor a file is given.
    #[arg(long)]
    group: Option<String>,
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// The server to judge, called as `valkey-server`; the e2e build where none is given.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Only tests of this name, or `/` and an expression.
    #[arg(long)]
    only: Vec<String>,
    /// Seconds for a file.
    #[arg(long, default_value_t = 900)]
    limit: u64,
    /// Seconds without an outcome after which a file counts as hung.
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// The suite's clients talk TLS: needs Debian's tcl-tls, and the suite's utils/gen-test-certs.sh run before.
    #[arg(long)]
    tls: bool,
    /// Where the record is kept; a run changes the entries of the files that it ran.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Keep what the record says of the groups that were run in tests/suites/records, for COMPATIBILITY.md; each
    /// failure needs a reason in tests/suites/valkey/failures.json.
    #[arg(long)]
    publish: bool,
    /// The configuration files and logs of the servers are left in the suite's `tests/tmp`.
    #[arg(long)]
    keep: bool,
}

pub fn run(arguments: &ValkeyArguments) -> Result<()> {
    let suite = arguments.path.canonicalize().context("--path: the suite's folder")?;
    ensure!(suite.join("tests/test_helper.tcl").is_file(), "{} holds no tests of Valkey", suite.display());
    ensure!(shell::find("tclsh").is_some(), "tclsh is missing; Debian's package is 'tcl'");
    let lists = crate::root().join("tests/suites/valkey");
    let skips = Reasons::read(&lists.join("skips.json"))?;
    let files = files(arguments, &suite)?;
    prepare(arguments, &suite)?;
    let folder = shell::target().join("suites");
    std::fs::create_dir_all(&folder)?;
    let harness = Harness { arguments, suite: &suite, skips: &skips, folder: &folder };
    let record_path = arguments.record.clone().unwrap_or_else(|| folder.join("valkey.json"));
    let (next, done) = (Mutex::new(files.iter()), Mutex::new(Record::default()));
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..arguments.jobs.max(1))
            .map(|job| {
                let (next, done, harness) = (&next, &done, &harness);
                scope.spawn(move || -> Result<()> {
                    loop {
                        let Some(file) = next.lock().expect("no job panics").next() else { return Ok(()) };
                        let outcome = harness.run_file(job, file)?;
                        done.lock().expect("no job panics").put(file, outcome);
                    }
                })
            })
            .collect();
        jobs.into_iter().try_for_each(|job| job.join().expect("no job panics"))
    })?;
    let done = done.into_inner().expect("no job panics");
    let mut record = Record::read(&record_path)?;
    for (file, outcome) in done.iter() {
        record.put(file, outcome.clone());
    }
    if arguments.only.is_empty() {
        record.write(&record_path)?;
    }
    if !arguments.keep {
        let _ = std::fs::remove_dir_all(suite.join("tests/tmp"));
    }
    println!("\n{}", done.markdown());
    if arguments.publish {
        let failures = Reasons::read(&lists.join("failures.json"))?;
        for group in ["persistence", "unit"] {
            if files.iter().any(|file| is_of(group, file)) {
                publish(group, &record, &skips, &failures)?;
            }
        }
    }
    Ok(())
}

fn is_of(group: &str, file: &str) -> bool {
    PERSISTENCE.contains(&file) == (group == "persistence")
}

/// Keeps in the repository what the record says of a group; an error where a failure has no reason.
fn publish(group: &str, record: &Record, skips: &Reasons, failures: &Reasons) -> Result<()> {
    let mut published = Published {
        suite: format!("Valkey 8.0, {group}"),
        date: published::today()?,
        command: format!("cargo xtask suite valkey --path DIR --group {group}"),
        ..Default::default()
    };
    let mut unexplained = Vec::new();
    for (file, FileRecord { outcome, .. }) in record.iter().filter(|(file, _)| is_of(group, file)) {
        published.passed += outcome.passed;
        published.failed += outcome.ran() - outcome.passed;
        let broke_off = outcome.broke_off.as_ref().map(|_| "the rest of the file");
        let names = outcome.failed.iter().map(|failure| failure.name.as_str()).chain(broke_off);
        for name in names {
            match failures.why(file, name) {
                Some(why) => published.failures.push(published::Case::new(file, name, why)),
                None => unexplained.push(format!("{file}: {name}")),
            }
        }
        let left_out = skips.of(file).iter().map(|skip| published::Case::new(file, &skip.name, &skip.why));
        published.left_out.extend(left_out);
    }
    ensure!(
        unexplained.is_empty(),
        "tests/suites/valkey/failures.json has no reason for:\n{}",
        unexplained.join("\n")
    );
    published.write(&format!("valkey-{group}"))
}

/// The files to run, in order.
fn files(arguments: &ValkeyArguments, suite: &Path) -> Result<Vec<String>> {
    let mut files: Vec<String> = Vec::new();
    match arguments.group.as_deref() {
        None if !arguments.file.is_empty() => {}
        Some("persistence") => files.extend(PERSISTENCE.iter().map(|file| (*file).to_owned())),
        Some("unit") | None => {
            if arguments.group.is_none() {
                files.extend(PERSISTENCE.iter().map(|file| (*file).to_owned()));
            }
            files.extend(files_in(suite, "unit")?);
            files.extend(files_in(suite, "unit/type")?);
        }
        Some(other) => bail!("no group {other:?}; there are persistence and unit"),
    }
    for name in &arguments.file {
        if suite.join("tests").join(format!("{name}.tcl")).is_file() {
            files.push(name.clone());
        } else {
            files.extend(files_in(suite, name).with_context(|| format!("no file or folder {name:?}"))?);
        }
    }
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

fn files_in(suite: &Path, folder: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(suite.join("tests").join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tcl") {
            let stem = path.file_stem().expect("it has an extension").to_string_lossy().into_owned();
            files.push(format!("{folder}/{stem}"));
        }
    }
    files.sort();
    Ok(files)
}

/// Puts the server and the tools where the suite looks for them.
fn prepare(arguments: &ValkeyArguments, suite: &Path) -> Result<()> {
    let server = match &arguments.server {
        Some(path) => path.canonicalize().context("--server")?,
        None => thali_testkit::thali_bin()?,
    };
    let src = suite.join("src");
    std::fs::create_dir_all(&src)?;
    link(&server, &src.join("valkey-server"))?;
    for (name, stands_in) in TOOLS {
        let tool = shell::find(stands_in)
            .with_context(|| format!("{stands_in} is missing; Debian's package is 'redis-tools'"))?;
        call(&tool, &src.join(name))?;
    }
    let tmp = suite.join("tests/tmp");
    if tmp.is_dir() {
        std::fs::remove_dir_all(&tmp)?;
    }
    std::fs::create_dir_all(&tmp)?;
    Ok(())
}

/// Replaces a link, but never a file that somebody built.
fn link(to: &Path, at: &Path) -> Result<()> {
    match std::fs::symlink_metadata(at) {
        Ok(found) if found.file_type().is_symlink() => std::fs::remove_file(at)?,
        Ok(_) => bail!("{} is no link; it is left alone. Move it away first", at.display()),
        Err(_) => {}
    }
    symlink(to, at).with_context(|| format!("link {}", at.display()))
}

/// A script that calls a tool under its own name, which some of them look at.
fn call(tool: &Path, at: &Path) -> Result<()> {
    const MARK: &str = "# Written by cargo xtask suite.";
    match std::fs::symlink_metadata(at) {
        Ok(found) if found.file_type().is_symlink() => std::fs::remove_file(at)?,
        Ok(_) if std::fs::read_to_string(at).is_ok_and(|text| text.contains(MARK)) => {}
        Ok(_) => bail!("{} was made by somebody; it is left alone. Move it away first", at.display()),
        Err(_) => {}
    }
    std::fs::write(at, format!("#!/bin/sh\n{MARK}\nexec '{}' \"$@\"\n", tool.display()))?;
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} a program", at.display()))
}

struct Harness<'a> {
    arguments: &'a ValkeyArguments,
    suite: &'a Path,
    skips: &'a Reasons,
    /// For logs and lists.
    folder: &'a Path,
}

impl Harness<'_> {
    fn run_file(&self, job: usize, file: &str) -> Result<FileRecord> {
        if let Some(why) = self.skips.whole(file) {
            println!("{file}: left out: {why}");
            let outcome = Outcome { skipped: vec!["*".into()], ended: true, ..Default::default() };
            return Ok(FileRecord { outcome, seconds: 0 });
        }
        let flat = file.replace('/', "-");
        let log = self.folder.join(format!("{flat}.log"));
        let begun = Instant::now();
        let child =
            self.command(job, file, &flat)?.stdout(File::create(&log)?).spawn().context("start tclsh")?;
        let in_time = wait(child, Duration::from_secs(self.arguments.limit))?;
        let seconds = begun.elapsed().as_secs();
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        let mut outcome = Outcome::parse(text.lines());
        if !in_time {
            outcome.broke_off = Some(format!("not done after {seconds} s"));
        }
        let broke_off = if outcome.ended { "" } else { ", broke off" };
        println!("{file}: {} of {} passed in {seconds} s{broke_off}", outcome.passed, outcome.ran());
        Ok(FileRecord { outcome, seconds })
    }

    fn command(&self, job: usize, file: &str, flat: &str) -> Result<Command> {
        let skipfile = self.folder.join(format!("{flat}.skips"));
        let mut list = File::create(&skipfile)?;
        for skip in self.skips.of(file) {
            writeln!(list, "{}", skip.name)?;
        }
        let mut command = Command::new("tclsh");
        let port = PORTS_FIRST + job * PORTS_PER_JOB;
        command
            .current_dir(self.suite)
            // A group of its own, so that the time limit ends servers, too.
            .process_group(0)
            .env("TERM", "dumb")
            .args(["tests/test_helper.tcl", "--single", file, "--durable", "--clients", "1"])
            .args(["--dont-clean", "--dont-pre-clean", "--tags", TAGS_DENIED])
            .args(["--baseport", &port.to_string(), "--portcount", &(PORTS_PER_JOB - 100).to_string()])
            .args(["--timeout", &self.arguments.patience.to_string()])
            .args(["--config", "loops", LOOPS])
            .arg("--skipfile")
            .arg(&skipfile)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        if self.arguments.tls {
            command.arg("--tls");
        }
        for name in &self.arguments.only {
            command.args(["--only", name]);
        }
        Ok(command)
    }
}

/// Whether the process group came to its end by itself. Whatever is left of it is killed.
fn wait(mut child: Child, limit: Duration) -> Result<bool> {
    let deadline = Instant::now() + limit;
    let mut in_time = true;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            in_time = false;
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let group = Pid::from_raw(child.id() as i32).expect("a pid is positive");
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()?;
    Ok(in_time)
}
