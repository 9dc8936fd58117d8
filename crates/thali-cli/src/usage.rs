//! What `--help` and `--version` say.

use crate::stop::Stop;

const HELP: &str = "\
Usage: thali cli [OPTIONS] [cmd [arg [arg ...]]]

Speaks to a server of the Redis protocol; arguments and output are those of redis-cli 7.
Without a command it reads commands from a prompt, or line by line from stdin.

Where to
  -h <hostname>           Server host (default: 127.0.0.1)
  -p <port>               Server port (default: 6379)
  -s <socket>             Unix socket, instead of host and port
  -u <uri>                redis://[user:password@]host[:port][/db], rediss:// for TLS
  -t <seconds>            Give up dialling after so long
  -4, -6                  Dial addresses of this family only
  -n <db>                 Database number
  -c                      Follow MOVED and ASK to other nodes of a cluster

Who
  -a, --pass <password>   Password; safer in the environment as REDISCLI_AUTH
  --user <username>       User of an ACL, with a password
  --askpass               Ask for the password
  --no-auth-warning       Don't warn of a password among the arguments

TLS
  --tls                   Dial with TLS
  --sni <host>            Name that the certificate must bear, instead of -h
  --cacert <file>         Certificates of authorities to believe
  --cacertdir <dir>       A folder of them (default: the system's)
  --cert <file>           Certificate to authenticate with, and
  --key <file>            its private key
  --insecure              Don't verify the server's certificate

Input
  -r <repeat>             Run the command so many times; -1 for ever
  -i <interval>           Seconds between them, or between cycles of the modes below
  -x                      Take the last argument from stdin
  -X <tag>                Take the argument that reads <tag> from stdin
  --quoted-input          Arguments are quoted strings
  --eval <file>           Run a Lua script: --eval <file> key1 key2 , arg1 arg2

Output
  -2, -3                  Protocol to speak: RESP2 or RESP3
  --raw                   Replies as they are (default where stdout is no terminal)
  --no-raw                Replies numbered and quoted (default on a terminal)
  -d <delimiter>          Between the elements of a raw reply (default: \\n)
  -D <delimiter>          Behind a raw reply (default: \\n)
  --csv                   Replies as CSV
  --json                  Replies as JSON, in RESP3 unless -2 is given
  --quoted-json           As --json, in ASCII
  --show-pushes <yes|no>  Whether RESP3's pushes are shown (default: on a terminal)
  -e                      End with code 1 where the reply is an error

Modes
  --stat                  A line of figures each second
  --latency               Time of PING, until Ctrl-C; one line after a second where stdout is no terminal
  --latency-history       The same, beginning anew every 15 seconds
  --latency-dist          The same as a spectrum of colours (--mono: of greys)
  --intrinsic-latency <s> What the machine itself takes away, measured for <s> seconds
  --pipe                  Send stdin as it is and count the replies
  --pipe-timeout <s>      Seconds to wait for the last reply (default: 30, 0: for ever)
  --scan                  List keys; with --pattern, --quoted-pattern, --count and --type
  --bigkeys               The keys with most elements
  --memkeys               The keys that take most memory
  --memkeys-samples <n>   The same, looking at so many elements of a key
  --hotkeys               The keys in most use, under an LFU policy
  --rdb <file>            Fetch a dump; needs SYNC, which Thali does not have yet
  --functions-rdb <file>  The same, functions only

  --help, --version       This text; the version

Example: printf 'a b' | thali cli -x set key
";

/// `--help` is an end with success.
pub(crate) fn help() -> Stop {
    print(HELP)
}

pub(crate) fn version() -> Stop {
    print(&format!("thali cli {} (redis-cli 7)\n", env!("CARGO_PKG_VERSION")))
}

/// Writes to stdout; the end says whether that went well.
fn print(text: &str) -> Stop {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Stop::silent(0),
        Err(error) => error.into(),
    }
}
