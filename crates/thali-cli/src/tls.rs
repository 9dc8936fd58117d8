//! TLS over a socket: rustls with the crypto library of the house.
//!
//! The certificate must be good for the name that was dialled, or for `--sni`; redis-cli looks at the chain alone.
//! `--insecure` looks at nothing.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};

/// The arguments of TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    pub sni: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub ca_folder: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub insecure: bool,
}

pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands; the error is a sentence.
pub(crate) fn wrap(tcp: TcpStream, host: &str, options: &TlsOptions) -> Result<TlsStream, String> {
    let name = options.sni.as_deref().unwrap_or(host);
    let name =
        ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no name of a server"))?;
    let connection =
        ClientConnection::new(Arc::new(config(options)?), name).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(connection, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
    }
    Ok(stream)
}

fn config(options: &TlsOptions) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if options.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        builder.with_root_certificates(roots(options)?)
    };
    match (&options.certificate, &options.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect)
                .map_err(|error| format!("Invalid client certificate: {}: {error}", certificate.display()))?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("Invalid private key: {}: {error}", key.display()))?;
            let refused = |error| format!("Invalid client certificate: {}: {error}", certificate.display());
            builder.with_client_auth_cert(chain, key).map_err(refused)
        }
        _ => Err("--cert and --key are given together".to_owned()),
    }
}

/// Whom to believe: the named files, else the system's store.
fn roots(options: &TlsOptions) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let mut files: Vec<PathBuf> = options.ca_file.iter().cloned().collect();
    if let Some(folder) = &options.ca_folder {
        let unreadable =
            |error| format!("Failed to configure CA certificate(s) directory: {}: {error}", folder.display());
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            files.extend(entry.map(|entry| entry.path()).ok().filter(|path| path.is_file()));
        }
    }
    for file in &files {
        let bad =
            |error: &dyn std::fmt::Display| format!("Invalid CA certificate: {}: {error}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| bad(&error))? {
            roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
        }
    }
    if files.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    match roots.is_empty() {
        true => Err("no CA certificate to verify the server with; name one with --cacert".to_owned()),
        false => Ok(roots),
    }
}

/// `--insecure`: any certificate will do; whoever answers must still hold its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
