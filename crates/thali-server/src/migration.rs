//! MIGRATE: keys moved to another server while nobody waits for it but the client that asked.
//!
//! 1. The session's loop locks the keys' shards, writes each value down as DUMP does, watches the keys as WATCH
//!    does, and lets go. The session is parked.
//! 2. A thread of its own connects, sends and reads the answers ([`transfer`]), and mails the outcome to the
//!    loop.
//! 3. The loop locks the shards again and deletes those keys that the other server took and that nobody has
//!    touched since; the session gets its reply ([`finish`]).
//!
//! Redis holds everything up meanwhile. Here a key may change under way: it stays, and the reply says so, as the
//! other server has what it was. Nothing is deleted before it was acknowledged. If this process ends before
//! step 3, the keys are on both sides.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use thali_commands::{Effects, ErrorReply, Origin};
use thali_journal::Seq;
use thali_keyspace::{SessionAddress, WaitKind, Waiter, WaiterState, WatchFlag};
use thali_rdb::{Encoder, Version};
use thali_resp::{Protocol, Reply};

use crate::call::{Core, Shared};
use crate::commands::migrate::Options;
use crate::mailbox::Message;
use crate::session::SessionState;
use crate::unit::{self, Plan};

/// Migrations under way at once, each with a thread and its keys' bytes; more are refused.
const MIGRATIONS_MAX: usize = 16;
/// Bytes of a line of an answer. SOURCE: Redis 7.2 `cluster.c`.
const LINE_BYTES_MAX: u64 = 1024;

/// A key on its way.
#[derive(Debug)]
struct Moved {
    name: Box<[u8]>,
    expire_at: Option<u64>,
    /// Raised when somebody changes it.
    flag: Arc<WatchFlag>,
}

/// What the loop must know when the thread is done.
#[derive(Debug)]
pub(crate) struct Migration {
    address: SessionAddress,
    db: u32,
    keys: Vec<Moved>,
    /// COPY: nothing is watched and nothing deleted.
    copy: bool,
    outcome: Outcome,
}

/// What became of it at the other server.
#[derive(Debug, Default)]
struct Outcome {
    /// For each key whether it was taken; short where the connection ended.
    taken: Vec<bool>,
    error: Option<ErrorReply>,
}

/// What is sent to whom.
struct Request {
    host: String,
    port: u16,
    timeout: Duration,
    bytes: Vec<u8>,
    /// Answers to AUTH and SELECT, which come first.
    greetings_len: usize,
}

/// Step 1. Replies at once where there is nothing to do.
pub(crate) fn begin(
    core: &mut Core,
    state: &mut SessionState,
    args: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), ErrorReply> {
    let options = Options::parse(args)?;
    if core.shared.migrations_len.load(Relaxed) >= MIGRATIONS_MAX {
        return Err(ErrorReply::new("ERR too many keys are being migrated, try again later"));
    }
    let Core { shared, engine, side } = &mut *core;
    let mut plan = Plan::default();
    plan.shards.extend(options.keys.iter().map(|key| shared.keyspace.shard_of(key)));
    let locked = plan.lock(shared, side).ok_or_else(|| shared.busy.refusal(side.event_loop))?;
    let mut cx = unit::context(locked, state.db, engine, side, Origin::Client);
    let (mut effects, greetings_len) = greetings(&options);
    let mut keys = Vec::new();
    for key in &options.keys {
        let Some(entry) = cx.entry(key) else { continue };
        let (expire_at, now_ms) = (entry.expire_at(), cx.now_ms);
        let ttl = expire_at.map_or(0, |at| at.saturating_sub(now_ms).max(1)).to_string();
        let payload = Encoder::uncompressed(Version::V10).dump(&entry.value);
        let mut request: Vec<&[u8]> = vec![b"RESTORE", key, ttl.as_bytes(), &payload];
        request.extend(options.replace.then_some(&b"REPLACE"[..]));
        effects.push(0, &request);
        let flag = Arc::<WatchFlag>::default();
        if !options.copy {
            cx.locked.shard_mut(key).watch(state.db, key, &flag);
        }
        keys.push(Moved { name: (*key).into(), expire_at, flag });
    }
    // Keys that were found expired are removed.
    state.owe(unit::settle(cx, shared, side));
    core.engine.effects.clear();
    unit::serve_deferred(core);
    if keys.is_empty() {
        Reply::new(out, state.protocol).simple("NOKEY");
        return Ok(());
    }
    let request = Request {
        host: String::from_utf8_lossy(options.host).into_owned(),
        port: std::str::from_utf8(options.port).ok().and_then(|port| port.parse().ok()).unwrap_or(0),
        timeout: options.timeout,
        bytes: effects.iter().flat_map(|(_, bytes)| bytes).copied().collect(),
        greetings_len,
    };
    let address = state.info.address;
    let migration =
        Migration { address, db: state.db, keys, copy: options.copy, outcome: Outcome::default() };
    park(state);
    spawn(&core.shared, migration, request);
    Ok(())
}

/// The requests before those with keys, and how many they are.
fn greetings(options: &Options<'_>) -> (Effects, usize) {
    let mut effects = Effects::default();
    if !options.auth.is_empty() {
        let auth: Vec<&[u8]> = std::iter::once(&b"AUTH"[..]).chain(options.auth.iter().copied()).collect();
        effects.push(0, &auth);
    }
    effects.push(0, &[b"SELECT", options.db.to_string().as_bytes()]);
    let len = effects.len();
    (effects, len)
}

/// The session waits for nothing that a key could bring, only for [`Message::Migrated`].
fn park(state: &mut SessionState) {
    state.parked = Some(Arc::new(Waiter {
        address: state.info.address,
        owner: Arc::clone(&state.user) as _,
        db: state.db,
        kind: WaitKind::StreamGroup,
        keys: Vec::new(),
        request: Vec::new(),
        resp3: state.protocol == Protocol::Resp3,
        is_timed: false,
        state: parking_lot::Mutex::new(WaiterState::Waiting),
    }));
}

/// Step 2, on a thread of its own.
fn spawn(shared: &Arc<Shared>, mut migration: Migration, request: Request) {
    let (send, receive) = mpsc::channel::<(Migration, Request)>();
    let on_thread = Arc::clone(shared);
    let spawned = std::thread::Builder::new().name("migrate".into()).spawn(move || {
        let Ok((mut migration, request)) = receive.recv() else { return };
        migration.outcome = transfer(&request, migration.keys.len());
        on_thread.migrations_len.fetch_sub(1, Relaxed);
        tell(&on_thread, migration);
    });
    match spawned {
        Ok(_) => {
            shared.migrations_len.fetch_add(1, Relaxed);
            // The thread waits for just this.
            let _ = send.send((migration, request));
        }
        Err(error) => {
            let text = format!("ERR cannot start a thread for the transfer: {error}");
            migration.outcome.error = Some(ErrorReply::owned(text));
            tell(shared, migration);
        }
    }
}

/// The session's loop does the rest.
fn tell(shared: &Shared, migration: Migration) {
    let event_loop = usize::from(migration.address.event_loop);
    shared.mailboxes[event_loop].send(Message::Migrated(Box::new(migration)));
}

/// Sends all and reads an answer for each key.
fn transfer(request: &Request, keys_len: usize) -> Outcome {
    let failed = |doing: &str| Outcome {
        error: Some(ErrorReply::owned(format!("IOERR error or timeout {doing}"))),
        ..Outcome::default()
    };
    let Ok(mut stream) = connect(request) else { return failed("connecting to the client") };
    if stream.write_all(&request.bytes).is_err() {
        return failed("writing to target instance");
    }
    let mut answers = BufReader::new(stream);
    let mut refusal = None;
    for _ in 0..request.greetings_len {
        match read_line(&mut answers) {
            Ok(line) => refusal = refusal.or(refusal_of(&line)),
            Err(_) => return failed("reading from target instance"),
        }
    }
    let is_refused = refusal.is_some();
    let mut taken = Vec::with_capacity(keys_len);
    for _ in 0..keys_len {
        let Ok(line) = read_line(&mut answers) else {
            refusal = refusal.or(failed("reading from target instance").error);
            break;
        };
        let refused = refusal_of(&line);
        taken.push(refused.is_none() && !is_refused);
        refusal = refusal.or(refused);
    }
    Outcome { taken, error: refusal }
}

fn refusal_of(line: &[u8]) -> Option<ErrorReply> {
    let text = line.strip_prefix(b"-")?;
    Some(ErrorReply::owned([b"ERR Target instance replied with error: ", text].concat()))
}

fn connect(request: &Request) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = (request.host.as_str(), request.port).to_socket_addrs()?.collect();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(&address, request.timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(request.timeout))?;
                stream.set_write_timeout(Some(request.timeout))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A line without its end.
fn read_line(answers: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    answers.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(text.to_vec()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Step 3. Gives the session's reply and the place in the journal that it waits for; nothing where a busy script
/// holds a shard: then it is tried again later.
pub(crate) fn finish(
    core: &mut Core,
    migration: Migration,
) -> Option<(SessionAddress, Result<(), ErrorReply>, Seq)> {
    let Core { shared, engine, side } = &mut *core;
    let mut plan = Plan::default();
    if !migration.copy {
        plan.shards.extend(migration.keys.iter().map(|key| shared.keyspace.shard_of(&key.name)));
    }
    let Some(locked) = plan.lock(shared, side) else {
        side.migrated.push(migration);
        return None;
    };
    let Migration { address, db, keys, copy, outcome } = migration;
    let mut cx = unit::context(locked, db, engine, side, Origin::Unit);
    let mut changed = 0;
    if !copy {
        let taken = outcome.taken.iter().copied().chain(std::iter::repeat(false));
        for (key, taken) in keys.iter().zip(taken) {
            cx.locked.shard_mut(&key.name).unwatch(db, &key.name, &key.flag);
            if !taken {
                continue;
            }
            let is_over = key.expire_at.is_some_and(|at| cx.now_ms > at) && !cx.exists(&key.name);
            if key.flag.is_raised() && !is_over {
                changed += 1;
            } else if cx.delete(&key.name) {
                cx.effect(&[b"DEL", &*key.name]);
            }
        }
    }
    let owed = unit::settle(cx, shared, side);
    core.engine.effects.clear();
    unit::serve_deferred(core);
    let reply = match outcome.error {
        Some(error) => Err(error),
        None if changed > 0 => Err(ErrorReply::owned(format!(
            "ERR {changed} of the keys changed while they were sent: they stay here, and the target instance has \
             what they were before. Try again with REPLACE"
        ))),
        None => Ok(()),
    };
    Some((address, reply, owed.written.unwrap_or_default().max(owed.read)))
}
