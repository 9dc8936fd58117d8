//! A place for untrusted work: a scratch directory and, for root, a user of its own.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::error::{During, Error};
use crate::plan::{Means, Plan};
use crate::policy::{Command, Mechanism, Policy};
use crate::scratch::Scratch;
use crate::supervise::{self, Outcome, Stream};
use crate::support::{Support, Tree, probe};
use crate::user::UserLease;
use crate::{keeper, user};

/// Runs commands one after the other in the same scratch directory, as the same user.
pub struct Sandbox {
    policy: Policy,
    scratch: Scratch,
    user: Option<UserLease>,
    means: Means,
    support: Support,
}

/// Which mechanisms hold the commands of a sandbox.
#[derive(Clone, Debug)]
pub struct InForce(String);

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Sandbox {
    /// Makes the place, or says which mechanism is lacking.
    pub fn new(policy: Policy) -> Result<Self, Error> {
        Self::with_support(policy, probe())
    }

    /// As `new`, on a kernel that offers no more than `support` says.
    pub fn with_support(policy: Policy, support: Support) -> Result<Self, Error> {
        check(&policy, &support)?;
        let own_user = support.root && !policy.keep_user && keeper::can_become(user::FIRST_UID);
        let user = if own_user { Some(UserLease::take()?) } else { None };
        let boxed = !policy.trusted;
        let tree = match support.tree {
            // Root's user namespace would not know the box's user.
            Some(Tree::UserNamespace) if support.root => Some(Tree::Group),
            // A trusted command may build boxes itself and must see its children's numbers.
            _ if policy.trusted => Some(Tree::Group),
            tree => tree,
        };
        let landlock = boxed && support.landlock();
        let means = Means {
            landlock,
            seccomp: boxed && support.seccomp,
            tree,
            uid: user.as_ref().map(UserLease::uid),
            signals_held: user.is_some()
                || matches!(tree, Some(Tree::PidNamespace | Tree::UserNamespace))
                || (landlock && support.signals_scoped()),
        };
        // A trusted command's own boxes lie in its scratch directory and must be able to pass through.
        let scratch = Scratch::make(means.uid, if policy.trusted { 0o711 } else { 0o700 })?;
        Ok(Self { policy, scratch, user, means, support })
    }

    /// Whether this machine can do what the policy asks for; names what is lacking.
    pub fn check(policy: &Policy) -> Result<(), Error> {
        check(policy, &probe())
    }

    /// The directory that boxed commands may write to; the caller may put files there.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Puts a file into the scratch directory that the boxed command can read.
    ///
    /// A boxed command may have left anything there, so whatever has that name is removed first and
    /// links are never followed. `name` is a plain file name.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        const PUTTING: &str = "putting a file into the scratch directory";
        let path = self.scratch.path().join(name);
        if path.parent() != Some(self.scratch.path()) {
            let cause = std::io::Error::from(std::io::ErrorKind::InvalidFilename);
            return Err(Error::Io { what: PUTTING, cause });
        }
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path).during(PUTTING)?;
        file.write_all(bytes).during(PUTTING)?;
        file.set_permissions(fs::Permissions::from_mode(0o644)).during(PUTTING)?;
        Ok(path)
    }

    /// Runs a command under the sandbox's policy. Blocks until it and all that it started are gone.
    pub fn run(
        &self,
        command: &Command,
        stop: &AtomicBool,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, Error> {
        self.run_under(&self.policy, command, stop, on_output)
    }

    /// As `run`, under other limits and paths; the means stay those of the sandbox.
    pub fn run_under(
        &self,
        policy: &Policy,
        command: &Command,
        stop: &AtomicBool,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, Error> {
        let plan = Plan::make(command, policy, self.means, self.scratch.path())?;
        supervise::run(
            &plan,
            command,
            &policy.limits,
            self.scratch.path(),
            self.support.watch,
            stop,
            on_output,
        )
    }

    /// Whether the command could be started: it is found, the box's user may enter the working folder and
    /// may run the program. Starts a box and leaves the command out.
    pub fn rehearse(&self, command: &Command) -> Result<(), Error> {
        let mut plan = Plan::make(command, &self.policy, self.means, self.scratch.path())?;
        plan.rehearsal = true;
        let (limits, never) = (&self.policy.limits, AtomicBool::new(false));
        supervise::run(&plan, command, limits, self.scratch.path(), false, &never, &mut |_, _| {})?;
        Ok(())
    }

    /// What holds the commands of this sandbox, in words.
    pub fn in_force(&self) -> InForce {
        let mut parts = Vec::new();
        if self.means.landlock {
            parts.push(format!("landlock ABI {}", self.support.landlock_abi));
        }
        if self.means.seccomp {
            parts.push("seccomp".into());
        }
        parts.extend(self.means.tree.map(|tree| tree.name().to_owned()));
        if self.support.watch {
            parts.push("process watch".into());
        }
        if let Some(user) = &self.user {
            parts.push(format!("user {}", user.uid()));
        }
        InForce(parts.join(", "))
    }
}

fn check(policy: &Policy, support: &Support) -> Result<(), Error> {
    let require = |mechanism, there: bool, reason| {
        let fine = there || policy.trusted || policy.allow_unboxed.contains(&mechanism);
        if fine { Ok(()) } else { Err(Error::Lacking { mechanism, reason }) }
    };
    require(
        Mechanism::Landlock,
        support.landlock(),
        "the kernel gives no Landlock of ABI 3 or later, Linux 6.2",
    )?;
    require(Mechanism::Seccomp, support.seccomp, "the kernel takes no seccomp filters here")?;
    require(Mechanism::Tree, support.tree.is_some(), "neither pid namespaces nor seccomp are allowed here")?;
    require(Mechanism::Watch, support.watch, "/proc is not mounted for this process")?;
    let own_user = !support.root || policy.keep_user || keeper::can_become(user::FIRST_UID);
    require(Mechanism::User, own_user, "root may not change its user here")
}
