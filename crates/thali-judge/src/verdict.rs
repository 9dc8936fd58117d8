//! What the judge says in the end.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::language::Language;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Accepted,
    WrongAnswer,
    CompileError,
    RuntimeError,
    TimeLimit,
    MemoryLimit,
    ProcessLimit,
    OutputLimit,
    /// It tried what boxed programs may not do: the network, other files, other processes.
    Forbidden,
    /// The language is not installed on this machine.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub verdict: Kind,
    pub language: Language,
    pub problem: String,
    /// The case that decided, counted from 1; `None` when no case did.
    pub case: Option<usize>,
    pub cases: usize,
    /// One sentence, or what the compiler or the program said.
    pub detail: String,
    /// CPU time of the slowest case.
    pub time_ms: u64,
    /// Largest resident memory of any case.
    pub memory_kb: u64,
}

/// What everybody may see of a verdict: `{id, language, verdict, time_ms}`, from a job's id and result.
pub fn feed_entry(id: &str, result: &Value) -> Value {
    json!({
        "id": id,
        "language": result["language"],
        "verdict": result["verdict"],
        "time_ms": result["time_ms"],
    })
}
