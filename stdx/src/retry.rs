//! Retry policy as data, and the one loop that follows it. Only transient errors are tried again.
//!
//! Somebody who waits for an answer puts the work [`within`] a limit: when time runs out in the middle of the tries, the
//! answer is what the last of them met, and not just that it took too long.

use crate::error::{Error, Result};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::future::Future;
use std::time::{Duration, Instant};

tokio::task_local! {
    /// The last failure that was tried again, inside of [`within`].
    static LAST: RefCell<Option<Error>>;
}

/// Do `work` for at most `limit`. Out of time, the answer is the last failure that a policy inside of it tried again, or
/// `late()` when there was none. Work that goes on in tasks of its own leaves no trace here.
pub async fn within<T>(
    limit: Duration,
    late: impl FnOnce() -> Error,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let timed = async {
        let outcome = tokio::time::timeout(limit, work).await;
        outcome.unwrap_or_else(|_| {
            Err(match LAST.with(RefCell::take) {
                Some(last) => Error::new(last.kind(), format!("{last} (gave up after {} s)", limit.as_secs_f32())),
                None => late(),
            })
        })
    };
    LAST.scope(RefCell::new(None), timed).await
}

fn note(error: &Error) {
    // Nobody waits with a limit: nothing to note.
    let _ = LAST.try_with(|last| last.replace(Some(error.clone())));
}

/// How often and how long to try. Delays double from `first_ms` up to `max_ms`, each drawn from [half, whole].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Tries in all, at least 1.
    pub attempts: u32,
    /// Delay before the second try, milliseconds.
    pub first_ms: u64,
    /// Largest delay, milliseconds.
    pub max_ms: u64,
}

impl Policy {
    /// For one call to a peer on the same network: about two seconds in all.
    pub const CALL: Policy = Policy { attempts: 5, first_ms: 100, max_ms: 1_000 };
    /// For one call to a remote store: about half a minute in all.
    pub const STORE: Policy = Policy { attempts: 8, first_ms: 200, max_ms: 8_000 };

    /// The longest delay before try number `next` (2 is the first retry).
    pub fn ceiling(&self, next: u32) -> Duration {
        let doublings = next.saturating_sub(2).min(32);
        Duration::from_millis(self.first_ms.saturating_mul(1 << doublings).min(self.max_ms))
    }

    /// Run `attempt` until it succeeds, fails for good, or the tries are used up; the last error is returned.
    pub async fn run<T, F, Fut>(&self, attempt: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.run_within(Duration::MAX, attempt).await
    }

    /// [`Policy::run`], but no try is begun that would end after `limit` if it took as long as the one before it.
    pub async fn run_within<T, F, Fut>(&self, limit: Duration, mut attempt: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let begun = Instant::now();
        let mut tries = 1;
        loop {
            let tried = Instant::now();
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let next = begun.elapsed() + self.ceiling(tries + 1) + tried.elapsed();
            if tries >= self.attempts || next > limit || !error.kind().is_transient() {
                return Err(error);
            }
            self.wait_before(tries + 1, &error).await;
            tries += 1;
        }
    }

    async fn wait_before(&self, next: u32, error: &Error) {
        note(error);
        let ceiling = self.ceiling(next);
        let delay = rand::rng().random_range(ceiling / 2..=ceiling);
        tracing::debug!(%error, next, delay_ms = delay.as_millis() as u64, "retrying");
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::sync::atomic::{AtomicU32, Ordering};

    const QUICK: Policy = Policy { attempts: 3, first_ms: 1, max_ms: 2 };

    #[test]
    fn delays_double_up_to_the_largest() {
        let policy = Policy { attempts: 9, first_ms: 100, max_ms: 1_000 };
        let delays: Vec<u128> = (2..8).map(|next| policy.ceiling(next).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1_000, 1_000]);
    }

    #[tokio::test]
    async fn transient_errors_are_retried_and_permanent_ones_are_not() {
        for (error, tries) in [(Error::unavailable("down"), 3), (Error::denied("no"), 1)] {
            let count = AtomicU32::new(0);
            let result: Result<()> = QUICK
                .run(|| {
                    count.fetch_add(1, Ordering::Relaxed);
                    std::future::ready(Err(error.clone()))
                })
                .await;
            assert_eq!(result, Err(error));
            assert_eq!(count.load(Ordering::Relaxed), tries);
        }
    }

    #[tokio::test]
    async fn no_try_is_begun_that_would_end_too_late() {
        let patient = Policy { attempts: 100, first_ms: 1, max_ms: 1 };
        for (limit, tries) in [(Duration::ZERO, 1), (Duration::MAX, 100)] {
            let count = AtomicU32::new(0);
            let failing = || {
                count.fetch_add(1, Ordering::Relaxed);
                std::future::ready(Err::<(), _>(Error::unavailable("down")))
            };
            patient.run_within(limit, failing).await.unwrap_err();
            assert_eq!(count.load(Ordering::Relaxed), tries);
        }
    }

    #[tokio::test]
    async fn who_runs_out_of_time_hears_what_the_tries_met() {
        const LIMIT: Duration = Duration::from_millis(50);
        let late = || Error::timeout("late");
        let hopeless = Policy { attempts: u32::MAX, first_ms: 1, max_ms: 1 };
        let tries = hopeless.run(|| std::future::ready(Err::<(), _>(Error::unavailable("refused"))));
        let error = within(LIMIT, late, tries).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "refused (gave up after 0.05 s)"));
        let silent = std::future::pending::<Result<()>>();
        assert_eq!(within(LIMIT, late, silent).await, Err(Error::timeout("late")));
        assert_eq!(within(LIMIT, late, std::future::ready(Ok(1))).await, Ok(1));
    }
}
