//! TLS, with certificates made on the spot by openssl, against Debian's redis-server.

use std::path::Path;
use std::process::Command;

use thali_testkit::{Port, start_redis};

use crate::{run, text, thali_cli};

fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `ca.crt`, and signed by it `server.crt` for localhost and `client.crt`, with their keys.
fn certificates(folder: &Path) {
    std::fs::write(folder.join("san"), "subjectAltName=DNS:localhost,DNS:other.example,IP:127.0.0.1")
        .unwrap();
    std::fs::write(folder.join("use"), "extendedKeyUsage=clientAuth").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=authority"));
    for (name, extra) in [("server", "san"), ("client", "use")] {
        openssl(folder, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let sign = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2";
        openssl(folder, &format!("x509 -req -in {name}.csr {sign} -out {name}.crt -extfile {extra}"));
    }
}

#[test]
fn certificates_are_checked_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = |name: &str| text(&folder.path().join(name));
    let [ca, certificate, key] = ["ca.crt", "client.crt", "client.key"].map(file);
    let tls = Port::free().unwrap();
    let tls_port = tls.number().to_string();
    let (server_certificate, server_key) = (file("server.crt"), file("server.key"));
    let _server = start_redis(&[
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &server_certificate,
        "--tls-key-file",
        &server_key,
        "--tls-ca-cert-file",
        &ca,
    ])
    .unwrap();
    let both = ["--cert", &certificate, "--key", &key];
    let url = format!("rediss://localhost:{tls_port}");
    let at = ["-h", "localhost", "-p", &tls_port, "--tls"];
    let cases: [(Vec<&str>, &str, &str); 8] = [
        ([&at[..], &both, &["--cacert", &ca]].concat(), "PONG\n", ""),
        ([&["-u", &url][..], &both, &["--cacert", &ca]].concat(), "PONG\n", ""),
        ([&at[..], &both, &["--cacert", &ca, "--sni", "other.example"]].concat(), "PONG\n", ""),
        ([&at[..], &both, &["--insecure"]].concat(), "PONG\n", ""),
        (
            [&at[..], &both, &["--cacert", &ca, "--sni", "wrong.example"]].concat(),
            "",
            "Could not negotiate a TLS",
        ),
        ([&at[..], &both].concat(), "", "Could not negotiate a TLS connection: "),
        ([&at[..], &["--cacert", &ca, "--cert", &certificate]].concat(), "", "Could not negotiate a TLS"),
        (
            [&at[..], &["--cacert", "/nonexistent"]].concat(),
            "",
            "Could not negotiate a TLS connection: Invalid CA",
        ),
    ];
    for (args, stdout, stderr) in cases {
        let output = run(thali_cli(), &[&args[..], &["ping"]].concat(), b"").unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{args:?}: {said}");
        assert!(said.starts_with(stderr), "{args:?}: {said}");
        assert_eq!(output.status.success(), !stdout.is_empty(), "{args:?}");
    }
    // Replies larger than a record, and a pipe in both directions.
    let args = [&at[..], &both, &["--cacert", &ca]].concat();
    let value = "v".repeat(1 << 20);
    run(thali_cli(), &[&args[..], &["-x", "set", "big"]].concat(), value.as_bytes()).unwrap();
    let lines = "GET big\r\n".repeat(50);
    let piped = run(thali_cli(), &[&args[..], &["--pipe"]].concat(), lines.as_bytes()).unwrap();
    assert!(String::from_utf8_lossy(&piped.stdout).ends_with("errors: 0, replies: 50\n"));
    let output = run(thali_cli(), &[&args[..], &["get", "big"]].concat(), b"").unwrap();
    assert_eq!(output.stdout.len(), value.len() + 1);
}
