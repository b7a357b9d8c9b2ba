//! Memory for streams: each takes what it needs at most before it touches the storage; what does not fit waits in turn.
//!
//! Who could ask another broker instead says how long it waits here, and is told that this one is busy.

use coffer_store::Budget;
use coffer_store::budget::Permit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A share of the budget, and who waits for it.
#[derive(Debug, Clone)]
pub struct Admission {
    budget: Budget,
    waiting: Arc<AtomicU32>,
}

/// Counted while it lives.
struct Waiting(Arc<AtomicU32>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// Everybody who may enter takes from `budget`.
    pub fn new(budget: Budget) -> Admission {
        Admission { budget, waiting: Arc::default() }
    }

    /// Take `bytes`, waiting in turn for at most `wait_ms`; 0: as long as it takes. An error is a sentence for the peer.
    pub async fn enter(&self, bytes: u64, wait_ms: u32) -> Result<Permit, String> {
        if let Some(permit) = self.budget.try_take(bytes) {
            return Ok(permit);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _counted = Waiting(Arc::clone(&self.waiting));
        if wait_ms == 0 {
            return Ok(self.budget.take(bytes).await);
        }
        let wait = Duration::from_millis(u64::from(wait_ms));
        tokio::time::timeout(wait, self.budget.take(bytes)).await.map_err(|_| {
            format!(
                "busy: other streams hold the {} MiB that memory_budget_mib leaves for this kind",
                self.budget.total() >> 20
            )
        })
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The share.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn what_does_not_fit_waits_in_turn_or_goes_elsewhere() {
        let admission = Admission::new(Budget::new(4 << 20));
        let held = admission.enter(4 << 20, 0).await.unwrap();
        let mut waits = Box::pin(admission.enter(1 << 20, 0));
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!(admission.waiting(), 1);
        let error = admission.enter(1 << 20, 1).await.unwrap_err();
        assert!(error.contains("4 MiB"), "{error}");
        assert_eq!(admission.waiting(), 1);
        drop(held);
        assert!(waits.as_mut().now_or_never().is_some_and(|entered| entered.is_ok()));
        drop(waits);
        assert_eq!(admission.waiting(), 0);
    }
}
