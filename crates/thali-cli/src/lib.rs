//! The command-line client: redis-cli's arguments, output and prompt.
//!
//! Owns a person's side of a connection. Knows the wire format and the command table, which the binary hands in;
//! the store, and what stands on it, it knows only as a server at an address. Output goes to stdout as it comes,
//! errors to stderr.
//!
//! - [`options`], [`url`], [`usage`]: the arguments.
//! - [`connection`], [`tls`], [`wire`], [`interrupt`]: bytes to and from a server.
//! - [`client`]: commands sent, replies shown, the state that the prompt shows.
//! - [`format`]: replies as text.
//! - [`prompt`]: lines, hints, completion, help, history.
//! - [`modes`]: `--scan`, `--pipe` and the others, one file each.

mod client;
mod connection;
mod format;
mod interrupt;
mod modes;
mod options;
mod prompt;
mod stop;
mod tls;
mod url;
mod usage;
mod wire;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

use thali_commands::Spec;

use client::{Broken, Client, Went};
use modes::keys::Measure;
use options::{FromStdin, Mode, Options};
use prompt::docs::Docs;
use stop::Stop;

/// Runs with the arguments behind the program's name. `table` is what hints and help know without a server.
pub fn run(arguments: Vec<OsString>, table: &[&'static Spec]) -> ExitCode {
    match options::parse(arguments).and_then(|options| run_mode(options, table)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            // Who closed stderr doesn't want to know.
            let _ = std::io::stderr().write_all(stop.message.as_bytes());
            ExitCode::from(stop.code)
        }
    }
}

fn run_mode(mut options: Options, table: &[&'static Spec]) -> Result<(), Stop> {
    if options.ask_password {
        options.password = Some(prompt::ask_password()?);
    }
    let mode = options.mode.clone();
    let has_command = !options.words.is_empty();
    let mut client = Client::new(options);
    match &mode {
        Mode::IntrinsicLatency(seconds) => return modes::latency::intrinsic(*seconds),
        Mode::Commands if has_command => return run_command(&mut client, table),
        Mode::Commands => {
            client.catch_interrupts()?;
            client.connect(false);
            return prompt::run(&mut client, Docs::of_table(table));
        }
        _ => client.connect_or_stop()?,
    }
    match mode {
        Mode::Eval(file) => done(modes::eval::run(&mut client, &file)?),
        Mode::Pipe => modes::pipe::run(&mut client),
        Mode::Scan => modes::scan::run(&mut client),
        Mode::BigKeys => modes::keys::biggest(&mut client, Measure::Elements),
        Mode::MemKeys(samples) => modes::keys::biggest(&mut client, Measure::Memory(samples)),
        Mode::HotKeys => modes::keys::hottest(&mut client),
        Mode::Stat => modes::stat::run(&mut client),
        Mode::Latency => modes::latency::run(&mut client, false),
        Mode::LatencyHistory => modes::latency::run(&mut client, true),
        Mode::LatencyDistribution => modes::latency::spectrum(&mut client),
        Mode::Dump(_) => Err(no_dump("--rdb")),
        Mode::FunctionsDump(_) => Err(no_dump("--functions-rdb")),
        Mode::Commands | Mode::IntrinsicLatency(_) => Ok(()),
    }
}

/// The command of the arguments, and messages if it was a subscription.
fn run_command(client: &mut Client, table: &[&'static Spec]) -> Result<(), Stop> {
    let words = command(&client.options)?;
    client.connect(true);
    if words[0].eq_ignore_ascii_case(b"help") || words[0] == b"?" {
        return done(prompt::help_once(client, Docs::of_table(table), &words[1..])?);
    }
    let repeat = client.options.repeat;
    let went = client.issue(&words, repeat)?;
    while client.subscribed {
        match client.show_next(false) {
            Ok(_) => {}
            Err(Broken::Stop(stop)) => return Err(stop),
            Err(Broken::Wire(error)) => return Err(Stop::wire(&error)),
        }
    }
    done(went)
}

/// The words of the arguments, unquoted and filled up from stdin as the options say.
fn command(options: &Options) -> Result<Vec<Vec<u8>>, Stop> {
    let mut words = options.words.clone();
    if options.quoted_input {
        let unquoted: Option<Vec<_>> = words.iter().map(|word| options::unquote(word)).collect();
        words = match unquoted {
            Some(words) => words,
            None => {
                client::print_now("Invalid quoted string\n")?;
                return Err(Stop::silent(1));
            }
        };
    }
    match &options.from_stdin {
        FromStdin::None => {}
        FromStdin::Last => words.push(stdin()?),
        FromStdin::Tagged(tag) => match words.iter_mut().find(|word| *word == tag) {
            Some(word) => *word = stdin()?,
            None => return Err(Stop::failure("Using -X option but stdin tag not match.")),
        },
    }
    Ok(words)
}

fn stdin() -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| Stop::failure(format_args!("Reading from standard input: {error}")))?;
    Ok(bytes)
}

fn done(went: Went) -> Result<(), Stop> {
    if went == Went::Replied { Ok(()) } else { Err(Stop::silent(1)) }
}

fn no_dump(option: &str) -> Stop {
    Stop::failure(format_args!(
        "{option} is not here yet: it fetches a dump as a replica does, by SYNC. \
         BGSAVE makes one on the server, in the folder that CONFIG GET dir names."
    ))
}
