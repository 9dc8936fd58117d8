//! The file rules: which paths a boxed command may read, run and write. Prepared before the fork.

use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::error::Error;
use crate::policy::{Network, Policy};
use crate::sys;

/// The newest rights this code was written and tested against; older kernels get what they know.
const RIGHTS: ABI = ABI::V7;

/// Folders and files that compilers, interpreters and shells live on: readable, and runnable.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/mime.types",
    "/etc/ssl/openssl.cnf",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/version",
    "/proc/filesystems",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/random",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/dev/random",
    "/dev/urandom",
];

/// What resolving names and checking certificates needs, for boxes with network.
const NETWORK: &[&str] = &[
    "/etc/hosts",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/pki",
];

const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full"];

/// Builds the ruleset; the caller applies its descriptor in the child.
pub fn ruleset(policy: &Policy, scratch: &Path) -> Result<OwnedFd, Error> {
    let read = AccessFs::from_read(RIGHTS);
    let write = AccessFs::from_all(RIGHTS) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;

    let mut rules = create(policy.network).map_err(|error| refused(Path::new("the box"), error))?;
    let network: &[&str] = if policy.network == Network::Open { NETWORK } else { &[] };
    for path in SYSTEM.iter().chain(network).map(Path::new).filter(|path| path.exists()) {
        rules = allow(rules, path, read)?;
    }
    for path in DEVICES.iter().map(Path::new).filter(|path| path.exists()) {
        rules = allow(rules, path, device)?;
    }
    for path in &policy.read {
        rules = allow(rules, path, read)?;
    }
    for path in policy.write.iter().map(|path| path.as_path()).chain([scratch]) {
        rules = allow(rules, path, write)?;
    }
    let fd: Option<OwnedFd> = rules.into();
    let fd = fd.ok_or_else(|| Error::Files {
        path: "the box".into(),
        reason: "the kernel made no ruleset".into(),
    })?;
    sys::raise(fd).map_err(|cause| Error::Io { what: "moving the ruleset's descriptor", cause })
}

fn create(network: Network) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .scope(Scope::from_all(RIGHTS))?;
    if network == Network::None {
        ruleset = ruleset.handle_access(AccessNet::from_all(RIGHTS))?;
    }
    ruleset.create()
}

fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, Error> {
    let fd = PathFd::new(path).map_err(|error| refused(path, error))?;
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(RIGHTS) };
    rules.add_rule(PathBeneath::new(fd, access)).map_err(|error| refused(path, error))
}

fn refused(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Files { path: path.display().to_string(), reason: error.to_string() }
}
