//! Queues over the official BullMQ crate; workers that run commands.

mod connection;
pub mod exec;
pub mod queue;
pub mod worker;
