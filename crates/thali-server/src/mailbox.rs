//! What loops and threads tell a loop, by `thali_sync`'s mailbox.

use std::sync::Arc;

use thali_journal::Seq;
use thali_sync::Wake;

use crate::acl::User;
use crate::crew::Crew;
use crate::listener::{Accepted, Listener};
use crate::migration::Migration;
use crate::pubsub::Publication;
use crate::tracking::Notice;

/// What a loop is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A connection that another loop accepted.
    Accepted(Accepted),
    /// The listener may have more connections than one turn takes.
    AcceptMore(usize),
    /// A parked session's reply; `seq` must be durable before it is sent. `nanos`: what its run took.
    Served { session: u64, reply: Vec<u8>, seq: Seq, nanos: u64 },
    /// CLIENT UNBLOCK took the session's waiter; `error` says how it is to be told.
    Unblocked { session: u64, error: bool },
    /// MIGRATE's thread is done.
    Migrated(Box<Migration>),
    /// For this loop's subscribers.
    Published(Arc<Publication>),
    /// What this loop's sessions may hold is stale.
    Stale(Vec<Notice>),
    /// For this loop's MONITOR sessions.
    Monitored(Arc<[u8]>),
    /// End a connection: CLIENT KILL, or what clients take together is too much.
    Kill { session: u64 },
    /// A user lost channels: its subscribers that may not listen any more end, whoever asked (a session of this
    /// loop) after its reply.
    ChannelsRevoked { user: Arc<User>, asked_by: Option<u64> },
    /// The journal has synced further.
    Synced,
    /// Settings have changed.
    Settings,
    /// CLIENT UNPAUSE: who was paused goes on.
    Unpaused,
    /// FLUSHALL ran here, to which dumps owe something.
    Emptied,
    /// CONFIG SET `appendonly no` in a transaction that is done now.
    AppendOnlyOff,
    /// One more socket to listen on.
    Listen(Listener),
    /// The TCP ports to listen on from now on.
    Ports(Vec<Listener>),
    /// Finish and end.
    Shutdown,
}

/// One loop's mailbox. Its length is bounded by what sessions ask for: each request sends few messages.
pub(crate) type Mailbox = thali_sync::Mailbox<Message, PollWaker>;

/// Ends a loop's wait for events.
#[derive(Debug)]
pub(crate) struct PollWaker {
    pub waker: mio::Waker,
    /// Who runs the loop; `None` for one that has a thread of its own always.
    pub crew: Option<Arc<Crew>>,
}

impl PollWaker {
    /// Whoever looks at mail anyway or not.
    pub fn wake_always(&self) {
        // A closed poll means that the loop has ended and nobody reads its mail.
        let _ = self.waker.wake();
    }
}

impl Wake for PollWaker {
    fn wake(&self) {
        if !self.crew.as_ref().is_some_and(|crew| crew.looks_at_mail()) {
            self.wake_always();
        }
    }
}
