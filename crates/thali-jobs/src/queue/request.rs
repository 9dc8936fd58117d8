//! A job as a producer writes it: `{"name", "data", "opts"}`, or an array of them.
//!
//! The good case is one pass that borrows `data` from the body: its text goes to the store as it came.
//! Only a body with a fault is read a second time, slowly, to say which field has it.

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

use super::error::{Fault, FieldError};
use super::names;
use super::options::{JobOptions, Object, optional_object};

/// Deepest nesting of a job's data. Readers of jobs, this program's included, commonly stop at 128, and
/// a job that no worker can read must not enter the queue.
pub const DATA_DEPTH_MAX: usize = 120;

/// A job to be added.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewJob<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// JSON text; `{}` where the producer sent none, as in BullMQ.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub opts: JobOptions,
}

/// What a producer sent: one job or several.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one job is the common case and should not be boxed")]
pub enum NewJobs<'a> {
    One(NewJob<'a>),
    Many(Vec<NewJob<'a>>),
}

impl<'a> NewJob<'a> {
    /// A job with default options.
    pub fn new(name: &'a str, data: &'a RawValue) -> Self {
        Self { name: Cow::Borrowed(name), data: Some(data), opts: JobOptions::default() }
    }

    /// The JSON text that is stored.
    pub fn data_text(&self) -> &str {
        self.data.map_or("{}", RawValue::get)
    }

    /// Refuses what BullMQ would refuse and what no worker could read.
    pub fn check(&self) -> Result<(), FieldError> {
        names::check_text("name", &self.name, names::JOB_NAME_LEN_MAX)?;
        self.opts.check()?;
        let data = self.data_text();
        // As in BullMQ, 0 is no limit.
        if self.opts.size_limit.is_some_and(|limit| limit > 0 && data.len() as u64 > limit) {
            return Err(FieldError::invalid("data", "is larger than opts.sizeLimit allows"));
        }
        if deeper_than(data, DATA_DEPTH_MAX) {
            let message = format!("is nested more than {DATA_DEPTH_MAX} levels deep");
            return Err(FieldError::invalid("data", message));
        }
        Ok(())
    }
}

impl<'a> NewJobs<'a> {
    /// Reads a request's body and checks every job in it; `jobs_max` bounds an array.
    pub fn parse(body: &'a [u8], jobs_max: usize) -> Result<Self, FieldError> {
        // serde_json checks the encoding of those strings only that it unescapes or keeps.
        let text = std::str::from_utf8(body).map_err(|error| {
            let message = format!("the body is not UTF-8 (byte {})", error.valid_up_to());
            FieldError::new("", Fault::Malformed, message)
        })?;
        let jobs = serde_json::from_str::<Bounded<'a>>(text).map_err(|_| explain(text, jobs_max))?.0;
        match &jobs {
            Self::One(job) => job.check()?,
            Self::Many(list) if list.is_empty() => {
                let message = "an array must hold at least one job";
                return Err(FieldError::new("[0]", Fault::Missing, message));
            }
            Self::Many(list) if list.len() > jobs_max => return Err(too_many(jobs_max)),
            Self::Many(list) => {
                for (index, job) in list.iter().enumerate() {
                    job.check().map_err(|error| error.within(index))?;
                }
            }
        }
        Ok(jobs)
    }
}

fn too_many(jobs_max: usize) -> FieldError {
    FieldError::invalid("", format!("an array may hold at most {jobs_max} jobs"))
}

/// Finds the fault in a body that did not parse.
fn explain(text: &str, jobs_max: usize) -> FieldError {
    let head = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let malformed = |error: serde_json::Error| FieldError::new("", Fault::Malformed, error.to_string());
    // Syntax first: a field can be blamed only where the text as a whole is JSON.
    if let Err(error) = serde_json::from_str::<&RawValue>(text) {
        return malformed(error);
    }
    if head.starts_with('[') {
        let items: Vec<&RawValue> = match serde_json::from_str(text) {
            Ok(items) => items,
            Err(error) => return malformed(error),
        };
        if items.len() > jobs_max {
            return too_many(jobs_max);
        }
        for (index, item) in items.into_iter().enumerate() {
            if let Err(error) = explain_job(item.get()) {
                return error.within(index);
            }
        }
    } else if let Err(error) = explain_job(text) {
        return error;
    }
    FieldError::new("", Fault::WrongType, "expected a job or an array of jobs")
}

fn explain_job(text: &str) -> Result<(), FieldError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, Object<NewJob<'_>>>(&mut deserializer) {
        Ok(_) => Ok(()),
        Err(error) => Err(blame(&error)),
    }
}

/// Reads a request's body that is one JSON object.
///
/// # Errors
/// The fault, with the field that has it.
pub fn read_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, FieldError> {
    let malformed = |error: serde_json::Error| FieldError::new("", Fault::Malformed, error.to_string());
    let text: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
    let mut deserializer = serde_json::Deserializer::from_str(text.get());
    let object: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut deserializer);
    object.map(|object| object.0).map_err(|error| blame(&error))
}

/// Tells from serde's words which field has which fault.
fn blame(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let path = error.path().to_string();
    let message = error.inner().to_string();
    // The position in the text helps nobody who has the field's name.
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text).to_owned();
    let parent = if path == "." { String::new() } else { path };
    let named = |fault: Fault| {
        let name = message.split('`').nth(1).unwrap_or_default();
        // The path of an unknown field may or may not end in its name.
        let field = match parent.trim_end_matches(".?") {
            "" => name.to_owned(),
            parent if parent == name || parent.ends_with(&format!(".{name}")) => parent.to_owned(),
            parent => format!("{parent}.{name}"),
        };
        (field, fault)
    };
    let (field, fault) = match message.split_once(' ').map(|(first, _)| first) {
        Some("unknown") if message.starts_with("unknown field") => named(Fault::Unknown),
        Some("missing") => named(Fault::Missing),
        Some("duplicate") => named(Fault::Invalid),
        _ if message.starts_with("invalid type") || message.starts_with("expected value") => {
            (parent, Fault::WrongType)
        }
        _ => (parent, Fault::Invalid),
    };
    FieldError { field, fault, message }
}

/// Whether JSON text nests deeper than `max`; the text is known to be well-formed.
fn deeper_than(json: &str, max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn null_as_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobOptions, D::Error> {
    Ok(optional_object(deserializer)?.unwrap_or_default())
}

/// One job or several, told apart by the first character.
struct Bounded<'a>(NewJobs<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Bounded<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JobsVisitor;
        impl<'de> Visitor<'de> for JobsVisitor {
            type Value = NewJobs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a job or an array of jobs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<NewJobs<'de>, A::Error> {
                let mut jobs = Vec::new();
                while let Some(Object(job)) = seq.next_element()? {
                    jobs.push(job);
                }
                Ok(NewJobs::Many(jobs))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<NewJobs<'de>, A::Error> {
                NewJob::deserialize(de::value::MapAccessDeserializer::new(map)).map(NewJobs::One)
            }
        }
        deserializer.deserialize_any(JobsVisitor).map(Bounded)
    }
}
