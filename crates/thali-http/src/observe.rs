//! What surrounds each request: its id, its span, its figures, and the check of its token.

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::Instrument;

use crate::ApiState;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from a client or a proxy.
const REQUEST_ID_LEN_MAX: usize = 64;

/// Gives the request an id and a span, and notes how it went.
pub(crate) async fn observe(State(state): State<ApiState>, request: Request<Body>, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route_name = || route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let span = tracing::debug_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        %method,
        path = request.uri().path(),
    );
    let mut response = next.run(request).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    state.metrics().note_request(&method, route_name(), status, elapsed);
    tracing::debug!(parent: &span, status, elapsed_us = elapsed.as_micros() as u64, "answered");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Lets through what the rules of access allow.
pub(crate) async fn admit(State(state): State<ApiState>, request: Request<Body>, next: Next) -> Response {
    match state.access().admit(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The id that came with the request, if it is fit for logs, or one of our own: unique in this process,
/// and with a random start for each.
fn request_id(request: &Request<Body>) -> HeaderValue {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(fastrand::u64(..)));
    if let Some(id) = request.headers().get(REQUEST_ID) {
        let fit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if (1..=REQUEST_ID_LEN_MAX).contains(&id.len()) && id.as_bytes().iter().all(fit) {
            return id.clone();
        }
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::try_from(format!("{number:016x}")).expect("hexadecimal digits are visible ASCII")
}
