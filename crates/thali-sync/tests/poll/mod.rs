//! A poll for models.

use shuttle::sync::{Condvar, Mutex};

/// Waits until it was woken since the last wait.
#[derive(Default)]
pub struct Poll {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Poll {
    pub fn wake(&self) {
        *self.is_woken.lock().unwrap() = true;
        self.changed.notify_one();
    }

    pub fn wait(&self) {
        let mut is_woken = self.is_woken.lock().unwrap();
        while !std::mem::take(&mut *is_woken) {
            is_woken = self.changed.wait(is_woken).unwrap();
        }
    }
}
