//! A session's turn: what its client sent is read and run.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use thali_commands::ErrorReply;
use thali_resp::{Limits, Parser, ProtocolError, Step};

use super::writing::OUTPUT_KEPT_BYTES;
use super::{EventLoop, mark_dirty, mark_ready};
use crate::batch::{self, Batch};
use crate::call::Core;
use crate::dispatch::{self, Asked};
use crate::session::{Close, OUTPUT_PAUSE_BYTES, Session, SessionState};

/// Unfinished requests of a client that has not said its password. SOURCE: Redis 7.2 `networking.c`.
const QUERY_BYTES_BEFORE_AUTH_MAX: usize = 1 << 20;
/// Less of an unfinished request is read into the loop's buffer and copied, together with what stands behind it.
const READ_IN_PLACE_BYTES_MIN: usize = 16 << 10;
/// What one read may make room for when a request has announced its size.
const READ_AHEAD_BYTES_MAX: usize = 16 << 20;

impl EventLoop {
    /// One session's turn: read what is there, run what is complete.
    pub(super) fn turn(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.is_ready = false;
        if session.state.info.is_leaving.load(Relaxed) {
            // Killed from another loop, which has been told that it is gone.
            session.state.close = Close::Now;
        }
        if session.state.close == Close::No && !session.input.is_empty() && !session.is_paused() {
            let input = std::mem::take(&mut session.input);
            let used = run_requests(&mut self.core, session, &input, 0);
            session.keep_rest(input, used);
        }
        if session.readable && session.state.close == Close::No && !session.is_paused() {
            self.read(id);
        }
        self.note_stepping(id);
        self.read_while_waiting(id);
        self.count_memory(id);
        self.note_postponed(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.state.close == Close::Now {
            return self.close(id);
        }
        if session.wants_turn() {
            mark_ready(&mut self.ready, id, session);
        }
        let has_output = session.out.len() > session.out_at || session.state.close == Close::AfterReply;
        if has_output {
            let is_large = session.out.len() - session.out_at > OUTPUT_KEPT_BYTES;
            mark_dirty(&mut self.dirty, id, session);
            if is_large {
                self.flush_early(id);
            }
        }
    }

    fn note_stepping(&mut self, id: u64) {
        let is_stepping = self.sessions.get(&id).is_some_and(|session| session.state.stepping.is_some());
        if is_stepping && !self.stepping.contains(&id) {
            self.stepping.push_back(id);
        }
    }

    fn read(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let stats_of = self.core.side.event_loop;
        if session.input.is_empty() {
            // The common case: whole requests, run out of the loop's own buffer.
            match session.stream.read(&mut self.read_buffer) {
                Ok(0) => session.note_end(),
                Ok(len) => {
                    self.core.shared.stats_of(stats_of).input_bytes.add(len as u64);
                    session.note_read(len, self.read_buffer.len());
                    session.state.info.note_input(len, self.core.side.now_ms);
                    self.hear_what_was_acknowledged(id);
                    let Some(session) = self.sessions.get_mut(&id) else { return };
                    let buffer = std::mem::take(&mut self.read_buffer);
                    let used = run_requests(&mut self.core, session, &buffer[..len], 0);
                    session.keep_copy(&buffer[used..len], used);
                    self.read_buffer = buffer;
                }
                Err(error) => session.note_read_error(&error),
            }
            return self.check_query_len(id);
        }
        match read_on(session, &mut self.read_buffer) {
            Ok(0) => session.note_end(),
            Ok(got) => {
                self.core.shared.stats_of(stats_of).input_bytes.add(got as u64);
                session.state.info.note_input(got, self.core.side.now_ms);
                self.hear_what_was_acknowledged(id);
                // Before it runs: a large request may be what is too much.
                self.check_query_len(id);
                self.count_memory(id);
                let Some(session) = self.sessions.get_mut(&id) else { return };
                if session.state.close != Close::Now && session.input.len() >= session.wanted_len {
                    let input = std::mem::take(&mut session.input);
                    let used = run_requests(&mut self.core, session, &input, 0);
                    session.keep_rest(input, used);
                }
            }
            Err(error) => session.note_read_error(&error),
        }
        self.check_query_len(id);
    }

    /// `client-query-buffer-limit`: what a client has sent and nobody could run yet.
    fn check_query_len(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let bytes = session.query_len();
        let bytes_max = match session.state.is_authenticated {
            true => self.core.side.settings.client_query_buffer_limit,
            false => QUERY_BYTES_BEFORE_AUTH_MAX.min(self.core.side.settings.client_query_buffer_limit),
        };
        if bytes > bytes_max && session.state.close != Close::Now {
            let client = session.state.info.id;
            tracing::warn!(client, bytes, "client closed: query buffer limit reached");
            self.core.shared.stats_of(self.core.side.event_loop).query_limit_closes.add(1);
            session.state.close = Close::Now;
        }
    }

    /// A waiting session's bytes are kept for later, up to a bound; what matters is whether it left.
    fn read_while_waiting(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        while session.readable && session.state.is_waiting() && session.state.close == Close::No {
            if session.input.len() >= OUTPUT_PAUSE_BYTES {
                if session.peer_ended {
                    session.state.close = Close::Now;
                }
                return;
            }
            match session.stream.read(&mut self.read_buffer) {
                Ok(0) => session.note_end(),
                Ok(len) => {
                    self.core.shared.stats_of(self.core.side.event_loop).input_bytes.add(len as u64);
                    session.append_input(&self.read_buffer[..len]);
                    session.note_read(len, self.read_buffer.len());
                    session.state.info.note_input(len, self.core.side.now_ms);
                }
                Err(error) => session.note_read_error(&error),
            }
        }
    }
}

/// Why no further request joins a batch.
enum Next {
    /// The batch is full.
    Run,
    /// The parser has a request that begins here and runs by itself.
    Alone {
        at: usize,
        asked: Asked,
    },
    /// The rest is no whole request yet; with so many bytes it may be one.
    Wait {
        total_len_min: usize,
    },
    Error(ProtocolError),
}

impl Next {
    /// Where it begins in the buffer, of which all before `end` is read.
    fn begin(&self, end: usize) -> usize {
        if let Self::Alone { at, .. } = self { *at } else { end }
    }
}

/// Runs the complete requests in `buffer` from `start`; gives how many bytes are done with.
fn run_requests(core: &mut Core, session: &mut Session, buffer: &[u8], start: usize) -> usize {
    let Session { parser, out, state, wanted_len, out_at, .. } = session;
    let mut at = start;
    core.side.clock = Instant::now();
    loop {
        let mut batch = Batch::default();
        let next = collect(core, state, parser, buffer, &mut at, &mut batch);
        while let Some(begin) = batch.begin() {
            if !batch.run(core, state, out) {
                dispatch::dispatch(core, state, &batch.take_out(), Some(Ok(())), out);
            }
            let rest = match state.is_postponed {
                true => Some(begin),
                false => batch.begin(),
            };
            if state.is_postponed || must_stop(core, state, out.len() - *out_at) {
                // What has not run is read once more.
                parser.start_over();
                return rest.unwrap_or(next.begin(at));
            }
        }
        match next {
            Next::Run => {}
            Next::Alone { at: begin, asked } => {
                let args = parser.args(buffer);
                if !args.is_empty() {
                    dispatch::dispatch(core, state, &args, asked, out);
                }
                if state.is_postponed {
                    return begin;
                }
                if must_stop(core, state, out.len() - *out_at) {
                    return at;
                }
            }
            Next::Wait { total_len_min } => {
                *wanted_len = total_len_min - at;
                return at;
            }
            Next::Error(error) => {
                core.shared.stats_of(core.side.event_loop).protocol_errors.add(1);
                state.error(out, &ErrorReply::owned(format!("ERR Protocol error: {error}")));
                state.close = Close::AfterReply;
                return buffer.len();
            }
        }
        *wanted_len = 0;
    }
}

/// Reads requests from `at` on into the batch, as far as they join, and moves `at` behind them and the one that does
/// not.
fn collect<'b>(
    core: &mut Core,
    state: &SessionState,
    parser: &mut Parser,
    buffer: &'b [u8],
    at: &mut usize,
    batch: &mut Batch<'b>,
) -> Next {
    let limits = if state.is_authenticated {
        Limits { bulk_len_max: core.side.settings.proto_max_bulk_len, ..Limits::OPEN }
    } else {
        Limits::UNAUTHENTICATED
    };
    let is_allowed = batch::is_allowed(core, state);
    while !batch.is_full() {
        match parser.parse(buffer, *at, &limits) {
            Ok(Step::Request { end }) => {
                let begin = std::mem::replace(at, end);
                let taken = match is_allowed {
                    true => batch.take(core, state, parser, buffer, begin),
                    false => Err(None),
                };
                if let Err(asked) = taken {
                    return Next::Alone { at: begin, asked };
                }
            }
            Ok(Step::Incomplete { total_len_min }) => return Next::Wait { total_len_min },
            Err(error) => return Next::Error(error),
        }
    }
    Next::Run
}

/// Whether no further request runs now: the last one waits or has ended the connection, or the client does not take
/// its `waiting` bytes of replies. What is too long ends the connection, and nothing of it is sent.
pub(super) fn must_stop(core: &Core, state: &mut SessionState, waiting: usize) -> bool {
    if waiting > core.side.settings.output_limit_normal.hard_bytes_or_max()
        && state.subscribed.is_none()
        && !state.is_monitor
    {
        tracing::warn!(client = state.info.id, "client closed: output buffer limit reached");
        core.shared.stats_of(core.side.event_loop).output_limit_closes.add(1);
        state.close = Close::Now;
    }
    state.parked.is_some()
        || state.stepping.is_some()
        || state.close != Close::No
        || waiting > OUTPUT_PAUSE_BYTES
}

/// Reads on where a request is unfinished. Room grows with what has come, never with what was
/// announced: a claim costs its sender as much as us.
fn read_on(session: &mut Session, buffer: &mut [u8]) -> std::io::Result<usize> {
    let len = session.input.len();
    let room = session.wanted_len.saturating_sub(len).min(len).min(READ_AHEAD_BYTES_MAX);
    if room < READ_IN_PLACE_BYTES_MIN {
        let got = session.stream.read(buffer)?;
        session.append_input(&buffer[..got]);
        session.note_read(got, buffer.len());
        return Ok(got);
    }
    session.input.reserve_exact(room);
    // What the allocator gave beyond it is used, too.
    let room = session.input.capacity() - len;
    let got = session.stream.read_behind(&mut session.input)?;
    session.note_read(got, room);
    Ok(got)
}
