//! HTTP long-polling: a GET waits for frames, a POST brings some.
//!
//! One GET and one POST of a session at a time; overlap ends the session. So does a request that is
//! given up before its answer, which hyper tells by dropping the future: the guards see to it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::Link;
use super::http::{Refusal, answer, refuse};
use super::link::Taken;
use super::server::{Connection, Handler, Server};
use crate::codes::CloseCode;
use crate::engine::{Frame, decode_payload, encode_payload};

/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Ends the session when the request is dropped before it was answered.
struct Guard {
    link: Arc<Link>,
    end: fn(&Link),
    answered: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        (self.end)(&self.link);
        if !self.answered {
            self.link.close(CloseCode::TRANSPORT_CLOSED);
        }
    }
}

/// Waits for frames and sends them.
pub(super) async fn poll<H: Handler>(server: &Server<H>, connection: &Connection<H::Peer>) -> Response {
    if let Err(code) = connection.link.poll_begin() {
        connection.link.close(code);
        return refuse(Refusal::BadRequest);
    }
    let mut guard = Guard { link: connection.link.clone(), end: Link::poll_end, answered: false };
    let mut frames = VecDeque::new();
    let taken = poll_fn(|cx| match connection.link.take_for_poll(cx, &mut frames) {
        Taken::Pending => Poll::Pending,
        taken => Poll::Ready(taken),
    })
    .await;
    match taken {
        Taken::Closed(CloseCode::CLIENT_CLOSED) | Taken::Release => frames.push_back(Frame::NOOP),
        Taken::Closed(code) => {
            if !code.retry {
                frames.extend(server.handler.farewell());
            }
            frames.push_back(Frame::CLOSE);
        }
        Taken::Frames | Taken::Pending => {}
    }
    guard.answered = true;
    answer(StatusCode::OK, "text/plain; charset=UTF-8", encode_payload(frames.make_contiguous()))
}

/// Takes a body full of packets.
pub(super) async fn post<H: Handler>(
    server: &Server<H>,
    connection: &Connection<H::Peer>,
    request: Request<Body>,
) -> Response {
    if let Err(code) = connection.link.post_begin() {
        connection.link.close(code);
        return refuse(Refusal::BadRequest);
    }
    let mut guard = Guard { link: connection.link.clone(), end: Link::post_end, answered: false };
    // Binary bodies belong to revision 3; in 4 binary travels as base64 text.
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/octet-stream")) {
        connection.link.close(CloseCode::INVALID_PACKET);
        return refuse(Refusal::BadRequest);
    }
    let body = Limited::new(request.into_body(), server.settings.payload_bytes_max);
    let body = match tokio::time::timeout(BODY_WITHIN, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            connection.link.close(CloseCode::PAYLOAD_TOO_LARGE);
            return refuse(Refusal::TooLarge);
        }
        Ok(Err(_)) | Err(_) => return refuse(Refusal::BadRequest),
    };
    guard.answered = true;
    match receive(server, connection, &body) {
        Ok(()) | Err(CloseCode::CLIENT_CLOSED) => answer(StatusCode::OK, "text/html", "ok"),
        Err(_) => refuse(Refusal::BadRequest),
    }
}

fn receive<H: Handler>(
    server: &Server<H>,
    connection: &Connection<H::Peer>,
    body: &[u8],
) -> Result<(), CloseCode> {
    let packets = std::str::from_utf8(body).map_err(|_| CloseCode::INVALID_PACKET).and_then(|text| {
        for packet in decode_payload(text) {
            server.receive(connection, packet.map_err(|_| CloseCode::INVALID_PACKET)?)?;
        }
        Ok(())
    });
    packets.inspect_err(|code| {
        connection.link.close(*code);
    })
}
