//! What a run has shown: as text for people, as JSON for programs.

use std::fmt;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies are kept from a microsecond to a minute, to three digits; longer ones count as a minute.
const LATENCY_MIN_NS: u64 = 1_000;
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// An empty histogram of nanoseconds.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_MIN_NS, LATENCY_MAX_NS, 3).expect("the bounds are valid")
}

#[derive(Debug, Clone)]
pub struct KindOutcome {
    pub name: String,
    /// Answered requests, errors among them.
    pub requests: u64,
    pub errors: u64,
    /// Nanoseconds from the intended time to the reply.
    pub latency: Histogram<u64>,
}

/// Of the measured part.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// From the end of the warm-up to the last reply.
    pub seconds: f64,
    pub kinds: Vec<KindOutcome>,
    /// Words of the first error.
    pub first_error: Option<String>,
    /// Requests that were due and had no reply when patience ended.
    pub unanswered: u64,
    /// Open loop: nanoseconds by which the generator itself sent too late, though a client was free.
    pub late: Histogram<u64>,
    /// What the generator's threads used, warm-up and all, and the requests of that.
    pub generator_cpu_seconds: f64,
    pub generator_requests: u64,
}

impl Outcome {
    pub fn requests(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.requests).sum()
    }

    pub fn errors(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.errors).sum()
    }

    pub fn rate(&self) -> f64 {
        self.requests() as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Of all kinds together.
    pub fn latency(&self) -> Histogram<u64> {
        let mut all = latencies();
        for kind in &self.kinds {
            all.add(&kind.latency).expect("the bounds are the same");
        }
        all
    }

    pub fn generator_cpu_per_million(&self) -> f64 {
        self.generator_cpu_seconds * 1e6 / self.generator_requests.max(1) as f64
    }

    /// Another thread's share of the same run.
    pub(crate) fn add(&mut self, other: &Outcome) {
        self.seconds = self.seconds.max(other.seconds);
        for (mine, theirs) in self.kinds.iter_mut().zip(&other.kinds) {
            mine.requests += theirs.requests;
            mine.errors += theirs.errors;
            mine.latency.add(&theirs.latency).expect("the bounds are the same");
        }
        self.first_error = self.first_error.take().or_else(|| other.first_error.clone());
        self.unanswered += other.unanswered;
        self.late.add(&other.late).expect("the bounds are the same");
        self.generator_cpu_seconds += other.generator_cpu_seconds;
        self.generator_requests += other.generator_requests;
    }

    pub fn json(&self) -> Value {
        let kinds: Vec<Value> = self
            .kinds
            .iter()
            .map(|kind| {
                json!({
                    "name": kind.name,
                    "requests": kind.requests,
                    "errors": kind.errors,
                    "latency_ms": latency_json(&kind.latency),
                })
            })
            .collect();
        json!({
            "seconds": self.seconds,
            "requests": self.requests(),
            "requests_per_second": self.rate(),
            "errors": self.errors(),
            "first_error": self.first_error,
            "unanswered": self.unanswered,
            "latency_ms": latency_json(&self.latency()),
            "late_ms": latency_json(&self.late),
            "kinds": kinds,
            "generator_cpu_seconds_per_million": self.generator_cpu_per_million(),
        })
    }
}

fn latency_json(latency: &Histogram<u64>) -> Value {
    json!({
        "p50": ms(latency, 0.5),
        "p99": ms(latency, 0.99),
        "p99.9": ms(latency, 0.999),
        "max": latency.max() as f64 / 1e6,
    })
}

fn ms(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}

fn write_latency(f: &mut fmt::Formatter<'_>, latency: &Histogram<u64>) -> fmt::Result {
    write!(
        f,
        "p50 {:.3}, p99 {:.3}, p99.9 {:.3}, max {:.3} ms",
        ms(latency, 0.5),
        ms(latency, 0.99),
        ms(latency, 0.999),
        latency.max() as f64 / 1e6
    )
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} requests/s, ", self.rate())?;
        write_latency(f, &self.latency())?;
        writeln!(f, "\n  {} requests in {:.2} s", self.requests(), self.seconds)?;
        if self.kinds.len() > 1 {
            for kind in &self.kinds {
                write!(f, "  {}: {}, ", kind.name, kind.requests)?;
                write_latency(f, &kind.latency)?;
                writeln!(f)?;
            }
        }
        if !self.late.is_empty() {
            write!(f, "  the generator was late by ")?;
            write_latency(f, &self.late)?;
            writeln!(f)?;
        }
        if self.unanswered > 0 {
            writeln!(f, "  {} requests were due and not answered", self.unanswered)?;
        }
        if let Some(words) = &self.first_error {
            writeln!(f, "  {} errors, the first: {words}", self.errors())?;
        }
        let cpu = self.generator_cpu_per_million();
        write!(f, "  the generator took {cpu:.2} CPU seconds for a million requests")
    }
}

/// Of publishers and subscribers.
#[derive(Debug, Clone)]
pub struct PubSubOutcome {
    pub seconds: f64,
    pub published: u64,
    /// Messages that subscribers got.
    pub delivered: u64,
    /// What the replies to PUBLISH add up to is not counted by the generator: this is what it subscribed.
    pub expected: u64,
    pub generator_cpu_seconds: f64,
}

impl PubSubOutcome {
    pub fn rate(&self) -> f64 {
        self.delivered as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    pub fn json(&self) -> Value {
        json!({
            "seconds": self.seconds,
            "published": self.published,
            "delivered": self.delivered,
            "expected": self.expected,
            "deliveries_per_second": self.rate(),
            "generator_cpu_seconds": self.generator_cpu_seconds,
        })
    }
}

impl fmt::Display for PubSubOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:.0} deliveries/s", self.rate())?;
        write!(
            f,
            "  {} of {} deliveries of {} messages in {:.2} s",
            self.delivered, self.expected, self.published, self.seconds
        )
    }
}
