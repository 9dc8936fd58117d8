//! TLS: what clients may rely on, and what strangers cost.

mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::tls::{Authority, Pair, TlsClient, openssl};
use harness::{connect, start};
use rustls::ClientConfig;
use tempfile::TempDir;
use thali_server::Server;
use thali_testkit::Port;

const PATIENCE: Duration = Duration::from_secs(60);

/// A store with a TLS port, and whoever signs for it.
struct Store {
    server: Option<Server>,
    /// Without TLS.
    plain: String,
    tls: String,
    authority: Authority,
    server_pair: Pair,
    _dir: TempDir,
    _ports: [Port; 2],
}

impl Store {
    fn start(settings: &[(&str, &str)]) -> Self {
        let (dir, port, authority) = (tempfile::tempdir().unwrap(), Port::free().unwrap(), Authority::new());
        let server_pair = authority.sign("server", 2);
        let (number, ca) = (port.number().to_string(), authority.ca());
        let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let (cert, key, ca) = (text(&server_pair.cert), text(&server_pair.key), text(&ca));
        // A plain port of 0 is none beside a TLS port.
        let plain_port = Port::free().unwrap();
        let plain = plain_port.number().to_string();
        let base = [
            ("port", plain.as_str()),
            ("tls-port", &number),
            ("tls-cert-file", &cert),
            ("tls-key-file", &key),
            ("tls-ca-cert-file", &ca),
            ("tls-auth-clients", "no"),
            ("appendonly", "no"),
            ("save", ""),
        ];
        let (server, plain) = start(&dir, &[&base[..], settings].concat());
        let tls = server.tls_addresses()[0].to_string();
        let _ports = [port, plain_port];
        Self { server: Some(server), plain, tls, authority, server_pair, _dir: dir, _ports }
    }

    fn client(&self) -> TlsClient {
        self.client_with(&self.authority.client(None))
    }

    fn client_with(&self, config: &Arc<ClientConfig>) -> TlsClient {
        TlsClient::connect(&self.tls, config)
    }

    fn set(&self, line: &str) -> String {
        let reply = harness::ask(&mut connect(&self.plain), &format!("CONFIG SET {line}"));
        format!("{reply:?}")
    }

    /// Whether a client with this certificate gets an answer.
    fn lets_in(&self, own: Option<&Pair>) -> bool {
        self.client_with(&self.authority.client(own)).try_ask("PING").is_ok_and(|reply| reply == "+PONG")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.server.take().unwrap().shutdown().unwrap();
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_value_of_64_mb_goes_both_ways_on_each_loop() {
    let store = Store::start(&[]);
    let config = store.authority.client(None);
    let value: Vec<u8> = (0..64_000_000u32).map(|i| (i % 251) as u8).collect();
    for _ in 0..2 {
        let mut client = store.client_with(&config);
        client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()).as_bytes()).unwrap();
        client.send(&value).unwrap();
        client.send(b"\r\n").unwrap();
        assert_eq!(client.read_line().unwrap(), "+OK");
        client.send(b"GET k\r\nPING\r\n").unwrap();
        assert_eq!(client.read_line().unwrap(), format!("${}", value.len()));
        let mut read = vec![0; value.len() + 2];
        client.stream.read_exact(&mut read).unwrap();
        assert!(read[..value.len()] == value[..], "the value came back as another one");
        assert_eq!(client.read_line().unwrap(), "+PONG");
    }
}

#[test]
fn a_pipeline_of_100_000_is_answered_in_order_though_nobody_reads_meanwhile() {
    let store = Store::start(&[]);
    let mut client = store.client();
    let requests: String = (0..100_000).map(|i| format!("ECHO {i}\r\n")).collect();
    // More than the store leaves unanswered: it stops reading, and its own replies wait.
    let long = format!("ECHO {}\r\n", "x".repeat(60_000)).repeat(100);
    let writer = {
        let bytes = [requests.as_bytes(), long.as_bytes(), b"QUIT\r\n"].concat();
        client.send(&bytes[..1000]).unwrap();
        bytes[1000..].to_vec()
    };
    // rustls's client holds what the socket does not take.
    client.stream.get_mut().conn.set_buffer_limit(None);
    client.stream.get_mut().conn.writer().write_all(&writer).unwrap();
    for i in 0..100_000 {
        client.read_line().unwrap();
        assert_eq!(client.read_line().unwrap(), i.to_string());
    }
    for _ in 0..100 {
        client.read_line().unwrap();
        assert_eq!(client.read_line().unwrap().len(), 60_000);
    }
    assert_eq!(client.read_line().unwrap(), "+OK");
    // Said by TLS, too: else this would be an error.
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn requests_that_come_with_the_end_of_the_handshake_are_run() {
    let store = Store::start(&[]);
    let config = store.authority.client(None);
    for _ in 0..50 {
        let mut client = store.client_with(&config);
        // The handshake is done by the first write, and the request follows its last message.
        assert_eq!(client.ask("PING"), "+PONG");
    }
}

#[test]
fn who_says_that_no_more_comes_gets_the_replies_and_the_end() {
    let store = Store::start(&[]);
    let mut client = store.client();
    client.send(b"SET a b\r\nGET a\r\n").unwrap();
    let stream = client.stream.get_mut();
    stream.conn.send_close_notify();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock).unwrap();
    }
    let mut replies = String::new();
    client.stream.read_to_string(&mut replies).unwrap();
    assert_eq!(replies, "+OK\r\n$1\r\nb\r\n");
}

#[test]
fn certificates_of_clients_are_asked_for_as_the_setting_says() {
    let store = Store::start(&[("tls-auth-clients", "yes")]);
    let (good, expired) = (store.authority.sign("client", 2), store.authority.sign("late", -1));
    let others = Authority::new();
    let foreign = others.sign("client", 2);
    assert!(store.lets_in(Some(&good)));
    for bad in [None, Some(&expired), Some(&foreign)] {
        assert!(!store.lets_in(bad));
    }
    store.set("tls-auth-clients optional");
    assert!(store.lets_in(Some(&good)) && store.lets_in(None));
    assert!(!store.lets_in(Some(&expired)) && !store.lets_in(Some(&foreign)));
    store.set("tls-auth-clients no");
    assert!(store.lets_in(Some(&foreign)) && store.lets_in(None));
    assert_eq!(store.client().ask("PING"), "+PONG");
}

#[test]
fn a_certificate_names_its_user_where_asked_for() {
    let settings = [("tls-auth-clients", "optional"), ("tls-auth-clients-user", "CN")];
    let store = Store::start(&settings);
    let mut admin = connect(&store.plain);
    harness::ok(&mut admin, "ACL SETUSER alice on +@all ~* &*");
    harness::ok(&mut admin, "ACL SETUSER carol off +@all ~* &*");
    for (name, user) in [("alice", "alice"), ("bob", "default"), ("carol", "default")] {
        let pair = store.authority.sign(name, 2);
        let mut client = store.client_with(&store.authority.client(Some(&pair)));
        assert_eq!(client.ask("ACL WHOAMI"), user, "{name}");
    }
    let stats = harness::ask(&mut admin, "INFO stats").text();
    assert!(stats.contains("acl_access_denied_tls_cert:2\r\n"), "{stats}");
    let log = format!("{:?}", harness::ask(&mut admin, "ACL LOG"));
    assert!(log.contains("tls-cert") && log.contains("bob") && log.contains("carol"), "{log}");
    store.set("tls-auth-clients-user off");
    let alice = store.authority.sign("alice", 2);
    assert_eq!(store.client_with(&store.authority.client(Some(&alice))).ask("ACL WHOAMI"), "default");
}

#[test]
fn files_are_read_again_and_a_bad_one_changes_nothing() {
    let store = Store::start(&[]);
    let mut old = store.client();
    assert_eq!(old.ask("PING"), "+PONG");
    // Another authority's certificate in the same file.
    let other = Authority::new();
    let renewed = other.sign("server", 2);
    std::fs::copy(&renewed.cert, &store.server_pair.cert).unwrap();
    std::fs::copy(&renewed.key, &store.server_pair.key).unwrap();
    assert!(store.lets_in(None), "not before it was asked for");
    let cert = format!("tls-cert-file {}", store.server_pair.cert.display());
    assert_eq!(store.set(&cert), "+OK");
    assert!(!store.lets_in(None));
    let mut new = store.client_with(&other.client(None));
    assert_eq!((new.ask("PING"), old.ask("PING")), ("+PONG".into(), "+PONG".into()));

    let refused = "(possibly related to argument 'tls-cert-file') - Unable to update TLS configuration. Check server logs.";
    std::fs::write(store.authority.path("bad"), "nothing").unwrap();
    for bad in ["bad", "not-there", "ca.crt"] {
        let line = format!("tls-cert-file {}", store.authority.path(bad).display());
        assert!(store.set(&line).contains(refused), "{bad}: {}", store.set(&line));
    }
    for (name, bad) in
        [("tls-protocols", "TLSv1.1"), ("tls-ciphers", "RC4-SHA"), ("tls-ciphersuites", "NONE")]
    {
        assert!(store.set(&format!("{name} {bad}")).contains("Unable to update TLS"), "{name}");
    }
    openssl(
        &["ec", "-in", "server.key", "-out", "locked.key", "-aes128", "-passout", "pass:1234"],
        &folder(&store),
    );
    let locked = format!("tls-key-file {}", store.authority.path("locked.key").display());
    assert!(store.set(&locked).contains("Unable to update TLS"));
    assert_eq!(store.client_with(&other.client(None)).ask("PING"), "+PONG");
    let shown = harness::ask(&mut connect(&store.plain), "CONFIG GET tls-cert-file");
    assert!(format!("{shown:?}").contains("server.crt"), "{shown:?}");
}

fn folder(store: &Store) -> std::path::PathBuf {
    store.server_pair.cert.parent().unwrap().to_owned()
}

#[test]
fn the_tls_port_moves_closes_and_opens_while_clients_stay() {
    let store = Store::start(&[]);
    let (mut old, port) = (store.client(), Port::free().unwrap());
    assert_eq!(old.ask("PING"), "+PONG");
    assert_eq!(store.set(&format!("tls-port {}", port.number())), "+OK");
    assert!(TcpStream::connect(&store.tls).is_err());
    let moved = format!("127.0.0.1:{}", port.number());
    let config = store.authority.client(None);
    assert_eq!(TlsClient::connect(&moved, &config).ask("PING"), "+PONG");
    assert_eq!(store.set("tls-port 0"), "+OK");
    assert!(TcpStream::connect(&moved).is_err());
    let taken = store.set(&format!("tls-port {}", store.plain.rsplit(':').next().unwrap()));
    assert!(taken.contains("'tls-port') - Unable to listen on this port."), "{taken}");
    assert_eq!(store.set(&format!("tls-port {}", store.tls.rsplit(':').next().unwrap())), "+OK");
    assert_eq!((store.client().ask("PING"), old.ask("PING")), ("+PONG".into(), "+PONG".into()));
}

#[test]
fn garbage_and_half_a_handshake_end_alone() {
    let store = Store::start(&[("maxclients", "300")]);
    let mut witness = store.client();
    assert_eq!(witness.ask("PING"), "+PONG");
    let mut hello = Vec::new();
    let mut unfinished = store.client();
    unfinished.stream.get_mut().conn.write_tls(&mut hello).unwrap();
    for bytes in [&b"PING\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff, 1], &[0; 40_000]] {
        let mut stranger = TcpStream::connect(&store.tls).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stranger.write_all(bytes);
        // An alert, or a reset where not all was read.
        let _ = stranger.read_to_end(&mut Vec::new());
    }
    let half: Vec<TcpStream> = (0..100)
        .map(|i| {
            let mut stranger = TcpStream::connect(&store.tls).unwrap();
            stranger.write_all(&hello[..hello.len() * (i % 3) / 2]).unwrap();
            stranger
        })
        .collect();
    assert_eq!((witness.ask("PING"), store.client().ask("PING")), ("+PONG".into(), "+PONG".into()));
    let clients = witness.ask("CLIENT LIST").matches("id=").count();
    assert!(clients <= 3, "{clients} clients, of whom the handshakes are none");
    let since = Instant::now();
    for mut stranger in half {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stranger.read_to_end(&mut Vec::new());
    }
    assert!(since.elapsed() < Duration::from_secs(40), "half-open handshakes end after their time");
    assert_eq!(witness.ask("PING"), "+PONG");
}

#[test]
fn handshakes_count_towards_maxclients() {
    let store = Store::start(&[("maxclients", "20")]);
    let mut witness = store.client();
    assert_eq!(witness.ask("PING"), "+PONG");
    let half: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(&store.tls).unwrap()).collect();
    wait_until("some are turned away", || {
        let info = witness.ask("INFO stats");
        info.lines().any(|line| line.strip_prefix("rejected_connections:").is_some_and(|n| n.trim() != "0"))
    });
    drop(half);
    wait_until("there is room again", || store.lets_in(None));
}

#[test]
fn who_does_not_read_is_closed_at_the_limit() {
    let store = Store::start(&[]);
    let (mut asking, mut deaf) = (store.client(), store.client());
    assert_eq!(deaf.ask("MONITOR"), "+OK");
    let value = "x".repeat(60_000);
    for _ in 0..1000 {
        asking.ask(&format!("SET k {value}"));
    }
    wait_until("it is closed", || asking.ask("CLIENT LIST").matches("id=").count() == 1);
}

#[test]
fn a_slow_reader_gets_every_byte() {
    let store = Store::start(&[]);
    let mut client = store.client();
    let value = "y".repeat(3_000_000);
    client.ask(&format!("SET k {}", &value[..60_000]));
    for _ in 1..50 {
        client.ask(&format!("APPEND k {}", &value[..60_000]));
    }
    client.send(&b"GET k\r\n".repeat(4)).unwrap();
    for _ in 0..4 {
        assert_eq!(client.read_line().unwrap(), "$3000000");
        let mut left = value.len() + 2;
        while left > 0 {
            let mut piece = [0; 4096];
            let len = client.stream.read(&mut piece[..left.min(4096)]).unwrap();
            assert!(piece[..len].iter().all(|b| *b == b'y' || *b == b'\r' || *b == b'\n'));
            left -= len;
        }
    }
}

#[test]
fn sessions_are_resumed_where_they_are_kept() {
    use rustls::HandshakeKind;
    let store = Store::start(&[]);
    let config = store.authority.client(None);
    let mut kinds = Vec::new();
    for caching in ["yes", "no"] {
        store.set(&format!("tls-session-caching {caching}"));
        for _ in 0..2 {
            let mut client = store.client_with(&config);
            assert_eq!(client.ask("PING"), "+PONG");
            kinds.push(client.stream.get_ref().conn.handshake_kind().unwrap());
        }
    }
    // Other files, or words, begin with no sessions.
    assert_eq!(
        kinds,
        [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Full, HandshakeKind::Full]
    );
}

#[test]
fn a_certificate_of_version_1_is_shown_to_clients_who_take_it() {
    let store = Store::start(&[]);
    let signed =
        ["x509", "-req", "-in", "server.csr", "-out", "old.crt", "-CA", "ca.crt", "-CAkey", "ca.key"];
    openssl(&[&signed[..], &["-CAcreateserial"]].concat(), &folder(&store));
    assert_eq!(store.set(&format!("tls-cert-file {}", store.authority.path("old.crt").display())), "+OK");
    assert!(!store.lets_in(None), "rustls's clients take none");
    let port = store.tls.rsplit(':').next().unwrap();
    let mut cli = Command::new("redis-cli");
    cli.args(["--tls", "-p", port, "--cacert"]).arg(store.authority.ca()).arg("PING");
    assert_eq!(cli.output().expect("redis-cli").stdout, b"PONG\n");
}

#[test]
fn debians_redis_cli_gets_what_it_asks_for() {
    let store = Store::start(&[("tls-auth-clients", "yes"), ("tls-protocols", "TLSv1.2")]);
    let (client, port) = (store.authority.sign("client", 2), store.tls.rsplit(':').next().unwrap());
    let cli = |arguments: &[&str], input: &str| {
        let mut child = Command::new("redis-cli")
            .args(["--tls", "-p", port, "--cacert"])
            .arg(store.authority.ca())
            .arg("--cert")
            .arg(&client.cert)
            .arg("--key")
            .arg(&client.key)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("redis-cli");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    assert_eq!(cli(&["PING"], ""), "PONG\n");
    let requests: String = (0..20_000).map(|i| format!("SET key:{i} {i}\r\n")).collect();
    let piped = cli(&["--pipe"], &requests);
    assert!(piped.contains("errors: 0, replies: 20000"), "{piped}");
    assert_eq!(cli(&["DBSIZE"], ""), "20000\n");
    assert_eq!(cli(&["-3", "GET", "key:7"], ""), "7\n");
}
