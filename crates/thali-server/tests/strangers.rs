//! What strangers do to a store's port: leave in the middle, claim much, listen to nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use thali_server::Server;
use thali_server::config::Config;

const PATIENCE: Duration = Duration::from_secs(10);

struct Store(Option<Server>);

impl Store {
    fn start() -> Self {
        let arguments = ["--port", "0", "--appendonly", "no", "--save", ""].map(str::to_owned);
        let (config, _) = Config::from_sources(&arguments, std::iter::empty()).unwrap();
        Self(Some(Server::start(config).unwrap()))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.0.as_ref().unwrap().addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Connections as the store counts them, the asking one among them.
    fn clients_len(&self, asking: &mut TcpStream) -> usize {
        ask(asking, "CLIENT LIST").matches("id=").count()
    }

    fn wait_for_clients(&self, asking: &mut TcpStream, wanted: usize) {
        let since = Instant::now();
        while self.clients_len(asking) != wanted {
            assert!(since.elapsed() < PATIENCE, "{} connections are left", self.clients_len(asking));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown().unwrap();
    }
}

/// Sends an inline request and reads one reply, a bulk or a line.
fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    let line = read_line(stream);
    let Some(len) = line.strip_prefix('$').and_then(|len| len.parse::<usize>().ok()) else { return line };
    let mut body = vec![0; len + 2];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
}

#[test]
fn a_connection_that_leaves_together_with_its_last_bytes_is_noticed() {
    let store = Store::start();
    let mut asking = store.connect();
    for last_words in ["*1\r\n$4\r\nPI", "CLIENT REPLY OFF\r\nSET a b\r\n", "BLPOP nothing 0\r\nPING\r\n"] {
        for _ in 0..20 {
            store.connect().write_all(last_words.as_bytes()).unwrap();
        }
    }
    store.wait_for_clients(&mut asking, 1);
}

#[test]
fn who_sends_no_more_still_gets_the_replies_and_then_the_end() {
    let store = Store::start();
    let mut stream = store.connect();
    stream.write_all(b"SET a b\r\nGET a\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    assert_eq!(replies, "+OK\r\n$1\r\nb\r\n");
}

#[test]
fn a_large_value_in_pieces_arrives_whole() {
    let store = Store::start();
    let mut stream = store.connect();
    let value: Vec<u8> = (0..5_000_000u32).map(|i| b'a' + (i % 23) as u8).collect();
    stream.write_all(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()).as_bytes()).unwrap();
    for piece in value.chunks(77_777) {
        stream.write_all(piece).unwrap();
    }
    stream.write_all(b"\r\n").unwrap();
    assert_eq!(read_line(&mut stream), "+OK");
    assert_eq!(ask(&mut stream, "GET k").as_bytes()[..value.len()], value);
}

#[test]
fn killing_who_does_not_read_ends_the_connection() {
    let store = Store::start();
    let (mut asking, mut deaf) = (store.connect(), store.connect());
    let id = ask(&mut deaf, "CLIENT ID");
    deaf.write_all(b"SUBSCRIBE news\r\n").unwrap();
    read_line(&mut deaf);
    let message = "x".repeat(60_000);
    // More than both sockets' buffers hold, less than the limit.
    for _ in 0..250 {
        ask(&mut asking, &format!("PUBLISH news {message}"));
    }
    assert_eq!(ask(&mut asking, &format!("CLIENT KILL ID {}", &id[1..])), ":1");
    store.wait_for_clients(&mut asking, 1);
}

#[test]
fn who_watches_all_commands_and_does_not_read_is_closed_at_the_limit() {
    let store = Store::start();
    let (mut asking, mut deaf) = (store.connect(), store.connect());
    assert_eq!(ask(&mut deaf, "MONITOR"), "+OK");
    let value = "x".repeat(60_000);
    for _ in 0..1000 {
        ask(&mut asking, &format!("SET k {value}"));
    }
    store.wait_for_clients(&mut asking, 1);
}

#[test]
fn a_wait_that_was_served_leaves_no_deadline_for_the_next_one() {
    let store = Store::start();
    let (mut asking, mut waiting) = (store.connect(), store.connect());
    waiting.write_all(b"BLPOP a 0.2\r\n").unwrap();
    ask(&mut asking, "RPUSH a 1");
    assert_eq!(read_line(&mut waiting), "*2");
    for _ in 0..4 {
        read_line(&mut waiting);
    }
    let since = Instant::now();
    waiting.write_all(b"BLPOP a 0.5\r\n").unwrap();
    assert_eq!(read_line(&mut waiting), "*-1");
    assert!(since.elapsed() >= Duration::from_millis(490));
}

#[test]
fn a_browser_that_was_sent_here_runs_no_command() {
    let store = Store::start();
    let request = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 12\r\n\r\nSET evil yes\r\n";
    let mut browser = store.connect();
    browser.write_all(request.as_bytes()).unwrap();
    // The end may come as a reset: the rest of the request was not read.
    let _ = browser.read_to_end(&mut Vec::new());
    assert_eq!(ask(&mut store.connect(), "EXISTS evil"), ":0");
}
