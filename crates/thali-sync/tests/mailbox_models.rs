//! Claims about mailboxes in every order that Shuttle tries. A wake-up that is lost shows as a deadlock.

mod poll;

use poll::Poll;
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use thali_sync::{Mailbox, Wake};

const ORDERS: usize = 20_000;

struct Waker(Arc<Poll>);

impl Wake for Waker {
    fn wake(&self) {
        self.0.wake();
    }
}

fn mailbox<M>() -> (Arc<Mailbox<M, Waker>>, Arc<Poll>) {
    let poll = Arc::new(Poll::default());
    (Arc::new(Mailbox::new(Waker(Arc::clone(&poll)))), poll)
}

/// Chance, and chance with few changes of thread, which finds other faults.
fn in_many_orders(model: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_random(model, ORDERS);
    shuttle::check_pct(model, ORDERS, 3);
}

#[test]
fn all_mail_arrives_in_its_senders_order_and_no_wake_up_is_lost() {
    in_many_orders(|| {
        let (mailbox, poll) = mailbox();
        let senders: Vec<_> = (0..2)
            .map(|sender| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || (0..2).for_each(|number| mailbox.send((sender, number))))
            })
            .collect();
        let (mut taken, mut mail) = (Vec::new(), Vec::new());
        while taken.len() < 4 {
            poll.wait();
            mailbox.take(&mut mail);
            taken.append(&mut mail);
        }
        for sender in 0..2 {
            let numbers: Vec<i32> = taken.iter().filter(|(of, _)| *of == sender).map(|(_, n)| *n).collect();
            assert_eq!(numbers, [0, 1]);
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn what_was_sent_before_a_look_is_seen_by_it() {
    in_many_orders(|| {
        let (mailbox, _poll) = mailbox();
        let sent = Arc::new(AtomicUsize::new(0));
        let sender = {
            let (mailbox, sent) = (Arc::clone(&mailbox), Arc::clone(&sent));
            thread::spawn(move || {
                for number in 1..=2 {
                    mailbox.send(number);
                    sent.store(number, Ordering::SeqCst);
                }
            })
        };
        let (mut taken, mut mail) = (0, Vec::new());
        while taken < 2 {
            let sent = sent.load(Ordering::SeqCst);
            assert!(sent <= taken || mailbox.has_mail(), "{sent} were sent, {taken} taken");
            mailbox.take(&mut mail);
            taken += mail.len();
            mail.clear();
            thread::yield_now();
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_loop_that_asks_and_looks_again_is_told() {
    in_many_orders(|| {
        let (mailbox, poll) = mailbox();
        let synced = Arc::new(AtomicUsize::new(0));
        let journal = {
            let (mailbox, synced) = (Arc::clone(&mailbox), Arc::clone(&synced));
            thread::spawn(move || {
                for place in 1..=2 {
                    synced.store(place, Ordering::SeqCst);
                    mailbox.tell(|| ());
                }
            })
        };
        let mut mail = Vec::new();
        for wanted in 1..=2 {
            while synced.load(Ordering::SeqCst) < wanted {
                mailbox.ask();
                if synced.load(Ordering::SeqCst) >= wanted {
                    break;
                }
                poll.wait();
                mailbox.take(&mut mail);
                mail.clear();
            }
        }
        journal.join().unwrap();
    });
}
