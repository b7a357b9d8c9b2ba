//! Care for the key of the metadata's secrets, while the frontend runs: a new cluster gets one, one that was
//! copied here is read, and what an older version left in plain text is sealed by the leader.
//!
//! Nothing waits for it. A crash leaves plain properties plain, for the next start; the text that was plain stays in the log
//! until the next snapshot.

use crate::backends::Backends;
use crate::error::{Error, Result};
use crate::meta::command::{AlteredRepository, Command};
use crate::meta::state::State;
use crate::raft::{FIRST_NODE, Meta, NodeId};
use crate::vault::{Vault, is_plain_secret};
use coffer_stdx::shutdown::Shutdown;
use std::time::Duration;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Read the key. Where there is none, and nothing that needs one, the frontend that began the cluster makes it, or one that
/// is alone; others wait for a copy of it, so that a cluster has one key.
pub fn begin(meta: &Meta, vault: &Vault) -> Result<()> {
    if vault.load()? || !meta.leadership().borrow().leading || lacks_a_key(meta, vault) {
        return Ok(());
    }
    let frontends = meta.view(|state| state.frontends.len());
    if makes_a_key(meta.node_id(), frontends) { vault.create() } else { Ok(()) }
}

/// Whether a frontend makes a key by itself when it leads and finds none.
fn makes_a_key(node: NodeId, frontends: usize) -> bool {
    node == FIRST_NODE || frontends <= 1
}

/// Whether something is sealed with a key that is not here.
fn lacks_a_key(meta: &Meta, vault: &Vault) -> bool {
    meta.view(|state| state.repositories.values().any(|one| vault.lacks_key_of(&one.properties)))
}

/// Take in a key that was copied here, and seal what is plain, until shutdown.
pub async fn follow(meta: Meta, backends: Backends, shutdown: Shutdown) {
    let mut said = false;
    while !shutdown.is_begun() {
        match look(&meta, backends.vault()).await {
            Ok(()) => said = false,
            Err(error) if !said => {
                tracing::warn!(%error, "secrets of repositories");
                said = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(meta: &Meta, vault: &Vault) -> Result<()> {
    let mut lacks = lacks_a_key(meta, vault);
    if lacks {
        lacks = !vault.load()? || lacks_a_key(meta, vault);
    }
    if lacks {
        let advice = vault.advice();
        return Err(Error::not_found(format!("the metadata holds sealed secrets whose key is not here: {advice}")));
    }
    seal_what_is_plain(meta, vault).await
}

async fn seal_what_is_plain(meta: &Meta, vault: &Vault) -> Result<()> {
    if !meta.leadership().borrow().leading {
        return Ok(());
    }
    if !vault.is_ready() {
        begin(meta, vault)?;
    }
    if !vault.is_ready() {
        let advice = vault.advice();
        return Err(Error::not_found(format!("there is no key for secrets in the metadata here: {advice}")));
    }
    for change in meta.view(plain) {
        let properties = vault.seal(&change.properties)?;
        let repository = change.repository;
        meta.propose(Command::AlterRepository(AlteredRepository { properties, ..change })).await?;
        tracing::info!(%repository, "sealed secrets that an older version had left in plain text");
    }
    Ok(())
}

/// The plain secrets of each repository that has some.
fn plain(state: &State) -> Vec<AlteredRepository> {
    let of = state.repositories.values().map(|one| AlteredRepository {
        repository: one.id,
        properties: one.properties.clone().into_iter().filter(|(name, value)| is_plain_secret(name, value)).collect(),
        limits: Default::default(),
    });
    of.filter(|change| !change.properties.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::cluster::Access;
    use crate::meta::command::NewRepository;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn what_an_older_version_left_in_plain_text_is_sealed() {
        let meta = Meta::in_memory();
        let pairs = [("s3.secret_key", "hunter2"), ("s3.region", "x")];
        let properties: BTreeMap<String, String> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let new = NewRepository {
            name: "r".to_owned(),
            remote_name: "r".to_owned(),
            read_only: false,
            access: Access::S3,
            location: "s3://b".to_owned(),
            properties: properties.clone(),
            now_ms: 1,
            limits: None,
        };
        meta.propose(Command::CreateRepository(new)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let [kept, other] = ["metadata.key", "other.key"].map(|name| dir.path().join(name));
        let vault = Vault::at(kept.clone());
        assert_eq!(meta.view(plain).len(), 1);
        seal_what_is_plain(&meta, &vault).await.unwrap();
        let now = meta.view(|state| state.find_repository("r").unwrap().clone());
        assert!(meta.view(plain).is_empty() && now.limits.is_none());
        assert_eq!((now.properties["s3.region"].as_str(), vault.open(&now.properties).unwrap()), ("x", properties));
        let lost = Vault::at(other.clone());
        let told = look(&meta, &lost).await.unwrap_err();
        assert!(!lost.is_ready() && told.message().contains("other.key"), "a new key would open nothing: {told}");
        std::fs::copy(kept, other).unwrap();
        look(&meta, &lost).await.unwrap();
        assert!(lost.is_ready(), "a key that is copied is read");
    }

    #[test]
    fn a_cluster_has_one_key_whoever_leads_first() {
        assert!(makes_a_key(FIRST_NODE, 1) && makes_a_key(FIRST_NODE, 3) && makes_a_key(4, 1));
        assert!(!makes_a_key(2, 3), "it waits for a copy");
    }
}
