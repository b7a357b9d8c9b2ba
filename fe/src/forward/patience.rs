//! How long a statement waits for leaders: one bound for all its waits and tries. Pure.

use crate::limits;
use std::time::Duration;

/// How long it takes at most until a leader is known to be lost. A statement that ran at a leader that was lost may have
/// waited so long for nothing; before that it ran, which may take any time.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// What is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    left: Duration,
}

impl Patience {
    /// Of a statement that begins.
    pub(super) fn new() -> Patience {
        Patience { left: limits::LEADER_WAIT }
    }

    /// How long it may still wait.
    pub(super) fn left(self) -> Duration {
        self.left
    }

    /// It waited so long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// It was with a leader for so long that was lost then.
    pub(super) fn lost(&mut self, time: Duration) {
        self.waited(time.min(NOTICED_WITHIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_waits_together_are_bounded_and_a_long_run_leaves_time_for_the_next_leader() {
        let second = Duration::from_secs(1);
        let mut patience = Patience::new();
        patience.waited(second);
        assert_eq!(patience.left(), limits::LEADER_WAIT - second);
        patience.lost(second);
        assert_eq!(patience.left(), limits::LEADER_WAIT - 2 * second);
        patience.lost(3_600 * second);
        assert_eq!(patience.left(), limits::LEADER_WAIT - 2 * second - NOTICED_WITHIN);
        // However often leaders come and go.
        (0..10).for_each(|_| patience.lost(3_600 * second));
        assert_eq!(patience.left(), Duration::ZERO);
        patience.waited(second);
        assert_eq!(patience.left(), Duration::ZERO);
    }
}
