//! ALTER SYSTEM ADD and DROP of frontends.
//!
//! Both write the catalog; Raft's members follow it ([`crate::raft::membership`]), also under the next leader when this one
//! dies in between.

use crate::error::{Error, Result};
use crate::exec::answer::Answer;
use crate::exec::context::Context;
use crate::exec::names::host_and_port;
use crate::limits;
use crate::meta::command::Command;
use crate::meta::state::State;
use crate::raft::{NodeId, membership};
use coffer_stdx::time::now_ms;
use futures::future::join_all;
use std::collections::BTreeSet;

/// ADD FOLLOWER and ADD OBSERVER.
pub(super) fn add(addresses: &[String], observer: bool) -> Result<Command> {
    let addresses = addresses.iter().map(|address| host_and_port(address)).collect::<Result<Vec<_>>>()?;
    Ok(Command::AddFrontends { addresses, observer, now_ms: now_ms() })
}

/// DROP FOLLOWER and DROP OBSERVER; returns when they are members no more.
pub(super) async fn drop(context: &Context, addresses: &[String], observer: bool) -> Result<Answer> {
    let meta = &context.meta;
    let ids = meta.view(|state| find(state, addresses, observer))?;
    if ids.contains(&meta.node_id()) {
        return Err(Error::conflict(format!(
            "frontend {} leads the cluster and cannot be dropped: stop it first, another takes over, then drop it",
            context.config.grpc_address()
        )));
    }
    let voters = membership::voters(meta);
    let alive = alive(context, &voters).await;
    if let Some(why) = membership::loses_quorum(&voters, &ids, &alive) {
        return Err(Error::conflict(format!("dropping {} would lose the majority: {why}", addresses.join(", "))));
    }
    meta.propose(Command::DropFrontends { ids: ids.clone() }).await?;
    membership::gone(meta, &ids).await?;
    Ok(Answer::ok())
}

fn find(state: &State, addresses: &[String], observer: bool) -> Result<Vec<NodeId>> {
    let role = if observer { "OBSERVER" } else { "FOLLOWER" };
    let one = |address: &String| {
        let (host, port) = host_and_port(address)?;
        let found = state.frontend_at(&host, port).filter(|frontend| frontend.observer == observer);
        found.map(|frontend| frontend.id).ok_or_else(|| {
            let other =
                state.frontend_at(&host, port).map_or(String::new(), |other| format!("; it is {}", other.role()));
            Error::not_found(format!("frontend does not exist: {role} {host}:{port}{other}"))
        })
    };
    addresses.iter().map(one).collect()
}

/// Which of these answer now.
async fn alive(context: &Context, ids: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let meta = &context.meta;
    let known: Vec<(NodeId, String)> = meta.view(|state| {
        let of = |id: &NodeId| Some((*id, state.frontends.get(id)?.address()));
        ids.iter().filter_map(of).collect()
    });
    let ask = known.into_iter().map(|(id, address)| async move {
        if id == meta.node_id() {
            return Some(id);
        }
        let status = meta.peers()?.status(&address, limits::STATUS_WITHIN).await.ok()?;
        (status.node_id == id).then_some(id)
    });
    join_all(ask).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::apply::apply;

    #[test]
    fn frontends_are_found_by_address_and_role() {
        let mut state = State::default();
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        apply(&mut state, &add(&texts(&["a:9010", "b:9010"]), false).unwrap());
        apply(&mut state, &add(&texts(&["o:9010"]), true).unwrap());
        assert_eq!(find(&state, &texts(&["b:9010"]), false).unwrap(), [2]);
        assert_eq!(find(&state, &texts(&["o:09010"]), true).unwrap(), [3]);
        let error = find(&state, &texts(&["o:9010"]), false).unwrap_err();
        assert_eq!(error.message(), "frontend does not exist: FOLLOWER o:9010; it is OBSERVER");
        assert!(find(&state, &texts(&["x:1"]), false).is_err() && add(&texts(&["x"]), false).is_err());
    }
}
