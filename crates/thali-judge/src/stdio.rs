//! The judge as a job's command: submission in, progress and verdict out.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;

use serde_json::json;
use thali_sandbox::Policy;

use crate::run::{CODE_BYTES_MAX, Submission, judge};
use crate::verdict::Verdict;
use crate::{Error, Progress};

/// JSON may escape every byte of the code into six.
const INPUT_BYTES_MAX: u64 = CODE_BYTES_MAX as u64 * 6 + 4096;

/// Reads one submission from standard input, tells progress on descriptor 3 (where there is one) and
/// writes the verdict to standard output.
pub fn run_stdio(policy: &Policy) -> Result<Verdict, Error> {
    let mut input = Vec::new();
    std::io::stdin().take(INPUT_BYTES_MAX).read_to_end(&mut input)?;
    let submission: Submission = serde_json::from_slice(&input)?;
    let mut control = control();
    let mut tell = |progress: Progress| {
        let line = format!("{}\n", json!({ "progress": progress }));
        // Nobody listening is no reason to stop.
        if let Some(file) = &mut control
            && file.write_all(line.as_bytes()).is_err()
        {
            control = None;
        }
    };
    let verdict = judge(&submission, policy, &mut tell)?;
    let mut line = serde_json::to_vec(&verdict)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)?;
    Ok(verdict)
}

/// Descriptor 3, if the starter opened it as a pipe.
fn control() -> Option<File> {
    let link = std::fs::read_link("/proc/self/fd/3").ok()?;
    if !link.to_string_lossy().starts_with("pipe:") {
        return None;
    }
    // SAFETY: it is open, and by the contract between worker and command it is ours.
    Some(unsafe { File::from_raw_fd(3) })
}
