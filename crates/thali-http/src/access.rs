//! Who may use the API: a bearer token, the page's origin, and where the server may listen without a token.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use std::net::IpAddr;
use subtle::ConstantTimeEq;

use crate::problem::{Code, Failure};

/// The rules of access.
#[derive(Clone, Default)]
pub struct Access {
    token: Option<String>,
    origins: Vec<String>,
}

/// A bind address that would lay the API open to the network.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} can be reached from outside and no http-token is set; set http-token to a secret, or bind to 127.0.0.1"
)]
pub struct BindRefused {
    address: IpAddr,
}

impl Access {
    /// `token` is the setting `http-token`; an empty one counts as none.
    pub fn new(token: Option<String>) -> Self {
        Self { token: token.filter(|token| !token.is_empty()), origins: Vec::new() }
    }

    /// Pages of these origins (`https://app.example`) may use the API from a browser.
    pub fn with_origins(mut self, origins: Vec<String>) -> Self {
        self.origins = origins;
        self
    }

    /// Whether the server may listen there under these rules.
    pub fn check_bind(&self, address: IpAddr) -> Result<(), BindRefused> {
        if self.token.is_some() || address.to_canonical().is_loopback() {
            Ok(())
        } else {
            Err(BindRefused { address })
        }
    }

    /// Whether clients must send a token.
    pub fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    pub(crate) fn origins(&self) -> &[String] {
        &self.origins
    }

    /// Refuses a request without the token, or one that a page of a foreign origin sent.
    pub(crate) fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Failure> {
        if !method.is_safe() {
            self.check_origin(headers)?;
        }
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
        match given {
            Some(given) if bool::from(given.ct_eq(token.as_bytes())) => Ok(()),
            Some(_) => Err(Failure::new(Code::NO_TOKEN, "the bearer token is not the one of http-token")),
            None => Err(Failure::new(Code::NO_TOKEN, "send the header 'Authorization: Bearer <http-token>'")),
        }
    }

    /// Without a token, any page that the user opens could send requests to a loopback address; the browser
    /// tells its origin, and only the API's own is welcome unless others are listed.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let own = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        if own || self.origins.iter().any(|allowed| allowed == "*" || allowed == origin) {
            return Ok(());
        }
        Err(Failure::new(
            Code::FOREIGN_ORIGIN,
            format!("the origin '{origin}' is not among those of gateway-cors"),
        ))
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_goes_without_a_token() {
        let (open, locked) = (Access::new(Some(String::new())), Access::new(Some("s3cret".to_owned())));
        for address in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            assert!(open.check_bind(address.parse().unwrap()).is_ok(), "{address}");
        }
        for address in ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1"] {
            assert!(open.check_bind(address.parse().unwrap()).is_err(), "{address}");
            assert!(locked.check_bind(address.parse().unwrap()).is_ok(), "{address}");
        }
    }

    #[test]
    fn token_is_compared_as_a_whole() {
        let access = Access::new(Some("s3cret".to_owned()));
        let admit = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            access.admit(&Method::GET, &headers).is_ok()
        };
        assert!(admit("Bearer s3cret") && admit("bearer s3cret"));
        assert!(
            !admit("Bearer s3cre") && !admit("Bearer s3crets") && !admit("Basic s3cret") && !admit("Bearer")
        );
        assert!(access.admit(&Method::GET, &HeaderMap::new()).is_err());
    }

    #[test]
    fn foreign_pages_may_not_write() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "127.0.0.1:8379".parse().unwrap());
        let access = Access::default();
        assert!(access.admit(&Method::POST, &headers).is_ok());
        headers.insert(header::ORIGIN, "http://127.0.0.1:8379".parse().unwrap());
        assert!(access.admit(&Method::POST, &headers).is_ok());
        headers.insert(header::ORIGIN, "https://evil.example".parse().unwrap());
        assert!(access.admit(&Method::POST, &headers).is_err());
        assert!(access.admit(&Method::GET, &headers).is_ok());
        let listed = Access::default().with_origins(vec!["https://evil.example".to_owned()]);
        assert!(listed.admit(&Method::POST, &headers).is_ok());
    }
}
