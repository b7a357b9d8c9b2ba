//! Who leads: openraft's metrics turned into what the rest of the frontend acts upon.
//!
//! Leading means more here than in Raft: everything that earlier leaders committed is applied, and a majority was heard of
//! lately. So a leader that is cut off from the others stops driving backends and jobs by itself, and one that was frozen
//! does so when it wakes.

use super::types::{NodeId, TypeConfig};
use crate::limits;
use openraft::{BasicNode, Raft, RaftMetrics, ServerState, Vote};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between looks when nothing changes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Grows with every change of the leader, and no two leaders have the same: the Raft term and, in its lower bits, the
    /// id of the frontend. Backends and brokers refuse a lower one.
    pub term: u64,
    /// Whether this frontend leads in it and has applied everything that earlier leaders committed.
    pub leading: bool,
}

/// The number of a leader. openraft lets a later vote of the same term win, so that the term alone is not enough.
pub(super) fn number_of(vote: &Vote<NodeId>) -> u64 {
    (vote.leader_id().get_term() << limits::FRONTEND_ID_BITS) | vote.leader_id().voted_for().unwrap_or_default()
}

/// What of the metrics counts, and since when the majority is silent.
pub(super) struct Seen {
    number: u64,
    /// Raft's leader, whether a majority answers or not.
    pub(super) leads: bool,
    heard: Option<Instant>,
    alone: bool,
    /// Raft goes on no more.
    pub(super) stopped: bool,
}

impl Seen {
    pub(super) fn of(metrics: &RaftMetrics<NodeId, BasicNode>) -> Seen {
        let leads = metrics.running_state.is_ok()
            && metrics.state == ServerState::Leader
            && metrics.current_leader == Some(metrics.id);
        let silent = metrics.millis_since_quorum_ack.map(Duration::from_millis);
        Seen {
            number: number_of(&metrics.vote),
            leads,
            heard: silent.and_then(|silent| Instant::now().checked_sub(silent)),
            alone: metrics.membership_config.membership().voter_ids().eq([metrics.id]),
            stopped: metrics.running_state.is_err(),
        }
    }

    /// Whether this frontend leads, and a majority answers it.
    pub(super) fn leads(&self) -> bool {
        self.leads && (self.alone || self.heard.is_some_and(|heard| heard.elapsed() < limits::STEP_DOWN_AFTER))
    }
}

/// Tell whether this frontend leads, until nobody listens or Raft is gone.
pub(super) async fn follow(raft: Raft<TypeConfig>, leadership: watch::Sender<Leadership>) {
    let mut metrics = raft.metrics();
    let mut seen = Seen::of(&metrics.borrow_and_update());
    loop {
        let known = *leadership.borrow();
        let wanted = Leadership { term: seen.number, leading: seen.leads() };
        let now = if wanted.leading && known != wanted {
            Leadership { leading: caught_up(&raft).await && seen.leads(), ..wanted }
        } else {
            wanted
        };
        if now != known {
            if now.leading != known.leading {
                tracing::info!(term = now.term, leading = now.leading, "leadership");
            }
            leadership.send_replace(now);
        }
        match tokio::time::timeout(LOOK_EVERY, metrics.changed()).await {
            Ok(Ok(())) => seen = Seen::of(&metrics.borrow_and_update()),
            Ok(Err(_)) => break,
            Err(_) => {}
        }
        if leadership.is_closed() {
            break;
        }
    }
}

/// Whether a majority still follows and the whole log of this leader is applied. A leader that goes on in its old term
/// after a restart is linearizable for openraft before that.
async fn caught_up(raft: &Raft<TypeConfig>) -> bool {
    let last = raft.metrics().borrow().last_log_index;
    let confirmed = tokio::time::timeout(limits::STEP_DOWN_AFTER, raft.ensure_linearizable()).await;
    if !matches!(confirmed, Ok(Ok(_))) {
        return false;
    }
    let applied = raft.wait(Some(limits::STEP_DOWN_AFTER)).applied_index_at_least(last, "apply the whole log").await;
    applied.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leader_has_a_number_of_its_own_and_later_ones_a_higher() {
        let numbers = [(1, 1), (1, 2), (1, limits::MAX_FRONTEND_ID), (2, 1), (7, 3)]
            .map(|(term, node)| number_of(&Vote::new_committed(term, node)));
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }

    #[test]
    fn silence_of_the_majority_ends_leadership_but_not_of_a_cluster_of_one() {
        let mut seen = Seen { number: 1, leads: true, heard: Some(Instant::now()), alone: false, stopped: false };
        assert!(seen.leads());
        seen.heard = Instant::now().checked_sub(limits::STEP_DOWN_AFTER);
        assert!(!seen.leads());
        seen.heard = None;
        assert!(!seen.leads());
        seen.alone = true;
        assert!(seen.leads());
        seen.leads = false;
        assert!(!seen.leads());
    }
}
