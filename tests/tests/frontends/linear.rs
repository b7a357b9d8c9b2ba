//! Is a history of CREATE, DROP and look-ups of one name linearizable? Each operation must seem to happen at one moment
//! between its start and its end, and its answer must be right at that moment.
//!
//! The search (Wing and Gong's, with the visited states of Lowe's) tries the operations that may come next; names do not
//! influence each other, so each is checked alone. An operation without a clear answer may have happened at any time after
//! its start, or never.

use std::collections::HashSet;

/// What was asked, and what was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// CREATE: done, or it existed.
    Create { done: bool },
    /// DROP: done, or it did not exist.
    Drop { done: bool },
    /// Looked up.
    Look { there: bool },
    /// CREATE whose answer was lost.
    MaybeCreate,
    /// DROP whose answer was lost.
    MaybeDrop,
}

impl Act {
    /// The state after it, if its answer is right in `there`.
    fn apply(self, there: bool) -> Option<bool> {
        match self {
            Act::Create { done } => (done != there).then_some(true),
            Act::Drop { done } => (done == there).then_some(false),
            Act::Look { there: seen } => (seen == there).then_some(there),
            Act::MaybeCreate => Some(true),
            Act::MaybeDrop => Some(false),
        }
    }

    fn is_sure(self) -> bool {
        !matches!(self, Act::MaybeCreate | Act::MaybeDrop)
    }
}

/// An operation with the times it was begun and answered, on one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) act: Act,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// At most so many operations of one name.
pub(crate) const MAX_OPS: usize = 128;

/// Whether there is an order, from a name that does not exist.
pub(crate) fn is_linearizable(ops: &[Op]) -> bool {
    assert!(ops.len() <= MAX_OPS, "{} operations of one name", ops.len());
    let sure = ops.iter().enumerate().filter(|(_, op)| op.act.is_sure()).fold(0_u128, |bits, (at, _)| bits | 1 << at);
    let mut seen = HashSet::new();
    let mut open = vec![(0_u128, false)];
    while let Some((done, there)) = open.pop() {
        if done & sure == sure {
            return true;
        }
        if !seen.insert((done, there)) {
            continue;
        }
        let left = || ops.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        let first_end = left().filter(|(_, op)| op.act.is_sure()).map(|(_, op)| op.end).min().unwrap_or(u64::MAX);
        for (at, op) in left().filter(|(_, op)| op.start <= first_end) {
            open.extend(op.act.apply(there).map(|there| (done | 1 << at, there)));
        }
    }
    false
}

fn op(act: Act, start: u64, end: u64) -> Op {
    Op { act, start, end }
}

#[test]
fn histories_are_told_apart() {
    let created = Act::Create { done: true };
    let existed = Act::Create { done: false };
    let dropped = Act::Drop { done: true };
    let there = Act::Look { there: true };
    let away = Act::Look { there: false };
    let good: [&[Op]; 6] = [
        &[],
        &[op(created, 0, 1), op(there, 2, 3), op(dropped, 4, 5), op(away, 6, 7)],
        // At the same time, either order.
        &[op(created, 0, 9), op(away, 1, 8), op(there, 2, 7)],
        &[op(created, 0, 9), op(existed, 1, 8), op(dropped, 10, 11)],
        // A lost answer that took effect late, and one that never did.
        &[op(Act::MaybeCreate, 0, 1), op(away, 2, 3), op(there, 4, 5)],
        &[op(Act::MaybeDrop, 0, 1), op(created, 2, 3), op(there, 4, 5)],
    ];
    for history in good {
        assert!(is_linearizable(history), "{history:?}");
    }
    let bad: [&[Op]; 5] = [
        // A read that misses what was acknowledged before.
        &[op(created, 0, 1), op(away, 2, 3)],
        // Done twice.
        &[op(created, 0, 1), op(created, 2, 3)],
        &[op(there, 0, 1)],
        // Came and went without anybody doing it.
        &[op(created, 0, 1), op(dropped, 2, 3), op(there, 4, 5)],
        &[op(created, 0, 1), op(there, 2, 3), op(away, 4, 5)],
    ];
    for history in bad {
        assert!(!is_linearizable(history), "{history:?}");
    }
}
