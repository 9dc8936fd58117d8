//! Thin, safe faces of the few system calls that the standard library lacks. Parent side only.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Lowest number given to descriptors handed to a keeper, so that moving them onto 0–5 never collides.
const HIGH_FD: libc::c_int = 16;

/// A close-on-exec pipe whose descriptors lie above the ones that a keeper arranges: (read, write).
pub fn high_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is a valid array of two for the kernel to fill.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us both descriptors; nobody else owns them.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
    Ok((raise(read)?, raise(write)?))
}

/// Moves a descriptor to a high number.
pub fn raise(fd: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: duplicating a descriptor we own.
    let high = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH_FD) };
    if high < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(high) })
}

pub fn nonblocking(fd: OwnedFd) -> io::Result<File> {
    // SAFETY: changing the flags of a descriptor we own.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(File::from(fd))
}

/// One descriptor to wait for.
pub struct Wait {
    pub fd: RawFd,
    pub write: bool,
    pub ready: bool,
}

/// Waits until one of them is ready (or hung up) or the time is over.
pub fn poll(waits: &mut [Wait], timeout_ms: i32) -> io::Result<()> {
    let mut fds: Vec<libc::pollfd> = waits
        .iter()
        .map(|wait| libc::pollfd {
            fd: wait.fd,
            events: if wait.write { libc::POLLOUT } else { libc::POLLIN },
            revents: 0,
        })
        .collect();
    // SAFETY: `fds` is a valid array of that length.
    let count = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
    if count < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
    }
    for (wait, fd) in waits.iter_mut().zip(&fds) {
        wait.ready = fd.revents != 0;
    }
    Ok(())
}

/// Signals a child that has not been waited for yet, so that its number cannot have been reused.
pub fn signal_child(pid: i32, signal: i32) {
    // SAFETY: no memory involved.
    unsafe { libc::kill(pid, signal) };
}

/// Waits for a child; returns its raw status and the CPU time of it and its waited-for children.
pub fn wait_child(pid: i32) -> io::Result<(i32, u64)> {
    let mut status = 0;
    // SAFETY: rusage is plain data for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are valid for writing.
        let got = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
        if got == pid {
            return Ok((status, micros(usage.ru_utime) + micros(usage.ru_stime)));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn micros(time: libc::timeval) -> u64 {
    time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64
}

pub fn effective_uid() -> u32 {
    // SAFETY: always succeeds, touches no memory.
    unsafe { libc::geteuid() }
}

pub fn effective_gid() -> u32 {
    // SAFETY: always succeeds, touches no memory.
    unsafe { libc::getegid() }
}

pub fn page_bytes() -> u64 {
    // SAFETY: always succeeds, touches no memory.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// Landlock's ABI number; 0 when the kernel has none.
pub fn landlock_abi() -> i32 {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel only returns a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    abi.max(0) as i32
}

/// Whether the kernel takes seccomp filters with the errno action.
pub fn has_seccomp() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one u32.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 }
}
