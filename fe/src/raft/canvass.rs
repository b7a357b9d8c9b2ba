//! When a frontend stands for election, and what it answers another that wants to. Pure.
//!
//! openraft 0.9 lets everybody stand who hears no leader, and a higher term ends the leader that all others hear. So its own
//! elections are switched off, and who hears no leader first asks the voters. A voter says yes when it hears no leader
//! either, has not just voted for somebody else, has no longer log, and reaches the asker at its address: the others send it
//! statements. Only with the yes of a majority does a frontend stand, in the next term. The answers bind nobody; votes are
//! openraft's. Terms are not compared: who stands in too low a one learns the right one from the refusal.
//!
//! Silence is counted in looks, and a look that comes late counts for no more than [`MOST_PER_LOOK`]: a frontend that was
//! frozen first hears what came meanwhile before it believes that nobody leads.

use super::types::{LogId, NodeId};
use crate::limits;
use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

/// Between looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a look that comes late adds to the silence.
const MOST_PER_LOOK: Duration = Duration::from_millis(400);

/// What a frontend heard of leaders and candidates.
#[derive(Debug, Clone)]
pub(super) struct Ear {
    silent: Duration,
    looked: Instant,
    voted: Option<(NodeId, Instant)>,
}

/// Why a voter says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum No {
    /// It leads, or hears who does.
    HearsLeader,
    /// Another candidate has its vote and may be about to lead.
    Voted(NodeId),
    /// It has entries that the asker lacks.
    LongerLog,
    /// It does not reach the asker.
    Unreached(String),
}

impl fmt::Display for No {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            No::HearsLeader => f.write_str("it hears a leader"),
            No::Voted(id) => write!(f, "it has just voted for frontend {id}"),
            No::LongerLog => f.write_str("its log is longer"),
            No::Unreached(why) => write!(f, "it does not reach this frontend ({why})"),
        }
    }
}

impl Ear {
    /// Hears from now on.
    pub(super) fn new(now: Instant) -> Ear {
        Ear { silent: Duration::ZERO, looked: now, voted: None }
    }

    /// A leader has spoken, or a majority to this one, which leads.
    pub(super) fn leader_spoke(&mut self, now: Instant) {
        *self = Ear::new(now);
    }

    /// This one gave its vote, maybe to itself.
    pub(super) fn voted(&mut self, candidate: NodeId, now: Instant) {
        self.voted = Some((candidate, now));
    }

    /// For how long no leader has spoken.
    pub(super) fn look(&mut self, now: Instant) -> Duration {
        self.silent += now.saturating_duration_since(self.looked).min(MOST_PER_LOOK);
        self.looked = self.looked.max(now);
        self.silent
    }

    /// What this frontend, whose log ends with `own`, answers one that wants to stand.
    pub(super) fn judge(
        &mut self,
        (asker, theirs): (NodeId, Option<LogId>),
        own: Option<LogId>,
        now: Instant,
    ) -> Result<(), No> {
        if self.look(now) < limits::LEADER_LEASE {
            return Err(No::HearsLeader);
        }
        match self.voted {
            Some((other, at)) if other != asker && now.saturating_duration_since(at) < limits::LEADER_LEASE => {
                return Err(No::Voted(other));
            }
            _ => {}
        }
        if theirs < own { Err(No::LongerLog) } else { Ok(()) }
    }
}

/// What a frontend is, as far as elections go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) id: NodeId,
    pub(super) leads: bool,
    /// It stands already.
    pub(super) stands: bool,
    /// The voters; while they change, of before and after.
    pub(super) voters: Vec<BTreeSet<NodeId>>,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: somebody leads, or this one has no vote.
    Rest,
    /// Stand: nobody else votes.
    Stand,
    /// Ask the others.
    Canvass,
}

impl Standing {
    /// What to do after so much silence; `wait` differs from one frontend to the other, and each time.
    pub(super) fn next(&self, silent: Duration, wait: Duration) -> Next {
        if self.leads || !self.voters.iter().any(|voters| voters.contains(&self.id)) {
            return Next::Rest;
        }
        if self.others().is_empty() {
            return if self.stands { Next::Rest } else { Next::Stand };
        }
        if silent < limits::LEADER_LEASE + wait { Next::Rest } else { Next::Canvass }
    }

    /// Who else votes.
    pub(super) fn others(&self) -> BTreeSet<NodeId> {
        self.voters.iter().flatten().copied().filter(|id| *id != self.id).collect()
    }

    /// Whether these are a majority, while the voters change of those of before and of those of after.
    pub(super) fn carried_by(&self, yes: &BTreeSet<NodeId>) -> bool {
        self.voters.iter().all(|voters| voters.intersection(yes).count() > voters.len() / 2)
    }
}
