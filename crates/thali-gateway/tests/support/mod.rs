//! A real redis-server, gateway nodes on free ports, and the smallest Socket.IO client.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::serve::ListenerExt as _;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use thali_client::StoreAddress;
use thali_gateway::{Config, Gateway};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

const REDIS: &str = "/usr/bin/redis-server";
const WITHIN: Duration = Duration::from_secs(10);

/// A store of its own for one test; ends with the test.
pub struct Store {
    port: u16,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Store {
    pub async fn start() -> Self {
        assert!(
            Path::new(REDIS).exists(),
            "{REDIS} is missing: install Debian's redis-server to run this test"
        );
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut store = Self { port, dir: tempfile::tempdir().unwrap(), child: None };
        store.resume().await;
        store
    }

    /// Starts the server again, without its data.
    pub async fn resume(&mut self) {
        let child = Command::new(REDIS)
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(self.port.to_string())
            .arg("--dir")
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + WITHIN;
        while self.address().client().get_multiplexed_async_connection().await.is_err() {
            assert!(Instant::now() < deadline, "redis-server does not answer on port {}", self.port);
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn address(&self) -> StoreAddress {
        StoreAddress::parse(&format!("redis://127.0.0.1:{}", self.port)).unwrap()
    }

    /// Runs one command, written as its words.
    pub async fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = self.address().client().get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut connection).await.unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A gateway that is served on a free port.
pub struct Node {
    pub gateway: Gateway,
    pub address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Node {
    pub async fn start(store: &Store, config: Config) -> Self {
        let gateway = Gateway::start(config, store.address()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let router = gateway.router();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let node = Self { gateway, address, serving };
        until("the bus is up", || node.gateway.stats().bus_up).await;
        node
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a condition that must be asked for.
pub async fn until_async<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + WITHIN;
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A Socket.IO client over a WebSocket, in `/`.
pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub id: String,
    next_ack: u64,
    events: VecDeque<Value>,
}

impl Client {
    pub async fn connect(node: &Node) -> Self {
        Self::connect_with(node, "").await.unwrap()
    }

    /// Connects with an auth object; gives the refusal if there is one.
    pub async fn connect_with(node: &Node, auth: &str) -> Result<Self, Value> {
        let mut client = Self::open(node).await;
        client.send(format!("40{auth}")).await;
        let answer = client.frame().await;
        if let Some(refusal) = answer.strip_prefix("44") {
            return Err(serde_json::from_str(refusal).unwrap());
        }
        let greeting: Value = serde_json::from_str(answer.strip_prefix("40").unwrap()).unwrap();
        client.id = greeting["sid"].as_str().unwrap().to_owned();
        Ok(client)
    }

    /// Opens the Engine.IO session and joins nothing.
    pub async fn open(node: &Node) -> Self {
        let uri = format!("ws://{}/socket.io/?EIO=4&transport=websocket", node.address);
        let builder = ClientBuilder::new().uri(&uri).unwrap();
        let (socket, _) = timeout(WITHIN, builder.connect()).await.unwrap().unwrap();
        let mut client = Self { socket, id: String::new(), next_ack: 0, events: VecDeque::new() };
        assert!(client.frame().await.starts_with('0'));
        client
    }

    pub async fn send(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next text frame that is no ping.
    pub async fn frame(&mut self) -> String {
        loop {
            let message = timeout(WITHIN, self.socket.next()).await.expect("a frame in time");
            let message = message.expect("an open socket").unwrap();
            match message.as_text() {
                Some("2") => self.send("3".into()).await,
                Some(text) => return text.to_owned(),
                None => panic!("unexpected frame {message:?}"),
            }
        }
    }

    /// Emits an event and gives the acknowledgement.
    pub async fn call(&mut self, array: Value) -> Value {
        let id = self.next_ack;
        self.next_ack += 1;
        self.send(format!("42{id}{array}")).await;
        loop {
            let frame = self.frame().await;
            if let Some(answer) = frame.strip_prefix(&format!("43{id}")) {
                let mut args: Vec<Value> = serde_json::from_str(answer).unwrap();
                return args.remove(0);
            }
            self.keep(&frame);
        }
    }

    fn keep(&mut self, frame: &str) {
        let event = frame.strip_prefix("42").unwrap_or_else(|| panic!("unexpected frame {frame}"));
        self.events.push_back(serde_json::from_str(event).unwrap());
    }

    pub async fn subscribe(&mut self, room: &str) {
        let answer = self.call(json!(["subscribe", room])).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }

    /// The next event, its name first.
    pub async fn event(&mut self) -> Value {
        while self.events.is_empty() {
            let frame = self.frame().await;
            self.keep(&frame);
        }
        self.events.pop_front().unwrap()
    }

    /// Events that came until the server answered a request sent now.
    pub async fn events_so_far(&mut self) -> Vec<Value> {
        self.call(json!(["unsubscribe", "nowhere"])).await;
        self.events.drain(..).collect()
    }

    /// Reads until the server closes; gives number and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match timeout(WITHIN, self.socket.next()).await.expect("a close in time") {
                Some(Ok(message)) => {
                    if let Some((code, reason)) = message.as_close() {
                        return (code.into(), reason.to_owned());
                    }
                }
                other => panic!("closed without a number: {other:?}"),
            }
        }
    }
}
