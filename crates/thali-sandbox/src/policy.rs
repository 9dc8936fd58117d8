//! What a boxed command may do: data only.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// The command to run.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// A path, or a name that is looked up in the policy's environment's PATH.
    pub program: OsString,
    pub args: Vec<OsString>,
    /// Added to (and replacing) the small clean environment that every box gets.
    pub env: Vec<(OsString, OsString)>,
    pub stdin: Vec<u8>,
    /// Opens file descriptor 3, on which the command may speak to its starter.
    pub control: bool,
}

impl Command {
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }
}

/// Whether the command may talk to other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// No sockets at all; a connected pair inside the box is allowed.
    None,
    /// Internet and local sockets; raw, packet and other families stay refused.
    Open,
}

/// What meets a refused system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefusal {
    /// The call fails with EPERM; the command may go on.
    Fail,
    /// The command ends with SIGSYS: an attempt is a verdict.
    Kill,
}

/// A means of boxing, by the name that users write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// File (and TCP) rules.
    Landlock,
    /// System call filter.
    Seccomp,
    /// Everything that the command starts can be found and ended.
    Tree,
    /// Processes of the tree can be counted and their memory measured.
    Watch,
    /// When root: a user id of its own, for the process limit does not bind root.
    User,
}

impl Mechanism {
    pub const ALL: [Self; 5] = [Self::Landlock, Self::Seccomp, Self::Tree, Self::Watch, Self::User];

    pub fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Tree => "tree",
            Self::Watch => "watch",
            Self::User => "user",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The bounds of one run.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Wall-clock time from start to end.
    pub wall: Duration,
    /// CPU time of each single process, rounded up to seconds; `None` leaves it to `wall`.
    pub cpu: Option<Duration>,
    /// Resident memory of the whole tree.
    pub memory_bytes: u64,
    /// Processes and threads of the whole tree.
    pub processes: u64,
    /// Size of any file written.
    pub file_bytes: u64,
    /// Everything under the scratch directory together.
    pub scratch_bytes: u64,
    pub open_files: u64,
    /// Bytes kept of standard output; the command that writes more is ended.
    pub stdout_bytes: usize,
    /// Bytes read from standard error; the command that writes more is ended. The last part is kept.
    pub stderr_bytes: usize,
    /// Bytes read from file descriptor 3; the command that writes more is ended.
    pub control_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(10),
            cpu: None,
            memory_bytes: 256 * MIB,
            processes: 64,
            file_bytes: 64 * MIB,
            scratch_bytes: 256 * MIB,
            open_files: 256,
            stdout_bytes: MIB as usize,
            stderr_bytes: MIB as usize,
            control_bytes: MIB as usize,
        }
    }
}

/// What a boxed command may do and what it must not exceed.
#[derive(Clone, Debug)]
pub struct Policy {
    pub limits: Limits,
    pub network: Network,
    pub on_refusal: OnRefusal,
    /// Paths readable (and executable) beside the system folders.
    pub read: Vec<PathBuf>,
    /// Paths readable and writable beside the scratch directory.
    pub write: Vec<PathBuf>,
    /// Working directory; the scratch directory when `None`.
    pub directory: Option<PathBuf>,
    /// When root: keep running as root's user instead of a user id of the box's own.
    pub keep_user: bool,
    /// Mechanisms whose absence the caller accepts.
    pub allow_unboxed: Vec<Mechanism>,
    /// For commands that the operator trusts: limits and tree-ending only, no file or call rules.
    pub trusted: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            network: Network::None,
            on_refusal: OnRefusal::Fail,
            read: Vec::new(),
            write: Vec::new(),
            directory: None,
            keep_user: false,
            allow_unboxed: Vec::new(),
            trusted: false,
        }
    }
}

impl Policy {
    /// A command that the operator trusts (it may build boxes itself).
    pub fn trusted(limits: Limits) -> Self {
        Self { limits, network: Network::Open, keep_user: true, trusted: true, ..Self::default() }
    }
}
