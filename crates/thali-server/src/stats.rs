//! Counters. Each loop counts for itself on a cache line of its own; INFO adds them up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use thali_commands::{ErrorReply, Spec};

use crate::command_stats::{ByCommand, ErrorCounts};
use crate::table::Row;

/// A counter that one thread writes and anybody reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning loop may.
    pub fn add(&self, n: u64) {
        // No other writer: a load and a store cost less than a locked addition.
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Raises it to `n`; only the owning loop may.
    pub fn raise(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).max(n), Relaxed);
    }

    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// One loop's counters.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct LoopStats {
    pub connections: Counter,
    pub rejected: Counter,
    pub commands: Counter,
    pub errors: Counter,
    pub input_bytes: Counter,
    pub output_bytes: Counter,
    pub hits: Counter,
    pub misses: Counter,
    pub expired: Counter,
    pub evicted: Counter,
    pub expired_fields: Counter,
    pub dirty: Counter,
    pub published: Counter,
    pub scripts: Counter,
    pub script_restarts: Counter,
    pub output_limit_closes: Counter,
    pub query_limit_closes: Counter,
    pub evicted_clients: Counter,
    pub protocol_errors: Counter,
    /// Turns of the event loop, and what they took without the waiting for events.
    pub cycles: Counter,
    pub cycle_nanos: Counter,
    pub cycle_nanos_max: Counter,
    /// Of these, what commands took, the timers, and handing effects to the journal.
    pub command_nanos: Counter,
    pub cron_nanos: Counter,
    pub journal_nanos: Counter,
    pub commands_in_cycle_max: Counter,
    pub by_command: ByCommand,
    pub error_codes: ErrorCounts,
}

impl LoopStats {
    /// An error was replied.
    pub fn note_error(&self, text: &[u8]) {
        self.errors.add(1);
        self.error_codes.add(text);
    }

    /// A command that ran and replied an error.
    pub fn note_failure(&self, row: &Row, spec: &Spec, error: &ErrorReply) {
        self.by_command.of(row, spec).failed.add(1);
        self.note_error(error.text());
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        for counter in [
            &self.connections,
            &self.rejected,
            &self.commands,
            &self.errors,
            &self.input_bytes,
            &self.output_bytes,
            &self.hits,
            &self.misses,
            &self.expired,
            &self.evicted,
            &self.expired_fields,
            &self.published,
            &self.scripts,
            &self.script_restarts,
            &self.output_limit_closes,
            &self.query_limit_closes,
            &self.evicted_clients,
            &self.protocol_errors,
            &self.cycles,
            &self.cycle_nanos,
            &self.cycle_nanos_max,
            &self.command_nanos,
            &self.cron_nanos,
            &self.journal_nanos,
            &self.commands_in_cycle_max,
        ] {
            counter.reset();
        }
        self.by_command.reset();
        self.error_codes.reset();
    }
}
