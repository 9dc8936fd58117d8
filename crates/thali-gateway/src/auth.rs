//! Who may do what in which room.
//!
//! With `jwt`, a client shows a token when it connects (`io(url, {auth: {token}})`), with a request
//! (`subscribe(room, token)`), or both. The token's claims:
//!
//! ```json
//! {
//!   "sub": "alice",
//!   "exp": 1790000000,
//!   "rooms": ["job:judge:*", {"pattern": "chat:lobby", "publish": true}]
//! }
//! ```
//!
//! `rooms` lists what is allowed; nothing else is. A pattern is a room's name in which `*` stands for
//! any characters, none included. A plain string allows to subscribe and to see who is there;
//! `publish: true` allows to publish as well. `sub` is shown in presence. `exp` is required: when it
//! passes, the connection ends with `token_expired` and the client comes back with a fresh token.
//! A client without a token may connect, and may do nothing until it shows one.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::Deserialize;

use crate::codes::{ErrorCode, RequestError};

/// Bytes of a token; the largest that proxies let through in a header, though it travels in packets.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Patterns one token may carry.
const PATTERNS_MAX: usize = 256;

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// HMAC with a shared secret.
    Hs256,
    /// RSA; the key is the public key in PEM.
    Rs256,
    /// ECDSA over P-256; the key is the public key in PEM.
    Es256,
}

impl std::str::FromStr for TokenAlgorithm {
    type Err = AuthError;

    fn from_str(text: &str) -> Result<Self, AuthError> {
        match text.to_ascii_uppercase().as_str() {
            "HS256" => Ok(Self::Hs256),
            "RS256" => Ok(Self::Rs256),
            "ES256" => Ok(Self::Es256),
            _ => Err(AuthError::Algorithm(text.to_owned())),
        }
    }
}

/// What the `auth` setting says.
#[derive(Clone, Default)]
pub enum AuthSettings {
    /// Everyone may do everything.
    #[default]
    None,
    /// Only what a token allows.
    Jwt {
        /// How tokens are signed.
        algorithm: TokenAlgorithm,
        /// The secret, or the public key in PEM.
        key: Vec<u8>,
    },
}

impl std::fmt::Debug for AuthSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Jwt { algorithm, .. } => write!(f, "Jwt({algorithm:?})"),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Not one of the three.
    #[error("'{0}' is no token algorithm; write HS256, RS256 or ES256")]
    Algorithm(String),
    /// The key does not fit the algorithm.
    #[error("the token key cannot be used ({0}); RS256 and ES256 need a public key in PEM")]
    Key(String),
    /// A secret that can be guessed is none.
    #[error("the token key is empty; HS256 needs a secret")]
    EmptyKey,
}

/// Checks tokens.
pub(crate) enum Authority {
    Open,
    Jwt { key: Box<DecodingKey>, validation: Box<Validation> },
}

/// What a token allows.
#[derive(Debug)]
pub struct Grants {
    /// The token's `sub`.
    pub user: Option<String>,
    /// The token's `exp`, in seconds since 1970.
    pub expires_at_unix_s: u64,
    rooms: Vec<RoomGrant>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: u64,
    #[serde(default)]
    rooms: Vec<RoomGrant>,
}

#[derive(Debug, Deserialize)]
#[serde(from = "RoomClaim")]
struct RoomGrant {
    pattern: String,
    publish: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RoomClaim {
    Plain(String),
    Full {
        pattern: String,
        #[serde(default)]
        publish: bool,
    },
}

impl From<RoomClaim> for RoomGrant {
    fn from(claim: RoomClaim) -> Self {
        match claim {
            RoomClaim::Plain(pattern) => Self { pattern, publish: false },
            RoomClaim::Full { pattern, publish } => Self { pattern, publish },
        }
    }
}

/// What a client wants to do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Hear it, and see who is there.
    Subscribe,
    /// Speak in it.
    Publish,
}

impl Grants {
    /// Whether the token allows it. A token that has run out allows nothing.
    pub fn allow(&self, right: Right, room: &str, now_unix_s: u64) -> bool {
        now_unix_s < self.expires_at_unix_s
            && self
                .rooms
                .iter()
                .any(|grant| (right == Right::Subscribe || grant.publish) && fits(&grant.pattern, room))
    }
}

/// Whether a name fits a pattern in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, mut pattern)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    while let Some((part, rest)) = pattern.split_once('*') {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
        pattern = rest;
    }
    name.ends_with(pattern)
}

impl Authority {
    pub(crate) fn new(settings: &AuthSettings) -> Result<Self, AuthError> {
        let AuthSettings::Jwt { algorithm, key } = settings else { return Ok(Self::Open) };
        if key.is_empty() {
            return Err(AuthError::EmptyKey);
        }
        let pem = |key: Result<DecodingKey, _>| {
            key.map_err(|error: jsonwebtoken::errors::Error| AuthError::Key(error.to_string()))
        };
        let (algorithm, key) = match algorithm {
            TokenAlgorithm::Hs256 => (Algorithm::HS256, DecodingKey::from_secret(key)),
            TokenAlgorithm::Rs256 => (Algorithm::RS256, pem(DecodingKey::from_rsa_pem(key))?),
            TokenAlgorithm::Es256 => (Algorithm::ES256, pem(DecodingKey::from_ec_pem(key))?),
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = 0;
        validation.validate_aud = false;
        validation.validate_nbf = true;
        Ok(Self::Jwt { key: Box::new(key), validation: Box::new(validation) })
    }

    /// Whether tokens matter.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Reads a token.
    pub(crate) fn grants(&self, token: &str) -> Result<Grants, RequestError> {
        let Self::Jwt { key, validation } = self else {
            return Ok(Grants { user: None, expires_at_unix_s: u64::MAX, rooms: Vec::new() });
        };
        let invalid = |why: String| RequestError::new(ErrorCode::TOKEN_INVALID, why);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid(format!("the token is longer than {TOKEN_BYTES_MAX} bytes")));
        }
        let decoded = jsonwebtoken::decode::<Claims>(token, key, validation);
        let claims = decoded
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => {
                    RequestError::new(ErrorCode::TOKEN_EXPIRED, "the token has run out; get a new one")
                }
                _ => invalid(format!("the token cannot be accepted: {error}")),
            })?
            .claims;
        if claims.rooms.len() > PATTERNS_MAX {
            return Err(invalid(format!("the token lists more than {PATTERNS_MAX} rooms")));
        }
        Ok(Grants { user: claims.sub, expires_at_unix_s: claims.exp, rooms: claims.rooms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    #[test]
    fn patterns() {
        let table = [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("job:judge:*", "job:judge:7", true),
            ("job:judge:*", "job:other:7", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("a*a", "a", false),
            ("*x", "axbx", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    fn authority() -> Authority {
        let key = b"secret".to_vec();
        Authority::new(&AuthSettings::Jwt { algorithm: TokenAlgorithm::Hs256, key }).unwrap()
    }

    fn token(claims: &serde_json::Value, secret: &[u8]) -> String {
        encode(&Header::default(), claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    #[test]
    fn tokens_grant_what_they_list() {
        let claims =
            json!({"sub": "u", "exp": 4_000_000_000u64, "rooms": ["a:*", {"pattern": "b", "publish": true}]});
        let grants = authority().grants(&token(&claims, b"secret")).unwrap();
        assert_eq!(grants.user.as_deref(), Some("u"));
        assert!(grants.allow(Right::Subscribe, "a:1", 0));
        assert!(!grants.allow(Right::Publish, "a:1", 0));
        assert!(grants.allow(Right::Publish, "b", 0));
        assert!(!grants.allow(Right::Subscribe, "c", 0));
        assert!(!grants.allow(Right::Subscribe, "b", 4_000_000_000), "run out");
    }

    #[test]
    fn bad_tokens_are_refused() {
        let good = json!({"exp": 4_000_000_000u64});
        let refused = |token: &str| authority().grants(token).unwrap_err().code;
        assert_eq!(refused("rubbish"), ErrorCode::TOKEN_INVALID);
        assert_eq!(refused(&token(&good, b"other")), ErrorCode::TOKEN_INVALID);
        assert_eq!(refused(&token(&json!({"exp": 1}), b"secret")), ErrorCode::TOKEN_EXPIRED);
        assert_eq!(
            refused(&token(&json!({"sub": "u"}), b"secret")),
            ErrorCode::TOKEN_INVALID,
            "exp is required"
        );
        let unsigned = "eyJhbGciOiJub25lIn0.eyJleHAiOjQwMDAwMDAwMDB9.";
        assert_eq!(refused(unsigned), ErrorCode::TOKEN_INVALID);
    }

    /// Made once with throw-away keys; the private halves are gone.
    const SIGNED: &[(TokenAlgorithm, &str, &str)] = &[
        (
            TokenAlgorithm::Es256,
            "-----BEGIN PUBLIC KEY-----\n\
             MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEUOC0odTqm6LOrlxTXdxHyRw+a0oV\n\
             mXuTBt3/3ZXprvXdlVAGt+FEtCu499Im1Fs69vqXDfbsV/V+WA+Nnr6XTw==\n\
             -----END PUBLIC KEY-----",
            "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1IiwiZXhwIjo0MDAwMDAwMDAwLCJyb29tcyI6WyJhI\
             l19.Dc-CSLrmnnUGSsVVXO9x4SgdPGjGBCdNcyc_zUxGnZamU5uWx-7GE0z_gaWmxVSVV8aNf3pP47NnYaaTbhmvRg",
        ),
        (
            TokenAlgorithm::Rs256,
            "-----BEGIN PUBLIC KEY-----\n\
             MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAo1SaKgM4F9BRJJ9SQlo0\n\
             C9LWIVLHrKTcasIUsaYrGpFP286CL9NUVzPFMx5H7WnOH/DU7R/7vxTrbBacGi83\n\
             fmy8EmGVMPOVx2So88PG0tgsNXSGAQYq9ui4gkBCoDbcNPSRtiZQ8O+G+N0AfCJI\n\
             +/d2xNeZv8oEPRUKZfQcG1Am81zluF4/FMOyfEMlevjOcubOTCBi0ys5GS4F8r8u\n\
             fObqHLPZnOaEmJZXsEWfb4sAKsUot2E7EiCf2bABuLa4ggrUNYaPCBkCTqi6qmQq\n\
             DdLyHk2pksnsuzOzUKABIWP0i+LGwn8LPRD0k0tWbXFXMtxSeAy4dgAIa8Lp9SBd\n\
             cwIDAQAB\n\
             -----END PUBLIC KEY-----",
            "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1IiwiZXhwIjo0MDAwMDAwMDAwLCJyb29tcyI6WyJhI\
             l19.erqS_BqpWxvIuG5xUutlp7CzctYdnZSwlsKzyFmXnfd_1muw4PPm2_15B5VdmtCCnDpqs2ZQjYHyTTDYYkO6mh\
             L3AdhzOSAbXPV9jJMLfewzZ9FsHy9Ttg4u4T5JfqScMKMMABgfdLLTRARRjQ8lG4zOx4vM0m-dQxQYCZnPmyr7AqjE\
             _9ssSieHFlTgL0YRrqEIr5rzow8efoeqlO-zptTrxdd9V-3qZm53Zsz4k70LAUI3TZkl53CjrCAU9XdFFn54L3m3WS\
             yPpjVAJHGLFL-j4hPsW_GgIvULgBQ2UK-9eIopXSIoKdBd-k33xk709BJt6OCjUftQ16mgzUWHOQ",
        ),
    ];

    #[test]
    fn public_keys_check_what_their_private_halves_signed() {
        for (algorithm, pem, token) in SIGNED {
            let key = pem.as_bytes().to_vec();
            let settings = AuthSettings::Jwt { algorithm: *algorithm, key };
            let authority = Authority::new(&settings).unwrap();
            assert!(authority.grants(token).unwrap().allow(Right::Subscribe, "a", 0), "{algorithm:?}");
            let forged = token.replacen('.', ".e30", 1);
            assert_eq!(authority.grants(&forged).unwrap_err().code, ErrorCode::TOKEN_INVALID);
        }
        let settings = AuthSettings::Jwt { algorithm: TokenAlgorithm::Rs256, key: b"secret".to_vec() };
        assert!(matches!(Authority::new(&settings), Err(AuthError::Key(_))));
    }

    #[test]
    fn empty_secrets_are_no_secrets() {
        let settings = AuthSettings::Jwt { algorithm: TokenAlgorithm::Hs256, key: Vec::new() };
        assert!(matches!(Authority::new(&settings), Err(AuthError::EmptyKey)));
    }
}
