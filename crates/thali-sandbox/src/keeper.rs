//! The keeper: a process between the caller and the command that holds the whole tree.
//!
//! The caller clones the keeper, as first process of a new pid namespace where it may. The keeper
//! clones the command, waits for it, ends everything that the command left behind, and reports.
//! When the caller dies the kernel signals the keeper, so nothing outlives its caller.
//!
//! Report: records of four native 64-bit numbers on one pipe, each written at once (a pipe write of
//! up to 512 bytes is atomic): `[FAILED, step, errno, 0]` when the command could not be started, then
//! always `[ENDED, wait status, largest resident KiB, CPU µs]` unless the keeper itself was killed.
//!
//! INVARIANT: between clone and exec (or exit) only system calls are made. The caller has threads,
//! whose locks (the allocator's among them) are copied in whatever state they were; therefore also
//! no `fork` of the C library, whose handlers take such locks.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_char, c_int, c_long};

use crate::plan::Plan;
use crate::support::Tree;

pub const FAILED: i64 = 1;
pub const ENDED: i64 = 2;
pub type Record = [i64; 4];

const REPORT_FD: c_int = 5;
const RULESET_FD: c_int = 4;
/// How long, in rounds of 50 ms, a keeper waits for killed processes to be gone.
const LAST_ROUNDS: u32 = 40;

pub const ENTERING: &str = "entering the directory";
pub const EXECUTING: &str = "executing it";

/// What can fail between clone and exec, as reported.
const STEPS: [&str; 10] = [
    "arranging descriptors",
    "cloning the command",
    "setting limits",
    "changing the user",
    ENTERING,
    "giving up privileges",
    "applying the file rules",
    "applying the call filter",
    EXECUTING,
    "mapping the user namespace",
];

pub fn step_name(step: i64) -> &'static str {
    STEPS.get(step as usize).copied().unwrap_or("starting")
}

/// The child's ends of all pipes.
pub struct Ends {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    pub control: Option<OwnedFd>,
    pub report: OwnedFd,
}

/// Raw views of a plan, made before the clone.
struct Prepared<'a> {
    plan: &'a Plan,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    filters: Vec<libc::sock_fprog>,
    fds: [RawFd; 6],
    deny_setgroups: CString,
    oom_score: CString,
}

/// Clones a keeper that runs the plan; returns its process number.
pub fn start(plan: &Plan, ends: &Ends) -> io::Result<i32> {
    let raw = |fd: &Option<OwnedFd>| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let prepared = Prepared {
        plan,
        argv: pointers(&plan.argv),
        envp: pointers(&plan.envp),
        filters: plan
            .filters
            .iter()
            .map(|program| libc::sock_fprog {
                len: program.len() as u16,
                filter: program.as_ptr().cast_mut().cast(),
            })
            .collect(),
        fds: [
            ends.stdin.as_raw_fd(),
            ends.stdout.as_raw_fd(),
            ends.stderr.as_raw_fd(),
            raw(&ends.control),
            raw(&plan.ruleset),
            ends.report.as_raw_fd(),
        ],
        deny_setgroups: c"deny".to_owned(),
        oom_score: c"1000".to_owned(),
    };
    let flags = match plan.tree {
        Some(Tree::PidNamespace) => libc::CLONE_NEWPID,
        Some(Tree::UserNamespace) => libc::CLONE_NEWPID | libc::CLONE_NEWUSER,
        Some(Tree::Group) | None => 0,
    };
    // The keeper must not run this program's signal handlers, so it is born with all signals blocked.
    // SAFETY: plain data, filled by the calls below before use.
    let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
    // SAFETY: valid pointers; the child of `clone` only runs `keeper`, which never returns.
    let (pid, error) = unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let pid = clone(flags);
        if pid == 0 {
            keeper(&prepared);
        }
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        (pid, error)
    };
    if pid < 0 { Err(error) } else { Ok(pid as i32) }
}

/// Whether a process may be cloned with these flags.
pub fn can_clone(flags: c_int) -> bool {
    // SAFETY: the child exits at once.
    let pid = unsafe { clone(flags) };
    if pid == 0 {
        // SAFETY: ends this process without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
    pid > 0 && exit_code(pid as i32) == Some(0)
}

/// Whether a child may become that user.
pub fn can_become(uid: u32) -> bool {
    // SAFETY: the child makes one system call and exits.
    let pid = unsafe { clone(0) };
    if pid == 0 {
        // SAFETY: system calls only.
        unsafe { libc::_exit(i32::from(!become_user(uid))) };
    }
    pid > 0 && exit_code(pid as i32) == Some(0)
}

fn exit_code(pid: i32) -> Option<i32> {
    let (status, _) = crate::sys::wait_child(pid).ok()?;
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// A fork by system call. SAFETY: the child may only make system calls.
unsafe fn clone(flags: c_int) -> c_long {
    // SAFETY: a null stack means copy-on-write of the caller's, as fork does.
    unsafe { libc::syscall(libc::SYS_clone, (flags | libc::SIGCHLD) as c_long, 0, 0, 0, 0) }
}

/// SAFETY: runs in a fresh clone whose signals are all blocked.
unsafe fn keeper(prepared: &Prepared<'_>) -> ! {
    // SAFETY: system calls on descriptors and memory that `prepared` owns.
    unsafe {
        let plan = prepared.plan;
        let namespaced = matches!(plan.tree, Some(Tree::PidNamespace | Tree::UserNamespace));
        libc::prctl(libc::PR_SET_PDEATHSIG, if namespaced { libc::SIGKILL } else { libc::SIGTERM });
        // If the caller died before that, the reading end of the report is closed.
        let mut report = libc::pollfd { fd: prepared.fds[5], events: 0, revents: 0 };
        if libc::poll(&mut report, 1, 0) > 0 {
            libc::_exit(1);
        }
        libc::setsid();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        if !arrange(&prepared.fds) {
            fail(0);
        }
        if plan.tree == Some(Tree::UserNamespace) && !map_user(prepared) {
            fail(9);
        }
        let child = clone(0) as c_int;
        if child == 0 {
            command(prepared);
        }
        if child < 0 {
            fail(1);
        }
        for fd in 0..REPORT_FD {
            libc::close(fd);
        }
        libc::chdir(c"/".as_ptr());
        wait_all(child, namespaced)
    }
}

/// Moves the descriptors to 0–5 and closes all others. They all lie above 15, so none is overwritten.
unsafe fn arrange(fds: &[RawFd; 6]) -> bool {
    // SAFETY: system calls on numbers only.
    unsafe {
        for (target, &fd) in fds.iter().enumerate() {
            if fd < 0 {
                libc::close(target as c_int);
            } else if libc::dup2(fd, target as c_int) < 0 {
                return false;
            }
        }
        let closed = libc::syscall(libc::SYS_close_range, (REPORT_FD + 1) as c_long, u32::MAX as c_long, 0);
        closed == 0 && libc::fcntl(REPORT_FD, libc::F_SETFD, libc::FD_CLOEXEC) == 0
    }
}

/// Gives this user its own number inside the new user namespace.
unsafe fn map_user(prepared: &Prepared<'_>) -> bool {
    // SAFETY: paths and contents are zero-ended strings.
    unsafe {
        write_file(c"/proc/self/setgroups".as_ptr(), &prepared.deny_setgroups)
            && write_file(c"/proc/self/gid_map".as_ptr(), &prepared.plan.gid_map)
            && write_file(c"/proc/self/uid_map".as_ptr(), &prepared.plan.uid_map)
    }
}

unsafe fn write_file(path: *const c_char, text: &CString) -> bool {
    // SAFETY: `path` is zero-ended, `text` is valid for its length.
    unsafe {
        let fd = libc::open(path, libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let length = text.as_bytes().len();
        let written = libc::write(fd, text.as_ptr().cast(), length);
        libc::close(fd);
        written == length as isize
    }
}

/// Waits for the command, ends what is left of its tree, reports and exits.
unsafe fn wait_all(child: c_int, namespaced: bool) -> ! {
    // SAFETY: plain data on the stack, filled by the kernel.
    unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGCHLD);
        libc::sigaddset(&mut signals, libc::SIGTERM);
        let round = libc::timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let mut status = 0;
        let mut resident_kib = 0;
        let mut rounds_left = None;
        loop {
            if rounds_left.is_none() && has_ended(child) {
                // Before it is reaped, so that its number still means its group.
                end_tree(child, namespaced);
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::wait4(child, &mut status, 0, &mut usage);
                resident_kib = usage.ru_maxrss;
                rounds_left = Some(LAST_ROUNDS);
            }
            reap_others(child);
            if let Some(left) = rounds_left.as_mut() {
                *left -= 1;
                if *left == 0 || !has_children() {
                    break;
                }
            }
            let patience = if rounds_left.is_some() { &raw const round } else { ptr::null() };
            let signal = libc::syscall(
                libc::SYS_rt_sigtimedwait,
                &signals,
                ptr::null_mut::<libc::siginfo_t>(),
                patience,
                8usize,
            );
            if signal == c_long::from(libc::SIGTERM) && rounds_left.is_none() {
                end_tree(child, namespaced);
            }
        }
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        let micros = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
        report([ENDED, i64::from(status), resident_kib, micros(usage.ru_utime) + micros(usage.ru_stime)]);
        libc::_exit(0)
    }
}

/// Kills the whole tree; the kernel does it in one step, so no fork slips through.
unsafe fn end_tree(child: c_int, namespaced: bool) {
    // SAFETY: in a pid namespace −1 means everything in it but its first process, which we are.
    unsafe {
        libc::kill(if namespaced { -1 } else { -child }, libc::SIGKILL);
        libc::kill(child, libc::SIGKILL);
    }
}

unsafe fn has_ended(child: c_int) -> bool {
    // SAFETY: the kernel fills `info`.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, child as libc::id_t, &mut info, flags) == 0 && info.si_pid() == child
    }
}

/// Some ended child that has not been reaped, or 0.
unsafe fn any_ended() -> c_int {
    // SAFETY: the kernel fills `info`.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &mut info, flags) == 0 { info.si_pid() } else { 0 }
    }
}

/// Reaps ended orphans that were handed to us; the command itself is left for its own wait.
unsafe fn reap_others(child: c_int) {
    // SAFETY: system calls only.
    unsafe {
        loop {
            let pid = any_ended();
            if pid == 0 || pid == child {
                return;
            }
            libc::waitpid(pid, ptr::null_mut(), 0);
        }
    }
}

unsafe fn has_children() -> bool {
    // SAFETY: asks only.
    unsafe {
        libc::waitid(libc::P_ALL, 0, ptr::null_mut(), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) == 0
            || *libc::__errno_location() != libc::ECHILD
    }
}

unsafe fn report(record: Record) {
    // SAFETY: `record` is valid for its size.
    unsafe { libc::write(REPORT_FD, record.as_ptr().cast(), size_of::<Record>()) };
}

/// Reports the step that failed, with errno, and exits.
unsafe fn fail(step: i64) -> ! {
    // SAFETY: system calls only.
    unsafe {
        report([FAILED, step, i64::from(*libc::__errno_location()), 0]);
        libc::_exit(127)
    }
}

unsafe fn become_user(uid: u32) -> bool {
    // By system call: the C library's own would signal the threads of the parent.
    // SAFETY: numbers only.
    unsafe {
        libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) == 0
            && libc::syscall(libc::SYS_setresgid, uid, uid, uid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    }
}

/// Closes the box around itself and becomes the command. SAFETY: as `keeper`.
unsafe fn command(prepared: &Prepared<'_>) -> ! {
    let plan = prepared.plan;
    // SAFETY: system calls on memory that `prepared` owns.
    unsafe {
        libc::setsid();
        reset_signals();
        // The kernel's memory killer should take this one first.
        write_file(c"/proc/self/oom_score_adj".as_ptr(), &prepared.oom_score);
        for &(resource, soft, hard) in &plan.rlimits {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
            if libc::syscall(libc::SYS_prlimit64, 0, resource, &limit, ptr::null_mut::<libc::rlimit>()) != 0 {
                // A hard limit already below ours cannot be raised, and need not be.
                if *libc::__errno_location() != libc::EPERM {
                    fail(2);
                }
            }
        }
        if let Some(uid) = plan.uid
            && !become_user(uid)
        {
            fail(3);
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if !plan.trusted {
            libc::umask(0o077);
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
                fail(5);
            }
        }
        if libc::chdir(plan.directory.as_ptr()) != 0 {
            fail(4);
        }
        if plan.ruleset.is_some() {
            if libc::syscall(libc::SYS_landlock_restrict_self, RULESET_FD, 0) != 0 {
                fail(6);
            }
            libc::close(RULESET_FD);
        }
        for filter in &prepared.filters {
            let filter: *const libc::sock_fprog = filter;
            if libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, filter) != 0 {
                fail(7);
            }
        }
        if plan.rehearsal {
            if !may_run(plan.program.as_ptr()) {
                fail(8);
            }
            libc::_exit(0);
        }
        libc::execve(plan.program.as_ptr(), prepared.argv.as_ptr(), prepared.envp.as_ptr());
        fail(8)
    }
}

/// Whether this process may run the file, by its mode and, as far as can be told, by the file rules: they
/// are asked only when it is opened, and what they let be read they let be run.
unsafe fn may_run(program: *const c_char) -> bool {
    // SAFETY: `program` is zero-ended.
    unsafe {
        if libc::access(program, libc::X_OK) != 0 {
            return false;
        }
        if libc::access(program, libc::R_OK) != 0 {
            return true;
        }
        let fd = libc::open(program, libc::O_RDONLY | libc::O_CLOEXEC);
        fd >= 0 && libc::close(fd) == 0
    }
}

unsafe fn reset_signals() {
    // SAFETY: plain data; numbers the kernel refuses are skipped.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}
