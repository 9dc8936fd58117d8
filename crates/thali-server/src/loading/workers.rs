//! Threads that take over what one thread reads from a file.
//!
//! Owns their number, the bound on what is under way between them, and the first failure; refuses to know what
//! the work is. What goes into one lane is done by that lane's threads; where that is a single one, in the order
//! in which it was given.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::{Condvar, Mutex};

/// Bytes given and not done yet, for each thread. Past it the reader waits; a larger piece waits until there is
/// nothing else.
const UNDER_WAY_BYTES_MAX: usize = 1 << 20;

/// Where a piece of work, or what failed in it, stands: the offset in the file, and the number of the record in
/// the group that begins there.
pub(crate) type Place = (u64, usize);

/// Work that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub at: Place,
    pub why: String,
}

/// How many lanes there are, and how many threads serve each. Without any, work is done by who gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub lanes: usize,
    pub threads_each: usize,
}

/// What does the work.
type Run<'a, W> = &'a (dyn Fn(W) -> Result<(), Failure> + Sync);

/// Runs `read`, which gives work to the threads. They do all that was given and end before this returns.
pub(crate) fn with_workers<W: Send, R>(
    shape: Shape,
    run: Run<'_, W>,
    read: impl FnOnce(&Workers<'_, W>) -> R,
) -> R {
    let board = Board {
        under_way_bytes_max: shape.lanes * shape.threads_each * UNDER_WAY_BYTES_MAX,
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        let lanes = (0..shape.lanes).map(|_| {
            let (sender, receiver) = channel::<Job<'_, W>>();
            // Only the threads hold it: if they were gone, giving would fail.
            let receiver = Arc::new(Mutex::new(receiver));
            for _ in 0..shape.threads_each {
                let receiver = Arc::clone(&receiver);
                scope.spawn(move || {
                    while let Some(job) = next(&receiver) {
                        job.run(run);
                    }
                });
            }
            sender
        });
        let workers = Workers { lanes: lanes.collect(), board: &board, run };
        read(&workers)
    })
}

fn next<J>(receiver: &Mutex<Receiver<J>>) -> Option<J> {
    receiver.lock().recv().ok()
}

/// The lanes, for the one who gives.
pub(crate) struct Workers<'w, W> {
    lanes: Vec<Sender<Job<'w, W>>>,
    board: &'w Board,
    run: Run<'w, W>,
}

impl<W> Workers<'_, W> {
    /// Gives work that stands at `at` and takes so many bytes; waits while there is too much under way. False
    /// where something before it has failed: there is no use in reading on.
    pub fn give(&self, lane: usize, at: Place, bytes: usize, work: W) -> bool {
        let Some(entered) = self.board.enter(at, bytes) else { return false };
        let job = Job { work, at, entered };
        match self.lanes.get(lane) {
            Some(lane) => assert!(lane.send(job).is_ok(), "a thread that loads has died"),
            None => job.run(self.run),
        }
        true
    }

    /// Waits until all that was given is done. Of several failures this tells the first one in the file.
    pub fn settle(&self) -> Result<(), Failure> {
        let mut state = self.board.state.lock();
        self.board.changed.wait_while(&mut state, |state| state.under_way_bytes > 0);
        state.failure.clone().map_or(Ok(()), Err)
    }
}

struct Job<'w, W> {
    work: W,
    at: Place,
    entered: Entered<'w>,
}

impl<W> Job<'_, W> {
    fn run(self, run: Run<'_, W>) {
        let board = self.entered.board;
        if board.state.lock().has_failed_before(self.at) {
            return;
        }
        if let Err(failure) = run(self.work) {
            let known = &mut board.state.lock().failure;
            if known.as_ref().is_none_or(|known| failure.at < known.at) {
                *known = Some(failure);
            }
        }
    }
}

/// What the threads and their giver know of one another.
struct Board {
    under_way_bytes_max: usize,
    state: Mutex<State>,
    /// Something was done.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    under_way_bytes: usize,
    failure: Option<Failure>,
}

impl State {
    /// Then what stands at `at` does not count any more.
    fn has_failed_before(&self, at: Place) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.at < at)
    }
}

impl Board {
    /// `None` where something before has failed.
    fn enter(&self, at: Place, bytes: usize) -> Option<Entered<'_>> {
        // Whoever waits for the end of all work waits for no bytes.
        let bytes = bytes.max(1);
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| {
            state.under_way_bytes > 0 && state.under_way_bytes + bytes > self.under_way_bytes_max
        });
        if state.has_failed_before(at) {
            return None;
        }
        state.under_way_bytes += bytes;
        Some(Entered { board: self, bytes })
    }
}

/// Bytes under way; dropped, also by a panic, they are not any more.
struct Entered<'w> {
    board: &'w Board,
    bytes: usize,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.board.state.lock().under_way_bytes -= self.bytes;
        self.board.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    const SHAPES: [Shape; 3] = [
        Shape { lanes: 0, threads_each: 0 },
        Shape { lanes: 1, threads_each: 3 },
        Shape { lanes: 4, threads_each: 1 },
    ];

    #[test]
    fn a_lane_of_one_thread_keeps_the_order_and_settling_waits_for_all() {
        for shape in SHAPES {
            let done = [const { Mutex::new(Vec::new()) }; 4];
            let run = |(lane, number): (usize, usize)| {
                done[lane].lock().push(number);
                Ok(())
            };
            with_workers(shape, &run, |workers| {
                for number in 0..1000 {
                    let lane = number % shape.lanes.max(1);
                    assert!(workers.give(lane, (number as u64, 0), 10, (lane, number)));
                    if number % 300 == 299 {
                        workers.settle().unwrap();
                        assert_eq!(done.iter().map(|done| done.lock().len()).sum::<usize>(), number + 1);
                    }
                }
            });
            for done in done.iter().filter(|_| shape.threads_each < 2) {
                assert!(done.lock().is_sorted(), "{shape:?}");
            }
        }
    }

    #[test]
    fn the_failure_that_stands_first_is_told_whoever_comes_first() {
        for shape in SHAPES {
            // Where there are threads, the one that stands first fails last.
            let others_failed = AtomicBool::new(shape.lanes == 0);
            let run = |number: u64| match number {
                5 => {
                    while !others_failed.load(Ordering::Acquire) {
                        std::thread::yield_now();
                    }
                    Err(Failure { at: (5, 1), why: "five".into() })
                }
                6 => {
                    others_failed.store(true, Ordering::Release);
                    Err(Failure { at: (6, 0), why: "six".into() })
                }
                _ => Ok(()),
            };
            let (told, given) = with_workers(shape, &run, |workers| {
                let give = |number: &u64| {
                    workers.give(*number as usize % shape.lanes.max(1), (*number, 0), 1, *number)
                };
                let given = (0..u64::MAX).take_while(give).count();
                (workers.settle().unwrap_err(), given)
            });
            assert_eq!((told.at, &*told.why), ((5, 1), "five"), "{shape:?}");
            assert!(given >= 6, "{shape:?}");
        }
    }

    #[test]
    fn what_is_under_way_is_bounded_and_a_larger_piece_goes_alone() {
        let under_way = AtomicUsize::new(0);
        let run = |bytes: usize| {
            let now = under_way.fetch_add(bytes, Ordering::SeqCst) + bytes;
            under_way.fetch_sub(bytes, Ordering::SeqCst);
            let why = format!("{now} bytes at once");
            let fits = now <= 2 * UNDER_WAY_BYTES_MAX || now == bytes;
            if fits { Ok(()) } else { Err(Failure { at: (0, 0), why }) }
        };
        with_workers(Shape { lanes: 2, threads_each: 1 }, &run, |workers| {
            for piece in 0..400 {
                let bytes = if piece % 50 == 49 { 5 * UNDER_WAY_BYTES_MAX } else { UNDER_WAY_BYTES_MAX / 3 };
                assert!(workers.give(piece % 2, (piece as u64, 0), bytes, bytes));
                assert!(workers.board.state.lock().under_way_bytes <= bytes.max(2 * UNDER_WAY_BYTES_MAX));
            }
            workers.settle().unwrap();
        });
    }

    #[test]
    fn a_thread_that_panics_leaves_nobody_waiting() {
        let caught = std::panic::catch_unwind(|| {
            let run = |_: usize| -> Result<(), Failure> { panic!("as it must") };
            with_workers(Shape { lanes: 2, threads_each: 1 }, &run, |workers| {
                workers.give(0, (0, 0), 1, 0);
                workers.settle()
            })
        });
        assert!(caught.is_err());
    }
}
