//! A server that does nothing: it reads, parses not more than how many requests there are, and sends the same reply to each.
//! What it takes for a request is what the kernel takes for any server that waits by epoll: no goal can lie below.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::Result;
use clap::Args;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

#[derive(Args)]
pub struct NothingArguments {
    /// Where it listens, on loopback.
    #[arg(long)]
    port: u16,
}

const LISTENER: Token = Token(0);
const EVENTS_LEN: usize = 1024;
const READ_BYTES: usize = 128 << 10;
/// No value.
const REPLY: &[u8] = b"$-1\r\n";

/// Serves until it is ended from outside.
pub fn run(arguments: &NothingArguments) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], arguments.port)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: HashMap<Token, TcpStream> = HashMap::new();
    let (mut events, mut next) = (Events::with_capacity(EVENTS_LEN), LISTENER.0);
    let (mut input, mut output) = (vec![0; READ_BYTES], Vec::new());
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() != LISTENER {
                let Some(connection) = connections.get_mut(&event.token()) else { continue };
                if !answer(connection, &mut input, &mut output) {
                    connections.remove(&event.token());
                }
                continue;
            }
            while let Ok((mut connection, _)) = listener.accept() {
                next += 1;
                connection.set_nodelay(true)?;
                poll.registry().register(&mut connection, Token(next), Interest::READABLE)?;
                connections.insert(Token(next), connection);
            }
        }
    }
}

/// One read and one write. False where the connection has ended.
fn answer(connection: &mut TcpStream, input: &mut [u8], output: &mut Vec<u8>) -> bool {
    let requests = match connection.read(input) {
        Ok(0) => return false,
        // Keys and values of the benchmarks have no such byte.
        Ok(len) => input[..len].iter().filter(|byte| **byte == b'*').count(),
        Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    };
    output.clear();
    (0..requests).for_each(|_| output.extend_from_slice(REPLY));
    connection.write_all(output).is_ok()
}
