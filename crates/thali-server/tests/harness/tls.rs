//! Certificates by OpenSSL, whose clients come here, too, and clients over TLS.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

/// An authority, and what it has signed.
pub struct Authority {
    folder: TempDir,
}

/// The files of a certificate.
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

pub fn openssl(arguments: &[&str], folder: &Path) {
    let ran = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl");
    assert!(ran.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

const NEW_KEY: [&str; 6] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch"];

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = ["req", "-x509", "-subj", "/CN=Authority", "-keyout", "ca.key", "-out", "ca.crt"];
        openssl(&[&made[..], &NEW_KEY].concat(), folder.path());
        Self { folder }
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for 127.0.0.1 whose common name is `name`, good for so many days: below zero, it was.
    pub fn sign(&self, name: &str, days: i32) -> Pair {
        let file = |ending: &str| format!("{name}.{ending}");
        let (key, request, cert) = (file("key"), file("csr"), file("crt"));
        let subject = format!("/O=Thali/CN={name}");
        let asked = ["req", "-new", "-subj", &subject, "-keyout", &key, "-out", &request];
        openssl(&[&asked[..], &NEW_KEY].concat(), self.folder.path());
        std::fs::write(self.path("extensions"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
        let days = days.to_string();
        openssl(
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-out",
                &cert,
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-extfile",
                "extensions",
                "-days",
                &days,
            ],
            self.folder.path(),
        );
        Pair { cert: self.path(&cert), key: self.path(&key) }
    }

    /// A client's configuration that believes this authority.
    pub fn client(&self, own: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_file(&pair.cert).unwrap();
                let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        })
    }
}

/// A client that writes lines and reads replies.
pub struct TlsClient {
    pub stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl TlsClient {
    pub fn connect(address: &str, config: &Arc<ClientConfig>) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        Self { stream: BufReader::new(StreamOwned::new(connection, socket)) }
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    pub fn read_line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// A line, and the reply: a line or a bulk.
    pub fn try_ask(&mut self, line: &str) -> std::io::Result<String> {
        self.send(format!("{line}\r\n").as_bytes())?;
        let reply = self.read_line()?;
        let Some(len) = reply.strip_prefix('$').and_then(|len| len.parse::<usize>().ok()) else {
            return Ok(reply);
        };
        let mut body = vec![0; len + 2];
        std::io::Read::read_exact(&mut self.stream, &mut body)?;
        Ok(String::from_utf8_lossy(&body[..len]).into_owned())
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.try_ask(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }
}
