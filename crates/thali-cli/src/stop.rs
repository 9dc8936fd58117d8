//! How the program ends before its last line: a message for stderr and an exit code.

use std::io;

use crate::wire::WireError;

/// What a shell reports of a program that SIGPIPE ended: whoever read the output went away.
const BROKEN_PIPE_CODE: u8 = 141;

/// The end of the program.
#[derive(Debug)]
pub(crate) struct Stop {
    pub code: u8,
    /// What to write to stderr, line break included where one belongs.
    pub message: String,
}

impl Stop {
    /// An end with code 1 and a line for stderr.
    pub fn failure(message: impl std::fmt::Display) -> Stop {
        Stop { code: 1, message: format!("{message}\n") }
    }

    /// An end with this code and no words.
    pub fn silent(code: u8) -> Stop {
        Stop { code, message: String::new() }
    }

    /// The connection broke where it was needed.
    pub fn wire(error: &WireError) -> Stop {
        if error.is_interrupt() { Stop::silent(1) } else { Stop::failure(format_args!("Error: {error}")) }
    }
}

/// Writing to stdout failed.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::silent(BROKEN_PIPE_CODE),
            _ => Stop::failure(format_args!("cannot write the output: {error}")),
        }
    }
}
