//! Job rooms: what BullMQ says of a job, told to whoever waits for it.
//!
//! `queue:<queue>` hears every job of a queue, `job:<queue>:<id>` one job. Both carry the event `job`
//! with `{queue, id, state, progress, returnvalue, failedReason}`; what a state does not have is null.
//! Each node reads the queues' event streams for its own sockets, so nothing of it goes over the bus.
//!
//! No gap, no step back: the acknowledgement of a subscription carries the job's present state, read
//! in one transaction together with the stream's last id. Events up to that id are in the snapshot
//! and are not sent again; events after it are sent, in order, after the acknowledgement.
//!
//! The streams are BullMQ's own, `<prefix>:<queue>:events`. SOURCE: bullmq 6, commands/*.lua.

mod feed;
mod reader;
mod snapshot;
mod update;

pub(crate) use feed::{Greeting, JobFeed, JobRoom};
pub(crate) use reader::run as read_events;
