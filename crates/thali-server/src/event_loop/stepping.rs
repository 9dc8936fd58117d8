//! The turn of commands that run in steps: a little of them in each tick.

use std::time::{Duration, Instant};

use super::{EventLoop, mark_dirty, mark_ready};
use crate::{client_memory, steps};

/// How long a tick works on them before it looks for other clients' requests again.
const STEPS_TIME: Duration = Duration::from_micros(500);

impl EventLoop {
    /// Does steps, of each command in turn.
    pub(super) fn step_commands(&mut self) {
        if self.stepping.is_empty() {
            return;
        }
        let begun = Instant::now();
        while let Some(id) = self.stepping.pop_front() {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            match steps::step(&mut self.core, &mut session.state) {
                // Over: it was ended, or it gives its reply.
                None if session.state.stepping.is_none() => {}
                None => self.stepping.push_back(id),
                Some((bytes, from)) => {
                    let start = session.out.len();
                    if start == session.out_at {
                        // Nothing else waits to be sent, and a long reply need not be copied.
                        (session.out, session.out_at) = (bytes, from);
                        session.state.apply_reply_mode(&mut session.out, from, b"");
                    } else {
                        session.out.extend_from_slice(&bytes[from..]);
                        session.state.apply_reply_mode(&mut session.out, start, b"");
                    }
                    mark_dirty(&mut self.dirty, id, session);
                    mark_ready(&mut self.ready, id, session);
                    super::reading::must_stop(
                        &self.core,
                        &mut session.state,
                        session.out.len() - session.out_at,
                    );
                }
            }
            if let Some(session) = self.sessions.get(&id) {
                client_memory::count(&self.core, session);
            }
            if begun.elapsed() > STEPS_TIME {
                break;
            }
        }
    }
}
