//! Which mechanisms the running kernel gives this process. Probed once, by trying.

use std::fmt;
use std::sync::OnceLock;

use crate::{keeper, sys};

/// How everything that a command starts is found and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A pid namespace, made directly (needs CAP_SYS_ADMIN).
    PidNamespace,
    /// A pid namespace inside a user namespace of its own.
    UserNamespace,
    /// One process group that cannot be left, because the call filter refuses new sessions.
    Group,
}

impl Tree {
    pub fn name(self) -> &'static str {
        match self {
            Self::PidNamespace => "pid namespace",
            Self::UserNamespace => "user and pid namespace",
            Self::Group => "process group",
        }
    }
}

/// What this kernel allows this process.
#[derive(Clone, Copy, Debug)]
pub struct Support {
    /// Landlock's ABI number, 0 without it.
    pub landlock_abi: i32,
    pub seccomp: bool,
    /// The best way to hold a process tree; `None` when nothing sure is left.
    pub tree: Option<Tree>,
    /// `/proc` shows this process under its own number, with its children.
    pub watch: bool,
    /// Running as root.
    pub root: bool,
}

/// From this ABI on truncation is controlled too, without which other files could be emptied.
/// SOURCE: https://docs.kernel.org/userspace-api/landlock.html
const LANDLOCK_ABI_MIN: i32 = 3;

impl Support {
    pub fn landlock(&self) -> bool {
        self.landlock_abi >= LANDLOCK_ABI_MIN
    }

    /// From ABI 6 on Landlock keeps signals inside the box.
    pub(crate) fn signals_scoped(&self) -> bool {
        self.landlock_abi >= 6
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.landlock_abi {
            0 => write!(f, "no landlock")?,
            abi => write!(f, "landlock ABI {abi}")?,
        }
        let seccomp = if self.seccomp { "seccomp" } else { "no seccomp" };
        let tree = self.tree.map_or("no way to hold a process tree", Tree::name);
        let watch = if self.watch { "process watch" } else { "no process watch" };
        let user = if self.root { "a user for each box" } else { "own user" };
        write!(f, ", {seccomp}, {tree}, {watch}, {user}")
    }
}

/// What this machine offers.
pub fn probe() -> Support {
    static SUPPORT: OnceLock<Support> = OnceLock::new();
    *SUPPORT.get_or_init(|| {
        let seccomp = sys::has_seccomp();
        let tree = if keeper::can_clone(libc::CLONE_NEWPID) {
            Some(Tree::PidNamespace)
        } else if keeper::can_clone(libc::CLONE_NEWPID | libc::CLONE_NEWUSER) {
            Some(Tree::UserNamespace)
        } else {
            seccomp.then_some(Tree::Group)
        };
        Support {
            landlock_abi: sys::landlock_abi(),
            seccomp,
            tree,
            watch: proc_is_ours(),
            root: sys::effective_uid() == 0,
        }
    })
}

fn proc_is_ours() -> bool {
    let own = std::process::id().to_string();
    let numbered = std::fs::read_link("/proc/self").is_ok_and(|target| target.as_os_str() == own.as_str());
    numbered && std::fs::exists(format!("/proc/{own}/task/{own}/children")).unwrap_or(false)
}
