//! Which web pages may talk to the gateway.
//!
//! A browser lets any page open a WebSocket to any host, loopback included, and says only who asks:
//! `Origin`. So a page from elsewhere is refused unless the setting names it, on every transport.
//! Clients that are no browsers send no `Origin` and are not concerned.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue};

/// How long a browser may remember a preflight's answer, in seconds.
const PREFLIGHT_SECONDS: &str = "600";

/// Origins that may connect beside the gateway's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// None.
    #[default]
    Own,
    /// Any.
    Any,
    /// These, written as browsers do: `https://app.example.org`, no path.
    Listed(Vec<String>),
}

/// A page from elsewhere.
#[derive(Debug)]
pub(super) struct Refused;

impl Origins {
    /// Reads the setting: empty, `*`, or origins separated by commas or spaces.
    pub fn parse(text: &str) -> Self {
        let mut listed = Vec::new();
        for word in text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty()) {
            if word == "*" {
                return Self::Any;
            }
            listed.push(word.trim_end_matches('/').to_ascii_lowercase());
        }
        if listed.is_empty() { Self::Own } else { Self::Listed(listed) }
    }

    /// The origin that must be named in the answer's headers; none when no browser asks, or its own.
    pub(super) fn judge<'a>(&self, headers: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, Refused> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(None) };
        let text = origin.to_str().map_err(|_| Refused)?;
        // A page cannot set these headers on another's behalf; a proxy can, and means the same.
        let hosts = [headers.get(HOST), headers.get("x-forwarded-host")];
        let own = text.split_once("://").is_some_and(|(_, host)| {
            hosts.iter().flatten().any(|value| value.as_bytes().eq_ignore_ascii_case(host.as_bytes()))
        });
        let listed = match self {
            Self::Own => false,
            Self::Any => true,
            Self::Listed(origins) => origins.iter().any(|one| one.eq_ignore_ascii_case(text)),
        };
        if listed {
            Ok(Some(origin))
        } else if own {
            Ok(None)
        } else {
            Err(Refused)
        }
    }
}

/// Lets the page read the answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
    let Some(origin) = origin else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

/// Answers a preflight.
pub(super) fn preflight(headers: &mut HeaderMap, asked: &HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,POST"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
    if let Some(wanted) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(origins: &str, origin: Option<&str>, host: &str) -> Option<bool> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        Origins::parse(origins).judge(&headers).ok().map(|named| named.is_some())
    }

    #[test]
    fn pages_from_elsewhere_need_the_setting() {
        assert_eq!(judged("", None, "a:1"), Some(false), "no browser");
        assert_eq!(judged("", Some("http://a:1"), "a:1"), Some(false), "its own page");
        assert_eq!(judged("", Some("http://evil"), "a:1"), None);
        assert_eq!(judged("*", Some("http://evil"), "a:1"), Some(true));
        assert_eq!(judged("http://b, https://c/", Some("https://C"), "a:1"), Some(true));
        assert_eq!(judged("http://b", Some("http://c"), "a:1"), None);
        assert_eq!(judged("", Some("null"), "a:1"), None, "a sandboxed frame");
    }
}
