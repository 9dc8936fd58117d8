//! Paths, query strings and bodies, read so that a failure names its field.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::str::FromStr;
use thali_jobs::queue::FieldError;

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

/// The whole body, if it has at most `bytes_max`.
pub(crate) async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, Failure> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => {
            Err(Failure::new(Code::TOO_LARGE, format!("a body may have at most {bytes_max} bytes")))
        }
        Err(error) => Err(Failure::new(Code::BODY_BROKEN, error.to_string())),
    }
}
