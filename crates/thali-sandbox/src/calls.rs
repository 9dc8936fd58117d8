//! The system call filter: two small programs, prepared before the fork.
//!
//! The first refuses every call number that was not known when this was written (and the x32
//! numbers, which would walk around the second) with ENOSYS. The second refuses what an untrusted
//! command has no business with. What is left is what compilers, interpreters and shells need.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use crate::error::Error;
use crate::policy::{Network, OnRefusal};

/// Calls above this number (`mseal`, Linux 6.10) are unknown here. Both architectures share the tail
/// of the table. SOURCE: linux/scripts/syscall.tbl
const LAST_KNOWN_CALL: u32 = 462;

/// Which calls to refuse, beside those that every box refuses.
pub struct Refusals {
    pub network: Network,
    pub on_refusal: OnRefusal,
    /// Nothing else keeps signals inside the box.
    pub signals: bool,
    /// The process group is all that holds the tree, so it must not be left.
    pub sessions: bool,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Builds the programs, in the order in which they are to be installed.
pub fn programs(refusals: &Refusals) -> Result<Vec<BpfProgram>, Error> {
    let arch =
        TargetArch::try_from(std::env::consts::ARCH).map_err(|error| Error::Calls(error.to_string()))?;
    let build = |rules: Rules, action: SeccompAction| -> Result<BpfProgram, Error> {
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch);
        filter.and_then(BpfProgram::try_from).map_err(|error| Error::Calls(error.to_string()))
    };
    let attempt = match refusals.on_refusal {
        OnRefusal::Fail => SeccompAction::Errno(libc::EPERM as u32),
        OnRefusal::Kill => SeccompAction::KillProcess,
    };
    let mut programs = vec![
        unknown_calls(),
        build(absent(), SeccompAction::Errno(libc::ENOSYS as u32))?,
        build(forbidden()?, attempt.clone())?,
        build(sockets(refusals.network)?, attempt)?,
    ];
    let quiet = quiet(refusals)?;
    if !quiet.is_empty() {
        programs.push(build(quiet, SeccompAction::Errno(libc::EPERM as u32))?);
    }
    Ok(programs)
}

/// `if nr > LAST_KNOWN_CALL { ENOSYS } else { allow }`; x32 numbers have bit 30 set.
fn unknown_calls() -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    vec![
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_GREATER, jt: 0, jf: 1, k: LAST_KNOWN_CALL },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: refuse },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ]
}

fn always(calls: &[c_long]) -> Rules {
    calls.iter().map(|&call| (call, Vec::new())).collect()
}

fn when(argument: u8, op: Op, value: u64) -> Result<SeccompCondition, Error> {
    SeccompCondition::new(argument, Len::Dword, op, value).map_err(|error| Error::Calls(error.to_string()))
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Error> {
    SeccompRule::new(conditions).map_err(|error| Error::Calls(error.to_string()))
}

/// Calls whose absence libraries know how to live with: they fall back to an older one.
fn absent() -> Rules {
    // clone3's flags lie in memory, where a filter cannot see them; glibc falls back to clone.
    always(&[
        libc::SYS_clone3,
        libc::SYS_memfd_create,
        libc::SYS_memfd_secret,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ])
}

/// What no boxed command needs.
fn forbidden() -> Result<Rules, Error> {
    let mut rules = always(&[
        // other processes' memory and descriptors
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
        // mounts and namespaces
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_fanotify_init,
        // the kernel itself
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_kexec_file_load,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_syslog,
        libc::SYS_acct,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_vhangup,
        libc::SYS_nfsservctl,
        // objects that outlive their makers
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_semget,
        libc::SYS_semctl,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_msgget,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_msgctl,
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
    ]);
    #[cfg(target_arch = "x86_64")]
    rules.extend(always(&[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_kexec_load, libc::SYS_modify_ldt]));
    // clone that asks for any new namespace
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let asks = namespaces
        .into_iter()
        .map(|flag| rule(vec![when(0, Op::MaskedEq(flag as u64), flag as u64)?]))
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_clone, asks);
    // typing into somebody's terminal
    let types = [libc::TIOCSTI, libc::TIOCLINUX].map(u64::from).into_iter();
    let types = types.map(|request| rule(vec![when(1, Op::Eq, request)?])).collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_ioctl, types);
    Ok(rules)
}

fn sockets(network: Network) -> Result<Rules, Error> {
    let mut rules = Rules::new();
    let local = libc::AF_UNIX as u64;
    match network {
        Network::None => {
            rules.extend(always(&[
                libc::SYS_socket,
                libc::SYS_connect,
                libc::SYS_bind,
                libc::SYS_listen,
                libc::SYS_accept,
                libc::SYS_accept4,
            ]));
            // a datagram of a pair could still be addressed elsewhere
            let datagram = rule(vec![when(1, Op::MaskedEq(0xf), libc::SOCK_DGRAM as u64)?])?;
            rules.insert(libc::SYS_socketpair, vec![rule(vec![when(0, Op::Ne, local)?])?, datagram]);
        }
        Network::Open => {
            let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
            let others = families.into_iter().map(|family| when(0, Op::Ne, family as u64));
            let raw = rule(vec![
                when(1, Op::MaskedEq(0xf), libc::SOCK_RAW as u64)?,
                when(0, Op::Ne, libc::AF_NETLINK as u64)?,
            ])?;
            // routes are what resolving names asks for; the other netlinks are kernel surface
            let netlink = rule(vec![
                when(0, Op::Eq, libc::AF_NETLINK as u64)?,
                when(2, Op::Ne, libc::NETLINK_ROUTE as u64)?,
            ])?;
            rules.insert(libc::SYS_socket, vec![rule(others.collect::<Result<_, _>>()?)?, raw, netlink]);
            rules.insert(libc::SYS_socketpair, vec![rule(vec![when(0, Op::Ne, local)?])?]);
        }
    }
    Ok(rules)
}

/// Refusals that ordinary programs meet in passing, so that they always fail instead of killing.
fn quiet(refusals: &Refusals) -> Result<Rules, Error> {
    let mut rules = Rules::new();
    if refusals.signals {
        rules.extend(always(&[
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_tgkill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
            libc::SYS_pidfd_send_signal,
        ]));
    }
    if refusals.sessions {
        rules.extend(always(&[libc::SYS_setsid, libc::SYS_setpgid]));
    }
    Ok(rules)
}
