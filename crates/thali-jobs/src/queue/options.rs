//! A job's options in BullMQ's words: reading, checking, and packing them for BullMQ's scripts.
//!
//! Unknown fields, wrong types and values that BullMQ would refuse, or could not store exactly, end
//! here with an error that names the field. Bounds that are ours rather than BullMQ's have a name.
//!
//! SOURCE: BullMQ 6 `interfaces/base-job-options.ts`, `types/job-options.ts`, `Job.validateOptions`
//! and `optsAsJSON`, which shortens five names on their way into the store.

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;

use super::error::FieldError;
use super::msgpack::{self, MapWriter};
use super::names;

/// BullMQ's own limit, 2²¹: a priority is the upper part of a score that must stay exact.
pub const PRIORITY_MAX: u64 = 1 << 21;
/// The score of a delayed job is its time × 4096 and must stay below 2⁵³: the last moment is in 2039.
pub const MOMENT_MAX_MS: u64 = (1 << 53) / 4096 - 1;
/// Ten years; with a sane clock the moment that a delay leads to stays below [`MOMENT_MAX_MS`].
pub const DELAY_MAX_MS: u64 = 10 * 366 * 24 * 3600 * 1000;
/// For counts and periods: whatever is larger is a mistake, and would lose digits as a double.
pub const COUNT_MAX: u64 = u32::MAX as u64;

/// What a producer may say about a job; every field has BullMQ's meaning and default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobOptions {
    /// When the job was created, in milliseconds since 1970; now, where it is absent.
    #[serde(default, deserialize_with = "whole")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, maximum = 2199023255551u64))]
    pub timestamp: Option<u64>,
    /// 1 is served first, 2097152 last; without a priority a job goes before all that have one.
    #[serde(default, deserialize_with = "whole")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, maximum = 2097152))]
    pub priority: Option<u64>,
    /// Milliseconds to wait before the job may be worked on.
    #[serde(default, deserialize_with = "whole")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, maximum = 316224000000u64))]
    pub delay: Option<u64>,
    /// How many times the job is tried before it counts as failed.
    #[serde(default, deserialize_with = "whole")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, maximum = 4294967295u64))]
    pub attempts: Option<u64>,
    /// Milliseconds between tries, or a strategy.
    #[cfg_attr(feature = "schema", schema(value_type = Option<super::schema::BackoffSchema>))]
    pub backoff: Option<Backoff>,
    /// Put the job at the front of the queue.
    pub lifo: Option<bool>,
    /// The job's own id; a job whose id exists already is not added again. No integers, no colons.
    #[cfg_attr(
        feature = "schema",
        schema(
            min_length = 1,
            max_length = 512,
            pattern = r"^(?!0:|-?(0|[1-9][0-9]*)$)([^:\x00-\x1f\x7f-\x9f]+|[^:\x00-\x1f\x7f-\x9f]*:[^:\x00-\x1f\x7f-\x9f]*:[^:\x00-\x1f\x7f-\x9f]*)$"
        )
    )]
    pub job_id: Option<String>,
    /// Whether, or how long, a completed job is kept.
    #[cfg_attr(feature = "schema", schema(value_type = Option<super::schema::KeepSchema>))]
    pub remove_on_complete: Option<Keep>,
    /// Whether, or how long, a failed job is kept.
    #[cfg_attr(feature = "schema", schema(value_type = Option<super::schema::KeepSchema>))]
    pub remove_on_fail: Option<Keep>,
    /// How many lines of log are kept.
    #[serde(default, deserialize_with = "whole")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, maximum = 4294967295u64))]
    pub keep_logs: Option<u64>,
    /// How many stack traces are kept.
    #[serde(default, deserialize_with = "whole")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, maximum = 4294967295u64))]
    pub stack_trace_limit: Option<u64>,
    /// Refuse the job if its data has more bytes; 0 is no limit.
    #[serde(default, deserialize_with = "whole")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, maximum = 4294967295u64))]
    pub size_limit: Option<u64>,
    /// The job that waits for this one.
    #[serde(default, deserialize_with = "optional_object")]
    pub parent: Option<Parent>,
    /// Add the job only if none of the same deduplication id is under way. Not together with `parent`.
    #[serde(default, deserialize_with = "optional_object")]
    pub deduplication: Option<Deduplication>,
    /// The parent fails when this job fails. At most one of the four `…OnFailure` may be true.
    pub fail_parent_on_failure: Option<bool>,
    /// The parent goes on as soon as this job fails.
    pub continue_parent_on_failure: Option<bool>,
    /// The parent does not mind when this job fails.
    pub ignore_dependency_on_failure: Option<bool>,
    /// This job is no longer the parent's concern when it fails.
    pub remove_dependency_on_failure: Option<bool>,
    /// Context that BullMQ's telemetry carries to the worker.
    #[serde(default, deserialize_with = "optional_object")]
    pub telemetry: Option<Telemetry>,
}

/// How long to wait between tries.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// `fixed`, `exponential`, or a name that the worker knows.
    pub kind: String,
    pub delay_ms: Option<u64>,
    /// 0 to 1: the share of the delay that is left to chance.
    pub jitter: Option<f64>,
}

/// What happens to a finished job.
#[derive(Clone, Debug, PartialEq)]
pub enum Keep {
    /// `true` removes it at once, `false` keeps it for ever.
    Remove(bool),
    /// Keep the latest so many.
    Count(u64),
    /// Keep by age (seconds), by count, and remove at most `limit` at a time.
    Policy { age_s: Option<u64>, count: Option<u64>, limit: Option<u64> },
}

/// The job that waits for this one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Parent {
    #[cfg_attr(
        feature = "schema",
        schema(min_length = 1, max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")
    )]
    pub id: String,
    /// The parent's queue: its name, or BullMQ's qualified form with the prefix.
    #[cfg_attr(
        feature = "schema",
        schema(
            min_length = 1,
            max_length = 256,
            pattern = r"^[^:\x00-\x1f\x7f-\x9f]+(:[^:\x00-\x1f\x7f-\x9f]+)?$"
        )
    )]
    pub queue: String,
}

/// When a job counts as a copy of another.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deduplication {
    #[cfg_attr(
        feature = "schema",
        schema(min_length = 1, max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")
    )]
    pub id: String,
    /// Milliseconds for which copies are refused; until the job ends, where it is absent.
    #[serde(default, deserialize_with = "whole")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>, maximum = 316224000000u64))]
    pub ttl: Option<u64>,
    /// Each copy starts the time anew.
    pub extend: Option<bool>,
    /// A copy takes the place of a job that is still delayed.
    pub replace: Option<bool>,
    /// The last copy that came while the job was active runs after it.
    pub keep_last_if_active: Option<bool>,
}

/// Context that BullMQ's telemetry carries to the worker.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    pub metadata: Option<String>,
    pub omit_context: Option<bool>,
}

impl JobOptions {
    /// Refuses what BullMQ would refuse, and what the store could not hold exactly.
    pub fn check(&self) -> Result<(), FieldError> {
        at_most("opts.timestamp", self.timestamp, MOMENT_MAX_MS)?;
        at_most("opts.priority", self.priority, PRIORITY_MAX)?;
        at_most("opts.delay", self.delay, DELAY_MAX_MS)?;
        at_most("opts.attempts", self.attempts, COUNT_MAX)?;
        at_most("opts.keepLogs", self.keep_logs, COUNT_MAX)?;
        at_most("opts.stackTraceLimit", self.stack_trace_limit, COUNT_MAX)?;
        at_most("opts.sizeLimit", self.size_limit, COUNT_MAX)?;
        if let Some(backoff) = &self.backoff {
            backoff.check()?;
        }
        for (field, keep) in
            [("opts.removeOnComplete", &self.remove_on_complete), ("opts.removeOnFail", &self.remove_on_fail)]
        {
            if let Some(keep) = keep {
                keep.check(field)?;
            }
        }
        if let Some(id) = &self.job_id {
            names::check_custom_job_id(id)?;
        }
        if let Some(parent) = &self.parent {
            names::check_text("opts.parent.id", &parent.id, names::JOB_ID_LEN_MAX)?;
            names::check_text("opts.parent.queue", &parent.queue, names::QUEUE_NAME_LEN_MAX)?;
        }
        if let Some(deduplication) = &self.deduplication {
            names::check_text("opts.deduplication.id", &deduplication.id, names::JOB_ID_LEN_MAX)?;
            at_most("opts.deduplication.ttl", deduplication.ttl, DELAY_MAX_MS)?;
            if self.parent.is_some() {
                return Err(FieldError::invalid(
                    "opts.deduplication",
                    "deduplication and parent cannot be used together",
                ));
            }
        }
        self.check_failure_policies()
    }

    /// The four `…OnFailure` fields with their short names, in BullMQ's order.
    pub(crate) fn failure_policies(&self) -> [(&'static str, &'static str, bool); 4] {
        let on = |flag: Option<bool>| flag == Some(true);
        [
            ("removeDependencyOnFailure", "rdof", on(self.remove_dependency_on_failure)),
            ("failParentOnFailure", "fpof", on(self.fail_parent_on_failure)),
            ("continueParentOnFailure", "cpof", on(self.continue_parent_on_failure)),
            ("ignoreDependencyOnFailure", "idof", on(self.ignore_dependency_on_failure)),
        ]
    }

    fn check_failure_policies(&self) -> Result<(), FieldError> {
        let mut set = self.failure_policies().into_iter().filter(|(_, _, on)| *on);
        match (set.next(), set.next()) {
            (Some((first, ..)), Some((second, ..))) => Err(FieldError::invalid(
                format!("opts.{second}"),
                format!("{first} and {second} cannot be used together"),
            )),
            _ => Ok(()),
        }
    }

    /// Writes the options as BullMQ's scripts expect them: one msgpack map, short names, and
    /// `attempts` always there.
    pub(crate) fn pack(&self, prefix: &str, into: &mut Vec<u8>) {
        let mut map = MapWriter::new(into);
        map.uint("attempts", Some(self.attempts.unwrap_or(0)));
        map.uint("timestamp", self.timestamp);
        map.uint("priority", self.priority);
        map.uint("delay", self.delay);
        map.flag("lifo", self.lifo);
        map.text("jobId", self.job_id.as_deref());
        map.uint("kl", self.keep_logs);
        map.uint("stackTraceLimit", self.stack_trace_limit);
        map.uint("sizeLimit", self.size_limit);
        for (_, short, on) in self.failure_policies() {
            map.flag(short, on.then_some(true));
        }
        if let Some(telemetry) = &self.telemetry {
            map.text("tm", telemetry.metadata.as_deref());
            map.flag("omc", telemetry.omit_context);
        }
        if let Some(backoff) = &self.backoff {
            map.map("backoff", |map| {
                map.text("type", Some(&backoff.kind));
                map.uint("delay", backoff.delay_ms);
                if let Some(jitter) = backoff.jitter {
                    map.put("jitter", |buf| msgpack::float(buf, jitter));
                }
            });
        }
        for (name, keep) in
            [("removeOnComplete", &self.remove_on_complete), ("removeOnFail", &self.remove_on_fail)]
        {
            if let Some(keep) = keep {
                keep.pack(name, &mut map);
            }
        }
        if let Some(parent) = &self.parent {
            map.map("parent", |map| {
                map.text("id", Some(&parent.id));
                map.text("queue", Some(&parent.qualified_queue(prefix)));
            });
        }
        if let Some(deduplication) = &self.deduplication {
            map.map("de", |map| {
                map.text("id", Some(&deduplication.id));
                map.uint("ttl", deduplication.ttl);
                map.flag("extend", deduplication.extend);
                map.flag("replace", deduplication.replace);
                map.flag("keepLastIfActive", deduplication.keep_last_if_active);
            });
        }
        map.finish();
    }
}

impl Backoff {
    fn check(&self) -> Result<(), FieldError> {
        names::check_text("opts.backoff.type", &self.kind, names::JOB_NAME_LEN_MAX)?;
        at_most("opts.backoff.delay", self.delay_ms, DELAY_MAX_MS)?;
        match self.jitter {
            Some(jitter) if !(0.0..=1.0).contains(&jitter) => {
                Err(FieldError::invalid("opts.backoff.jitter", "must lie between 0 and 1"))
            }
            _ => Ok(()),
        }
    }
}

impl Keep {
    fn check(&self, field: &str) -> Result<(), FieldError> {
        match *self {
            Self::Remove(_) => Ok(()),
            Self::Count(count) => at_most(field, Some(count), COUNT_MAX),
            Self::Policy { age_s, count, limit } => {
                if age_s.is_none() && count.is_none() {
                    return Err(FieldError::invalid(field, "needs age or count"));
                }
                at_most(&format!("{field}.age"), age_s, COUNT_MAX)?;
                at_most(&format!("{field}.count"), count, COUNT_MAX)?;
                at_most(&format!("{field}.limit"), limit, COUNT_MAX)
            }
        }
    }

    fn pack(&self, name: &str, into: &mut MapWriter<'_>) {
        match *self {
            Self::Remove(remove) => into.flag(name, Some(remove)),
            Self::Count(count) => into.uint(name, Some(count)),
            Self::Policy { age_s, count, limit } => into.map(name, |map| {
                map.uint("age", age_s);
                map.uint("count", count);
                map.uint("limit", limit);
            }),
        }
    }
}

impl Parent {
    /// `prefix:queue`, whichever of the two forms the caller gave.
    pub(crate) fn qualified_queue(&self, prefix: &str) -> String {
        match self.queue.split_once(':') {
            Some(_) => self.queue.clone(),
            None => format!("{prefix}:{}", self.queue),
        }
    }
}

fn at_most(field: &str, value: Option<u64>, max: u64) -> Result<(), FieldError> {
    match value {
        Some(value) if value > max => Err(FieldError::invalid(field, format!("must be at most {max}"))),
        _ => Ok(()),
    }
}

/// Serde would read an array as the fields of a struct in order; in a request that is a mistake.
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

pub(crate) fn optional_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

/// JSON has one kind of number: `1000`, `1000.0` and `1e3` are the same whole number. For serde's `deserialize_with`,
/// together with `default`.
pub fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Whole>::deserialize(deserializer)?.map(|whole| whole.0))
}

#[derive(Clone, Copy)]
struct Whole(u64);

impl Whole {
    fn from_f64(value: f64) -> Option<Self> {
        // Up to 2⁵³ every whole number has a double of its own.
        (value >= 0.0 && value <= (1u64 << 53) as f64 && value.fract() == 0.0).then_some(Self(value as u64))
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of 0 or more")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Whole, E> {
                Ok(Whole(value))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Whole, E> {
                Whole::from_f64(value).ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
            }
        }
        deserializer.deserialize_any(WholeVisitor)
    }
}

impl<'de> Deserialize<'de> for Backoff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            r#type: String,
            #[serde(default, deserialize_with = "whole")]
            delay: Option<u64>,
            jitter: Option<f64>,
        }
        struct BackoffVisitor;
        impl<'de> Visitor<'de> for BackoffVisitor {
            type Value = Backoff;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds or an object with type, delay and jitter")
            }

            // BullMQ's own reading of a bare number.
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Backoff, E> {
                Ok(Backoff { kind: "fixed".to_owned(), delay_ms: Some(value), jitter: None })
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Backoff, E> {
                let whole = Whole::from_f64(value)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))?;
                self.visit_u64(whole.0)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backoff, A::Error> {
                let fields = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Backoff { kind: fields.r#type, delay_ms: fields.delay, jitter: fields.jitter })
            }
        }
        deserializer.deserialize_any(BackoffVisitor)
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[derive(Default)]
        struct Fields {
            #[serde(default, deserialize_with = "whole")]
            age: Option<u64>,
            #[serde(default, deserialize_with = "whole")]
            count: Option<u64>,
            #[serde(default, deserialize_with = "whole")]
            limit: Option<u64>,
        }
        struct KeepVisitor;
        impl<'de> Visitor<'de> for KeepVisitor {
            type Value = Keep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, a count or an object with age, count and limit")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Keep, E> {
                Ok(Keep::Remove(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Keep, E> {
                Ok(Keep::Count(value))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Keep, E> {
                let whole = Whole::from_f64(value)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))?;
                Ok(Keep::Count(whole.0))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Keep, A::Error> {
                let fields = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Keep::Policy { age_s: fields.age, count: fields.count, limit: fields.limit })
            }
        }
        deserializer.deserialize_any(KeepVisitor)
    }
}

/// A state that BullMQ keeps jobs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Ready; in a paused queue, ready as soon as it goes on.
    Waiting,
    Prioritized,
    Delayed,
    WaitingChildren,
    Active,
    Completed,
    Failed,
}

impl JobState {
    /// All states, as a message to a caller names them.
    pub const NAMES: &'static str =
        "one of waiting, prioritized, delayed, waiting-children, active, completed, failed";
    const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Prioritized,
        Self::Delayed,
        Self::WaitingChildren,
        Self::Active,
        Self::Completed,
        Self::Failed,
    ];

    /// BullMQ's word for the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Prioritized => "prioritized",
            Self::Delayed => "delayed",
            Self::WaitingChildren => "waiting-children",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for JobState {
    type Err = FieldError;

    fn from_str(name: &str) -> Result<Self, FieldError> {
        let found = Self::ALL.into_iter().find(|state| state.name() == name);
        found.ok_or_else(|| FieldError::invalid("state", format!("must be {}", Self::NAMES)))
    }
}
