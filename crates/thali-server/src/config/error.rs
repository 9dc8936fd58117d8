//! What is wrong with a configuration, in Redis's words.

use std::fmt;
use std::path::PathBuf;

/// Where a directive was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File { path: PathBuf, line: usize },
    CommandLine,
    Environment(String),
}

/// A configuration that stops the start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("Fatal error, can't open config file '{}': {source}", path.display())]
    Open { path: PathBuf, source: std::io::Error },

    /// `text` is the directive as it was written, `why` says what is wrong with it.
    #[error("\n*** FATAL CONFIG FILE ERROR (Thali) ***\n{place}\n>>> '{text}'\n{why}")]
    Directive { place: Place, text: String, why: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line } => {
                write!(f, "Reading the configuration file, at line {line} of {}", path.display())
            }
            Place::CommandLine => f.write_str("Reading the command line"),
            Place::Environment(name) => write!(f, "Reading the environment's {name}"),
        }
    }
}

/// The error reply to CONFIG SET, with its code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SetError(String);

impl SetError {
    pub(super) fn unknown(name: &str) -> Self {
        SetError(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"))
    }

    pub(super) fn refused(name: &str, why: impl fmt::Display) -> Self {
        SetError(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
    }
}
