//! Raft's members follow the frontends of the catalog, while this frontend leads.
//!
//! ADD and DROP write the catalog; this brings Raft's membership after it, one small step at a time, and goes on where an
//! earlier leader stopped: who was dropped leaves, who has started joins as a learner, a follower that has caught up gets
//! its vote. Losing this at any point leaves a valid membership; the next leader takes the next step.

use super::core::Core;
use super::handle::Meta;
use super::types::NodeId;
use crate::error::{Error, Result};
use crate::limits;
use crate::meta::state::State;
use coffer_stdx::shutdown::Shutdown;
use openraft::{BasicNode, ChangeMembers};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Between looks for a frontend that was added but has not started, or has not caught up.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Before a step that failed is taken again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long one change of the membership may take.
const CHANGE_WITHIN: Duration = Duration::from_secs(10);

/// A frontend as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    address: String,
    votes: bool,
    joined: bool,
}

/// A member as Raft has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    votes: bool,
    /// Index up to which it has the log, as far as the leader knows.
    matched: Option<u64>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Finish a change of voters that was begun.
    Settle(BTreeSet<NodeId>),
    /// Take the votes and the places of those who were dropped, of all at once: taken one by one, those that are left in
    /// between may be no majority.
    Expel(BTreeSet<NodeId>),
    /// The same of those without a vote.
    Forget(BTreeSet<NodeId>),
    /// Let a new frontend follow.
    Admit { id: NodeId, address: String },
    /// Give a follower its vote.
    Vote(NodeId),
    /// Nothing now, look again.
    Wait,
    /// All is as it should be.
    Rest,
}

fn wanted(state: &State) -> BTreeMap<NodeId, Wanted> {
    let one = |frontend: &crate::catalog::cluster::Frontend| Wanted {
        address: frontend.address(),
        votes: !frontend.observer,
        joined: frontend.token.is_some(),
    };
    state.frontends.values().map(|frontend| (frontend.id, one(frontend))).collect()
}

/// The next step. `own` leads; `last` is the end of its log.
fn plan(
    own: NodeId,
    wanted: &BTreeMap<NodeId, Wanted>,
    (members, joint): (&BTreeMap<NodeId, Member>, Option<&BTreeSet<NodeId>>),
    last: u64,
) -> Step {
    if let Some(voters) = joint {
        return Step::Settle(voters.clone());
    }
    // A cluster that does not know its frontends yet must not lose them.
    if !wanted.contains_key(&own) {
        return Step::Wait;
    }
    let dropped = |votes: bool| {
        let gone = members.iter().filter(|(id, member)| member.votes == votes && !wanted.contains_key(id));
        Some(gone.map(|(id, _)| *id).collect::<BTreeSet<_>>()).filter(|gone| !gone.is_empty())
    };
    if let Some(gone) = dropped(true) {
        return Step::Expel(gone);
    }
    if let Some(gone) = dropped(false) {
        return Step::Forget(gone);
    }
    let mut waits = false;
    for (id, frontend) in wanted {
        match members.get(id) {
            None if frontend.joined => return Step::Admit { id: *id, address: frontend.address.clone() },
            None => {}
            Some(member) if frontend.votes && !member.votes => {
                if member.matched.is_some_and(|matched| matched + limits::VOTE_LAG_ENTRIES >= last) {
                    return Step::Vote(*id);
                }
                waits = true;
            }
            Some(_) => {}
        }
    }
    if waits { Step::Wait } else { Step::Rest }
}

/// Follow the catalog until shutdown.
pub async fn supervise(meta: Meta, shutdown: Shutdown) {
    let Some((core, _)) = meta.core() else { return };
    let token = shutdown.token();
    token.run_until_cancelled(run(&meta, core)).await;
}

async fn run(meta: &Meta, core: &Core) {
    let mut applied = meta.applied();
    let mut leadership = meta.leadership();
    loop {
        applied.borrow_and_update();
        let leading = leadership.borrow_and_update().leading;
        let mut patience = Duration::MAX;
        if leading {
            match next(meta, core) {
                Step::Rest => {}
                Step::Wait => patience = LOOK_EVERY,
                step => {
                    tracing::info!(?step, "the members of the cluster change");
                    match tokio::time::timeout(CHANGE_WITHIN, take(core, step)).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => tracing::warn!(%error, "a change of the members failed and is tried again"),
                        Err(_) => tracing::warn!("a change of the members takes long and is tried again"),
                    }
                    patience = AGAIN;
                }
            }
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            changed = leadership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(patience) => {}
        }
    }
}

fn next(meta: &Meta, core: &Core) -> Step {
    let wanted = meta.view(wanted);
    let metrics = core.raft.metrics().borrow().clone();
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    let matched = |id: &NodeId| {
        let known = metrics.replication.as_ref()?.get(id)?.as_ref()?;
        Some(known.index)
    };
    let members: BTreeMap<NodeId, Member> =
        membership.nodes().map(|(id, _)| (*id, Member { votes: voters.contains(id), matched: matched(id) })).collect();
    let configs = membership.get_joint_config();
    let joint = configs.last().filter(|_| configs.len() > 1);
    plan(core.node_id, &wanted, (&members, joint), metrics.last_log_index.unwrap_or(0))
}

async fn take(core: &Core, step: Step) -> Result<()> {
    let changes = match step {
        Step::Settle(voters) => ChangeMembers::ReplaceAllVoters(voters),
        Step::Expel(ids) => ChangeMembers::RemoveVoters(ids),
        Step::Forget(ids) => ChangeMembers::RemoveNodes(ids),
        Step::Admit { id, address } => ChangeMembers::AddNodes(BTreeMap::from([(id, BasicNode::new(address))])),
        Step::Vote(id) => ChangeMembers::AddVoterIds(BTreeSet::from([id])),
        Step::Wait | Step::Rest => return Ok(()),
    };
    // Voters that lose their vote leave altogether; learners stay whatever happens to voters.
    let changed = core.raft.change_membership(changes, false).await;
    changed.map(drop).map_err(|error| Error::unavailable(error.to_string()))
}

/// Who votes.
pub fn voters(meta: &Meta) -> BTreeSet<NodeId> {
    let Some((core, _)) = meta.core() else { return BTreeSet::new() };
    core.raft.metrics().borrow().membership_config.membership().voter_ids().collect()
}

/// Wait until none of these is a member any more.
pub async fn gone(meta: &Meta, ids: &[NodeId]) -> Result<()> {
    let Some((core, _)) = meta.core() else { return Ok(()) };
    let wait = core.raft.wait(Some(CHANGE_WITHIN));
    let left = wait.metrics(
        |metrics| {
            let membership = metrics.membership_config.membership();
            ids.iter().all(|id| membership.get_node(id).is_none())
        },
        "members leave",
    );
    let late = |_| {
        Error::timeout(
            "the frontend was dropped from the catalog, but its vote was not taken from it yet; the leader goes on with \
             that as soon as a majority answers",
        )
    };
    left.await.map(drop).map_err(late)
}

/// Why a majority would be lost when these frontends were dropped; `None`: it would not. `alive`: who answered lately.
pub fn loses_quorum(voters: &BTreeSet<NodeId>, dropped: &[NodeId], alive: &BTreeSet<NodeId>) -> Option<String> {
    let left: BTreeSet<NodeId> = voters.iter().filter(|id| !dropped.contains(id)).copied().collect();
    let needed = left.len() / 2 + 1;
    let there = left.intersection(alive).count();
    (there < needed).then(|| {
        let away: Vec<String> = left.difference(alive).map(|id| format!("fe_{id}")).collect();
        format!(
            "of the {} followers that would be left {needed} are needed to lead the cluster, but only {there} answer ({} \
             does not); start it again or drop it first",
            left.len(),
            away.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(list: &[(NodeId, bool, bool)]) -> BTreeMap<NodeId, Wanted> {
        let one = |(id, votes, joined): &(NodeId, bool, bool)| {
            (*id, Wanted { address: format!("h{id}:1"), votes: *votes, joined: *joined })
        };
        list.iter().map(one).collect()
    }

    fn has(list: &[(NodeId, bool, Option<u64>)]) -> BTreeMap<NodeId, Member> {
        list.iter().map(|(id, votes, matched)| (*id, Member { votes: *votes, matched: *matched })).collect()
    }

    #[test]
    fn members_follow_the_catalog_one_step_at_a_time() {
        let last = 5_000;
        let wanted = wants(&[(1, true, true), (2, true, true), (3, false, true), (4, true, false)]);
        let step = |members: &[(NodeId, bool, Option<u64>)]| plan(1, &wanted, (&has(members), None), last);
        let own = (1, true, Some(last));
        assert_eq!(step(&[own]), Step::Admit { id: 2, address: "h2:1".to_owned() });
        let observer = (3, false, Some(last));
        assert_eq!(step(&[own, (2, false, Some(10)), observer]), Step::Wait);
        assert_eq!(step(&[own, (2, false, None), observer]), Step::Wait);
        assert_eq!(step(&[own, (2, false, Some(last - 10)), observer]), Step::Vote(2));
        assert_eq!(step(&[own, (2, true, None), observer]), Step::Rest);
        let gone = |votes| [own, (2, true, None), observer, (8, true, None), (9, votes, None)];
        assert_eq!(step(&gone(true)), Step::Expel(BTreeSet::from([8, 9])));
        assert_eq!(step(&gone(false)), Step::Expel(BTreeSet::from([8])));
        assert_eq!(step(&[own, (2, true, None), observer, (9, false, None)]), Step::Forget(BTreeSet::from([9])));
        let voters = BTreeSet::from([1, 2]);
        let settle = plan(1, &wanted, (&has(&[own]), Some(&voters)), last);
        assert_eq!(settle, Step::Settle(voters));
        assert_eq!(plan(7, &wanted, (&has(&[(7, true, None), own]), None), last), Step::Wait);
    }

    #[test]
    fn dropping_must_leave_a_majority_that_answers() {
        let voters = BTreeSet::from([1, 2, 3]);
        let alive = |ids: &[NodeId]| ids.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(loses_quorum(&voters, &[3], &alive(&[1, 2])), None);
        assert_eq!(loses_quorum(&voters, &[3], &alive(&[1, 2, 3])), None);
        let why = loses_quorum(&voters, &[2], &alive(&[1, 2])).unwrap();
        assert!(why.contains("2 are needed") && why.contains("fe_3"), "{why}");
        assert_eq!(loses_quorum(&voters, &[2, 3], &alive(&[1])), None);
    }
}
