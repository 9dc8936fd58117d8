//! How loops and threads talk to a loop: a queue and a waker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use parking_lot::Mutex;
use thali_journal::Seq;

use crate::acl::User;
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

/// One loop's queue. Its length is bounded by what sessions ask for: each request sends few messages.
#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<Vec<Message>>,
    waker: mio::Waker,
    /// A wake-up is under way: no need for a second system call.
    woken: AtomicBool,
    /// The loop holds replies until the journal gets further.
    awaits_sync: AtomicBool,
}

impl Mailbox {
    pub fn new(waker: mio::Waker) -> Self {
        Self {
            queue: Mutex::default(),
            waker,
            woken: AtomicBool::new(false),
            awaits_sync: AtomicBool::new(false),
        }
    }

    /// Queues a message and wakes the loop.
    pub fn send(&self, message: Message) {
        self.queue.lock().push(message);
        self.wake();
    }

    /// Wakes the loop.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // A closed poll means that the loop has ended and nobody reads its mail.
            let _ = self.waker.wake();
        }
    }

    /// Asks for [`Message::Synced`], once. To be followed by another look at how far the journal is: what
    /// it did before this call, it told nobody.
    pub fn await_sync(&self) {
        self.awaits_sync.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The journal got further: wakes the loop if it asked for that.
    pub fn tell_synced(&self) {
        fence(Ordering::SeqCst);
        if self.awaits_sync.load(Ordering::SeqCst) && self.awaits_sync.swap(false, Ordering::SeqCst) {
            self.send(Message::Synced);
        }
    }

    /// Whether something has come that the loop has not taken. True for all that was sent before this call.
    pub fn has_mail(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Takes what has come, into an empty `into`.
    pub fn take(&self, into: &mut Vec<Message>) {
        self.woken.store(false, Ordering::Release);
        std::mem::swap(&mut *self.queue.lock(), into);
    }
}
