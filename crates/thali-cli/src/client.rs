//! A session with a server: dials, introduces itself, sends commands, shows replies, follows redirections.
//!
//! Owns what a person sees of the connection's state: the database, MULTI, subscriptions, the protocol. What is
//! shown goes to stdout at once, errors of the connection to stderr.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::{Address, Connection};
use crate::format::{self, Form};
use crate::interrupt::Interrupt;
use crate::options::{Options, Speak};
use crate::stop::Stop;
use crate::wire::{Reply, WireError};

/// Redirections followed for one command; a cluster that sends it further is not settled.
const REDIRECTIONS_MAX: usize = 16;

/// What becomes of pushes that arrive among replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushes {
    Show,
    Drop,
    /// They are the replies that are waited for.
    AsReplies,
}

/// How a command went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    /// Replied to, be it with an error.
    Replied,
    /// No connection, and it was said so.
    Failed,
}

pub(crate) struct Client {
    pub options: Options,
    pub link: Option<Connection>,
    /// The database that the server has selected.
    pub database: i64,
    /// The database to select after dialling again.
    wanted_database: i64,
    database_before_multi: i64,
    pub in_multi: bool,
    pub subscribed: bool,
    speaks_resp3: bool,
    pushes: Pushes,
    /// Whether this is a prompt or a pipe of lines: then lost connections are dialled again.
    pub interactive: bool,
    interrupt: Option<Arc<Interrupt>>,
    redirected: bool,
    send_asking: bool,
}

impl Client {
    pub fn new(options: Options) -> Self {
        let wanted_database = options.database;
        let pushes = if options.show_pushes { Pushes::Show } else { Pushes::Drop };
        Self {
            options,
            link: None,
            database: 0,
            wanted_database,
            database_before_multi: 0,
            in_multi: false,
            subscribed: false,
            speaks_resp3: false,
            pushes,
            interactive: false,
            interrupt: None,
            redirected: false,
            send_asking: false,
        }
    }

    /// From now on Ctrl-C leaves an endless view, or ends the program where none is shown.
    pub fn catch_interrupts(&mut self) -> Result<(), Stop> {
        self.interrupt = Some(Interrupt::install()?);
        Ok(())
    }

    pub fn interrupt(&self) -> Option<&Arc<Interrupt>> {
        self.interrupt.as_ref()
    }

    /// Dials, or says why not; `quiet` keeps that to itself.
    pub fn connect(&mut self, quiet: bool) -> bool {
        self.link = None;
        self.database = 0;
        self.in_multi = false;
        self.subscribed = false;
        self.speaks_resp3 = false;
        self.pushes = if self.options.show_pushes { Pushes::Show } else { Pushes::Drop };
        match Connection::open(&self.options.address, &self.options.dial, self.interrupt.clone()) {
            Ok(link) => self.link = Some(link),
            Err(words) => {
                if !quiet {
                    eprintln!("{words}");
                }
                return false;
            }
        }
        let introduced = self.authenticate() && self.select_wanted() && self.choose_protocol();
        if !introduced && self.link.is_none() {
            eprintln!("\nI/O error");
        }
        introduced
    }

    /// Dials or ends the program.
    pub fn connect_or_stop(&mut self) -> Result<(), Stop> {
        if self.connect(false) { Ok(()) } else { Err(Stop::silent(1)) }
    }

    /// Sends one command and gives its reply, for the program's own use.
    pub fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply, WireError> {
        let link = self.link.as_mut().ok_or(WireError::Closed)?;
        link.send(args)?;
        loop {
            match link.receive()? {
                Reply::Push(_) => {}
                reply => return Ok(reply),
            }
        }
    }

    fn authenticate(&mut self) -> bool {
        let Some(password) = self.options.password.clone() else { return true };
        let request = match self.options.user.clone() {
            None => vec![b"AUTH".to_vec(), password],
            Some(user) => vec![b"AUTH".to_vec(), user, password],
        };
        // As in redis-cli, the connection stays usable for another try.
        self.introduce(&request, "AUTH failed").is_some_and(|reply| reply.error().is_none())
    }

    pub fn select_wanted(&mut self) -> bool {
        if self.wanted_database == self.database {
            return true;
        }
        let number = self.wanted_database.to_string();
        let request = [b"SELECT".to_vec(), number.clone().into_bytes()];
        let selected = self
            .introduce(&request, &format!("SELECT {number} failed"))
            .is_some_and(|reply| reply.error().is_none());
        if selected {
            self.database = self.wanted_database;
        }
        selected
    }

    fn choose_protocol(&mut self) -> bool {
        if self.options.speak == Speak::AsItIs {
            return true;
        }
        let request = [b"HELLO".to_vec(), b"3".to_vec()];
        let Some(reply) = self.introduce(&request, "HELLO 3 failed") else { return false };
        self.speaks_resp3 = reply.error().is_none();
        self.speaks_resp3 || self.options.speak == Speak::Resp3IfThere
    }

    /// The reply to a command of the introduction; an error is told, and `None` is a lost connection.
    fn introduce(&mut self, request: &[Vec<u8>], failed: &str) -> Option<Reply> {
        match self.ask(request) {
            Ok(reply) => {
                if let Some(error) = reply.error() {
                    eprintln!("{failed}: {}", String::from_utf8_lossy(error));
                }
                Some(reply)
            }
            Err(_) => {
                self.link = None;
                None
            }
        }
    }

    /// Runs a command so many times, for ever if negative, and shows the replies.
    pub fn issue(&mut self, args: &[Vec<u8>], repeat: i64) -> Result<Went, Stop> {
        for _ in 0..=REDIRECTIONS_MAX {
            if self.redirected || self.link.is_none() {
                self.redirected = false;
                if !self.connect(false) {
                    return Ok(Went::Failed);
                }
            }
            if std::mem::take(&mut self.send_asking) {
                let request = [b"ASKING".to_vec()];
                if self.introduce(&request, "ASKING failed").is_none_or(|reply| reply.error().is_some()) {
                    return Ok(Went::Failed);
                }
            }
            match self.send(args, repeat) {
                Ok(()) if self.redirected => {}
                Ok(()) => return Ok(Went::Replied),
                Err(Broken::Stop(stop)) => return Err(stop),
                Err(Broken::Wire(error)) => return self.broken(&error),
            }
        }
        self.redirected = false;
        eprintln!("Error: sent from node to node {REDIRECTIONS_MAX} times");
        Ok(Went::Failed)
    }

    /// What a lost connection means: the end of the program, or of the connection.
    fn broken(&mut self, error: &WireError) -> Result<Went, Stop> {
        if self.interactive && error.is_lost() && !error.is_interrupt() {
            eprintln!("Error: {error}");
            self.link = None;
            return Ok(Went::Failed);
        }
        Err(Stop::wire(error))
    }

    fn send(&mut self, args: &[Vec<u8>], repeat: i64) -> Result<(), Broken> {
        let verb = Verb::of(args);
        let as_text = is_page(args);
        let mut left = repeat;
        while left != 0 {
            left -= i64::from(left > 0);
            self.link.as_mut().ok_or(WireError::Closed)?.send(args)?;
            match verb {
                Verb::Monitor => return self.watch(as_text),
                Verb::Shutdown => return self.read_last(as_text),
                _ => {}
            }
            let reply = self.read_reply_to(args, verb, as_text)?;
            if self.redirected {
                return Ok(());
            }
            self.note(args, verb, &reply);
            if !self.options.interval.is_zero() {
                std::thread::sleep(self.options.interval);
            }
        }
        Ok(())
    }

    /// The reply to `args`, with messages and pushes shown as they come before it.
    fn read_reply_to(&mut self, args: &[Vec<u8>], verb: Verb, as_text: bool) -> Result<Reply, Broken> {
        let is_channels = matches!(verb, Verb::Subscribe | Verb::Unsubscribe);
        // These are confirmed by one push for each channel, and by one if there is none.
        let mut expected = if is_channels { (args.len() - 1).max(1) } else { 0 };
        if is_channels {
            self.pushes = Pushes::AsReplies;
        }
        loop {
            let reply = self.show_next(as_text)?;
            if !self.subscribed && expected == 0 {
                return Ok(reply);
            }
            if self.is_message(&reply) {
                let confirms =
                    reply.items()[0].text().is_some_and(|kind| kind.eq_ignore_ascii_case(&args[0]));
                if expected == 0 || !confirms {
                    continue;
                }
                self.subscribed |= verb == Verb::Subscribe;
                expected -= 1;
                if expected > 0 {
                    continue;
                }
            } else if matches!(reply, Reply::Push(_)) {
                continue;
            }
            return Ok(reply);
        }
    }

    /// MONITOR: shows what comes until Ctrl-C.
    fn watch(&mut self, as_text: bool) -> Result<(), Broken> {
        loop {
            match self.show_next(as_text) {
                Ok(reply) if reply.error().is_some() => return Ok(()),
                Ok(_) => {}
                Err(Broken::Wire(error)) if error.is_interrupt() => {
                    self.leave_view();
                    return Ok(());
                }
                Err(broken) => return Err(broken),
            }
        }
    }

    /// SHUTDOWN: that the server hangs up is its answer.
    fn read_last(&mut self, as_text: bool) -> Result<(), Broken> {
        match self.show_next(as_text) {
            Err(Broken::Wire(error)) if error.is_lost() && !error.is_interrupt() => {
                self.link = None;
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Leaves MONITOR or the channels, by a new connection.
    pub fn leave_view(&mut self) {
        if let Some(interrupt) = &self.interrupt {
            interrupt.clear();
        }
        self.connect(false);
    }

    /// Reads and shows a reply.
    pub fn show_next(&mut self, as_text: bool) -> Result<Reply, Broken> {
        loop {
            let reply = self.link.as_mut().ok_or(WireError::Closed)?.receive()?;
            match (&reply, self.pushes) {
                (Reply::Push(_), Pushes::Show) => self.show(&reply, false)?,
                (Reply::Push(_), Pushes::Drop) => {}
                _ => {
                    if self.options.follow_cluster && self.redirect(&reply)? {
                        return Ok(reply);
                    }
                    if let Some(error) =
                        reply.error().filter(|_| self.options.error_code && !self.interactive)
                    {
                        return Err(Broken::Stop(Stop::failure(String::from_utf8_lossy(error))));
                    }
                    self.show(&reply, as_text)?;
                    return Ok(reply);
                }
            }
        }
    }

    fn show(&self, reply: &Reply, as_text: bool) -> Result<(), Stop> {
        let mut text = Vec::new();
        match stale_keys(reply).filter(|_| self.options.style.form == Form::Standard) {
            Some(keys) => {
                text.extend_from_slice(b"-> invalidate: ");
                let keys: Vec<_> = keys.iter().map(quoted_key).collect();
                text.extend_from_slice(keys.join(", ").as_bytes());
                text.push(b'\n');
            }
            None => format::write(reply, &self.options.style, as_text, &mut text),
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&text)?;
        Ok(stdout.flush()?)
    }

    /// Whether a reply sends the command to another node; dialling it is left to [`Client::issue`].
    fn redirect(&mut self, reply: &Reply) -> Result<bool, Stop> {
        let Some(to) = reply.error().and_then(Redirection::parse) else { return Ok(false) };
        if let Address::Tcp { host, port } = &mut self.options.address {
            // An empty host means the one that answered.
            if !to.host.is_empty() {
                *host = to.host;
            }
            *port = to.port;
            if self.interactive {
                writeln!(std::io::stdout(), "-> Redirected to slot [{}] located at {host}:{port}", to.slot)?;
            }
        }
        self.redirected = true;
        self.send_asking = to.ask;
        Ok(true)
    }

    fn is_message(&self, reply: &Reply) -> bool {
        let items = match reply {
            Reply::Push(items) if self.speaks_resp3 => items,
            Reply::Array(items) if !self.speaks_resp3 => items,
            _ => return false,
        };
        let kind = items.first().and_then(Reply::text).unwrap_or_default();
        items.len() >= 3 && (kind.ends_with(b"message") || kind.ends_with(b"subscribe"))
    }

    /// What a command has changed in the state that the prompt shows.
    fn note(&mut self, args: &[Vec<u8>], verb: Verb, reply: &Reply) {
        let failed = reply.error().is_some();
        match (verb, args.len()) {
            (Verb::Select, 2) if !failed => {
                self.database = crate::options::number(&String::from_utf8_lossy(&args[1]));
                self.wanted_database = self.database;
            }
            (Verb::Auth, 2 | 3) => {
                self.select_wanted();
            }
            (Verb::Multi, 1) if !failed => {
                self.in_multi = true;
                self.database_before_multi = self.database;
            }
            (Verb::Exec, 1) if self.in_multi => {
                self.in_multi = false;
                if failed || *reply == Reply::Nil {
                    self.forget_selects();
                }
            }
            (Verb::Discard, 1) if !failed => {
                self.in_multi = false;
                self.forget_selects();
            }
            (Verb::Reset, 1) if !failed => {
                self.in_multi = false;
                self.subscribed = false;
                self.speaks_resp3 = false;
                (self.database, self.wanted_database) = (0, 0);
                self.restore_pushes();
            }
            (Verb::Hello, _) if !failed => self.speaks_resp3 = matches!(reply, Reply::Map(_)),
            (Verb::Subscribe | Verb::Unsubscribe, _) if !self.subscribed => self.restore_pushes(),
            _ => {}
        }
    }

    /// A transaction that did not run has selected nothing.
    fn forget_selects(&mut self) {
        (self.database, self.wanted_database) = (self.database_before_multi, self.database_before_multi);
    }

    fn restore_pushes(&mut self) {
        self.pushes = if self.options.show_pushes { Pushes::Show } else { Pushes::Drop };
    }

    /// Sends a command for a mode that runs on: dials again, once a second, while the server is away.
    pub fn ask_patiently(&mut self, args: &[&str]) -> Result<Reply, Stop> {
        let mut tries = 0;
        loop {
            match self.ask(args) {
                Ok(reply) => {
                    if tries > 0 {
                        print_now("\r\x1b[0K")?;
                    }
                    return Ok(reply);
                }
                Err(error) if error.is_lost() && !error.is_interrupt() => {
                    tries += 1;
                    print_now(&format!("\r\x1b[0KReconnecting... {tries}\r"))?;
                    self.connect(true);
                    std::thread::sleep(Duration::from_secs(1));
                }
                Err(error) => return Err(Stop::wire(&error)),
            }
        }
    }
}

/// Writes to stdout at once.
pub(crate) fn print_now(text: &str) -> Result<(), Stop> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Why a command has no reply.
#[derive(Debug)]
pub(crate) enum Broken {
    Wire(WireError),
    Stop(Stop),
}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<Stop> for Broken {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Commands that change how replies are read or what the prompt shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Other,
    Auth,
    Discard,
    Exec,
    Hello,
    Monitor,
    Multi,
    Reset,
    Select,
    Shutdown,
    Subscribe,
    Unsubscribe,
}

impl Verb {
    fn of(args: &[Vec<u8>]) -> Verb {
        match args[0].to_ascii_lowercase().as_slice() {
            b"auth" => Verb::Auth,
            b"discard" => Verb::Discard,
            b"exec" => Verb::Exec,
            b"hello" => Verb::Hello,
            b"monitor" => Verb::Monitor,
            b"multi" => Verb::Multi,
            b"reset" => Verb::Reset,
            b"select" => Verb::Select,
            b"shutdown" => Verb::Shutdown,
            b"subscribe" | b"psubscribe" | b"ssubscribe" => Verb::Subscribe,
            b"unsubscribe" | b"punsubscribe" | b"sunsubscribe" => Verb::Unsubscribe,
            _ => Verb::Other,
        }
    }
}

/// Whether the reply is a page of text for a person, which is shown as it is.
fn is_page(args: &[Vec<u8>]) -> bool {
    let word = |at: usize| args.get(at).map(|arg| arg.to_ascii_lowercase()).unwrap_or_default();
    match (word(0).as_slice(), word(1).as_slice()) {
        (b"info" | b"lolwut", _) => true,
        (b"debug", b"htstats" | b"htstats-key" | b"client-eviction") => true,
        (b"memory", b"malloc-stats" | b"doctor") => true,
        (b"cluster", b"nodes" | b"info") => args.len() == 2,
        (b"client", b"list" | b"info") => true,
        (b"latency", b"graph") => args.len() == 3,
        (b"latency", b"doctor") => args.len() == 2,
        _ => false,
    }
}

/// The keys of RESP3's message that cached values are stale.
fn stale_keys(reply: &Reply) -> Option<&[Reply]> {
    match reply {
        Reply::Push(items) => match &items[..] {
            [kind, Reply::Array(keys)] if kind.text() == Some(b"invalidate") => Some(keys),
            _ => None,
        },
        _ => None,
    }
}

fn quoted_key(key: &Reply) -> String {
    format!("'{}'", String::from_utf8_lossy(key.text().unwrap_or_default()).escape_debug())
}

/// `MOVED 3999 127.0.0.1:6381`, or `ASK …`.
#[derive(Debug, PartialEq, Eq)]
struct Redirection {
    ask: bool,
    slot: u16,
    host: String,
    port: u16,
}

impl Redirection {
    fn parse(error: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(error).ok()?.split(' ');
        let ask = match words.next()? {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let slot = words.next()?.parse().ok()?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        Some(Self { ask, slot, host: host.to_owned(), port: port.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read() {
        let to = |ask, slot, host: &str, port| Some(Redirection { ask, slot, host: host.to_owned(), port });
        for (text, expected) in [
            ("MOVED 3999 127.0.0.1:6381", to(false, 3999, "127.0.0.1", 6381)),
            ("ASK 1 ::1:7000", to(true, 1, "::1", 7000)),
            ("MOVED 7 :6379", to(false, 7, "", 6379)),
            ("MOVED x", None),
            ("MOVED 1 h:99999", None),
            ("ERR MOVED", None),
        ] {
            assert_eq!(Redirection::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn pages_are_known() {
        let args = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        for page in
            ["INFO", "info server", "CLIENT LIST", "memory doctor", "cluster nodes", "latency graph x"]
        {
            assert!(is_page(&args(page)), "{page}");
        }
        for other in ["GET k", "client id", "latency latest", "cluster info x"] {
            assert!(!is_page(&args(other)), "{other}");
        }
    }
}
