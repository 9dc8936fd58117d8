//! WebSocket: the handshake, the probe of a session that wants to move here, and the one task that
//! reads and writes.
//!
//! The task is a loop without a channel: it writes what the link has while the peer takes it, reads
//! what came, and writes again what reading produced, so answers to a burst leave in one go. While
//! the peer does not take bytes the loop goes on reading and waits for the link's close, by which the
//! queue's bound or the heartbeat ends a peer that never reads.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::time::timeout;
use tokio_websockets::{Limits, Message, ServerBuilder, WebSocketStream};

use super::http::{Refusal, refuse};
use super::link::Taken;
use super::server::{Connection, Handler, Server};
use crate::codes::CloseCode;
use crate::engine::{Frame, Probe, decode, decode_binary};

/// Appended to the client's key by the WebSocket handshake. SOURCE: RFC 6455, 4.2.2.
const HANDSHAKE_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Messages read before what they produced is written.
const READS_IN_A_ROW_MAX: usize = 64;
/// How long a client may take from opening a second transport to moving there.
const UPGRADE_WITHIN: Duration = Duration::from_secs(10);
/// How long the closing words may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers the handshake; `serve` runs on its own task once the connection is a WebSocket.
pub(super) fn accept<F>(
    request: &mut Request<Body>,
    payload_bytes_max: usize,
    serve: impl FnOnce(Socket) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let headers = request.headers();
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    let (Some(key), Some(b"13")) =
        (headers.get(header::SEC_WEBSOCKET_KEY), version.map(HeaderValue::as_bytes))
    else {
        return refuse(Refusal::BadRequest);
    };
    let mut digest = Sha1::new();
    digest.update(key.as_bytes());
    digest.update(HANDSHAKE_GUID);
    let accept = base64::engine::general_purpose::STANDARD.encode(digest.finalize());
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let limits = Limits::default().max_payload_len(Some(payload_bytes_max));
            let socket = ServerBuilder::new().limits(limits).serve(TokioIo::new(upgraded));
            serve(socket).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("base64"));
    response
}

/// Waits for the client to move its polling session here, then carries it.
pub(super) async fn probe<H: Handler>(
    server: &Server<H>,
    connection: &Connection<H::Peer>,
    mut socket: Socket,
) {
    let moved = timeout(UPGRADE_WITHIN, async {
        while let Some(Ok(message)) = socket.next().await {
            let Some(Ok(packet)) = message.as_text().map(decode) else { return false };
            match connection.link.probe(&packet) {
                Probe::Taken => return true,
                Probe::Refuse => return false,
                Probe::Answer => {
                    if socket.send(outgoing(Frame::PONG_PROBE)).await.is_err() {
                        return false;
                    }
                }
            }
        }
        false
    });
    if matches!(moved.await, Ok(true)) {
        run(server, connection, socket).await;
    } else {
        connection.link.probe_end();
        dismiss(&mut socket).await;
    }
}

/// Closes a WebSocket that carries nothing.
pub(super) async fn dismiss(socket: &mut Socket) {
    let _ = timeout(CLOSE_WITHIN, socket.close()).await;
}

/// Carries a session until it ends.
pub(super) async fn run<H: Handler>(
    server: &Server<H>,
    connection: &Connection<H::Peer>,
    mut socket: Socket,
) {
    let mut batch = VecDeque::new();
    let code = poll_fn(|cx| step(server, connection, &mut socket, &mut batch, cx)).await;
    if code == CloseCode::TRANSPORT_CLOSED {
        return;
    }
    let goodbye = async {
        if !code.retry
            && let Some(frame) = server.handler.farewell()
        {
            let _ = socket.feed(outgoing(frame)).await;
        }
        let number = tokio_websockets::CloseCode::try_from(code.number).ok();
        // Refused when the codec has closed for a fault of its own, with WebSocket's own number.
        let _ = socket.send(Message::close(number, code.name)).await;
        socket.close().await
    };
    // A peer that does not take the closing words is gone either way.
    let _ = timeout(CLOSE_WITHIN, goodbye).await;
}

fn step<H: Handler>(
    server: &Server<H>,
    connection: &Connection<H::Peer>,
    socket: &mut Socket,
    batch: &mut VecDeque<Frame>,
    cx: &mut Context<'_>,
) -> Poll<CloseCode> {
    loop {
        if let Poll::Ready(code) = write(connection, socket, batch, cx) {
            return Poll::Ready(code);
        }
        let mut read = 0;
        let mut ended = false;
        while read < READS_IN_A_ROW_MAX
            && !ended
            && let Poll::Ready(outcome) = receive(server, connection, socket, cx)
        {
            if let Err(code) = outcome {
                connection.link.close(code);
                ended = true;
            }
            read += 1;
        }
        // Whatever was read may have left frames, and an end must still be written.
        if read == 0 {
            return Poll::Pending;
        }
    }
}

/// Hands frames to the socket as long as it takes them. Ready when the session is over.
fn write<P>(
    connection: &Connection<P>,
    socket: &mut Socket,
    batch: &mut VecDeque<Frame>,
    cx: &mut Context<'_>,
) -> Poll<CloseCode> {
    loop {
        match socket.poll_ready_unpin(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(connection.link.close(CloseCode::TRANSPORT_CLOSED)),
            Poll::Pending => {
                return match connection.link.watch(cx) {
                    Some(code) => Poll::Ready(code),
                    None => Poll::Pending,
                };
            }
        }
        if let Some(frame) = batch.pop_front() {
            if socket.start_send_unpin(outgoing(frame)).is_err() {
                return Poll::Ready(connection.link.close(CloseCode::TRANSPORT_CLOSED));
            }
            continue;
        }
        match connection.link.take(cx, batch) {
            Taken::Frames => {}
            Taken::Closed(code) => return Poll::Ready(code),
            Taken::Pending | Taken::Release => break,
        }
    }
    match ready!(socket.poll_flush_unpin(cx)) {
        Ok(()) => Poll::Pending,
        Err(_) => Poll::Ready(connection.link.close(CloseCode::TRANSPORT_CLOSED)),
    }
}

/// Takes one message and passes it up.
fn receive<H: Handler>(
    server: &Server<H>,
    connection: &Connection<H::Peer>,
    socket: &mut Socket,
    cx: &mut Context<'_>,
) -> Poll<Result<(), CloseCode>> {
    let message = match ready!(socket.poll_next_unpin(cx)) {
        Some(Ok(message)) => message,
        Some(Err(error)) => return Poll::Ready(Err(code_of(&error))),
        None => return Poll::Ready(Err(CloseCode::TRANSPORT_CLOSED)),
    };
    Poll::Ready(if let Some(text) = message.as_text() {
        decode(text)
            .map_err(|_| CloseCode::INVALID_PACKET)
            .and_then(|packet| server.receive(connection, packet))
    } else if message.is_binary() {
        server.receive(connection, decode_binary(message.into_payload().into()))
    } else {
        // Control frames are answered by the codec.
        Ok(())
    })
}

fn code_of(error: &tokio_websockets::Error) -> CloseCode {
    match error {
        tokio_websockets::Error::PayloadTooLong { .. } => CloseCode::PAYLOAD_TOO_LARGE,
        tokio_websockets::Error::Protocol(_) => CloseCode::INVALID_PACKET,
        _ => CloseCode::TRANSPORT_CLOSED,
    }
}

fn outgoing(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::text(text),
        Frame::Binary(data) => Message::binary(data),
    }
}
