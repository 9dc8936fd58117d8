//! Paths, query strings and bodies, read so that a failure names its field.

use axum::body::Body;
use axum::body::HttpBody as _;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thali_jobs::queue::FieldError;

use crate::ApiState;
use crate::problem::{Code, Failure};

/// The parts of the path, percent-decoded.
pub(crate) struct ApiPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for ApiPath<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(path)) => Ok(Self(path)),
            Err(rejection) => Err(Failure::new(Code::BAD_PATH, rejection.body_text())),
        }
    }
}

/// The query string; each parameter must be taken, exactly once.
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn of(uri: &'a Uri) -> Self {
        Self(form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect())
    }

    pub(crate) fn take<T: FromStr>(&mut self, name: &str, expected: &str) -> Result<Option<T>, Failure> {
        let Some(index) = self.0.iter().position(|(key, _)| key == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(index);
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Failure::query(FieldError::invalid(name, format!("must be {expected}")))),
        }
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.0.into_iter().next() {
            Some((name, _)) => {
                let message = "there is no such parameter, or it is there twice";
                Err(Failure::query(FieldError::invalid(name.into_owned(), message)))
            }
            None => Ok(()),
        }
    }
}

/// Refuses bodies that do not call themselves JSON. This is also what keeps pages of other origins from
/// writing: a browser asks first before it sends this type.
pub(crate) fn must_be_json(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Err(Failure::new(Code::NOT_JSON, "send the header 'Content-Type: application/json'"));
    };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Failure::new(Code::NOT_JSON, format!("'{essence}' is not application/json")))
    }
}

/// Bytes of bodies that one node holds at a time, from their arrival to their answer. Past it requests are
/// asked to come again, so that many large ones at once cost nobody his memory.
const BODIES_BYTES_MAX: usize = 256 << 20;
/// How long a body may take; one that trickles would hold its connection, and its bytes, for ever.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// The bytes of all bodies that are held now.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    bytes: AtomicUsize,
}

/// A body that has come whole. Its bytes count until it is dropped.
#[derive(Debug)]
pub(crate) struct WholeBody {
    bytes: Vec<u8>,
    bodies: Arc<Bodies>,
}

impl WholeBody {
    fn add(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let before = self.bodies.bytes.fetch_add(piece.len(), Ordering::Relaxed);
        if before + piece.len() > BODIES_BYTES_MAX {
            self.bodies.bytes.fetch_sub(piece.len(), Ordering::Relaxed);
            return Err(Failure::new(Code::TOO_BUSY, "more bodies are being read than this node may hold"));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

impl Deref for WholeBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for WholeBody {
    fn drop(&mut self) {
        self.bodies.bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// The whole body, if it has at most `bytes_max`.
pub(crate) async fn read_body(state: &ApiState, body: Body, bytes_max: usize) -> Result<WholeBody, Failure> {
    match tokio::time::timeout(BODY_WITHIN, collect(state, body, bytes_max)).await {
        Ok(body) => body,
        Err(_) => {
            let detail = format!("the body took longer than {} s", BODY_WITHIN.as_secs());
            Err(Failure::new(Code::BODY_BROKEN, detail))
        }
    }
}

async fn collect(state: &ApiState, mut body: Body, bytes_max: usize) -> Result<WholeBody, Failure> {
    let too_large = || Failure::new(Code::TOO_LARGE, format!("a body may have at most {bytes_max} bytes"));
    // What announces itself as too large need not be sent.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut whole = WholeBody { bytes: Vec::new(), bodies: state.bodies().clone() };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(Code::BODY_BROKEN, error.to_string()))?;
        let Ok(piece) = frame.into_data() else { continue };
        if whole.bytes.len() + piece.len() > bytes_max {
            return Err(too_large());
        }
        whole.add(&piece)?;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_count_until_they_are_dropped() {
        let bodies = Arc::new(Bodies::default());
        let mut body = WholeBody { bytes: Vec::new(), bodies: bodies.clone() };
        body.add(b"12345").unwrap();
        bodies.bytes.fetch_add(BODIES_BYTES_MAX - 8, Ordering::Relaxed);
        assert_eq!(body.add(b"6789").unwrap_err().problem().code, 5006);
        body.add(b"678").unwrap();
        assert_eq!(&*body, b"12345678");
        drop(body);
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), BODIES_BYTES_MAX - 8);
    }
}
