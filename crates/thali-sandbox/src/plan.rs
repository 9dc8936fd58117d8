//! Everything the child needs, made before the fork: afterwards nothing may allocate.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use seccompiler::BpfProgram;

use crate::error::Error;
use crate::policy::{Command, Limits, Policy};
use crate::support::Tree;
use crate::{calls, files, sys, watch};

const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The backstop behind the memory watch: what one process may map writably. Runtimes map more than
/// they touch (Node about 200 MiB of stacks and heaps), so it is well above the watched limit.
fn data_bytes(limits: &Limits) -> u64 {
    limits.memory_bytes.saturating_mul(2).saturating_add(256 << 20)
}

/// The kernel's process limit lies this much above the watched one: the keeper may count too, and the
/// watch should be the one to see a bomb, so that it is ended and not only held.
const PROCESS_SLACK: u64 = 4;

/// Which means hold this run; decided once for each sandbox.
#[derive(Clone, Copy)]
pub struct Means {
    pub landlock: bool,
    pub seccomp: bool,
    pub tree: Option<Tree>,
    pub uid: Option<u32>,
    /// Something other than the call filter keeps signals inside.
    pub signals_held: bool,
}

/// A prepared run.
pub struct Plan {
    pub program: CString,
    pub argv: Vec<CString>,
    pub envp: Vec<CString>,
    pub directory: CString,
    pub rlimits: Vec<(u32, u64, u64)>,
    pub ruleset: Option<OwnedFd>,
    pub filters: Vec<BpfProgram>,
    pub uid: Option<u32>,
    pub tree: Option<Tree>,
    /// Contents for the user namespace's uid and gid maps.
    pub uid_map: CString,
    pub gid_map: CString,
    pub trusted: bool,
    /// Everything but the command itself: the child closes its box, looks at the program, and ends.
    pub rehearsal: bool,
}

impl Plan {
    pub fn make(command: &Command, policy: &Policy, means: Means, scratch: &Path) -> Result<Self, Error> {
        let directory = policy.directory.clone().unwrap_or_else(|| scratch.to_owned());
        let env = environment(command, policy, scratch);
        let program = find(&command.program, &env, &directory)?;
        let argv = std::iter::once(&command.program).chain(&command.args);
        let (uid, gid) = (sys::effective_uid(), sys::effective_gid());
        Ok(Self {
            program: zero_ended(program.as_os_str())?,
            argv: argv.map(|arg| zero_ended(arg)).collect::<Result<_, _>>()?,
            envp: env.iter().map(|(name, value)| variable(name, value)).collect::<Result<_, _>>()?,
            directory: zero_ended(directory.as_os_str())?,
            rlimits: if policy.trusted {
                vec![(libc::RLIMIT_CORE, 0, 0)]
            } else {
                rlimits(&policy.limits, means)
            },
            ruleset: means.landlock.then(|| files::ruleset(policy, scratch)).transpose()?,
            filters: if means.seccomp { calls::programs(&refusals(policy, means))? } else { Vec::new() },
            uid: means.uid,
            tree: means.tree,
            uid_map: zero_ended(OsStr::new(&format!("{uid} {uid} 1\n")))?,
            gid_map: zero_ended(OsStr::new(&format!("{gid} {gid} 1\n")))?,
            trusted: policy.trusted,
            rehearsal: false,
        })
    }
}

fn refusals(policy: &Policy, means: Means) -> calls::Refusals {
    calls::Refusals {
        network: policy.network,
        on_refusal: policy.on_refusal,
        signals: !means.signals_held,
        sessions: means.tree == Some(Tree::Group),
    }
}

/// A small clean environment: nothing of the starter's is inherited.
fn environment(command: &Command, policy: &Policy, scratch: &Path) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    let mut set = |name: &OsStr, value: &OsStr| {
        env.retain(|(other, _)| other != name);
        env.push((name.to_owned(), value.to_owned()));
    };
    if policy.trusted {
        for (name, value) in std::env::vars_os() {
            set(&name, &value);
        }
    } else {
        set(OsStr::new("PATH"), OsStr::new(DEFAULT_PATH));
        set(OsStr::new("HOME"), scratch.as_os_str());
        set(OsStr::new("LANG"), OsStr::new("C.UTF-8"));
    }
    set(OsStr::new("TMPDIR"), scratch.as_os_str());
    for (name, value) in &command.env {
        set(name, value);
    }
    env
}

/// Finds the program as execvp would, but before the box is closed.
fn find(program: &OsStr, env: &[(OsString, OsString)], directory: &Path) -> Result<PathBuf, Error> {
    let runnable = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let path =
        env.iter().find(|(name, _)| name == "PATH").map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value);
    let named = program.as_bytes().contains(&b'/');
    let found = if named {
        Some(directory.join(program)).filter(|path| runnable(path))
    } else {
        std::env::split_paths(path).map(|folder| folder.join(program)).find(|path| runnable(path))
    };
    found.ok_or_else(|| Error::NotFound {
        program: program.to_string_lossy().into_owned(),
        path: if named { directory.display().to_string() } else { path.to_string_lossy().into_owned() },
    })
}

fn rlimits(limits: &Limits, means: Means) -> Vec<(u32, u64, u64)> {
    let mut list = vec![
        (libc::RLIMIT_CORE, 0, 0),
        (libc::RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (libc::RLIMIT_NOFILE, limits.open_files, limits.open_files),
        (libc::RLIMIT_DATA, data_bytes(limits), data_bytes(limits)),
        (libc::RLIMIT_MEMLOCK, 0, 0),
        (libc::RLIMIT_MSGQUEUE, 0, 0),
    ];
    if let Some(cpu) = limits.cpu {
        let seconds = cpu.as_millis().div_ceil(1000).max(1) as u64;
        list.push((libc::RLIMIT_CPU, seconds, seconds + 1));
    }
    // The count goes by user (within a user namespace), so a user of one's own makes it exact.
    let others = match (means.uid, means.tree) {
        (Some(_), _) | (None, Some(Tree::UserNamespace)) => Some(0),
        (None, _) if sys::effective_uid() != 0 => Some(watch::tasks_of_user(sys::effective_uid())),
        (None, _) => None,
    };
    if let Some(others) = others {
        let processes = limits.processes.saturating_add(others).saturating_add(PROCESS_SLACK);
        list.push((libc::RLIMIT_NPROC, processes, processes));
    }
    list
}

fn zero_ended(bytes: &OsStr) -> Result<CString, Error> {
    CString::new(bytes.as_bytes()).map_err(|_| Error::ZeroByte)
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString, Error> {
    let mut text = name.to_owned();
    text.push("=");
    text.push(value);
    zero_ended(&text)
}
