//! Frontends come and go.

use crate::catalog::cluster::Frontend;
use crate::error::{Error, Result};
use crate::limits::{MAX_FRONTEND_ID, MAX_FRONTENDS};
use crate::meta::command::Outcome;
use crate::meta::state::State;

/// A cluster of one frontend writes it down, or its new address.
pub(super) fn adopt(state: &mut State, id: u64, (host, port): (&str, u16), now_ms: u64) -> Result<Outcome> {
    if let Some(other) = state.frontends.keys().find(|known| **known != id) {
        return Err(Error::conflict(format!("frontend {other} is part of the cluster already")));
    }
    let known = state.frontends.get(&id);
    let frontend = Frontend {
        id,
        host: host.to_owned(),
        port,
        observer: false,
        added_ms: known.map_or(now_ms, |known| known.added_ms),
        token: Some(String::new()),
    };
    state.frontends.insert(id, frontend);
    state.next_frontend = state.next_frontend.max(id + 1);
    Ok(Outcome::Done)
}

pub(super) fn add(state: &mut State, addresses: &[(String, u16)], observer: bool, now_ms: u64) -> Result<Outcome> {
    for (at, (host, port)) in addresses.iter().enumerate() {
        if state.frontend_at(host, *port).is_some() || addresses[..at].iter().any(|(h, p)| h == host && p == port) {
            return Err(Error::already_exists(format!("frontend already exists: {host}:{port}")));
        }
    }
    if state.frontends.len() + addresses.len() > MAX_FRONTENDS {
        return Err(Error::limit(format!("a cluster has at most {MAX_FRONTENDS} frontends")));
    }
    let first = state.next_frontend.max(1);
    if first + addresses.len() as u64 > MAX_FRONTEND_ID {
        return Err(Error::limit(format!("ids of frontends end at {MAX_FRONTEND_ID}, and none is used twice")));
    }
    for (id, (host, port)) in (first..).zip(addresses) {
        let frontend = Frontend { id, host: host.clone(), port: *port, observer, added_ms: now_ms, token: None };
        state.frontends.insert(id, frontend);
        state.next_frontend = id + 1;
    }
    Ok(Outcome::Done)
}

/// One process per id, told apart by its token.
pub(super) fn join(state: &mut State, id: u64, token: &str) -> Result<Outcome> {
    let cluster = state.cluster_id.clone();
    let frontend = state.frontends.get_mut(&id).ok_or_else(|| unknown(id))?;
    match &frontend.token {
        Some(known) if known != token => Err(Error::conflict(format!(
            "a frontend has joined cluster {cluster} as {} before, with another metadata directory; when that one is lost, \
             ALTER SYSTEM DROP {role} \"{address}\" and ADD {role} \"{address}\" again",
            frontend.address(),
            role = frontend.role(),
            address = frontend.address(),
        ))),
        Some(_) => Ok(Outcome::Done),
        None => {
            frontend.token = Some(token.to_owned());
            Ok(Outcome::Done)
        }
    }
}

pub(super) fn drop(state: &mut State, ids: &[u64]) -> Result<Outcome> {
    if let Some(id) = ids.iter().find(|id| !state.frontends.contains_key(id)) {
        return Err(unknown(*id));
    }
    let stays = |frontend: &&Frontend| !frontend.observer && !ids.contains(&frontend.id);
    if !state.frontends.values().any(|frontend| stays(&frontend)) {
        return Err(Error::conflict("the last FOLLOWER cannot be dropped: nobody would be left to lead the cluster"));
    }
    state.frontends.retain(|id, _| !ids.contains(id));
    Ok(Outcome::Done)
}

fn unknown(id: u64) -> Error {
    Error::not_found(format!("frontend does not exist: {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn names(state: &State) -> Vec<(u64, String, &'static str)> {
        state.frontends.values().map(|one| (one.id, one.address(), one.role())).collect()
    }

    fn list(hosts: &[&str]) -> Vec<(String, u16)> {
        hosts.iter().map(|host| ((*host).to_owned(), 9010)).collect()
    }

    #[test]
    fn frontends_are_added_with_ids_of_their_own_and_dropped_down_to_one_follower() {
        let mut state = State::default();
        adopt(&mut state, 1, ("a", 9010), 5).unwrap();
        add(&mut state, &list(&["b", "c"]), false, 6).unwrap();
        add(&mut state, &list(&["o"]), true, 7).unwrap();
        let expected = [(1, "a", "FOLLOWER"), (2, "b", "FOLLOWER"), (3, "c", "FOLLOWER"), (4, "o", "OBSERVER")];
        assert_eq!(names(&state), expected.map(|(id, host, role)| (id, format!("{host}:9010"), role)));
        for twice in [list(&["b"]), list(&["n", "n"])] {
            assert_eq!(add(&mut state, &twice, false, 8).unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        assert!(adopt(&mut state, 1, ("z", 1), 9).unwrap_err().message().contains("frontend 2"));
        drop(&mut state, &[3]).unwrap();
        assert_eq!(drop(&mut state, &[3]).unwrap_err().kind(), ErrorKind::NotFound);
        add(&mut state, &list(&["c"]), false, 9).unwrap();
        assert_eq!(state.frontends.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert!(state.was_dropped(3) && !state.was_dropped(4) && !state.was_dropped(6));
        let refused = drop(&mut state, &[1, 2, 5]).unwrap_err();
        assert!(refused.message().contains("last FOLLOWER"), "{refused}");
        drop(&mut state, &[1, 5, 4]).unwrap();
        assert!(drop(&mut state, &[2]).is_err());
    }

    #[test]
    fn one_process_takes_an_id() {
        let mut state = State::default();
        adopt(&mut state, 1, ("a", 9010), 5).unwrap();
        adopt(&mut state, 1, ("moved", 9011), 6).unwrap();
        assert_eq!((state.frontends[&1].address().as_str(), state.frontends[&1].added_ms), ("moved:9011", 5));
        add(&mut state, &list(&["b"]), false, 6).unwrap();
        join(&mut state, 2, "t").unwrap();
        join(&mut state, 2, "t").unwrap();
        let other = join(&mut state, 2, "u").unwrap_err();
        assert!(other.message().contains("another metadata directory"), "{other}");
        assert_eq!(join(&mut state, 9, "t").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn there_are_only_so_many() {
        let mut state = State::default();
        let many: Vec<(String, u16)> = (0..=MAX_FRONTENDS).map(|n| (format!("h{n}"), 1)).collect();
        assert_eq!(add(&mut state, &many, false, 1).unwrap_err().kind(), ErrorKind::Limit);
        state.next_frontend = MAX_FRONTEND_ID;
        assert!(add(&mut state, &list(&["b"]), false, 1).unwrap_err().message().contains("ids of frontends end"));
    }
}
