//! Whether one thread attends to several loops: it makes passes over them and looks at their mail before it waits again,
//! so that who sends need not wake it.
//!
//! Nothing is lost, as in each case one of two sees the other:
//!
//! | this comes first, | then this | on the other side |
//! |---|---|---|
//! | the message is in its mailbox | the sender asks [`Attendance::looks_at_mail`] | |
//! | the thread ends its pass | it looks whether there is mail, and waits where there is none | a sender who still saw the pass |
//! | the loops go apart | whoever said so wakes all of them, always | a sender who still saw them together |

#[cfg(feature = "shuttle")]
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
#[cfg(not(feature = "shuttle"))]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Shared by the thread, who sends, and who says whether it is to attend.
#[derive(Debug)]
pub struct Attendance {
    is_together: AtomicBool,
    /// Even while the thread waits for the next pass; odd while it is in one, or has not come to them yet.
    passes: AtomicU64,
}

impl Attendance {
    pub fn new(together: bool) -> Self {
        Self { is_together: AtomicBool::new(together), passes: AtomicU64::new(1) }
    }

    /// Whether one thread is to attend to all loops.
    pub fn is_together(&self) -> bool {
        self.is_together.load(SeqCst)
    }

    /// True where that is new: then all loops are to be woken, whether their mailboxes say that they are awake or not.
    pub fn set_together(&self, together: bool) -> bool {
        self.is_together.swap(together, SeqCst) != together
    }

    /// The thread is about to make a pass. It alone may call this.
    pub fn begin_pass(&self) {
        self.passes.store(self.passes() | 1, SeqCst);
    }

    /// The thread is about to wait. It alone may call this, and is to look for mail before it waits.
    pub fn end_pass(&self) {
        self.passes.store(self.passes() / 2 * 2 + 2, SeqCst);
    }

    /// Odd while the thread is in a pass, or has not come to them yet; another number in each.
    pub fn passes(&self) -> u64 {
        self.passes.load(SeqCst)
    }

    /// Whether the thread will look at the mail of all loops before it waits. To be asked with the message sent.
    pub fn looks_at_mail(&self) -> bool {
        self.is_together() && self.passes() % 2 == 1
    }
}
