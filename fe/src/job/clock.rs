//! The time that a driver goes by: it begins as the clock of this machine, and then runs evenly whatever happens to that.
//!
//! So a clock that is set forward by a day does not end running jobs, and one that is set back does not make retries wait.

use coffer_stdx::time::now_ms;
use std::time::Instant;

/// A time that only goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    began: Instant,
    base_ms: u64,
}

impl Clock {
    /// From the machine's clock, now.
    pub(super) fn start() -> Clock {
        Clock::at(now_ms())
    }

    /// As if the machine's clock said this.
    pub(super) fn at(base_ms: u64) -> Clock {
        Clock { began: Instant::now(), base_ms }
    }

    /// Milliseconds since 1970 UTC.
    pub(super) fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.base_ms.saturating_add(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_where_it_began_and_not_by_the_clock_of_the_machine() {
        let clock = Clock::at(1_000);
        let first = clock.now_ms();
        assert!((1_000..1_000 + 60_000).contains(&first));
        assert!(clock.now_ms() >= first);
        assert!(Clock::start().now_ms() > 1_000_000);
    }
}
