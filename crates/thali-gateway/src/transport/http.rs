//! The HTTP face: one path, told apart by query and headers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use axum::routing::any;

use super::clock::unix_ms;
use super::server::{Handler, Handshake, Server};
use super::{origin, polling, websocket};
use crate::engine::TransportKind;

/// Serves the sessions of `server` at `path`, which ends with a slash.
pub fn router<H: Handler>(server: Arc<Server<H>>, path: &str) -> Router {
    Router::new().route(path, any(serve::<H>)).with_state(server)
}

/// What a request may be refused for; numbers and words are those of Node's server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    TransportUnknown,
    SessionUnknown,
    BadHandshakeMethod,
    BadRequest,
    Forbidden,
    UnsupportedVersion,
    TooLarge,
    Full,
}

pub(super) fn refuse(refusal: Refusal) -> Response {
    let (status, body) = match refusal {
        Refusal::TransportUnknown => (400, r#"{"code":0,"message":"Transport unknown"}"#),
        Refusal::SessionUnknown => (400, r#"{"code":1,"message":"Session ID unknown"}"#),
        Refusal::BadHandshakeMethod => (400, r#"{"code":2,"message":"Bad handshake method"}"#),
        Refusal::BadRequest => (400, r#"{"code":3,"message":"Bad request"}"#),
        Refusal::Forbidden => {
            (403, r#"{"code":4,"message":"Forbidden: name this page's origin in gateway-cors"}"#)
        }
        Refusal::UnsupportedVersion => (400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
        Refusal::TooLarge => (413, r#"{"code":3,"message":"Payload too large"}"#),
        Refusal::Full => (503, r#"{"code":3,"message":"No more connections"}"#),
    };
    let status = StatusCode::from_u16(status).expect("a constant");
    answer(status, "application/json", body)
}

pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The parameters that matter.
#[derive(Default)]
struct Query<'a> {
    version: &'a str,
    transport: &'a str,
    sid: Option<&'a str>,
}

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Self {
        let mut query = Self::default();
        for pair in text.split('&') {
            match pair.split_once('=') {
                Some(("EIO", value)) => query.version = value,
                Some(("transport", value)) => query.transport = value,
                Some(("sid", value)) => query.sid = Some(value),
                _ => {}
            }
        }
        query
    }
}

async fn serve<H: Handler>(State(server): State<Arc<Server<H>>>, request: Request<Body>) -> Response {
    let named = match server.settings.origins.judge(request.headers()) {
        Ok(named) => named.cloned(),
        Err(origin::Refused) => return refuse(Refusal::Forbidden),
    };
    let mut response = if request.method() == Method::OPTIONS {
        let mut response = answer(StatusCode::NO_CONTENT, "text/plain", Body::empty());
        origin::preflight(response.headers_mut(), request.headers());
        response
    } else {
        dispatch(server, request).await
    };
    origin::allow(response.headers_mut(), named.as_ref());
    response
}

async fn dispatch<H: Handler>(server: Arc<Server<H>>, mut request: Request<Body>) -> Response {
    let uri = request.uri().clone();
    let query = Query::parse(uri.query().unwrap_or_default());
    if query.version != "4" {
        return refuse(Refusal::UnsupportedVersion);
    }
    let wants_socket = is_websocket(request.headers());
    match (query.transport, query.sid) {
        ("polling", None) if request.method() != Method::GET => refuse(Refusal::BadHandshakeMethod),
        ("polling", None) if server.full() => refuse(Refusal::Full),
        ("polling", None) => {
            let connection = server.open(TransportKind::Polling, handshake(&request));
            polling::poll(&server, &connection).await
        }
        ("polling", Some(sid)) => {
            let polls = request.method() == Method::GET;
            let found = server.find(sid).or_else(|| polls.then(|| server.find_ended(sid)).flatten());
            let Some(connection) = found else { return refuse(Refusal::SessionUnknown) };
            if connection.link.transport() == TransportKind::WebSocket {
                return refuse(Refusal::BadRequest);
            }
            match *request.method() {
                Method::GET => polling::poll(&server, &connection).await,
                Method::POST => polling::post(&server, &connection, request).await,
                _ => refuse(Refusal::BadRequest),
            }
        }
        ("websocket", _) if !wants_socket || request.method() != Method::GET => refuse(Refusal::BadRequest),
        ("websocket", None) if server.full() => refuse(Refusal::Full),
        ("websocket", None) => {
            let handshake = handshake(&request);
            websocket::accept(&mut request, server.settings.payload_bytes_max, move |socket| async move {
                let connection = server.open(TransportKind::WebSocket, handshake);
                websocket::run(&server, &connection, socket).await;
            })
        }
        ("websocket", Some(sid)) => {
            let Some(connection) = server.find(sid) else { return refuse(Refusal::SessionUnknown) };
            let may = connection.link.probe_begin();
            websocket::accept(&mut request, server.settings.payload_bytes_max, move |mut socket| async move {
                if may {
                    websocket::probe(&server, &connection, socket).await;
                } else {
                    // Node's server lets the second one in and closes it; clients count on the close.
                    websocket::dismiss(&mut socket).await;
                }
            })
        }
        _ => refuse(Refusal::TransportUnknown),
    }
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn handshake(request: &Request<Body>) -> Handshake {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    Handshake { address: peer.map(|info| info.0.to_string()).unwrap_or_default(), at_unix_ms: unix_ms() }
}
