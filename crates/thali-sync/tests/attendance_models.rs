//! Claims about a thread that attends to a loop, in every order that Shuttle tries. A message that nobody looks at shows as
//! a deadlock.

mod poll;

use poll::Poll;
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;
use thali_sync::{Attendance, Mailbox, Wake};

const ORDERS: usize = 20_000;
const MESSAGES: usize = 3;

/// The loop's poll, and that of the attending thread, in which the loop's is registered.
#[derive(Clone)]
struct Waker {
    own: Arc<Poll>,
    attending: Arc<Poll>,
    attendance: Arc<Attendance>,
}

impl Waker {
    fn wake_always(&self) {
        self.own.wake();
        self.attending.wake();
    }
}

impl Wake for Waker {
    fn wake(&self) {
        if !self.attendance.looks_at_mail() {
            self.wake_always();
        }
    }
}

/// One loop, which the attending thread runs while they are together, and a thread of its own else.
struct House {
    mailbox: Mailbox<usize, Waker>,
    /// What was taken, behind the lock of the loop.
    taken: Mutex<Vec<usize>>,
    waker: Waker,
    /// Whoever has no loop waits for a change.
    changed: Poll,
}

impl House {
    fn new(together: bool) -> Arc<Self> {
        let attendance = Arc::new(Attendance::new(together));
        let waker = Waker { own: Arc::default(), attending: Arc::default(), attendance };
        let mailbox = Mailbox::new(waker.clone());
        Arc::new(Self { mailbox, taken: Mutex::default(), waker, changed: Poll::default() })
    }

    fn take_mail(taken: &mut Vec<usize>, house: &Self) -> bool {
        let mut mail = Vec::new();
        house.mailbox.take(&mut mail);
        taken.append(&mut mail);
        taken.len() == MESSAGES
    }

    fn is_done(&self) -> bool {
        self.taken.lock().unwrap().len() == MESSAGES
    }

    /// Passes, as long as they are together. True when all has come.
    fn attend(&self) -> bool {
        let attendance = &self.waker.attendance;
        let mut is_first = true;
        loop {
            attendance.end_pass();
            let is_free = self.taken.try_lock().is_ok();
            if !std::mem::take(&mut is_first) && !(self.mailbox.has_mail() && is_free) {
                self.waker.attending.wait();
            }
            attendance.begin_pass();
            if !attendance.is_together() {
                return false;
            }
            if let Ok(mut taken) = self.taken.try_lock()
                && Self::take_mail(&mut taken, self)
            {
                return true;
            }
            if self.is_done() {
                return true;
            }
        }
    }

    /// The loop's own thread, as long as they are apart. True when all has come.
    fn run_apart(&self) -> bool {
        let is_done = {
            let mut taken = self.taken.lock().unwrap();
            loop {
                if Self::take_mail(&mut taken, self) {
                    break true;
                }
                if self.waker.attendance.is_together() {
                    break false;
                }
                self.waker.own.wait();
            }
        };
        self.waker.wake_always();
        is_done
    }
}

fn all_mail_is_looked_at(begins_together: bool) {
    let house = House::new(begins_together);
    let attending = {
        let house = Arc::clone(&house);
        thread::spawn(move || {
            while !house.attend() && !house.is_done() {
                if !house.waker.attendance.is_together() {
                    house.changed.wait();
                }
            }
        })
    };
    let changer = {
        let house = Arc::clone(&house);
        thread::spawn(move || {
            assert!(house.waker.attendance.set_together(!begins_together));
            house.waker.wake_always();
            house.changed.wake();
            // Apart it is this thread that has the loop.
            if begins_together {
                house.run_apart();
                house.changed.wake();
            }
        })
    };
    let own = (!begins_together).then(|| {
        let house = Arc::clone(&house);
        thread::spawn(move || house.run_apart())
    });
    (0..MESSAGES).for_each(|number| house.mailbox.send(number));
    changer.join().unwrap();
    own.map(|own| own.join().unwrap());
    attending.join().unwrap();
    assert_eq!(*house.taken.lock().unwrap(), (0..MESSAGES).collect::<Vec<_>>());
}

#[test]
fn mail_is_looked_at_though_the_loops_go_apart_meanwhile() {
    shuttle::check_random(|| all_mail_is_looked_at(true), ORDERS);
    shuttle::check_pct(|| all_mail_is_looked_at(true), ORDERS, 3);
}

#[test]
fn mail_is_looked_at_though_the_loops_go_together_meanwhile() {
    shuttle::check_random(|| all_mail_is_looked_at(false), ORDERS);
    shuttle::check_pct(|| all_mail_is_looked_at(false), ORDERS, 3);
}
