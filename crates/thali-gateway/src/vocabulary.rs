//! The gateway's own words: `subscribe`, `unsubscribe`, `publish`, `presence`.
//!
//! ```js
//! socket.emit("subscribe", room, token?, ack)      // {ok: true, room, job?}
//! socket.emit("unsubscribe", room, ack)            // {ok: true, room}
//! socket.emit("publish", room, event, data, ack)   // {ok: true}
//! socket.emit("presence", room, ack)               // {ok: true, room, count, members: [{id, user?}]}
//! ```
//!
//! A failure is acknowledged with `{ok: false, error: {code, name, message, retry}}`. A published
//! event arrives at every member, the publisher included, as `socket.on(event, data => …)`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::auth::{Authority, Grants, Right};
use crate::bus::Bus;
use crate::bus::{SocketControl, log_refused_join};
use crate::codes::{CloseCode, ErrorBody, ErrorCode, RequestError};
use crate::hub::{
    Ack, JoinError, Namespace, ROOM_NAME_BYTES_MAX, ROOMS_PER_SOCKET_MAX, Selection, Session, Socket,
};
use crate::jobs::{Greeting, JobFeed, JobRoom};
use crate::packet::{self, Event};
use crate::peer::{App, Peers};
use crate::presence::{Presence, Registry, is_kept};
use crate::transport::Clock;

/// Requests of one socket that may wait for the store.
const UNDER_WAY_MAX: u32 = 256;
/// How long a subscription may take to be live, and an answer of several questions to the store to come.
const LIVE_WITHIN: Duration = Duration::from_secs(10);
/// Names that Socket.IO's clients give to their own events.
const RESERVED_EVENTS: &[&str] =
    &["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// What the vocabulary works on.
pub(crate) struct Vocabulary {
    pub(crate) authority: Authority,
    pub(crate) bus: Arc<Bus>,
    pub(crate) jobs: Arc<JobFeed>,
    pub(crate) presence: Registry,
    pub(crate) clock: Clock,
    pub(crate) peers: OnceLock<Weak<Peers<Vocabulary>>>,
    pub(crate) published: AtomicU64,
}

/// Acknowledges a failure.
pub(crate) fn refuse(ack: Ack, error: &RequestError) {
    #[derive(Serialize)]
    struct Refused<'a> {
        ok: bool,
        error: ErrorBody<'a>,
    }
    ack.send_value(&Refused { ok: false, error: error.body() });
}

#[derive(Serialize)]
struct Granted<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    presence: Option<Presence>,
}

fn grant(ack: Option<Ack>, room: Option<&str>, presence: Option<Presence>) {
    if let Some(ack) = ack {
        ack.send_value(&Granted { ok: true, room, presence });
    }
}

fn bad(message: &str) -> RequestError {
    RequestError::new(ErrorCode::BAD_REQUEST, message)
}

/// Reads the argument at `index`; absent and null are the same.
fn argument<T: DeserializeOwned>(
    event: &Event<'_>,
    index: usize,
    usage: &str,
) -> Result<Option<T>, RequestError> {
    match event.args.get(index) {
        None => Ok(None),
        Some(json) => serde_json::from_str(json.get()).map_err(|_| bad(usage)),
    }
}

/// The room that is the first argument of every request.
fn room_argument(event: &Event<'_>, usage: &str) -> Result<String, RequestError> {
    let room: String = argument(event, 0, usage)?.ok_or_else(|| bad(usage))?;
    check_room_name(&room)?;
    Ok(room)
}

pub(crate) fn check_room_name(room: &str) -> Result<(), RequestError> {
    if room.is_empty() || room.len() > ROOM_NAME_BYTES_MAX {
        let message = format!("a room's name has 1 to {ROOM_NAME_BYTES_MAX} bytes");
        return Err(RequestError::new(ErrorCode::ROOM_NAME_INVALID, message));
    }
    Ok(())
}

fn check_publishable(room: &str, name: &str) -> Result<(), RequestError> {
    check_room_name(room)?;
    if JobRoom::parse(room).is_some() {
        let message = "rooms that begin with job: or queue: carry what the queue says, and nothing else";
        return Err(RequestError::new(ErrorCode::ROOM_RESERVED, message));
    }
    if name.is_empty() || RESERVED_EVENTS.contains(&name) {
        let message = format!("'{name}' cannot be the name of an event");
        return Err(RequestError::new(ErrorCode::EVENT_RESERVED, message));
    }
    Ok(())
}

impl Vocabulary {
    /// Sends an event to a room on every node; resolves when the store has it.
    pub(crate) fn publish(
        &self,
        namespace: &Arc<Namespace>,
        room: &str,
        name: &str,
        data: &str,
        attachments: Vec<Bytes>,
    ) -> Result<impl Future<Output = Result<(), RequestError>> + Send + use<>, RequestError> {
        check_publishable(room, name)?;
        let mut array = String::with_capacity(name.len() + data.len() + 8);
        array.push('[');
        packet::json_string(&mut array, name);
        array.push(',');
        array.push_str(data);
        array.push(']');
        let selection = Selection { rooms: vec![room.to_owned()], except: Vec::new() };
        // First into the store's queue: what that refuses must not reach half of the fleet.
        let sent = self.bus.publish(namespace.name(), &selection, &array, &attachments)?;
        self.published.fetch_add(1, Ordering::Relaxed);
        namespace.deliver_to_room(room, &array, attachments);
        Ok(async move { sent.await.map(drop).map_err(RequestError::from) })
    }

    fn permit(&self, grants: Option<&Grants>, right: Right, room: &str) -> Result<(), RequestError> {
        if self.authority.is_open() {
            return Ok(());
        }
        let now_unix_s = crate::transport::unix_ms() / 1_000;
        if grants.is_some_and(|grants| grants.allow(right, room, now_unix_s)) {
            return Ok(());
        }
        let verb = if right == Right::Publish { "publish to" } else { "subscribe to" };
        Err(RequestError::new(
            ErrorCode::PERMISSION_DENIED,
            format!("the token does not allow to {verb} '{room}'"),
        ))
    }

    /// Ends the session when the token does.
    fn bind_to_token(&self, socket: &Socket, grants: &Grants) {
        let unix_ms = crate::transport::unix_ms();
        let left_ms = grants.expires_at_unix_s.saturating_mul(1_000).saturating_sub(unix_ms);
        socket.link().end_by(self.clock.now_ms().saturating_add(left_ms), CloseCode::TOKEN_EXPIRED);
    }

    fn subscribe(
        &self,
        socket: &Arc<Socket>,
        event: &Event<'_>,
        ack: &mut Option<Ack>,
    ) -> Result<(), RequestError> {
        const USAGE: &str = "write subscribe(room, token?)";
        let room = room_argument(event, USAGE)?;
        match argument::<Option<String>>(event, 1, USAGE)?.flatten() {
            Some(token) if !self.authority.is_open() => {
                let grants = self.authority.grants(&token)?;
                self.permit(Some(&grants), Right::Subscribe, &room)?;
                self.bind_to_token(socket, &grants);
            }
            _ => self.permit(socket.grants().as_deref(), Right::Subscribe, &room)?,
        }
        let under_way = UnderWay::begin(socket)?;
        if let Some(parsed) = JobRoom::parse(&room) {
            let job_room = parsed?;
            if socket.namespace().name() != "/" {
                return Err(RequestError::new(ErrorCode::ROOM_RESERVED, "job rooms are in the namespace /"));
            }
            socket.note_room(&room).map_err(join_error)?;
            self.jobs.subscribe(socket.clone(), room, job_room, Greeting::Ack(ack.take()));
            return Ok(());
        }
        let Some(ticket) = socket.join(&room).map_err(join_error)? else {
            grant(ack.take(), Some(&room), None);
            return Ok(());
        };
        let (socket, ack, presence) = (socket.clone(), ack.take(), self.presence.clone());
        tokio::spawn(async move {
            match timeout(LIVE_WITHIN, ticket.live()).await {
                Ok(Ok(())) => {
                    enter(&presence, &socket, &room);
                    grant(ack, Some(&room), None);
                }
                Ok(Err(_)) | Err(_) => {
                    socket.leave(&room);
                    if let Some(ack) = ack {
                        let message = "the store does not answer; subscribe again in a moment";
                        refuse(ack, &RequestError::new(ErrorCode::STORE_UNAVAILABLE, message));
                    }
                }
            }
            drop(under_way);
        });
        Ok(())
    }

    fn unsubscribe(
        &self,
        socket: &Arc<Socket>,
        event: &Event<'_>,
        ack: &mut Option<Ack>,
    ) -> Result<(), RequestError> {
        let room = room_argument(event, "write unsubscribe(room)")?;
        self.leave_room(socket, &room);
        grant(ack.take(), Some(&room), None);
        Ok(())
    }

    fn leave_room(&self, socket: &Arc<Socket>, room: &str) {
        if socket.leave(room) {
            self.left_room(socket, room);
        }
    }

    fn left_room(&self, socket: &Arc<Socket>, room: &str) {
        match JobRoom::parse(room) {
            Some(Ok(job_room)) => self.jobs.forget(socket, &job_room),
            Some(Err(_)) => {}
            None => self.presence.leave(socket, room),
        }
    }

    fn publish_request(
        &self,
        socket: &Arc<Socket>,
        event: &Event<'_>,
        attachments: &[Bytes],
        ack: &mut Option<Ack>,
    ) -> Result<(), RequestError> {
        const USAGE: &str = "write publish(room, event, data)";
        let room = room_argument(event, USAGE)?;
        let name: String = argument(event, 1, USAGE)?.ok_or_else(|| bad(USAGE))?;
        let data = event.args.get(2).map_or("null", |data| data.get());
        self.permit(socket.grants().as_deref(), Right::Publish, &room)?;
        let (data, attachments) = if attachments.is_empty() {
            (std::borrow::Cow::Borrowed(data), Vec::new())
        } else {
            let (data, own) = packet::renumber(data, attachments)
                .map_err(|error| bad(&format!("the data's attachments are broken: {error}")))?;
            (std::borrow::Cow::Owned(data), own)
        };
        let under_way = UnderWay::begin(socket)?;
        let sent = self.publish(socket.namespace(), &room, &name, &data, attachments)?;
        let Some(ack) = ack.take() else { return Ok(()) };
        tokio::spawn(async move {
            match sent.await {
                Ok(()) => grant(Some(ack), None, None),
                Err(error) => refuse(ack, &error),
            }
            drop(under_way);
        });
        Ok(())
    }

    fn presence_request(
        &self,
        socket: &Arc<Socket>,
        event: &Event<'_>,
        ack: &mut Option<Ack>,
    ) -> Result<(), RequestError> {
        let room = room_argument(event, "write presence(room)")?;
        self.permit(socket.grants().as_deref(), Right::Subscribe, &room)?;
        let Some(ack) = ack.take() else { return Ok(()) };
        let under_way = match UnderWay::begin(socket) {
            Ok(under_way) => under_way,
            Err(error) => {
                refuse(ack, &error);
                return Ok(());
            }
        };
        let (presence, namespace) = (self.presence.clone(), socket.namespace().name().to_owned());
        tokio::spawn(async move {
            match timeout(LIVE_WITHIN, presence.members(&namespace, &room)).await {
                Ok(Ok(members)) => grant(Some(ack), Some(&room), Some(members)),
                Ok(Err(error)) => refuse(ack, &error.into()),
                Err(_) => {
                    let message = "the store does not answer; ask again in a moment";
                    refuse(ack, &RequestError::new(ErrorCode::STORE_UNAVAILABLE, message));
                }
            }
            drop(under_way);
        });
        Ok(())
    }
}

/// Shows a socket in a room, unless it has left meanwhile: then its leave may have come before this.
fn enter(presence: &Registry, socket: &Socket, room: &str) {
    presence.enter(socket, room);
    if !socket.is_in(room) {
        presence.leave(socket, room);
    }
}

/// A request of a socket that waits for the store.
struct UnderWay(Arc<Socket>);

impl UnderWay {
    fn begin(socket: &Arc<Socket>) -> Result<Self, RequestError> {
        if socket.begin(UNDER_WAY_MAX) {
            return Ok(Self(socket.clone()));
        }
        let message = format!("this socket has {UNDER_WAY_MAX} requests under way; wait for their answers");
        Err(RequestError::new(ErrorCode::BUSY, message))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.finish();
    }
}

fn join_error(error: JoinError) -> RequestError {
    match error {
        JoinError::Gone => RequestError::new(ErrorCode::BAD_REQUEST, "the socket has left"),
        JoinError::TooManyRooms => {
            let message = format!("a socket may be in {ROOMS_PER_SOCKET_MAX} rooms");
            RequestError::new(ErrorCode::TOO_MANY_ROOMS, message)
        }
        JoinError::Bus(error) => RequestError::new(ErrorCode::BUSY, error.to_string()),
    }
}

impl App for Vocabulary {
    fn connect(&self, socket: &Arc<Socket>, auth: Option<&RawValue>) -> Result<(), RequestError> {
        #[derive(serde::Deserialize)]
        struct Auth {
            token: Option<String>,
        }
        if self.authority.is_open() {
            return Ok(());
        }
        let auth: Option<Auth> = match auth {
            Some(json) => serde_json::from_str(json.get())
                .map_err(|_| RequestError::new(ErrorCode::TOKEN_INVALID, "auth.token must be a string"))?,
            None => None,
        };
        if let Some(token) = auth.and_then(|auth| auth.token) {
            socket.set_grants(Some(Arc::new(self.authority.grants(&token)?)));
        }
        Ok(())
    }

    fn connected(&self, socket: &Arc<Socket>, _auth: Option<&RawValue>) {
        if let Some(grants) = socket.grants() {
            self.bind_to_token(socket, &grants);
        }
    }

    fn is_recoverable(&self, session: &Session) -> bool {
        // What a queue said meanwhile is not kept here; the state of a single job can be asked for.
        !session.rooms.iter().any(|(room, _)| matches!(JobRoom::parse(room), Some(Ok(JobRoom::Queue(_)))))
    }

    fn recovered(&self, socket: &Arc<Socket>, session: &Session) {
        if let Some(at_ms) = session.ends_at_ms {
            socket.link().end_by(at_ms, CloseCode::TOKEN_EXPIRED);
        }
        for (room, _) in &session.rooms {
            match JobRoom::parse(room) {
                None => enter(&self.presence, socket, room),
                Some(Ok(job_room)) => {
                    self.jobs.subscribe(socket.clone(), room.to_string(), job_room, Greeting::Event);
                }
                Some(Err(_)) => {}
            }
        }
    }

    fn event(&self, socket: &Arc<Socket>, event: Event<'_>, attachments: Vec<Bytes>, mut ack: Option<Ack>) {
        let outcome = match event.name.as_str() {
            "subscribe" => self.subscribe(socket, &event, &mut ack),
            "unsubscribe" => self.unsubscribe(socket, &event, &mut ack),
            "publish" => self.publish_request(socket, &event, &attachments, &mut ack),
            "presence" => self.presence_request(socket, &event, &mut ack),
            name => {
                let message =
                    format!("'{name}' is no request; there are subscribe, unsubscribe, publish, presence");
                Err(RequestError::new(ErrorCode::UNKNOWN_EVENT, message))
            }
        };
        if let Err(error) = outcome
            && let Some(ack) = ack
        {
            refuse(ack, &error);
        }
    }

    fn disconnected(&self, socket: &Arc<Socket>, rooms: &[Arc<str>]) {
        for room in rooms {
            self.left_room(socket, room);
        }
    }
}

impl SocketControl for Vocabulary {
    fn join(&self, socket: &Arc<Socket>, room: &str) {
        if !is_kept(room) {
            return;
        }
        match socket.join(room) {
            Ok(Some(_)) => enter(&self.presence, socket, room),
            Ok(None) => {}
            Err(error) => log_refused_join(socket, room, error),
        }
    }

    fn leave(&self, socket: &Arc<Socket>, room: &str) {
        self.leave_room(socket, room);
    }

    fn disconnect(&self, socket: &Arc<Socket>, close: bool) {
        if let Some(peers) = self.peers.get().and_then(Weak::upgrade) {
            peers.disconnect(socket, close);
        }
    }
}
