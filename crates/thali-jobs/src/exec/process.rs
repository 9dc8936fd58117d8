//! One job, one process: gives it the job, follows what it says, turns its end into the job's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bullmq::JobProgress;
use redis::aio::ConnectionManager;
use serde_json::Value;
use thali_sandbox::{Command, Ending, Outcome, Policy, Sandbox, Stream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::debug;

use super::config::ExecConfig;
use super::control::{Reader, Said};
use crate::worker::{CancellationToken, Job, JobError};

/// Progress goes to the store at most this often; what is newer replaces what is older.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);
/// Log lines between the command and the store; a command that is faster waits.
const LOG_BACKLOG_MAX: usize = 64;
/// How long a result waits for its announcement.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(1);
/// The end of standard error that goes into a job's `failedReason`.
const REASON_BYTES_MAX: usize = 2048;

pub struct Runner {
    pub config: ExecConfig,
    pub policy: Policy,
    /// For announcements, and for data that the crate cannot read.
    pub connection: ConnectionManager,
}

pub async fn run(runner: Arc<Runner>, job: Job, cancelled: CancellationToken) -> Result<Value, JobError> {
    let (progress_in, progress) = watch::channel(None);
    let (logs_in, logs) = mpsc::channel(LOG_BACKLOG_MAX);
    let stop = Arc::new(AtomicBool::new(false));
    let data = data(&runner, &job).await?;
    let command = command(&runner.config, &job, data);
    let process = {
        let (runner, stop) = (runner.clone(), stop.clone());
        // Its own thread: the box blocks it, and dies with it.
        tokio::task::spawn_blocking(move || run_box(&runner.policy, &command, &stop, progress_in, logs_in))
    };
    let reporter = tokio::spawn(report(job.clone(), progress, logs));
    let watcher = {
        let stop = stop.clone();
        tokio::spawn(async move {
            cancelled.cancelled().await;
            stop.store(true, Ordering::Relaxed);
        })
    };
    let outcome = process.await;
    watcher.abort();
    // The last progress precedes the result.
    let _ = reporter.await;
    match outcome {
        Ok(Ok(outcome)) => {
            let result = judge(outcome, &runner.policy)?;
            announce(&runner, &job, &result).await;
            Ok(result)
        }
        Ok(Err(error)) => Err(JobError::Failed(error.to_string())),
        Err(error) => Err(JobError::Failed(format!("the worker broke: {error}"))),
    }
}

/// The job's data as JSON text. The crate makes null of JSON that Rust's numbers and strings cannot hold
/// (`1e999`, half a surrogate pair), which Node's producers may send; then it is the stored text that counts.
async fn data(runner: &Runner, job: &Job) -> Result<String, JobError> {
    if !job.data().is_null() {
        return Ok(job.data().to_string());
    }
    let key = format!("{}:{}:{}", runner.config.prefix, runner.config.queue, job.id());
    let mut read = redis::cmd("HGET");
    read.arg(key).arg("data");
    let text: Result<Option<String>, _> = read.query_async(&mut runner.connection.clone()).await;
    match text {
        Ok(text) => Ok(text.unwrap_or_else(|| "null".to_owned())),
        Err(error) => Err(JobError::Failed(format!("the job's data cannot be read: {error}"))),
    }
}

/// Best effort: who must not miss a result watches the job.
async fn announce(runner: &Runner, job: &Job, result: &Value) {
    let Some(announce) = &runner.config.announce else { return };
    let Some(message) = (announce.message)(job, result) else { return };
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(&announce.channel).arg(message.to_string());
    let mut connection = runner.connection.clone();
    let sent = tokio::time::timeout(ANNOUNCE_PATIENCE, publish.exec_async(&mut connection)).await;
    if !matches!(sent, Ok(Ok(()))) {
        debug!(job = job.id(), "announcement lost");
    }
}

/// The command as every job gets it.
pub fn bare_command(config: &ExecConfig) -> Command {
    let mut command = Command::new(config.command[0].clone()).args(config.command[1..].iter().cloned());
    command.env.clone_from(&config.env);
    command.control = true;
    command
}

fn command(config: &ExecConfig, job: &Job, data: String) -> Command {
    bare_command(config)
        .stdin(data)
        .env("THALI_JOB_ID", job.id())
        .env("THALI_JOB_NAME", job.name())
        .env("THALI_JOB_QUEUE", &config.queue)
        .env("THALI_JOB_ATTEMPT", (job.attempts_made() + 1).to_string())
}

fn run_box(
    policy: &Policy,
    command: &Command,
    stop: &AtomicBool,
    progress: watch::Sender<Option<Value>>,
    logs: mpsc::Sender<String>,
) -> Result<Outcome, thali_sandbox::Error> {
    let sandbox = Sandbox::new(policy.clone())?;
    let mut reader = Reader::default();
    let mut said = |said| match said {
        Said::Progress(value) => {
            progress.send_replace(Some(value));
        }
        // A command that logs faster than the store takes it is held back by its full pipe.
        Said::Log(text) => {
            let _ = logs.blocking_send(text);
        }
    };
    let outcome = sandbox.run(command, stop, &mut |stream, bytes| {
        if stream == Stream::Control {
            reader.read(bytes, &mut said);
        }
    });
    reader.finish(&mut said);
    outcome
}

/// Passes progress and logs on to the store until the command has ended and all is told.
async fn report(
    mut job: Job,
    mut progress: watch::Receiver<Option<Value>>,
    mut logs: mpsc::Receiver<String>,
) {
    let mut told = None;
    let mut next = Instant::now();
    let mut pending = false;
    loop {
        tokio::select! {
            line = logs.recv() => match line {
                Some(line) => {
                    if let Err(error) = job.log(&line).await {
                        debug!(job = job.id(), %error, "log line lost");
                    }
                }
                // Both senders go at the same time, when the command has ended.
                None => break,
            },
            Ok(()) = progress.changed(), if !pending => pending = true,
            () = tokio::time::sleep_until(next), if pending => {
                pending = false;
                next = Instant::now() + PROGRESS_EVERY;
                tell(&mut job, &mut progress, &mut told).await;
            }
        }
    }
    tell(&mut job, &mut progress, &mut told).await;
}

async fn tell(job: &mut Job, progress: &mut watch::Receiver<Option<Value>>, told: &mut Option<Value>) {
    let newest = progress.borrow_and_update().clone();
    if newest == *told {
        return;
    }
    told.clone_from(&newest);
    let Some(value) = newest else { return };
    if let Err(error) = job.update_progress(JobProgress::Object(value)).await {
        debug!(job = job.id(), %error, "progress lost");
    }
}

fn judge(outcome: Outcome, policy: &Policy) -> Result<Value, JobError> {
    let limits = &policy.limits;
    let reason = match outcome.ending {
        Ending::Own if outcome.exit_code == Some(0) => return Ok(result(&outcome.stdout)),
        Ending::Stopped => return Err(JobError::GiveBack),
        Ending::Own => match (outcome.exit_code, outcome.signal) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended in an unknown way".into(),
        },
        Ending::Time => format!("timed out after {:?}", limits.wall),
        Ending::Memory => format!("used more than {} MiB of memory", limits.memory_bytes >> 20),
        Ending::Processes => format!("started more than {} processes", limits.processes),
        Ending::Output => "wrote more output than is allowed".into(),
        Ending::Scratch => format!("wrote more than {} MiB of files", limits.scratch_bytes >> 20),
    };
    let stderr = String::from_utf8_lossy(tail(&outcome.stderr)).trim().to_owned();
    Err(JobError::Failed(if stderr.is_empty() { reason } else { format!("{reason}: {stderr}") }))
}

fn result(stdout: &[u8]) -> Value {
    let text = stdout.trim_ascii();
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(text).unwrap_or_else(|_| String::from_utf8_lossy(text).into())
}

fn tail(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(REASON_BYTES_MAX)..]
}

#[cfg(test)]
mod tests {
    use super::result;
    use serde_json::json;

    #[test]
    fn output_is_json_if_it_parses_else_a_string() {
        for (output, value) in [
            ("", json!(null)),
            ("\n", json!(null)),
            ("{\"a\":1}\n", json!({"a": 1})),
            ("42", json!(42)),
            ("done\n", json!("done")),
            ("1 2", json!("1 2")),
        ] {
            assert_eq!(result(output.as_bytes()), value, "{output:?}");
        }
        assert_eq!(result(b"\xff"), json!("\u{fffd}"));
    }
}
