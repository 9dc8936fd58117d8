//! `cargo xtask fuzz`: libFuzzer makes up inputs for the targets of `fuzz/`, guided by what they reach.
//!
//! The targets lie outside of the workspace, because all that is under them is compiled with counters (LLVM's
//! sanitizer coverage, which any rustc has). Where rustup has a nightly toolchain, AddressSanitizer is added. A
//! run's corpus and log stay in the target folder; inputs that were found to fail lie in `fuzz/artifacts`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{root, shell};

#[derive(Args)]
pub struct FuzzArguments {
    /// What runs; all targets where none is named.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Decides what is made up; a random one where none is given.
    #[arg(long)]
    seed: Option<u32>,
    /// Targets that run at once.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Without AddressSanitizer, also where there is a nightly toolchain.
    #[arg(long)]
    stable: bool,
    /// Runs this input alone, in the one target that is named: a finding once more.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

/// Seconds for each target in `cargo xtask test`.
const SHORT_SECONDS: u64 = 8;
/// An input that takes longer is a finding.
const INPUT_SECONDS_MAX: u64 = 30;
/// Memory of a target; what takes more is a finding.
const MEMORY_MIB_MAX: u64 = 2048;
/// Lines of a log that are shown with a finding.
const SHOWN_LINES_MAX: usize = 60;

/// What cargo-fuzz builds with, too. Only the last one needs a nightly toolchain.
const COVERAGE: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cdebug-assertions",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
];

/// How the targets are built.
#[derive(Clone, Copy)]
struct Build {
    /// Of `fuzz/Cargo.toml`.
    profile: &'static str,
    with_sanitizer: bool,
}

pub fn run(arguments: &FuzzArguments) -> Result<()> {
    let targets = named(&arguments.targets)?;
    let with_sanitizer = !arguments.stable && has_nightly();
    if !with_sanitizer {
        println!(
            "without AddressSanitizer, which needs a nightly toolchain (rustup toolchain install nightly)"
        );
    }
    let built = Build { profile: "release", with_sanitizer }.run(&targets)?;
    if let Some(input) = &arguments.input {
        let [target] = &*targets else { bail!("name the target that the input is for") };
        let status = Command::new(built.join(target)).arg(input).status()?;
        ensure!(status.success(), "{target} ended with {status}");
        return Ok(());
    }
    let session = Session {
        built,
        seconds: arguments.seconds,
        seed: arguments.seed.unwrap_or_else(|| fastrand::u32(1..)),
    };
    let (_, failed) = session.run(&targets, arguments.jobs);
    ensure!(failed == 0, "{failed} of {} targets failed", targets.len());
    Ok(())
}

/// A short run of all targets with the toolchain at hand; gives how many passed and how many failed.
pub fn short() -> Result<(u32, u32)> {
    let targets = named(&[])?;
    let built = Build { profile: "smoke", with_sanitizer: false }.run(&targets)?;
    let session = Session { built, seconds: SHORT_SECONDS, seed: fastrand::u32(1..) };
    Ok(session.run(&targets, thread::available_parallelism()?.get()))
}

fn folder() -> PathBuf {
    root().join("fuzz")
}

/// The targets of these names, or all.
fn named(names: &[String]) -> Result<Vec<String>> {
    let mut all: Vec<String> = fs::read_dir(folder().join("fuzz_targets"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    all.sort();
    if let Some(name) = names.iter().find(|name| !all.contains(name)) {
        bail!("no target {name:?}; there are {}", all.join(", "));
    }
    Ok(if names.is_empty() { all } else { names.to_vec() })
}

fn has_nightly() -> bool {
    let version = Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output();
    version.is_ok_and(|ran| ran.status.success())
}

impl Build {
    /// Builds targets and gives the folder of their programs.
    fn run(self, targets: &[String]) -> Result<PathBuf> {
        let mut cargo = self.cargo();
        let version = self.cargo().arg("-vV").output().context("ask cargo for its version")?;
        let version = String::from_utf8_lossy(&version.stdout);
        let host =
            version.lines().find_map(|line| line.strip_prefix("host: ")).context("cargo names its host")?;

        let flags = &COVERAGE[..COVERAGE.len() - usize::from(!self.with_sanitizer)];
        let target = shell::target().join("fuzz");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).arg("build").arg("--quiet");
        cargo.arg("--manifest-path").arg(folder().join("Cargo.toml")).arg("--target-dir").arg(&target);
        // Naming it keeps the flags from build scripts and macros.
        cargo.args(["--target", host, "--profile", self.profile]);
        cargo.args(targets.iter().flat_map(|target| ["--bin", target]));
        ensure!(cargo.status()?.success(), "the build failed");
        Ok(target.join(host).join(self.profile))
    }

    fn cargo(self) -> Command {
        if !self.with_sanitizer {
            return shell::cargo();
        }
        let mut cargo = Command::new("rustup");
        cargo.args(["run", "nightly", "cargo"]).current_dir(root());
        cargo
    }
}

/// Runs of targets that were built.
struct Session {
    built: PathBuf,
    seconds: u64,
    seed: u32,
}

impl Session {
    /// Runs the targets, `jobs` at once, and says how each went; how many passed and how many failed.
    fn run(&self, targets: &[String], jobs: usize) -> (u32, u32) {
        println!("{} s for each target, --seed {}", self.seconds, self.seed);
        let (waiting, counts) = (Mutex::new(targets.iter()), Mutex::new((0, 0)));
        thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let Some(target) = waiting.lock().expect("no panics").next() else { return };
                        let outcome = self.target(target);
                        let mut counts = counts.lock().expect("no panics");
                        match outcome {
                            Ok(outcome) => {
                                println!("{target:<12} {outcome}");
                                counts.0 += 1;
                            }
                            Err(error) => {
                                println!("{target:<12} FAILED: {error:#}");
                                counts.1 += 1;
                            }
                        }
                    }
                });
            }
        });
        counts.into_inner().expect("no panics")
    }

    /// Runs a target and says what it came to.
    fn target(&self, target: &str) -> Result<String> {
        let artifacts = folder().join("artifacts").join(target);
        let corpus = shell::target().join("fuzz/corpus").join(target);
        for folder in [&artifacts, &corpus] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let log = self.built.join(format!("{target}.log"));
        let output = File::create(&log)?;
        let status = Command::new(self.built.join(target))
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-seed={}", self.seed))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .arg("-print_final_stats=1")
            .arg(corpus)
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .with_context(|| format!("start {target}"))?;
        let log = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        judge(target, status, &log)
    }
}

/// What a run came to by its log, or the finding with all that it takes to repeat it.
fn judge(target: &str, status: ExitStatus, log: &str) -> Result<String> {
    let counters = number_after(log, "INFO: Loaded 1 modules   (");
    ensure!(counters.is_some_and(|counters| counters > 0), "nothing is counted in it:\n{log}");
    if !status.success() {
        bail!("{status}\n{}", finding(target, log));
    }
    let number = |word| number_after(log, word).with_context(|| format!("no {word:?} in its log:\n{log}"));
    let (inputs, reached) = (number("stat::number_of_executed_units:")?, number(" cov: ")?);
    let of = counters.unwrap_or(0);
    Ok(format!("{inputs} inputs, {reached} of {of} places reached, no finding"))
}

/// The number behind the last `word` in `log`.
fn number_after(log: &str, word: &str) -> Option<u64> {
    let rest = log[log.rfind(word)? + word.len()..].trim_start();
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// The end of a log from where the failure begins, the input, and how to run it once more.
fn finding(target: &str, log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let begins = |line: &&str| line.contains("panicked at") || line.contains("ERROR:");
    let start = lines.iter().position(begins).unwrap_or(lines.len().saturating_sub(SHOWN_LINES_MAX));
    let mut shown = lines[start..].iter().take(SHOWN_LINES_MAX).copied().collect::<Vec<_>>().join("\n");
    let Some((_, input)) = log.rsplit_once("Test unit written to ") else { return shown };
    let input = Path::new(input.lines().next().unwrap_or(input));
    let bytes = fs::read(input).unwrap_or_default();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    shown += &format!("\n\nThe input, {} bytes, as `xxd -r -p` reads them:\n{hex}\n", bytes.len());
    let input = input.strip_prefix(root()).unwrap_or(input);
    shown + &format!("It lies in {0}; once more: cargo xtask fuzz --input {0} {target}", input.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_read_as_libfuzzer_writes_them() {
        let log = "INFO: Loaded 1 modules   (43834 inline 8-bit counters): 43834 [0x1, 0x2)\n\
                   #2\tINITED cov: 34 ft: 35 corp: 1/1b exec/s: 0 rss: 31Mb\n\
                   #67501\tDONE   cov: 2115 ft: 9001 corp: 600/11Kb lim: 670 exec/s: 7500 rss: 34Mb\n\
                   Done 67501 runs in 9 second(s)\nstat::number_of_executed_units: 67501\n";
        let passed = ExitStatus::default();
        assert_eq!(
            judge("commands", passed, log).unwrap(),
            "67501 inputs, 2115 of 43834 places reached, no finding"
        );
        let blind = log.replace("43834 inline", "0 inline");
        assert!(judge("commands", passed, &blind).unwrap_err().to_string().starts_with("nothing is counted"));
    }

    #[test]
    fn a_finding_says_how_it_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("crash-1");
        fs::write(&input, b"\x00hi").unwrap();
        let log = format!(
            "INFO: seed\nthread 'main' panicked at src/lib.rs:1:1:\nit broke\n\
             artifact_prefix='./'; Test unit written to {}\nBase64: AGhp\n",
            input.display()
        );
        let shown = finding("reader", &log);
        assert!(shown.starts_with("thread 'main' panicked at src/lib.rs:1:1:\nit broke\n"), "{shown}");
        assert!(shown.contains("3 bytes") && shown.contains("\n006869\n"), "{shown}");
        assert!(shown.ends_with(&format!("cargo xtask fuzz --input {} reader", input.display())), "{shown}");
    }

    #[test]
    fn targets_are_those_of_the_package() {
        let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
        for target in named(&[]).unwrap() {
            assert!(manifest.contains(&format!("\nname = \"{target}\"\npath")), "{target}");
        }
        assert!(named(&["none".into()]).is_err());
    }
}
