//! One budget for the rows of all running loads.
//!
//! Nobody waits for memory, so nobody can wait forever: whoever holds more than its share (the budget divided by those
//! who hold something) turns rows into files or sends them on before it takes more. So all together stay below the
//! budget plus one message each.

use prometheus::IntGauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The budget.
#[derive(Debug)]
pub struct LoadMemory {
    limit: u64,
    holders: AtomicU64,
    gauge: IntGauge,
}

impl LoadMemory {
    /// A budget of `limit` bytes, shown in `gauge`.
    pub fn new(limit: u64, gauge: IntGauge) -> Arc<LoadMemory> {
        Arc::new(LoadMemory { limit, holders: AtomicU64::new(0), gauge })
    }

    /// A new holder of nothing yet.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.holders.fetch_add(1, Ordering::Relaxed);
        Held { memory: self.clone(), bytes: 0 }
    }

    /// What each holder may hold now.
    pub fn share(&self) -> usize {
        (self.limit / self.holders.load(Ordering::Relaxed).max(1)) as usize
    }
}

/// Bytes held by one part of a load.
#[derive(Debug)]
pub struct Held {
    memory: Arc<LoadMemory>,
    bytes: usize,
}

impl Held {
    /// Hold this much from now on.
    pub fn set(&mut self, bytes: usize) {
        self.memory.gauge.add(bytes as i64 - self.bytes as i64);
        self.bytes = bytes;
    }

    /// Whether it is more than the share.
    pub fn is_over(&self) -> bool {
        self.bytes > self.memory.share()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
        self.memory.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_shrink_with_company() {
        let gauge = IntGauge::new("g", "g").unwrap();
        let memory = LoadMemory::new(100, gauge.clone());
        let mut first = memory.hold();
        first.set(60);
        assert!(!first.is_over());
        let second = memory.hold();
        assert!(first.is_over());
        drop(second);
        assert!(!first.is_over());
        assert_eq!(gauge.get(), 60);
        drop(first);
        assert_eq!(gauge.get(), 0);
    }
}
