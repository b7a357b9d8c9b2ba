//! Memory as something to take and give back: a budget of bytes that many streams share.
//!
//! Whoever needs a buffer takes its size first and waits when there is none left. To stay clear of deadlock a holder
//! never waits for a second permit while the first keeps it from getting on.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits count these many bytes, so that budgets beyond 4 GiB fit a semaphore.
const UNIT: u64 = 1 << 10;

/// A number of bytes, shared by clones.
#[derive(Debug, Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    total: u32,
}

/// Bytes taken; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    _taken: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `bytes`, rounded down to whole KiB; at least one.
    pub fn new(bytes: u64) -> Budget {
        let total = units(bytes).max(1);
        Budget { free: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Take `bytes`, waiting for them in turn. More than the whole budget is cut to the whole.
    pub async fn take(&self, bytes: u64) -> Permit {
        let wanted = units(bytes).clamp(1, self.total);
        // The semaphore is never closed, so this always brings a permit.
        Permit { _taken: Arc::clone(&self.free).acquire_many_owned(wanted).await.ok() }
    }

    /// Take `bytes` when they are free now.
    pub fn try_take(&self, bytes: u64) -> Option<Permit> {
        let wanted = units(bytes).clamp(1, self.total);
        Arc::clone(&self.free).try_acquire_many_owned(wanted).ok().map(|taken| Permit { _taken: Some(taken) })
    }

    /// All bytes.
    pub fn total(&self) -> u64 {
        u64::from(self.total) * UNIT
    }

    /// Bytes taken now.
    pub fn used(&self) -> u64 {
        self.total().saturating_sub(self.free.available_permits() as u64 * UNIT)
    }
}

fn units(bytes: u64) -> u32 {
    // tokio allows usize::MAX / 8 permits in a semaphore but u32 in one request.
    u32::try_from(bytes / UNIT).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn what_is_taken_must_come_back_before_others_get_it() {
        let budget = Budget::new(10 << 10);
        let first = budget.take(8 << 10).await;
        assert_eq!((budget.used(), budget.total()), (8 << 10, 10 << 10));
        assert!(budget.take(4 << 10).now_or_never().is_none());
        assert!(budget.try_take(4 << 10).is_none() && budget.try_take(1 << 10).is_some());
        drop(first);
        let all = budget.take(u64::MAX).await;
        assert_eq!(budget.used(), budget.total());
        drop(all);
        assert_eq!(budget.used(), 0);
    }
}
