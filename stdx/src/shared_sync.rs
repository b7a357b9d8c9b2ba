//! One sync for all who wait for one: whoever asks while a sync runs shares the next with everybody else who asked by then.
//!
//! Syncing a file system costs about the same whoever asks for it, and several at once get in each other's way. What was
//! written before asking is covered, because only a sync that begins after the asking counts. A failure goes to everybody
//! who waited then, also to those who wait for the sync after it: the kernel tells of a failed write once.

use crate::error::{Error, Result};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Those who share.
#[derive(Debug, Default)]
pub(crate) struct SharedSync {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the last sync that began.
    begun: u64,
    running: bool,
    /// The last one that ended.
    done: u64,
    /// The last one that failed.
    failed: Option<(u64, Error)>,
    /// How many wait for the sync after the running one.
    waiting: usize,
}

impl SharedSync {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Return when a sync that began after this call has ended. `sync` runs here if it is this one's turn.
    pub(crate) fn run(&self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.state();
        let wanted = state.begun + 1;
        let concerned_from = if state.running { state.begun } else { wanted };
        state.waiting += 1;
        loop {
            if state.done >= wanted {
                state.waiting -= 1;
                let failed = state.failed.as_ref().filter(|(number, _)| *number >= concerned_from);
                return failed.map_or(Ok(()), |(_, error)| Err(error.clone()));
            }
            if !state.running {
                break;
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.begun += 1;
        state.running = true;
        let number = state.begun;
        drop(state);
        let outcome = Ran { shared: self, number }.end(sync);
        self.ended.notify_all();
        outcome
    }
}

/// A sync that runs; one that panics has failed for all who wait.
struct Ran<'a> {
    shared: &'a SharedSync,
    number: u64,
}

impl Ran<'_> {
    fn end(self, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sync))
            .unwrap_or_else(|_| Err(Error::bug("a sync panicked; see the log")));
        let mut state = self.shared.state();
        state.running = false;
        state.done = self.number;
        if let Err(error) = &outcome {
            state.failed = Some((self.number, error.clone()));
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    /// Begin a sync that ends when told, wait until `others` wait behind it, then let it end.
    fn behind_one(others: usize, first: fn() -> Result<()>, outcome: fn() -> Result<()>) -> (usize, Vec<Result<()>>) {
        let (shared, count) = (Arc::new(SharedSync::default()), Arc::new(AtomicUsize::new(0)));
        let (begun, has_begun) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let running = Arc::clone(&shared);
        let running = std::thread::spawn(move || {
            running.run(|| {
                begun.send(()).unwrap();
                may_go.recv().unwrap();
                first()
            })
        });
        has_begun.recv().unwrap();
        let waiting: Vec<_> = (0..others)
            .map(|_| {
                let (shared, count) = (Arc::clone(&shared), Arc::clone(&count));
                std::thread::spawn(move || {
                    shared.run(|| {
                        count.fetch_add(1, Ordering::SeqCst);
                        outcome()
                    })
                })
            })
            .collect();
        while shared.state().waiting < others {
            std::thread::yield_now();
        }
        go.send(()).unwrap();
        assert_eq!(running.join().unwrap(), first());
        let outcomes = waiting.into_iter().map(|one| one.join().unwrap()).collect();
        (count.load(Ordering::SeqCst), outcomes)
    }

    #[test]
    fn those_who_ask_while_one_runs_share_the_next() {
        let (syncs, outcomes) = behind_one(8, || Ok(()), || Ok(()));
        assert_eq!(syncs, 1);
        assert!(outcomes.iter().all(Result::is_ok));
    }

    #[test]
    fn an_error_and_a_panic_are_for_all_whom_the_sync_was_for() {
        for outcome in [(|| Err(Error::unavailable("disk"))) as fn() -> Result<()>, || panic!("disk")] {
            let (syncs, outcomes) = behind_one(4, || Ok(()), outcome);
            assert_eq!((syncs, outcomes.iter().filter(|one| one.is_err()).count()), (1, 4));
        }
        // The one that leads the next sync sees what it did; those who share it hear of the failure before.
        let (syncs, outcomes) = behind_one(4, || Err(Error::unavailable("disk")), || Ok(()));
        assert_eq!((syncs, outcomes.iter().filter(|one| one.is_err()).count()), (1, 3));
    }

    #[test]
    fn one_after_the_other_each_syncs() {
        let (shared, count) = (SharedSync::default(), AtomicUsize::new(0));
        for _ in 0..3 {
            let sync = || {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            };
            shared.run(sync).unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 3);
        assert!(shared.run(|| Err(Error::unavailable("disk"))).is_err());
        shared.run(|| Ok(())).unwrap();
    }
}
