//! User ids for boxes, when the caller is root.
//!
//! The process limit does not bind root and counts by user, so each box running as root leases a
//! user id that no other box on this machine has at the time. The lease is an abstract socket name:
//! the kernel gives it to one holder only and takes it back when the holder dies.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Error;

/// The range that systemd's list of user ids leaves unused.
/// SOURCE: https://systemd.io/UIDS-GIDS
pub const FIRST_UID: u32 = 60_706;
const LAST_UID: u32 = 61_183;

/// A user id that is ours until this is dropped.
pub struct UserLease {
    uid: u32,
    _name: UnixDatagram,
}

impl UserLease {
    pub fn take() -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let count = LAST_UID - FIRST_UID + 1;
        for _ in 0..count {
            let uid = FIRST_UID + NEXT.fetch_add(1, Ordering::Relaxed) % count;
            let Ok(name) = SocketAddr::from_abstract_name(format!("thali-box-user-{uid}")) else { break };
            if let Ok(socket) = UnixDatagram::bind_addr(&name) {
                return Ok(Self { uid, _name: socket });
            }
        }
        Err(Error::NoUser(count))
    }

    pub fn uid(&self) -> u32 {
        self.uid
    }
}
