//! Names of queues, jobs and keys: what may be in them, and BullMQ's key layout.
//!
//! SOURCE: BullMQ's layout is `prefix:queue:part`; neither prefix nor queue holds a colon, so the first
//! two separators are unambiguous.

use super::error::FieldError;

/// Longest name of a queue, in characters. BullMQ has no limit; names travel in URLs, labels and keys.
pub const QUEUE_NAME_LEN_MAX: usize = 256;
/// Longest name of a job, in characters.
pub const JOB_NAME_LEN_MAX: usize = 512;
/// Longest id of a job that a producer may choose, in characters.
pub const JOB_ID_LEN_MAX: usize = 512;

/// Refuses names that BullMQ could not use as part of a key.
pub fn check_queue_name(name: &str) -> Result<(), FieldError> {
    check_text("queue", name, QUEUE_NAME_LEN_MAX)?;
    if name.contains(':') {
        return Err(FieldError::invalid("queue", "a queue's name cannot contain ':'"));
    }
    Ok(())
}

/// Refuses prefixes that BullMQ could not use as part of a key.
pub fn check_prefix(prefix: &str) -> Result<(), FieldError> {
    check_text("prefix", prefix, QUEUE_NAME_LEN_MAX)?;
    if prefix.contains(':') {
        return Err(FieldError::invalid("prefix", "the prefix cannot contain ':'"));
    }
    Ok(())
}

/// Refuses ids that could be mistaken for one that BullMQ counts up, or for part of another key.
///
/// SOURCE: BullMQ 6 `Job.validateOptions`: ids that `parseInt` reads back unchanged are refused, and so
/// are colons, except in the three-part ids of repeated jobs.
pub fn check_custom_job_id(id: &str) -> Result<(), FieldError> {
    check_text("opts.jobId", id, JOB_ID_LEN_MAX)?;
    if reads_back_as_integer(id) {
        return Err(FieldError::invalid("opts.jobId", "an own id cannot be an integer"));
    }
    if id.contains(':') && id.split(':').count() != 3 {
        return Err(FieldError::invalid("opts.jobId", "an own id cannot contain ':'"));
    }
    if id.starts_with("0:") {
        return Err(FieldError::invalid("opts.jobId", "an own id cannot start with '0:'"));
    }
    Ok(())
}

/// Refuses empty, overlong and control characters, none of which belong in a key or a log line.
pub fn check_text(field: &str, text: &str, len_max: usize) -> Result<(), FieldError> {
    if text.is_empty() {
        return Err(FieldError::invalid(field, "must not be empty"));
    }
    if text.len() > len_max && text.chars().count() > len_max {
        return Err(FieldError::invalid(field, format!("must have at most {len_max} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(FieldError::invalid(field, "must not contain control characters"));
    }
    Ok(())
}

/// What JavaScript's `parseInt` would print as it was. BullMQ lets numbers of 22 digits and more pass,
/// which JavaScript prints with an exponent; here they are integers like the others.
fn reads_back_as_integer(id: &str) -> bool {
    let digits = id.strip_prefix('-').unwrap_or(id);
    let canonical = digits == "0" || !digits.starts_with('0');
    !digits.is_empty() && canonical && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The keys of one queue that are used without the official crate, spelt once.
#[derive(Debug)]
pub(crate) struct Keys {
    /// `prefix:queue:`
    pub base: Box<str>,
    pub wait: Box<str>,
    pub paused: Box<str>,
    pub meta: Box<str>,
    pub id: Box<str>,
    pub completed: Box<str>,
    pub failed: Box<str>,
    pub delayed: Box<str>,
    pub active: Box<str>,
    pub events: Box<str>,
    pub marker: Box<str>,
    pub prioritized: Box<str>,
    pub pc: Box<str>,
    pub waiting_children: Box<str>,
}

impl Keys {
    pub(crate) fn new(prefix: &str, queue: &str) -> Self {
        let base = format!("{prefix}:{queue}:");
        let key = |part: &str| format!("{base}{part}").into_boxed_str();
        Self {
            wait: key("wait"),
            paused: key("paused"),
            meta: key("meta"),
            id: key("id"),
            completed: key("completed"),
            failed: key("failed"),
            delayed: key("delayed"),
            active: key("active"),
            events: key("events"),
            marker: key("marker"),
            prioritized: key("prioritized"),
            pc: key("pc"),
            waiting_children: key("waiting-children"),
            base: base.into_boxed_str(),
        }
    }

    pub(crate) fn job(&self, id: &str) -> String {
        [&*self.base, id].concat()
    }

    pub(crate) fn job_logs(&self, id: &str) -> String {
        [&*self.base, id, ":logs"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ids_that_javascript_reads_as_integers_are_refused() {
        for id in ["0", "7", "-3", "12345", "9007199254740992", "12345678901234567890123"] {
            assert!(check_custom_job_id(id).is_err(), "{id}");
        }
        for id in ["007", "7a", "a7", "order-7", "a:b:c", "-"] {
            assert!(check_custom_job_id(id).is_ok(), "{id}");
        }
        for id in ["", "a:b", "a:b:c:d", "0:1:2", "a\nb"] {
            assert!(check_custom_job_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn queue_names_have_no_colon_no_control_character_and_a_length() {
        for name in ["", "a:b", "a\u{0}b", &"x".repeat(QUEUE_NAME_LEN_MAX + 1)] {
            assert!(check_queue_name(name).is_err(), "{name}");
        }
        for name in ["mail", "a b", "Überweisung", "{tag}x", &"x".repeat(QUEUE_NAME_LEN_MAX)] {
            assert!(check_queue_name(name).is_ok(), "{name}");
        }
    }
}
