//! Questions that other nodes put to all, and this node's answers.
//!
//! A request is JSON when it begins with `{`, msgpack otherwise. Node counts the nodes that listen to
//! the request channel and waits for as many answers, so a question that Thali understands is always
//! answered, with nothing if need be. `serverSideEmit` speaks to application code, of which there is
//! none here; like a Node server without a listener, it stays silent.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use rmpv::ValueRef;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Pipe;
use super::adapter::response_channel;
use super::msgpack::{DEPTH_MAX, Writer, text_of};
use super::wire::{field, names, packet_parts};
use crate::hub::{JoinError, Namespace, Selection, Socket};

/// How long clients may take to acknowledge a broadcast; Node's own default is shorter.
const ACK_WITHIN: Duration = Duration::from_secs(30);

/// What requests may do to sockets beyond the hub.
pub(crate) trait SocketControl: Send + Sync + 'static {
    fn join(&self, socket: &Arc<Socket>, room: &str);
    fn leave(&self, socket: &Arc<Socket>, room: &str);
    fn disconnect(&self, socket: &Arc<Socket>, close: bool);
}

/// Answers requests.
pub(crate) struct Requests {
    pipe: Pipe,
    control: Weak<dyn SocketControl>,
}

mod kind {
    pub(super) const SOCKETS: u64 = 0;
    pub(super) const ALL_ROOMS: u64 = 1;
    pub(super) const REMOTE_JOIN: u64 = 2;
    pub(super) const REMOTE_LEAVE: u64 = 3;
    pub(super) const REMOTE_DISCONNECT: u64 = 4;
    pub(super) const REMOTE_FETCH: u64 = 5;
    pub(super) const BROADCAST: u64 = 7;
    pub(super) const BROADCAST_CLIENT_COUNT: u64 = 8;
    pub(super) const BROADCAST_ACK: u64 = 9;
}

/// The JSON form, all types in one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(rename = "type")]
    kind: u64,
    request_id: Option<Value>,
    opts: Option<Options>,
    #[serde(default)]
    rooms: Vec<Value>,
    room: Option<Value>,
    sid: Option<String>,
    #[serde(default)]
    close: Value,
}

#[derive(Debug, Deserialize)]
struct Options {
    #[serde(default)]
    rooms: Vec<Value>,
    #[serde(default)]
    except: Vec<Value>,
}

impl Requests {
    pub(crate) fn new(pipe: Pipe, control: Weak<dyn SocketControl>) -> Self {
        Self { pipe, control }
    }

    /// Handles one request.
    pub(crate) fn hear(&self, namespace: &Arc<Namespace>, data: &[u8]) {
        if data.first() == Some(&b'{') {
            match serde_json::from_slice(data) {
                Ok(request) => self.answer(namespace, request),
                Err(error) => tracing::debug!(%error, "a request cannot be read"),
            }
        } else if let Ok(value) = rmpv::decode::read_value_ref_with_max_depth(&mut &data[..], DEPTH_MAX) {
            self.answer_binary(namespace, &value);
        }
    }

    fn answer(&self, namespace: &Arc<Namespace>, request: Request) {
        let Some(control) = self.control.upgrade() else { return };
        let id = &request.request_id;
        let rooms = room_names(&request.rooms);
        let picked = match (&request.opts, &request.sid) {
            (Some(options), _) => namespace.select(&Selection {
                rooms: room_names(&options.rooms),
                except: room_names(&options.except),
            }),
            (None, Some(sid)) => namespace.socket(sid).into_iter().collect(),
            (None, None) => Vec::new(),
        };
        // By id, the one node that has the socket answers; by options nobody waits for an answer.
        let one_answers = request.opts.is_none() && !picked.is_empty();
        let rooms_meant = match &request.room {
            Some(room) => room_names(std::slice::from_ref(room)),
            None => rooms.clone(),
        };
        match request.kind {
            kind::SOCKETS => {
                let found = namespace.select(&Selection { rooms, except: Vec::new() });
                let ids: Vec<&str> = found.iter().map(|socket| &**socket.id()).collect();
                self.reply(namespace, &json!({"requestId": id, "sockets": ids}));
            }
            kind::ALL_ROOMS => {
                let mut rooms: Vec<String> =
                    namespace.room_names().iter().map(|one| one.to_string()).collect();
                // A socket's id is a room too.
                rooms.extend(namespace.select(&Selection::default()).iter().map(|one| one.id().to_string()));
                self.reply(namespace, &json!({"requestId": id, "rooms": rooms}));
            }
            kind::REMOTE_JOIN => each(&picked, &rooms_meant, |socket, room| control.join(socket, room)),
            kind::REMOTE_LEAVE => each(&picked, &rooms_meant, |socket, room| control.leave(socket, room)),
            kind::REMOTE_DISCONNECT => {
                let close = request.close.as_bool().unwrap_or(false);
                picked.iter().for_each(|socket| control.disconnect(socket, close));
            }
            kind::REMOTE_FETCH => {
                let sockets: Vec<Value> = picked.iter().map(describe).collect();
                self.reply(namespace, &json!({"requestId": id, "sockets": sockets}));
                return;
            }
            _ => return,
        }
        let changes =
            [kind::REMOTE_JOIN, kind::REMOTE_LEAVE, kind::REMOTE_DISCONNECT].contains(&request.kind);
        if changes && one_answers {
            self.reply(namespace, &json!({"requestId": id}));
        }
    }

    /// A broadcast whose clients shall acknowledge; the only request that Node sends in msgpack.
    fn answer_binary(&self, namespace: &Arc<Namespace>, request: &ValueRef<'_>) {
        if field(request, "type").and_then(ValueRef::as_u64) != Some(kind::BROADCAST) {
            return;
        }
        let (Some(id), Some(packet)) =
            (field(request, "requestId").and_then(text_of), field(request, "packet"))
        else {
            return;
        };
        let Ok((_, array, attachments)) = packet_parts(packet) else { return };
        let options = field(request, "opts");
        let named = |name| names(options.and_then(|options| field(options, name)));
        let sockets = namespace.select(&Selection { rooms: named("rooms"), except: named("except") });
        let count =
            json!({"type": kind::BROADCAST_CLIENT_COUNT, "requestId": id, "clientCount": sockets.len()});
        self.reply(namespace, &count);
        for socket in sockets {
            let Some(heard) = socket.ask(&array, attachments.clone()) else { continue };
            let (pipe, channel, id) = (self.pipe.clone(), response_channel(namespace.name()), id.to_owned());
            tokio::spawn(async move {
                if let Ok(Ok((array, attachments))) = timeout(ACK_WITHIN, heard).await
                    && let Some(answer) = ack_answer(&id, &array, &attachments)
                {
                    publish(&pipe, &channel, answer);
                }
            });
        }
    }

    fn reply(&self, namespace: &Namespace, answer: &Value) {
        publish(&self.pipe, &response_channel(namespace.name()), answer.to_string().into_bytes());
    }
}

fn publish(pipe: &Pipe, channel: &str, answer: Vec<u8>) {
    let mut command = redis::cmd("PUBLISH");
    command.arg(channel).arg(answer);
    if let Err(error) = pipe.send(command) {
        tracing::debug!(%error, "an answer to another node is lost");
    }
}

/// `packet` is the client's first argument: Node expects one value from each client.
fn ack_answer(id: &str, array: &str, attachments: &[Bytes]) -> Option<Vec<u8>> {
    let args: Vec<&RawValue> = serde_json::from_str(array).ok()?;
    let packet = args.first().map_or("null", |first| first.get());
    let mut writer = Writer::default();
    writer.map(3);
    writer.string("type");
    writer.unsigned(kind::BROADCAST_ACK);
    writer.string("requestId");
    writer.string(id);
    writer.string("packet");
    writer.json(packet, attachments).ok()?;
    Some(writer.out)
}

fn each(sockets: &[Arc<Socket>], rooms: &[String], act: impl Fn(&Arc<Socket>, &str)) {
    for socket in sockets {
        for room in rooms {
            act(socket, room);
        }
    }
}

/// What `fetchSockets()` of another node shows of a socket here.
fn describe(socket: &Arc<Socket>) -> Value {
    let mut rooms: Vec<String> = socket.rooms().iter().map(|room| room.to_string()).collect();
    rooms.insert(0, socket.id().to_string());
    let handshake = socket.handshake();
    let data = socket.grants().and_then(|grants| grants.user.clone());
    json!({
        "id": &**socket.id(),
        "handshake": {
            "headers": {}, "query": {}, "auth": {}, "url": "/socket.io/", "xdomain": false, "secure": false,
            "address": handshake.address, "issued": handshake.at_unix_ms,
        },
        "rooms": rooms,
        "data": data.map_or(json!({}), |user| json!({"user": user})),
    })
}

/// Node lets rooms be numbers.
fn room_names(values: &[Value]) -> Vec<String> {
    values
        .iter()
        .filter_map(|value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect()
}

/// Why a join asked for by another node did not happen; there is nobody to tell.
pub(crate) fn log_refused_join(socket: &Socket, room: &str, error: JoinError) {
    tracing::debug!(socket = %socket.id(), room, ?error, "a join asked for by another node was refused");
}
