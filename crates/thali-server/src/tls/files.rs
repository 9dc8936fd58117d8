//! Certificates, keys and the words of redis.conf made into rustls's configuration.
//!
//! The words are OpenSSL's, which Redis hands through. What rustls has no counterpart for is refused, or where it
//! takes nothing away, said in the log: parameters for Diffie-Hellman over finite fields, and files for connections
//! to other servers, which nothing here opens.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CipherSuite, Error, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version,
};

use super::sessions::Sessions;
use crate::config::{ClientCertificates, TlsSettings};

/// Why the files or words are not good; for the log, in Redis's words where it has them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("No {0} configured!")]
    Missing(&'static str),
    #[error(
        "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-auth-clients is yes or optional!"
    )]
    NoAuthority,
    #[error("Failed to load {what}: {}: {why}", path.display())]
    Load { what: &'static str, path: PathBuf, why: String },
    #[error(
        "Failed to load private key: {path}: it is encrypted, which is not supported; write it without a password: \
         openssl pkey -in {path} -out FILE",
        path = .0.display()
    )]
    Encrypted(PathBuf),
    #[error("Failed to use the certificate and its key: {0}")]
    Pair(Error),
    #[error("Failed to configure CA certificate(s): {0}")]
    Authorities(String),
    #[error("Invalid tls-protocols specified: '{0}'; TLSv1.2 and TLSv1.3 are supported")]
    Protocols(String),
    #[error("Failed to configure {directive}: {words}: {why}")]
    Ciphers { directive: &'static str, words: String, why: &'static str },
    #[error("Failed to configure TLS: {0}")]
    Other(Error),
}

/// The suites of TLS 1.2 that rustls has, by OpenSSL's names.
const CIPHERS: &[(&str, CipherSuite)] = &[
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
];
/// Those of TLS 1.3.
const CIPHERSUITES: &[(&str, CipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
];
/// OpenSSL's words for many ciphers at once that hold all of [`CIPHERS`].
const ALL_CIPHERS: &[&str] =
    &["DEFAULT", "ALL", "HIGH", "ECDHE", "kECDHE", "EECDH", "kEECDH", "AEAD", "TLSv1.2"];

pub(super) fn server_config(settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
    warn_of_what_has_no_effect(settings);
    let certificates = certificates(required(settings.cert_file.as_deref(), "tls-cert-file")?)?;
    let key = key(required(settings.key_file.as_deref(), "tls-key-file")?)?;
    let provider =
        Arc::new(CryptoProvider { cipher_suites: suites(settings)?, ..aws_lc_rs::default_provider() });
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(&settings.protocols)?)
        .map_err(TlsError::Other)?;
    let builder = match settings.auth_clients {
        ClientCertificates::No => builder.with_no_client_auth(),
        wanted => {
            let authorities = Arc::new(authorities(settings)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
            let verifier = match wanted {
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier.build().map_err(|error| TlsError::Authorities(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let pair = pair(certificates, key, builder.crypto_provider()).map_err(TlsError::Pair)?;
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.ignore_client_order = settings.prefer_server_ciphers;
    config.session_storage = match settings.session_caching {
        true => Arc::new(Sessions::new(settings.session_cache_len_max, settings.session_cache_timeout)),
        false => Arc::new(NoServerSessionStorage {}),
    };
    if !settings.session_caching {
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn warn_of_what_has_no_effect(settings: &TlsSettings) {
    if !settings.without_effect.is_empty() {
        let directives = settings.without_effect.join(", ");
        tracing::warn!(
            "taken, without effect: {directives}. Key exchange is by elliptic curves, and nothing here connects to \
             other servers over TLS"
        );
    }
}

fn required<'p>(path: Option<&'p Path>, directive: &'static str) -> Result<&'p Path, TlsError> {
    path.ok_or(TlsError::Missing(directive))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| load_error(what, path, &error))
}

fn load_error(what: &'static str, path: &Path, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::Load { what, path: path.to_owned(), why: why.to_string() }
}

/// A certificate, and behind it those that lead from it to an authority.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const WHAT: &str = "certificate";
    let text = read(WHAT, path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found.map_err(|error| load_error(WHAT, path, &error))? {
        none if none.is_empty() => Err(load_error(WHAT, path, &"there is none in it, in PEM")),
        found => Ok(found),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const WHAT: &str = "private key";
    let text = read(WHAT, path)?;
    let is_encrypted = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| text.windows(mark.len()).any(|part| part == mark.as_bytes()));
    if is_encrypted {
        return Err(TlsError::Encrypted(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| load_error(WHAT, path, &error))
}

/// The two together, where they belong together. Certificates of version 1, as plain `openssl x509 -req` made them for
/// long, rustls cannot look into; it is clients who have to.
fn pair(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let is_old = webpki::EndEntityCert::try_from(&certificates[0])
        .is_err_and(|error| error == webpki::Error::UnsupportedCertVersion);
    if !is_old {
        return CertifiedKey::from_der(certificates, key, provider);
    }
    tracing::warn!("the certificate is of version 1: whether the key is its own cannot be told");
    Ok(CertifiedKey::new(certificates, provider.key_provider.load_private_key(key)?))
}

/// Whose certificates of clients are good: those of the file, and of all files of the folder that hold any.
fn authorities(settings: &TlsSettings) -> Result<RootCertStore, TlsError> {
    if settings.ca_cert_file.is_none() && settings.ca_cert_dir.is_none() {
        return Err(TlsError::NoAuthority);
    }
    let mut roots = RootCertStore::empty();
    let mut add = |path: &Path, found: Vec<CertificateDer<'static>>| {
        found.into_iter().try_for_each(|certificate| {
            roots.add(certificate).map_err(|error| load_error("CA certificate", path, &error))
        })
    };
    if let Some(path) = &settings.ca_cert_file {
        add(path, certificates(path)?)?;
    }
    if let Some(dir) = &settings.ca_cert_dir {
        let refused = |error: io::Error| load_error("CA certificates", dir, &error);
        for entry in std::fs::read_dir(dir).map_err(refused)? {
            let path = entry.map_err(refused)?.path();
            if path.is_file() {
                let text = read("CA certificate", &path)?;
                // A folder of certificates holds other things, too.
                add(&path, CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect())?;
            }
        }
    }
    match roots.is_empty() {
        true => Err(TlsError::Authorities("there is none in tls-ca-cert-dir, in PEM".into())),
        false => Ok(roots),
    }
}

fn versions(words: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    if words.is_empty() {
        return Ok(vec![&version::TLS13, &version::TLS12]);
    }
    let version = |word: &String| match word.to_ascii_lowercase().as_str() {
        "tlsv1.2" => Ok(&version::TLS12),
        "tlsv1.3" => Ok(&version::TLS13),
        _ => Err(TlsError::Protocols(word.clone())),
    };
    words.iter().map(version).collect()
}

fn suites(settings: &TlsSettings) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let known = aws_lc_rs::ALL_CIPHER_SUITES;
    let names = [ciphersuites(&settings.ciphersuites)?, ciphers(&settings.ciphers)?].concat();
    let suite = |name: &CipherSuite| known.iter().find(|suite| suite.suite() == *name).copied();
    Ok(names.iter().filter_map(suite).collect())
}

fn ciphersuites(text: &str) -> Result<Vec<CipherSuite>, TlsError> {
    let directive = "tls-ciphersuites";
    if text.is_empty() {
        return Ok(CIPHERSUITES.iter().map(|(_, suite)| *suite).collect());
    }
    let named = |name: &str| find(CIPHERSUITES, name);
    let found: Option<Vec<CipherSuite>> = text.split(':').map(named).collect();
    found.ok_or(TlsError::Ciphers { directive, words: text.to_owned(), why: "unknown, or not supported" })
}

/// A list of OpenSSL's: names, `!` or `-` before those to leave out, words for many. Names of ciphers that are not
/// here are passed over, as OpenSSL passes over those that it does not know.
fn ciphers(text: &str) -> Result<Vec<CipherSuite>, TlsError> {
    let directive = "tls-ciphers";
    let mut chosen: Vec<CipherSuite> = Vec::new();
    for word in text.split([':', ',', ' ', ';']).filter(|word| !word.is_empty()) {
        let (leaves_out, word) = match word.strip_prefix(['!', '-']) {
            Some(word) => (true, word),
            None => (false, word.strip_prefix('+').unwrap_or(word)),
        };
        let named: Vec<CipherSuite> = match find(CIPHERS, word) {
            Some(suite) => vec![suite],
            None if ALL_CIPHERS.contains(&word) => CIPHERS.iter().map(|(_, suite)| *suite).collect(),
            None => Vec::new(),
        };
        if named.is_empty() && !leaves_out && !word.starts_with('@') {
            tracing::warn!(
                cipher = word,
                "tls-ciphers names a cipher that is not supported; it is passed over"
            );
        }
        chosen.retain(|suite| !(leaves_out && named.contains(suite)));
        let new = named.into_iter().filter(|suite| !leaves_out && !chosen.contains(suite));
        chosen.extend(new.collect::<Vec<_>>());
    }
    match (text.is_empty(), chosen.is_empty()) {
        (true, _) => Ok(CIPHERS.iter().map(|(_, suite)| *suite).collect()),
        (false, false) => Ok(chosen),
        (false, true) => {
            Err(TlsError::Ciphers { directive, words: text.to_owned(), why: "none of them is supported" })
        }
    }
}

fn find(known: &[(&str, CipherSuite)], name: &str) -> Option<CipherSuite> {
    known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, suite)| *suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        let chosen = ciphers(text).unwrap();
        let name = |suite: &CipherSuite| CIPHERS.iter().find(|(_, known)| known == suite).unwrap().0;
        chosen.iter().map(name).collect()
    }

    #[test]
    fn lists_of_ciphers_are_read_as_openssl_writes_them() {
        assert_eq!(names("").len(), CIPHERS.len());
        assert_eq!(names("DEFAULT:!MEDIUM:!aNULL").len(), CIPHERS.len());
        let in_order = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"];
        assert_eq!(names(&in_order.join(":")), in_order);
        assert_eq!(names("AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256"), in_order[..1]);
        assert!(!names("HIGH:-ECDHE-RSA-AES128-GCM-SHA256").contains(&in_order[0]));
        let refused = ciphers("AES128-SHA256:RC4-SHA").unwrap_err().to_string();
        assert!(refused.contains("AES128-SHA256:RC4-SHA: none"), "{refused}");
        assert_eq!(ciphersuites("TLS_AES_128_GCM_SHA256").unwrap(), [CipherSuite::TLS13_AES_128_GCM_SHA256]);
        assert!(ciphersuites("TLS_AES_128_CCM_SHA256").is_err());
    }

    #[test]
    fn every_cipher_that_is_named_is_there() {
        let known = aws_lc_rs::ALL_CIPHER_SUITES;
        assert_eq!(known.len(), CIPHERS.len() + CIPHERSUITES.len());
        for (name, suite) in CIPHERS.iter().chain(CIPHERSUITES) {
            assert!(known.iter().any(|known| known.suite() == *suite), "{name}");
        }
    }

    #[test]
    fn old_protocols_are_refused_by_name() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(versions(&words("TLSv1.2 tlsv1.3")).unwrap().len(), 2);
        let refused = versions(&words("TLSv1.1 TLSv1.2")).unwrap_err().to_string();
        assert!(refused.contains("'TLSv1.1'"), "{refused}");
    }
}
