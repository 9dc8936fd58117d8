//! What a loop looks after beside requests: the limits of its sessions, subscribers who lost a right, what is stale
//! for them, and the end of a pause.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{EventLoop, mark_dirty};
use crate::acl::User;
use crate::session::{Close, Subscribed};
use crate::tracking::Notice;
use crate::{client_memory, tracking};

/// How long a reply waits for a journal that cannot write: the disk was full when the write was under way.
/// Whether the write will survive is unknown then, and the end of the connection says just that.
const HELD_WHILE_FAILING_MAX_MS: u64 = 1_000;

impl EventLoop {
    /// `timeout` and `client-output-buffer-limit`.
    pub(super) fn check_clients(&mut self) {
        let settings = Arc::clone(&self.core.side.settings);
        let now_ms = self.core.side.now_ms;
        let mut leaving = Vec::new();
        // Only while writing fails; else nothing is held for long.
        let journal = self.core.shared.journal.load();
        let synced = journal.as_ref().filter(|journal| journal.refusal().is_some()).map(|j| j.synced());
        drop(journal);
        for (id, session) in &mut self.sessions {
            if session.is_held_too_long(synced, HELD_WHILE_FAILING_MAX_MS, now_ms) {
                tracing::warn!(
                    client = session.state.info.id,
                    "client closed: its write is not in the append-only file, which cannot be written"
                );
                leaving.push(*id);
                continue;
            }
            let state = &session.state;
            let idle_ms = now_ms.saturating_sub(state.info.active_at_ms.load(Relaxed));
            if settings.timeout_s > 0
                && !state.is_listener()
                && !state.is_waiting()
                && idle_ms > settings.timeout_s * 1000
            {
                leaving.push(*id);
                continue;
            }
            let waiting = (session.out.len() - session.out_at) as u64;
            let class = settings.output_limit(state.is_listener());
            if class.exceeded(waiting, &mut session.over_soft_since_ms, now_ms) {
                tracing::warn!(
                    client = state.info.id,
                    bytes = waiting,
                    "client closed: output buffer limit reached"
                );
                self.core.shared.stats_of(self.core.side.event_loop).output_limit_closes.add(1);
                leaving.push(*id);
            }
        }
        for id in leaving {
            self.close(id);
        }
    }

    /// Ends the sessions of a user that listen to what it may not listen to any more.
    pub(super) fn end_subscribers(&mut self, user: &Arc<User>, asked_by: Option<u64>) {
        let rules = user.rules();
        let may_listen = |subscribed: &Subscribed| {
            let may = |name: &[u8], is_pattern| rules.allows_channel(name, is_pattern);
            subscribed.patterns.iter().all(|name| may(name, true))
                && subscribed.channels.iter().chain(&subscribed.shards).all(|name| may(name, false))
        };
        let mut leaving = Vec::new();
        for (id, session) in &mut self.sessions {
            let is_theirs = Arc::ptr_eq(&session.state.user, user);
            if !is_theirs || session.state.subscribed.as_deref().is_none_or(may_listen) {
                continue;
            }
            if asked_by == Some(*id) {
                session.state.close = Close::AfterReply;
                mark_dirty(&mut self.dirty, *id, session);
            } else {
                leaving.push(*id);
            }
        }
        for id in leaving {
            self.close(id);
        }
    }

    /// Counts what a session takes after it has changed, and ends it where that is beyond a limit: its own hard one
    /// for output, or the one of all clients together.
    pub(super) fn count_memory(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        client_memory::count(&self.core, session);
        let waiting = (session.out.len() - session.out_at) as u64;
        let hard_bytes = self.core.side.settings.output_limit(session.state.is_listener()).hard_bytes;
        if hard_bytes > 0 && waiting > hard_bytes && session.state.close != Close::Now {
            let client = session.state.info.id;
            tracing::warn!(client, bytes = waiting, "client closed: output buffer limit reached");
            self.core.shared.stats_of(self.core.side.event_loop).output_limit_closes.add(1);
            session.state.close = Close::Now;
            return;
        }
        let is_protected = session.state.info.no_evict.load(Relaxed);
        client_memory::evict(&mut self.core, is_protected);
        if session.state.info.is_leaving.load(Relaxed) {
            session.state.close = Close::Now;
        }
    }

    /// Takes the mail before a session's requests run, where others may have acknowledged what it must know before its
    /// next reply: changes of what clients cache, new settings, and messages to a subscriber, who may leave now.
    pub(super) fn hear_what_was_acknowledged(&mut self, id: u64) {
        let own = usize::from(self.core.side.event_loop);
        if self.core.side.local.is_empty() && !self.core.shared.mailboxes[own].has_mail() {
            return;
        }
        let is_subscriber = self.sessions.get(&id).is_some_and(|session| session.state.subscribed.is_some());
        if is_subscriber || self.core.shared.keyspace.tracking().is_on() || self.has_new_settings() {
            self.handle_mail();
        }
    }

    /// What CONFIG SET has acknowledged holds for what is asked after it, on whatever loop.
    fn has_new_settings(&self) -> bool {
        !Arc::ptr_eq(&self.core.shared.settings.load(), &self.core.side.settings)
    }

    /// Sends a session what it may hold and what is stale.
    pub(super) fn deliver_stale(&mut self, notice: &Notice) {
        let Some(session) = self.sessions.get_mut(&notice.session) else { return };
        if tracking::deliver(session, notice) {
            mark_dirty(&mut self.dirty, notice.session, session);
            self.count_memory(notice.session);
            self.turn_if_closing(notice.session);
        }
    }

    /// A session that is to end, and that nothing else will look at, gets a turn to do so.
    fn turn_if_closing(&mut self, id: u64) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.state.close == Close::Now
            && !std::mem::replace(&mut session.is_ready, true)
        {
            self.ready.push(id);
        }
    }

    /// Remembers a session whose next request waits for the end of a pause.
    pub(super) fn note_postponed(&mut self, id: u64) {
        if let Some(session) = self.sessions.get(&id)
            && session.state.is_postponed
            && !session.state.info.is_postponed.swap(true, Relaxed)
        {
            self.postponed.push(id);
        }
    }

    /// Lets paused sessions go on; those that are still paused come back here.
    pub(super) fn end_pause(&mut self) {
        for id in std::mem::take(&mut self.postponed) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.state.is_postponed = false;
            session.state.info.is_postponed.store(false, Relaxed);
            if !std::mem::replace(&mut session.is_ready, true) {
                self.ready.push(id);
            }
        }
    }

    /// How long sessions of this loop are still paused; without end where none is.
    pub(super) fn until_pause_ends(&self) -> Duration {
        match self.core.shared.pause.ends_at_ms() {
            Some(ends_at_ms) if !self.postponed.is_empty() => {
                Duration::from_millis(ends_at_ms.saturating_sub(self.core.side.now_ms))
            }
            _ => Duration::MAX,
        }
    }

    pub(super) fn end_pause_if_over(&mut self) {
        let is_over = self.core.shared.pause.level(self.core.side.now_ms).is_none();
        if !self.postponed.is_empty() && is_over {
            self.end_pause();
        }
    }
}
