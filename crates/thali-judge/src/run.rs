//! The judging itself: one sandbox a submission, one run a case.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thali_sandbox::{Ending, Limits, OnRefusal, Outcome, Policy, Sandbox};

use crate::Error;
use crate::language::Language;
use crate::problem::{Case, Problem};
use crate::verdict::{Kind, Verdict};

pub const CODE_BYTES_MAX: usize = 64 * 1024;
/// Characters of a program's or compiler's words that go into the verdict.
const DETAIL_CHARS_MAX: usize = 1000;
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
const PROCESSES_MAX: u64 = 32;
/// A program that waits instead of working may take this many times its CPU time, so that a busy
/// machine does not change verdicts.
const WALL_FACTOR: u32 = 3;

/// What is handed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submission {
    pub language: Language,
    pub problem: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Code that is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_base64: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Compiling,
    Running,
}

/// How far the judge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub stage: Stage,
    /// Cases passed so far.
    pub case: usize,
    pub cases: usize,
}

impl Submission {
    fn code(&self) -> Result<Vec<u8>, Error> {
        let code = match (&self.code, &self.code_base64) {
            (Some(code), None) => code.clone().into_bytes(),
            (None, Some(encoded)) => STANDARD.decode(encoded)?,
            _ => return Err(Error::Code),
        };
        if code.len() > CODE_BYTES_MAX { Err(Error::Code) } else { Ok(code) }
    }
}

/// Judges a submission under a policy of which the caller sets what may be missing on this machine
/// (`allow_unboxed`); limits and rules are the judge's own. Blocks the calling thread.
pub fn judge(
    submission: &Submission,
    base: &Policy,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Verdict, Error> {
    let problem =
        Problem::by_id(&submission.problem).ok_or_else(|| Error::Problem(submission.problem.clone()))?;
    let code = submission.code()?;
    let language = submission.language;
    let cases = problem.cases.len();
    let mut verdict = Verdict {
        verdict: Kind::Accepted,
        language,
        problem: problem.id.clone(),
        case: None,
        cases,
        detail: format!("all {cases} cases passed"),
        time_ms: 0,
        memory_kb: 0,
    };
    if !language.is_installed() {
        verdict.verdict = Kind::Unavailable;
        verdict.detail = format!("{} is not installed here", language.tool());
        return Ok(verdict);
    }
    on_progress(Progress { stage: Stage::Compiling, case: 0, cases });
    let sandbox =
        Sandbox::new(Policy { limits: compile_limits(), on_refusal: OnRefusal::Fail, ..base.clone() })?;
    sandbox.put(language.source_name(), &code)?;
    let never = AtomicBool::new(false);
    let compiled = sandbox.run(&language.compile(), &never, &mut |_, _| {})?;
    if !compiled.success() {
        verdict.verdict = Kind::CompileError;
        verdict.detail = match compiled.ending {
            Ending::Own => words(&compiled),
            _ => "the compiler took too much".into(),
        };
        return Ok(verdict);
    }
    let memory_mib = problem.memory_limit_mib + language.runtime_mib();
    let policy =
        Policy { limits: run_limits(&problem, memory_mib), on_refusal: OnRefusal::Kill, ..base.clone() };
    for (index, case) in problem.cases.iter().enumerate() {
        on_progress(Progress { stage: Stage::Running, case: index, cases });
        let command = language.run(problem.memory_limit_mib).stdin(case.input.clone());
        let outcome = sandbox.run_under(&policy, &command, &never, &mut |_, _| {})?;
        verdict.time_ms = verdict.time_ms.max(outcome.cpu.as_millis() as u64);
        verdict.memory_kb = verdict.memory_kb.max(outcome.resident_bytes_max / 1024);
        if let Err((kind, detail)) = assess(&outcome, case, &problem, memory_mib) {
            verdict.verdict = kind;
            verdict.case = Some(index + 1);
            verdict.detail = detail;
            return Ok(verdict);
        }
    }
    Ok(verdict)
}

fn compile_limits() -> Limits {
    Limits {
        wall: Duration::from_secs(20),
        cpu: Some(Duration::from_secs(10)),
        memory_bytes: 512 << 20,
        ..Limits::default()
    }
}

fn run_limits(problem: &Problem, memory_mib: u64) -> Limits {
    let time = Duration::from_millis(problem.time_limit_ms);
    Limits {
        wall: time * WALL_FACTOR,
        cpu: Some(time),
        memory_bytes: memory_mib << 20,
        processes: PROCESSES_MAX,
        file_bytes: 16 << 20,
        scratch_bytes: 32 << 20,
        stdout_bytes: OUTPUT_BYTES_MAX,
        stderr_bytes: OUTPUT_BYTES_MAX,
        ..Limits::default()
    }
}

fn assess(outcome: &Outcome, case: &Case, problem: &Problem, memory_mib: u64) -> Result<(), (Kind, String)> {
    let says = words(outcome);
    match outcome.ending {
        Ending::Time => Err((Kind::TimeLimit, format!("took more than {} ms", problem.time_limit_ms))),
        Ending::Memory => Err((Kind::MemoryLimit, format!("used more than {memory_mib} MiB"))),
        Ending::Processes => {
            Err((Kind::ProcessLimit, format!("started more than {PROCESSES_MAX} processes")))
        }
        Ending::Output => Err((Kind::OutputLimit, format!("wrote more than {} KiB", OUTPUT_BYTES_MAX >> 10))),
        Ending::Scratch => Err((Kind::OutputLimit, "wrote too many or too large files".into())),
        Ending::Stopped => Err((Kind::RuntimeError, "was stopped".into())),
        Ending::Own if outcome.refused() => {
            Err((Kind::Forbidden, "made a system call that is not allowed here".into()))
        }
        Ending::Own => match (outcome.exit_code, outcome.signal) {
            (Some(0), _) if outcome.cpu.as_millis() as u64 > problem.time_limit_ms => {
                Err((Kind::TimeLimit, format!("took more than {} ms", problem.time_limit_ms)))
            }
            (Some(0), _) => case.check(&outcome.stdout).map_err(|wrong| (Kind::WrongAnswer, wrong)),
            (_, Some(signals::FILE_TOO_LARGE)) => Err((Kind::OutputLimit, "wrote too large a file".into())),
            _ if ran_out_of_memory(&says) => Err((Kind::MemoryLimit, says)),
            _ if ran_out_of_processes(&says) => Err((Kind::ProcessLimit, says)),
            _ if was_denied(&says) => Err((Kind::Forbidden, says)),
            (Some(code), _) => Err((Kind::RuntimeError, with_words(format!("exit status {code}"), &says))),
            (None, signal) => {
                let name = signals::name(signal.unwrap_or(0));
                Err((Kind::RuntimeError, with_words(format!("ended by {name}"), &says)))
            }
        },
    }
}

/// Runtimes say so when the kernel refused them memory, and end by themselves.
fn ran_out_of_memory(says: &str) -> bool {
    ["MemoryError", "JavaScript heap out of memory", "Cannot allocate memory", "out of memory", "bad_alloc"]
        .iter()
        .any(|sign| says.contains(sign))
}

/// A bomb that gives up at the first refused fork.
fn ran_out_of_processes(says: &str) -> bool {
    ["Cannot fork", "Resource temporarily unavailable", "EAGAIN"].iter().any(|sign| says.contains(sign))
}

/// What a refused file shows up as; a program that copes with the refusal is judged by its answer.
fn was_denied(says: &str) -> bool {
    ["Permission denied", "PermissionError", "EACCES", "EPERM", "Operation not permitted"]
        .iter()
        .any(|sign| says.contains(sign))
}

/// The last part of standard error, as text.
fn words(outcome: &Outcome) -> String {
    let text = String::from_utf8_lossy(&outcome.stderr);
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(DETAIL_CHARS_MAX);
    text.chars().skip(skipped).collect()
}

fn with_words(reason: String, says: &str) -> String {
    if says.is_empty() { reason } else { format!("{reason}: {says}") }
}

/// Signals by number, as Linux has them on every architecture that boxes are built for.
mod signals {
    pub const FILE_TOO_LARGE: i32 = 25;

    pub fn name(signal: i32) -> String {
        match signal {
            4 => "SIGILL (bad instruction)".into(),
            6 => "SIGABRT (abort)".into(),
            7 => "SIGBUS (bad address)".into(),
            8 => "SIGFPE (bad arithmetic)".into(),
            9 => "SIGKILL".into(),
            11 => "SIGSEGV (bad address)".into(),
            13 => "SIGPIPE".into(),
            other => format!("signal {other}"),
        }
    }
}
