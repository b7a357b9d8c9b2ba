//! What a restore does about a backend that is lost: other backends take over its replicas, or the replicas that are left
//! must do. Pure.
//!
//! A backend that left the cluster is lost at once, one that does not answer after [`MOVE_AFTER_MS`]. Its tablets go to
//! living backends that do not hold them, those with the least to do first. Where there is none, and once downloads are
//! over, a replica is given up after [`GIVE_UP_AFTER_MS`], but never the last one: then the job fails and names the
//! tablet.

use super::action::Action;
use super::common;
use super::facts::{Facts, GIVE_UP_AFTER_MS, Health, MOVE_AFTER_MS};
use super::placement::Placement;
use crate::catalog::job::{RestoreJob, RestoreState};
use crate::meta::command::Command;
use coffer_proto::ids::{BackendId, TabletId};
use coffer_stdx::Error;
use std::collections::BTreeMap;

/// A proposal about a lost backend, if there is one to make; when to look again goes to `wake`.
pub(super) fn replace(
    job: &RestoreJob,
    placement: &Placement,
    facts: &Facts,
    wake: &mut Vec<Action>,
) -> Option<Vec<Action>> {
    for backend in &placement.homes {
        let (away_ms, cause) = match facts.health(*backend) {
            Health::Up => continue,
            Health::Gone => (u64::MAX, format!("backend {backend} left the cluster")),
            // Nothing is asked of a backend that gets empty tablets only.
            Health::Down { .. } if !placement.by_backend.contains_key(backend) => continue,
            Health::Down { for_ms, cause } => (*for_ms, cause.clone()),
        };
        let limit = if away_ms < MOVE_AFTER_MS { MOVE_AFTER_MS } else { GIVE_UP_AFTER_MS };
        if away_ms < limit {
            wake.push(Action::WakeAt(facts.now_ms.saturating_add(limit - away_ms)));
        }
        if away_ms < MOVE_AFTER_MS {
            continue;
        }
        match take_over(job, placement, facts, (*backend, away_ms >= GIVE_UP_AFTER_MS)) {
            Take::Over(to) => {
                let command = Command::MoveReplicas { job: job.id, from: *backend, to };
                return Some(vec![Action::Propose(command)]);
            }
            Take::Wait => {}
            Take::Never(tablet) => {
                let text = format!("no replica of tablet {tablet} is left and no other backend can take it: {cause}");
                return Some(common::cancel(job.id, &Error::unavailable(text), facts.now_ms));
            }
        }
    }
    None
}

enum Take {
    /// By these.
    Over(Vec<(TabletId, BackendId)>),
    /// The backend may come back.
    Wait,
    /// Nobody can hold this tablet.
    Never(TabletId),
}

fn take_over(job: &RestoreJob, placement: &Placement, facts: &Facts, (lost, for_good): (BackendId, bool)) -> Take {
    let early = job.state.step() < RestoreState::Commit.step();
    let mut load: BTreeMap<BackendId, usize> = facts.backends.keys().map(|backend| (*backend, 0)).collect();
    load.retain(|backend, _| early && *backend != lost && facts.up(*backend) && !facts.leaving.contains(backend));
    for (backend, tablets) in &placement.by_backend {
        load.entry(*backend).and_modify(|load| *load += tablets.len());
    }
    let mut to = Vec::new();
    let mut given_up = false;
    for (_, tablet) in job.targets.iter().flat_map(|target| target.table.tablets()) {
        let replicas = job.replicas(tablet);
        if !replicas.contains(&lost) {
            continue;
        }
        let free = load.iter().filter(|(backend, _)| !replicas.contains(backend));
        match free.min_by_key(|(_, load)| **load).map(|(backend, _)| *backend) {
            Some(backend) => {
                load.entry(backend).and_modify(|load| *load += 1);
                to.push((tablet.id, backend));
            }
            None if !for_good => given_up = true,
            None if replicas.len() == 1 => return Take::Never(tablet.id),
            None => {}
        }
    }
    if given_up {
        return Take::Wait;
    }
    to.sort_unstable();
    Take::Over(to)
}
