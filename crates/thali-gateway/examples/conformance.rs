//! The server that the official protocol suites want: `… --example conformance -- 127.0.0.1:3000`.
//!
//! `/engine.io/` echoes; `/socket.io/` has the namespaces `/` and `/custom`, emits `auth` with what
//! the client sent, answers `message` with `message-back` and acknowledges `message-with-ack`. The
//! suites are docs/engine.io-protocol/v4-test-suite and docs/socket.io-protocol/v5-test-suite of
//! github.com/socketio/socket.io.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use thali_client::{SubscribeError, Ticket};
use thali_gateway::Config;
use thali_gateway::codes::{CloseCode, RequestError};
use thali_gateway::engine::Frame;
use thali_gateway::hub::{Ack, Interest, Namespace, Session, Socket};
use thali_gateway::packet::{self, Event};
use thali_gateway::peer::{App, Peers};
use thali_gateway::transport::{Clock, Handler, Handshake, Link, Server, router};

struct Echo;

impl Handler for Echo {
    type Peer = Arc<Link>;

    fn open(&self, link: &Arc<Link>, _: Handshake) -> Arc<Link> {
        link.joined();
        link.clone()
    }

    fn text(&self, link: &Arc<Link>, text: &str) -> Result<(), CloseCode> {
        link.send_frame(Frame::Text(format!("4{text}").into()));
        Ok(())
    }

    fn binary(&self, link: &Arc<Link>, data: Bytes) -> Result<(), CloseCode> {
        link.send_frame(Frame::Binary(data));
        Ok(())
    }

    fn closed(&self, _: &Arc<Link>, _: CloseCode) {}
}

/// No other nodes.
struct Alone;

impl Interest for Alone {
    fn joined(&self, _: &str, _: &str) -> Result<Ticket, SubscribeError> {
        Err(SubscribeError::Down)
    }

    fn emptied(&self, _: &str, _: &str) {}
}

struct Suite;

fn array(first: Option<&str>, args: &[&RawValue]) -> String {
    let args = first.into_iter().chain(args.iter().map(|arg| arg.get()));
    format!("[{}]", args.collect::<Vec<_>>().join(","))
}

impl App for Suite {
    fn connect(&self, _: &Arc<Socket>, _: Option<&RawValue>) -> Result<(), RequestError> {
        Ok(())
    }

    fn connected(&self, socket: &Arc<Socket>, auth: Option<&RawValue>) {
        socket.emit("auth", auth.map_or("{}", RawValue::get));
    }

    fn is_recoverable(&self, _: &Session) -> bool {
        false
    }

    fn recovered(&self, _: &Arc<Socket>, _: &Session) {}

    fn event(&self, socket: &Arc<Socket>, event: Event<'_>, attachments: Vec<Bytes>, ack: Option<Ack>) {
        match (event.name.as_str(), ack) {
            ("message", _) => {
                let array = array(Some("\"message-back\""), &event.args);
                socket.send(&packet::event_array(socket.namespace().name(), None, &array, attachments));
            }
            ("message-with-ack", Some(ack)) => ack.send(&array(None, &event.args), attachments),
            _ => {}
        }
    }

    fn disconnected(&self, _: &Arc<Socket>, _: &[Arc<str>]) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".into());
    let config = Config {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_millis(1000),
        ..Config::default()
    };
    let settings = config.transport();
    let clock = Clock::start();
    let alone: Arc<dyn Interest> = Arc::new(Alone);
    let namespaces = ["/", "/custom"].map(|name| Arc::new(Namespace::new(name, alone.clone(), None)));
    let peers = Peers::new(Arc::new(Suite), namespaces.to_vec(), "suite1".into(), config.payload_bytes_max);
    let engine = Server::start(settings.clone(), clock, Arc::new(Echo));
    let sockets = Server::start(settings, clock, Arc::new(peers));
    let app = router(engine, "/engine.io/").merge(router(sockets, "/socket.io/"));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}
