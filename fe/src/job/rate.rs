//! How fast bytes moved in the last seconds, from a few samples of a count. Pure.
//!
//! An average since the start would say for hours that a transfer is fast that has stopped, and that one is slow whose
//! storage was away for a while.

use std::collections::VecDeque;
use std::time::Duration;

/// How far back a rate looks. Small packs count when they are stored, so that less would jump.
const WINDOW: Duration = Duration::from_secs(15);
/// From one sample to the next at least; so there are never more than some thirty.
const STEP: Duration = Duration::from_millis(500);

/// Samples of the last seconds: when, since the beginning, and how many bytes were moved then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Whether the last sample is old enough for another.
    pub(super) fn is_due(&self, at: Duration) -> bool {
        self.samples.back().is_none_or(|(last, _)| at.saturating_sub(*last) >= STEP)
    }

    /// So many bytes were moved at this time. Of the samples out of the window the youngest stays.
    pub(super) fn note(&mut self, at: Duration, bytes: u64) {
        self.samples.push_back((at, bytes));
        let start = at.saturating_sub(WINDOW);
        while self.samples.get(1).is_some_and(|(second, _)| *second <= start) {
            self.samples.pop_front();
        }
    }

    /// Bytes per second over the window that ends now, with so many bytes moved; `None` when none moved.
    pub(super) fn per_second(&self, now: Duration, bytes: u64) -> Option<f64> {
        let start = now.saturating_sub(WINDOW);
        let outside = self.samples.iter().rev().find(|(at, _)| *at <= start);
        let (from, before) = outside.or(self.samples.front())?;
        let (seconds, moved) = (now.saturating_sub(*from).as_secs_f64(), bytes.saturating_sub(*before));
        (seconds > 0.0 && moved > 0).then(|| moved as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_young_transfer_counts_from_its_beginning() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(at(1), 10), None);
        rate.note(at(0), 100);
        assert_eq!(rate.per_second(at(0), 200), None);
        assert_eq!(rate.per_second(at(4), 300), Some(50.0));
        assert_eq!(rate.per_second(at(4), 100), None);
        assert_eq!(rate.per_second(at(4), 50), None, "what must be done again is no rate");
        assert!(!rate.is_due(Duration::from_millis(499)) && rate.is_due(Duration::from_millis(500)));
    }

    #[test]
    fn an_old_one_counts_the_last_seconds_whatever_was_before() {
        let mut rate = Rate::default();
        for second in 0..=100 {
            rate.note(at(second), 1_000 * second);
        }
        assert_eq!(rate.per_second(at(100), 100_000), Some(1_000.0));
        assert!(rate.samples.len() <= 17, "{}", rate.samples.len());
        // It stops.
        for second in 101..=115 {
            rate.note(at(second), 100_000);
        }
        assert_eq!(rate.per_second(at(115), 100_000), None);
        // And goes on three times as fast.
        for second in 116..=130 {
            rate.note(at(second), 100_000 + 3_000 * (second - 115));
        }
        assert_eq!(rate.per_second(at(130), 145_000), Some(3_000.0));
    }

    #[test]
    fn samples_that_came_long_ago_still_give_a_rate() {
        let mut rate = Rate::default();
        rate.note(at(0), 0);
        rate.note(at(1), 1_000);
        assert_eq!(rate.per_second(at(101), 11_000), Some(100.0));
    }
}
