//! The prompt, and its like without a terminal: lines from stdin.
//!
//! A line is a command, or one of the prompt's own: `help`, `clear`, `connect host port`, `quit`, `:set …`. A
//! number in front repeats it.

pub(crate) mod docs;
mod editor;
mod history;
mod syntax;

use std::cell::RefCell;
use std::io::{self, BufRead, IsTerminal};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::termios::{self, LocalModes, OptionalActions};
use thali_resp::split_inline;

use crate::client::{Broken, Client, Went, print_now};
use crate::connection::{Address, wait};
use crate::format::Form;
use crate::stop::Stop;

use docs::Docs;
use editor::{Knowledge, Line, LineEditor};
use history::{History, is_secret};

/// Commands that took as long are told their time.
const SLOW: Duration = Duration::from_millis(500);
/// Bytes of a line from a pipe; a longer one is no command.
const LINE_BYTES_MAX: u64 = 1 << 30;

/// Where lines come from.
enum Lines {
    Terminal(Box<LineEditor>, History),
    Pipe,
}

/// Reads and runs lines until there are no more.
pub(crate) fn run(client: &mut Client, table: Docs) -> Result<(), Stop> {
    let knowledge = Rc::new(RefCell::new(Knowledge { docs: table, hints: true }));
    let mut lines = if io::stdin().is_terminal() {
        learn(client, &knowledge);
        load_preferences(&knowledge)?;
        let history = History::from_environment();
        let editor = LineEditor::new(Rc::clone(&knowledge), history.load()).map_err(no_editor)?;
        Lines::Terminal(Box::new(editor), history)
    } else {
        Lines::Pipe
    };
    client.interactive = true;
    loop {
        let Some(line) = lines.next(client)? else {
            if !client.subscribed {
                return Ok(());
            }
            // The end of the lines ends the messages first.
            client.leave_view();
            continue;
        };
        if line.is_empty() {
            continue;
        }
        match split_inline(&line) {
            None => {
                lines.remember(&line, true)?;
                print_now("Invalid argument(s)\n")?;
            }
            Some(words) if words.is_empty() => {}
            Some(words) => {
                if !run_line(client, &mut lines, &knowledge, &line, words)? {
                    return Ok(());
                }
            }
        }
        if client.subscribed {
            show_messages(client)?;
        }
    }
}

impl Lines {
    fn next(&mut self, client: &Client) -> Result<Option<Vec<u8>>, Stop> {
        match self {
            Self::Terminal(editor, _) => match editor.read(&prompt(client)).map_err(no_editor)? {
                Line::Text(text) => Ok(Some(text.into_bytes())),
                Line::End => Ok(None),
            },
            Self::Pipe => {
                use io::Read;
                let mut line = Vec::new();
                let read = io::stdin().lock().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
                read.map_err(|error| Stop::failure(format_args!("cannot read commands: {error}")))?;
                if line.is_empty() {
                    return Ok(None);
                }
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                Ok(Some(line))
            }
        }
    }

    fn remember(&mut self, line: &[u8], secret: bool) -> Result<(), Stop> {
        let Self::Terminal(editor, history) = self else { return Ok(()) };
        let text = String::from_utf8_lossy(line);
        editor.remember(&text).map_err(no_editor)?;
        if !secret && let Err(error) = history.add(&text) {
            eprintln!("cannot write the history: {error}");
        }
        Ok(())
    }
}

fn no_editor(error: rustyline::error::ReadlineError) -> Stop {
    Stop::failure(format_args!("cannot edit lines on this terminal: {error}"))
}

/// Runs one line; `false`: it was the last.
fn run_line(
    client: &mut Client,
    lines: &mut Lines,
    knowledge: &Rc<RefCell<Knowledge>>,
    line: &[u8],
    mut words: Vec<Vec<u8>>,
) -> Result<bool, Stop> {
    let Some(repeat) = repeats(&words) else {
        print_now("Invalid redis-cli repeat command option value.\n")?;
        return Ok(true);
    };
    let command = words.split_off(usize::from(repeat.is_some()));
    lines.remember(line, is_secret(&command))?;
    match command[0].to_ascii_lowercase().as_slice() {
        b"quit" | b"exit" => return Ok(false),
        [b':', ..] => print_now(&set_preference(&command, knowledge, ""))?,
        b"connect" if command.len() == 3 => {
            client.options.address = Address::Tcp {
                host: String::from_utf8_lossy(&command[1]).into_owned(),
                port: u16::try_from(crate::options::number(&String::from_utf8_lossy(&command[2])))
                    .unwrap_or(0),
            };
            if client.connect(false) {
                learn(client, knowledge);
            }
        }
        b"clear" if command.len() == 1 => print_now("\x1b[H\x1b[2J")?,
        b"help" | b"?" => print_now(&knowledge.borrow().docs.help(&command[1..]))?,
        _ => {
            let start = Instant::now();
            client.issue(&command, repeat.unwrap_or(1))?;
            if start.elapsed() >= SLOW && client.options.style.form == Form::Standard {
                print_now(&format!("({:.2}s)\n", start.elapsed().as_secs_f64()))?;
            }
        }
    }
    Ok(true)
}

/// The number in front of a command, if one is there; `None`: it is none that repeats.
fn repeats(words: &[Vec<u8>]) -> Option<Option<i64>> {
    let text = std::str::from_utf8(&words[0]).unwrap_or_default();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if words.len() == 1 || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Some(None);
    }
    text.parse().ok().filter(|times: &i64| *times > 0).map(Some)
}

/// `127.0.0.1:6379[2](TX)> `
fn prompt(client: &Client) -> String {
    if client.link.is_none() {
        return "not connected> ".to_owned();
    }
    let mut text = match &client.options.address {
        Address::Unix(path) => format!("redis {}", path.display()),
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
    };
    if client.database != 0 {
        text += &format!("[{}]", client.database);
    }
    if client.in_multi {
        text += "(TX)";
    }
    if client.subscribed {
        text += "(subscribed mode)";
    }
    text + "> "
}

/// Asks the server what it knows of its commands.
fn learn(client: &mut Client, knowledge: &Rc<RefCell<Knowledge>>) {
    if client.link.is_none() {
        return;
    }
    match client.ask(&["COMMAND", "DOCS"]) {
        Ok(reply) => {
            let docs = knowledge.borrow().docs.with_server(&reply);
            knowledge.borrow_mut().docs = docs;
        }
        // The next command says so and dials again.
        Err(_) => client.link = None,
    }
}

/// Each line of the file is one of `:set`.
fn load_preferences(knowledge: &Rc<RefCell<Knowledge>>) -> Result<(), Stop> {
    let path = match std::env::var_os("REDISCLI_RCFILE").filter(|path| !path.is_empty()) {
        Some(path) => Some(path.into()),
        None => std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".redisclirc")),
    };
    let Some(file) = path.and_then(|path| std::fs::read(path).ok()) else { return Ok(()) };
    for line in file.split(|b| *b == b'\n') {
        if let Some(words) = split_inline(line).filter(|words| !words.is_empty()) {
            print_now(&set_preference(&words, knowledge, ".redisclirc: "))?;
        }
    }
    Ok(())
}

/// `:set hints`, `:set nohints`; gives what to say.
fn set_preference(words: &[Vec<u8>], knowledge: &Rc<RefCell<Knowledge>>, place: &str) -> String {
    let shown = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    if !words[0].eq_ignore_ascii_case(b":set") || words.len() < 2 {
        return format!("{place}unknown redis-cli internal command '{}'\n", shown(&words[0]));
    }
    match words[1].to_ascii_lowercase().as_slice() {
        b"hints" => knowledge.borrow_mut().hints = true,
        b"nohints" => knowledge.borrow_mut().hints = false,
        other => return format!("{place}unknown redis-cli preference '{}'\n", shown(other)),
    }
    String::new()
}

/// Shows messages until somebody presses a key, or Ctrl-C, which leaves the channels.
fn show_messages(client: &mut Client) -> Result<(), Stop> {
    let notes = client.options.style.form != Form::Raw && client.options.style.terminal;
    let _keys = io::stdin().is_terminal().then(SingleKeys::begin);
    while client.subscribed {
        let Some(link) = client.link.as_ref() else { return Ok(()) };
        if !link.holds_bytes() {
            if notes {
                print_now(
                    "\x1b[1;90mReading messages... (press Ctrl-C to quit or any key to type command)\x1b[0m\r",
                )?;
            }
            let stdin = io::stdin();
            let mut files = vec![(link.as_fd(), PollFlags::IN), (stdin.as_fd(), PollFlags::IN)];
            files.extend(client.interrupt().map(|interrupt| (interrupt.as_fd(), PollFlags::IN)));
            let ready = wait(&files, None)?;
            let (interrupted, message, key) = (ready.get(2), ready[0], ready[1]);
            let interrupted = interrupted.is_some_and(|flags| !flags.is_empty());
            if notes {
                print_now("\x1b[K")?;
            }
            if interrupted {
                client.leave_view();
                return Ok(());
            }
            if message.is_empty() {
                if key.is_empty() { continue } else { return Ok(()) }
            }
        }
        match client.show_next(false) {
            Ok(_) => {}
            Err(Broken::Stop(stop)) => return Err(stop),
            Err(Broken::Wire(error)) if error.is_interrupt() => client.leave_view(),
            Err(Broken::Wire(error)) => return Err(Stop::wire(&error)),
        }
    }
    Ok(())
}

/// The terminal hands on each key at once and unseen, until the value is dropped.
struct SingleKeys(Option<termios::Termios>);

impl SingleKeys {
    fn begin() -> Self {
        let Ok(before) = termios::tcgetattr(io::stdin()) else { return Self(None) };
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
        match termios::tcsetattr(io::stdin(), OptionalActions::Now, &now) {
            Ok(()) => Self(Some(before)),
            Err(_) => Self(None),
        }
    }
}

impl Drop for SingleKeys {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs nothing back.
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Reads a password that is not shown.
pub(crate) fn ask_password() -> Result<Vec<u8>, Stop> {
    let stdin = io::stdin();
    let before = termios::tcgetattr(&stdin).ok();
    if let Some(before) = &before {
        print_now("Please input password: ")?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(&stdin, OptionalActions::Now, &now).map_err(io::Error::from)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(before) = &before {
        termios::tcsetattr(&stdin, OptionalActions::Now, before).map_err(io::Error::from)?;
        print_now("\n")?;
    }
    read.map_err(|error| Stop::failure(format_args!("cannot read the password: {error}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).as_bytes().to_vec())
}

/// `thali cli help …`: no server is needed for it, but one may know more.
pub(crate) fn help_once(client: &mut Client, table: Docs, words: &[Vec<u8>]) -> Result<Went, Stop> {
    let knowledge = Rc::new(RefCell::new(Knowledge { docs: table, hints: true }));
    learn(client, &knowledge);
    print_now(&knowledge.borrow().docs.help(words))?;
    Ok(Went::Replied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_front_repeats() {
        let of =
            |line: &str| repeats(&line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(of("3 GET k"), Some(Some(3)));
        assert_eq!(of("GET 3"), Some(None));
        assert_eq!(of("3"), Some(None));
        assert_eq!(of("0 GET k"), None);
        assert_eq!(of("-1 GET k"), None);
        assert_eq!(of("99999999999999999999 GET k"), None);
    }
}
