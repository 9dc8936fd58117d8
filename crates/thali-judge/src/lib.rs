//! Judges a program handed in by a stranger: compiles or checks it, runs it boxed against every test
//! case of a problem, and gives one verdict.
//!
//! [`judge`] is the library's face. [`run_stdio`] is the same as a job's command, as an exec worker
//! starts it: the submission as JSON on standard input, progress on descriptor 3, the verdict as JSON
//! on standard output. The problems and the sample programs lie in `examples/judge` and are part of
//! the binary ([`samples`]).
//!
//! A wrong or hostile program is not a failure of the judge: its verdict says what it did. Only a
//! submission that cannot be judged at all (unknown problem or language) is an error.

mod language;
mod problem;
mod run;
mod samples;
mod stdio;
mod verdict;

pub use language::Language;
pub use problem::{Case, Problem};
pub use run::{Progress, Stage, Submission, judge};
pub use samples::{Sample, samples, samples_json};
pub use stdio::run_stdio;
pub use verdict::{Kind, Verdict, feed_entry};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the submission is not {{language, code, problem}}: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("there is no problem '{0}'")]
    Problem(String),
    #[error("code_base64 does not decode: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("a submission has code or code_base64, and at most {max} bytes of it", max = run::CODE_BYTES_MAX)]
    Code,
    #[error(transparent)]
    Box(#[from] thali_sandbox::Error),
    #[error("reading the submission or writing the verdict: {0}")]
    Io(#[from] std::io::Error),
}
