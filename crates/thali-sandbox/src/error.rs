//! What can go wrong before or around a boxed command. The command's own failure is an `Outcome`.

use crate::keeper;
use crate::policy::Mechanism;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this machine cannot box the command: {mechanism} is not available ({reason}); allow it with --allow-unboxed {mechanism}"
    )]
    Lacking { mechanism: Mechanism, reason: &'static str },
    #[error("no command '{program}' in {path}")]
    NotFound { program: String, path: String },
    #[error("cannot start '{program}': {step} failed: {cause}{}", advice(step, cause))]
    Start { program: String, step: &'static str, cause: std::io::Error },
    #[error("the command, an argument or a variable holds a zero byte")]
    ZeroByte,
    #[error("cannot prepare the file rules for {path}: {reason}")]
    Files { path: String, reason: String },
    #[error("cannot prepare the system call filter: {0}")]
    Calls(String),
    #[error("every user id kept for boxes ({0} of them) is in use")]
    NoUser(u32),
    #[error("{what}: {cause}")]
    Io { what: &'static str, cause: std::io::Error },
}

/// What to do about a refusal that is the box's own making.
fn advice(step: &str, cause: &std::io::Error) -> &'static str {
    if cause.kind() != std::io::ErrorKind::PermissionDenied {
        return "";
    }
    match step {
        keeper::ENTERING => {
            "; the box's user may not enter the working folder: open it and the folders above it for \
             others (chmod o+x), choose another one with --directory, or run as root with --keep-user"
        }
        keeper::EXECUTING => {
            "; the box's user may not run the program: allow its folder with --read, and open it for \
             others (chmod o+rx)"
        }
        _ => "",
    }
}

/// Adds what was being done to an I/O error.
pub(crate) trait During<T> {
    fn during(self, what: &'static str) -> Result<T, Error>;
}

impl<T> During<T> for std::io::Result<T> {
    fn during(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|cause| Error::Io { what, cause })
    }
}
