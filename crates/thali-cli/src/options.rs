//! The arguments, as redis-cli takes them: options up to the first word, which begins a command.
//!
//! What redis-cli has and Thali's command does not do is refused by name.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use thali_resp::split_inline;

use crate::connection::{Address, Dial};
use crate::format::{Form, Style};
use crate::stop::Stop;
use crate::tls::TlsOptions;
use crate::{url, usage};

/// Seconds without a reply that end `--pipe` once all is sent.
const PIPE_TIMEOUT_S: u64 = 30;
/// SCAN's COUNT.
const SCAN_COUNT: i64 = 10;

/// What is done instead of running a command or prompting for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Commands,
    Eval(PathBuf),
    Pipe,
    Scan,
    BigKeys,
    /// MEMORY USAGE's SAMPLES, where not the server's default.
    MemKeys(Option<i64>),
    HotKeys,
    Stat,
    Latency,
    LatencyHistory,
    LatencyDistribution,
    IntrinsicLatency(u64),
    Dump(PathBuf),
    FunctionsDump(PathBuf),
}

/// The protocol that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speak {
    /// Whatever the server begins with.
    AsItIs,
    Resp3,
    /// RESP3 for JSON's sake; a server without it will do.
    Resp3IfThere,
}

/// Which argument comes from stdin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FromStdin {
    None,
    Last,
    Tagged(Vec<u8>),
}

/// Everything the arguments say.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub address: Address,
    pub dial: Dial,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub ask_password: bool,
    pub database: i64,
    pub speak: Speak,
    pub style: Style,
    pub show_pushes: bool,
    pub repeat: i64,
    pub interval: Duration,
    pub from_stdin: FromStdin,
    pub quoted_input: bool,
    pub error_code: bool,
    pub follow_cluster: bool,
    pub pattern: Option<Vec<u8>>,
    pub count: i64,
    pub key_type: Option<Vec<u8>>,
    pub pipe_timeout: Option<Duration>,
    pub monochrome: bool,
    pub mode: Mode,
    /// What follows the options.
    pub words: Vec<Vec<u8>>,
}

impl Default for Options {
    fn default() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            address: Address::Tcp { host: "127.0.0.1".to_owned(), port: 6379 },
            dial: Dial::default(),
            user: None,
            password: None,
            ask_password: false,
            database: 0,
            speak: Speak::AsItIs,
            style: Style {
                form: if terminal { Form::Standard } else { Form::Raw },
                item_delimiter: b"\n".to_vec(),
                reply_delimiter: b"\n".to_vec(),
                terminal,
            },
            show_pushes: terminal,
            repeat: 1,
            interval: Duration::ZERO,
            from_stdin: FromStdin::None,
            quoted_input: false,
            error_code: false,
            follow_cluster: false,
            pattern: None,
            count: SCAN_COUNT,
            key_type: None,
            pipe_timeout: Some(Duration::from_secs(PIPE_TIMEOUT_S)),
            monochrome: false,
            mode: Mode::Commands,
            words: Vec::new(),
        }
    }
}

/// What options say together, checked once all are read.
#[derive(Debug, Default)]
struct Notes {
    host: Option<String>,
    port: Option<u16>,
    socket: Option<PathBuf>,
    tls: bool,
    tls_options: TlsOptions,
    resp2: bool,
    resp3: bool,
    json: bool,
    last_from_stdin: bool,
    tag: Option<Vec<u8>>,
    ldb: bool,
    no_warning: bool,
}

/// Reads the arguments. An early end, as after `--help`, is a [`Stop`], too.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Options, Stop> {
    let mut options = Options::default();
    let mut notes = Notes::default();
    let mut rest = arguments.into_iter().map(OsString::into_vec).peekable();
    while let Some(word) = rest.next_if(|word| word.first() == Some(&b'-')) {
        let name = String::from_utf8_lossy(&word).into_owned();
        let known = flag(&name, &mut options, &mut notes)?
            || rest.peek().is_some()
                && takes_value(&name)
                && valued(&name, rest.next().unwrap_or_default(), &mut options, &mut notes)?;
        if !known {
            // A lone -h asks for help.
            if name == "-h" {
                return Err(usage::help());
            }
            let words = format!("Unrecognized option or bad number of args for: '{name}'");
            return Err(Stop::failure(words));
        }
    }
    options.words = rest.collect();
    conclude(options, notes)
}

/// Options without a value; `false`: this is none.
fn flag(name: &str, options: &mut Options, notes: &mut Notes) -> Result<bool, Stop> {
    match name {
        "--help" => return Err(usage::help()),
        "--version" | "-v" => return Err(usage::version()),
        "-x" => notes.last_from_stdin = true,
        "-2" => notes.resp2 = true,
        "-3" => notes.resp3 = true,
        "-4" => options.dial.only_ipv4 = true,
        "-6" => options.dial.only_ipv6 = true,
        "-c" => options.follow_cluster = true,
        "-e" => options.error_code = true,
        "--askpass" => options.ask_password = true,
        "--no-auth-warning" => notes.no_warning = true,
        "--raw" => options.style.form = Form::Raw,
        "--no-raw" => options.style.form = Form::Standard,
        "--csv" => options.style.form = Form::Csv,
        "--json" => (options.style.form, notes.json) = (Form::Json, true),
        "--quoted-json" => (options.style.form, notes.json) = (Form::QuotedJson, true),
        "--quoted-input" => options.quoted_input = true,
        "--tls" => notes.tls = true,
        "--insecure" => notes.tls_options.insecure = true,
        "--pipe" => options.mode = Mode::Pipe,
        "--scan" => options.mode = Mode::Scan,
        "--bigkeys" => options.mode = Mode::BigKeys,
        "--memkeys" => options.mode = Mode::MemKeys(None),
        "--hotkeys" => options.mode = Mode::HotKeys,
        "--stat" => options.mode = Mode::Stat,
        // History and latency go together in any order.
        "--latency" if options.mode == Mode::LatencyHistory => {}
        "--latency" => options.mode = Mode::Latency,
        "--latency-history" => options.mode = Mode::LatencyHistory,
        "--latency-dist" => options.mode = Mode::LatencyDistribution,
        "--mono" => options.monochrome = true,
        "--verbose" => {}
        "--ldb" | "--ldb-sync-mode" => notes.ldb = true,
        "--cluster" => {
            return Err(refused(name, "Thali has no cluster to manage; redis-cli manages Redis's"));
        }
        "--replica" | "--slave" => return Err(refused(name, "Thali has no replication yet")),
        _ => return Ok(false),
    }
    Ok(true)
}

const VALUED: [&str; 32] = [
    "-h",
    "-p",
    "-t",
    "-s",
    "-r",
    "-i",
    "-n",
    "-a",
    "--pass",
    "--user",
    "-u",
    "-d",
    "-D",
    "-X",
    "--sni",
    "--cacert",
    "--cacertdir",
    "--cert",
    "--key",
    "--tls-ciphers",
    "--tls-ciphersuites",
    "--show-pushes",
    "--pipe-timeout",
    "--memkeys-samples",
    "--pattern",
    "--quoted-pattern",
    "--count",
    "--type",
    "--intrinsic-latency",
    "--eval",
    "--rdb",
    "--functions-rdb",
];

fn takes_value(name: &str) -> bool {
    VALUED.contains(&name)
}

/// Options with a value.
fn valued(name: &str, value: Vec<u8>, options: &mut Options, notes: &mut Notes) -> Result<bool, Stop> {
    let text = || String::from_utf8_lossy(&value).into_owned();
    let path = || PathBuf::from(OsString::from_vec(value.clone()));
    match name {
        "-h" => notes.host = Some(text()),
        "-p" => notes.port = Some(port(&text())?),
        "-s" => notes.socket = Some(path()),
        "-t" => {
            options.dial.timeout =
                Some(seconds(&text()).ok_or_else(|| Stop::failure("Invalid connection timeout for -t."))?)
        }
        "-r" => options.repeat = number(&text()),
        "-i" => options.interval = seconds(&text()).unwrap_or_default(),
        "-n" => options.database = number(&text()),
        "-a" | "--pass" => options.password = Some(value),
        "--user" => options.user = Some(value),
        "-u" => take_url(&text(), options, notes)?,
        "-d" => options.style.item_delimiter = value,
        "-D" => options.style.reply_delimiter = value,
        "-X" => notes.tag = Some(value),
        "--sni" => notes.tls_options.sni = Some(text()),
        "--cacert" => notes.tls_options.ca_file = Some(path()),
        "--cacertdir" => notes.tls_options.ca_folder = Some(path()),
        "--cert" => notes.tls_options.certificate = Some(path()),
        "--key" => notes.tls_options.key = Some(path()),
        "--show-pushes" => match value.first().map(u8::to_ascii_lowercase) {
            Some(b'y') => options.show_pushes = true,
            Some(b'n') => options.show_pushes = false,
            _ => eprintln!("Unknown --show-pushes value '{}' (valid: '[y]es', '[n]o')", text()),
        },
        "--pipe-timeout" => {
            options.pipe_timeout =
                u64::try_from(number(&text())).ok().filter(|s| *s > 0).map(Duration::from_secs);
        }
        "--memkeys-samples" => options.mode = Mode::MemKeys(Some(samples(&text())?)),
        "--pattern" => options.pattern = Some(value),
        "--quoted-pattern" => {
            let pattern = unquote(&value).ok_or("Invalid quoted string specified for --quoted-pattern.");
            options.pattern = Some(pattern.map_err(Stop::failure)?);
        }
        "--count" => options.count = number(&text()),
        "--type" => options.key_type = Some(value),
        "--intrinsic-latency" => {
            options.mode = Mode::IntrinsicLatency(u64::try_from(number(&text())).unwrap_or(0));
        }
        "--eval" => options.mode = Mode::Eval(path()),
        "--rdb" if matches!(options.mode, Mode::FunctionsDump(_)) => return Err(both_dumps()),
        "--functions-rdb" if matches!(options.mode, Mode::Dump(_)) => return Err(both_dumps()),
        "--rdb" => options.mode = Mode::Dump(path()),
        "--functions-rdb" => options.mode = Mode::FunctionsDump(path()),
        "--tls-ciphers" | "--tls-ciphersuites" => {
            return Err(refused(name, "the TLS library offers its safe suites and no others"));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn conclude(mut options: Options, notes: Notes) -> Result<Options, Stop> {
    if notes.socket.is_some() && options.follow_cluster {
        return Err(Stop::failure("Options -c and -s are mutually exclusive."));
    }
    if notes.resp2 && notes.resp3 {
        return Err(Stop::failure("Options -2 and -3 are mutually exclusive."));
    }
    if notes.ldb {
        return Err(refused("--ldb", "Thali has no script debugger"));
    }
    if options.dial.only_ipv4 && options.dial.only_ipv6 {
        return Err(Stop::failure("Options -4 and -6 are mutually exclusive."));
    }
    options.from_stdin = match (notes.last_from_stdin, notes.tag) {
        (true, Some(_)) => return Err(Stop::failure("Options -x and -X are mutually exclusive.")),
        (true, None) => FromStdin::Last,
        (false, Some(tag)) => FromStdin::Tagged(tag),
        (false, None) => FromStdin::None,
    };
    if options.password.is_some() && !notes.no_warning {
        eprintln!(
            "Warning: Using a password with '-a' or '-u' option on the command line interface may not be safe."
        );
    }
    if options.password.is_none() {
        options.password = std::env::var_os("REDISCLI_AUTH").map(OsString::into_vec);
    }
    options.speak = match (notes.resp2, notes.resp3, notes.json) {
        (false, true, _) => Speak::Resp3,
        (false, false, true) => Speak::Resp3IfThere,
        _ => Speak::AsItIs,
    };
    if let Address::Tcp { host, port } = &mut options.address {
        *host = notes.host.unwrap_or_else(|| std::mem::take(host));
        *port = notes.port.unwrap_or(*port);
    }
    if let Some(path) = notes.socket {
        options.address = Address::Unix(path);
    }
    options.dial.tls = notes.tls.then_some(notes.tls_options);
    Ok(options)
}

fn take_url(text: &str, options: &mut Options, notes: &mut Notes) -> Result<(), Stop> {
    let url = url::parse(text).map_err(Stop::failure)?;
    notes.tls |= url.tls;
    notes.host = url.host.or(notes.host.take());
    notes.port = url.port.or(notes.port);
    options.user = url.user.or(options.user.take());
    options.password = url.password.or(options.password.take());
    options.database = url.database.unwrap_or(options.database);
    Ok(())
}

fn refused(name: &str, why: &str) -> Stop {
    Stop::failure(format_args!("{name} is not here: {why}."))
}

fn both_dumps() -> Stop {
    Stop::failure("Option --functions-rdb and --rdb are mutually exclusive.")
}

fn port(text: &str) -> Result<u16, Stop> {
    u16::try_from(number(text)).map_err(|_| Stop::failure("Invalid server port."))
}

fn samples(text: &str) -> Result<i64, Stop> {
    match text.parse() {
        Err(_) => Err(Stop::failure("--memkeys-samples conversion error.")),
        Ok(samples) if samples < 0 => Err(Stop::failure("--memkeys-samples value should be positive.")),
        Ok(samples) => Ok(samples),
    }
}

/// The number that a text begins with, as C reads it; 0 where there is none.
pub(crate) fn number(text: &str) -> i64 {
    let text = text.trim_start();
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let saturated = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    match digits {
        0 => 0,
        _ => text[..sign + digits].parse().unwrap_or(saturated),
    }
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// One word that may be quoted.
pub(crate) fn unquote(word: &[u8]) -> Option<Vec<u8>> {
    let mut words = split_inline(word)?;
    if words.len() == 1 { words.pop() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        parse(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect())
            .map_err(|stop| stop.message.trim_end().to_owned())
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let options = read("-p 7000 -n 2 -r 3 -i 0.5 SET k -p").unwrap();
        assert_eq!(options.address, Address::Tcp { host: "127.0.0.1".to_owned(), port: 7000 });
        assert_eq!((options.database, options.repeat), (2, 3));
        assert_eq!(options.interval, Duration::from_millis(500));
        assert_eq!(options.words, [&b"SET"[..], b"k", b"-p"]);
    }

    #[test]
    fn later_options_rule_over_earlier_ones() {
        let options = read("--no-auth-warning -h a -u redis://u:p@b:7/3 -n 4").unwrap();
        assert_eq!(options.address, Address::Tcp { host: "b".to_owned(), port: 7 });
        assert_eq!(options.user.as_deref(), Some(&b"u"[..]));
        assert_eq!(options.password.as_deref(), Some(&b"p"[..]));
        assert_eq!(options.database, 4);
        assert_eq!(read("--json -2").unwrap().speak, Speak::AsItIs);
        assert_eq!(read("--json").unwrap().speak, Speak::Resp3IfThere);
        assert_eq!(read("-3 --json").unwrap().speak, Speak::Resp3);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, words) in [
            ("--nosuch", "Unrecognized option or bad number of args for: '--nosuch'"),
            ("-p", "Unrecognized option or bad number of args for: '-p'"),
            ("-p 70000", "Invalid server port."),
            ("-c -s /x", "Options -c and -s are mutually exclusive."),
            ("-2 -3", "Options -2 and -3 are mutually exclusive."),
            ("-x -X t", "Options -x and -X are mutually exclusive."),
            ("--rdb a --functions-rdb b", "Option --functions-rdb and --rdb are mutually exclusive."),
            (
                "--cluster create",
                "--cluster is not here: Thali has no cluster to manage; redis-cli manages Redis's.",
            ),
            ("--ldb --eval x", "--ldb is not here: Thali has no script debugger."),
            ("--memkeys-samples -1", "--memkeys-samples value should be positive."),
        ] {
            assert_eq!(read(line).unwrap_err(), words, "{line}");
        }
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (text, expected) in
            [("12ab", 12), ("-3", -3), ("x", 0), ("", 0), ("99999999999999999999", i64::MAX)]
        {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
