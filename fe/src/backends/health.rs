//! Whether repositories answer: each is opened now and then, along the way that statements take.
//!
//! All are looked at when the catalog's list of them changes, when a backend or broker comes or goes, and every
//! `repository_check_s`. What was found is for SHOW REPOSITORIES only; nothing waits for it.

use super::Backends;
use crate::catalog::cluster::Repository;
use crate::raft::Meta;
use coffer_proto::ids::RepositoryId;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, Result, retry};
use coffer_store::LocalAccess;
use futures::{StreamExt, stream};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One look may take so long.
const LOOK_WITHIN: Duration = Duration::from_secs(15);
/// Looks under way.
const LOOKS: usize = 8;
/// Changes that come together make one round.
const SETTLE: Duration = Duration::from_millis(200);

/// What was found at the last look; repositories that answered are not in it.
#[derive(Debug, Default)]
pub(super) struct Health {
    faults: Mutex<BTreeMap<RepositoryId, Fault>>,
}

/// A repository that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When it was looked at, milliseconds since the epoch.
    pub at_ms: u64,
    /// Why.
    pub message: String,
}

impl Health {
    fn faults(&self) -> MutexGuard<'_, BTreeMap<RepositoryId, Fault>> {
        // Nothing panics while it holds the lock.
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a repository did not answer, if it did not.
    pub(super) fn fault(&self, repository: RepositoryId) -> Option<Fault> {
        self.faults().get(&repository).cloned()
    }

    /// Take in what a look found.
    pub(super) fn found(&self, repository: RepositoryId, outcome: Result<()>, now_ms: u64) {
        let mut faults = self.faults();
        match outcome {
            Ok(()) => drop(faults.remove(&repository)),
            Err(error) => {
                let message = error.message().to_owned();
                faults.insert(repository, Fault { at_ms: now_ms, message });
            }
        }
    }

    fn keep(&self, repositories: &[Repository]) {
        self.faults().retain(|id, _| repositories.iter().any(|repository| repository.id == *id));
    }
}

/// Look at all repositories until shutdown.
pub(super) async fn follow(meta: Meta, backends: Backends, shutdown: Shutdown) {
    let every = Duration::from_secs(backends.hub.config.repository_check_s);
    let (mut applied, mut changes) = (meta.applied(), backends.changes());
    loop {
        changes.borrow_and_update();
        let known: Vec<Repository> = meta.view(|state| state.repositories.values().cloned().collect());
        backends.hub.health.keep(&known);
        let round = stream::iter(&known).for_each_concurrent(LOOKS, |repository| look(&meta, &backends, repository));
        tokio::select! {
            () = round => (),
            () = shutdown.begun() => return,
        }
        let due = tokio::time::sleep(every);
        tokio::pin!(due);
        let something = async {
            loop {
                tokio::select! {
                    changed = applied.changed() => if changed.is_err() { return },
                    changed = changes.changed() => { if changed.is_ok() { tokio::time::sleep(SETTLE).await } return }
                    () = &mut due => return,
                }
                if meta.view(|state| !state.repositories.values().eq(known.iter())) {
                    return;
                }
            }
        };
        tokio::select! {
            () = something => (),
            () = shutdown.begun() => return,
        }
    }
}

async fn look(meta: &Meta, backends: &Backends, repository: &Repository) {
    let config = &backends.hub.config;
    let opening = async {
        let mut spec = meta.view(|state| backends.storage(state, repository, (&config.host, 0)))?;
        spec.patience_ms = u32::try_from(LOOK_WITHIN.as_millis()).unwrap_or(u32::MAX) / 2;
        let store = coffer_store::open(
            &spec,
            &LocalAccess { roots: config.local_roots.clone(), conf_dir: config.conf_dir.clone() },
        )?;
        coffer_repo::Repository::open(store, &repository.remote_name).await.map(|_| ())
    };
    let late = || Error::timeout(format!("no answer within {} s", LOOK_WITHIN.as_secs()));
    let outcome = retry::within(LOOK_WITHIN, late, opening).await;
    if let Err(error) = &outcome {
        tracing::debug!(repository = repository.name, %error, "a repository does not answer");
    }
    backends.hub.health.found(repository.id, outcome, now_ms());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_stays_until_the_repository_answers_or_goes() {
        let health = Health::default();
        let (one, two) = (RepositoryId(1), RepositoryId(2));
        health.found(one, Err(Error::unavailable("refused")), 7);
        health.found(two, Err(Error::unavailable("refused")), 8);
        assert_eq!(health.fault(one), Some(Fault { at_ms: 7, message: "refused".to_owned() }));
        health.found(one, Ok(()), 9);
        assert_eq!(health.fault(one), None);
        health.keep(&[]);
        assert_eq!(health.fault(two), None);
    }
}
