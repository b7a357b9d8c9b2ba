//! The metadata directory of a frontend that does not run: looked at, exported, made the only one of its cluster; and a new
//! directory from an exported image.
//!
//! What is read is everything this frontend has: its snapshot and every entry of its log, also such as the other frontends
//! may never have had. Nothing is written by looking. A crash during a recovery leaves the directory as it was, or with the
//! new snapshot: the recovery may be repeated, and what was before lies beside it as an image.

use super::home::Identity;
use super::image;
use super::log::{self, LogStore, entry_of};
use super::snapshot;
use super::types::{LogId, Membership, NodeId, SnapshotMeta, Vote};
use crate::catalog::cluster::Frontend;
use crate::error::{Context, Error, Result};
use crate::meta::apply::apply;
use crate::meta::state::State;
use coffer_stdx::fsx;
use openraft::storage::RaftLogStorage;
use openraft::{BasicNode, EntryPayload};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Terms by which a recovered frontend is ahead of whatever the others may still elect: backends refuse older terms.
const TERMS_AHEAD: u64 = 1_000;

/// A metadata directory nobody uses.
pub struct Offline {
    dir: PathBuf,
    identity: Identity,
    /// Everything applied.
    pub(super) state: State,
    /// Up to where, and who votes as of there.
    meta: SnapshotMeta,
    snapshot_reaches: Option<LogId>,
    committed: Option<LogId>,
    vote: Option<Vote>,
    _lock: File,
}

impl Offline {
    /// Lock the directory and read what it holds.
    pub fn open(dir: &Path) -> Result<Offline> {
        let lock = lock(dir)?;
        let identity = Identity::read(dir)?.ok_or_else(|| {
            Error::not_found(format!(
                "{} is not the metadata directory of a frontend: it has no identity",
                dir.display()
            ))
        })?;
        let (mut meta, mut state) = snapshot::load(&dir.join("snapshot"))?.unwrap_or_default();
        let snapshot_reaches = meta.last_log_id;
        let book = log::read(&dir.join("log"))?;
        if let Some(purged) = book.purged.filter(|purged| snapshot_reaches < Some(*purged)) {
            return Err(Error::corrupt(format!(
                "the snapshot in {} is missing or too old: the log behind it starts after entry {}",
                dir.display(),
                purged.index
            )));
        }
        for (index, slot) in book.range(snapshot_reaches.map_or(0, |last| last.index + 1), u64::MAX) {
            let entry = entry_of(index, slot)?;
            meta.last_log_id = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(command) => drop(apply(&mut state, &command)),
                EntryPayload::Membership(members) => {
                    meta.last_membership = Membership::new(Some(entry.log_id), members);
                }
            }
        }
        let (committed, vote) = (book.committed, book.vote);
        Ok(Offline { dir: dir.to_owned(), identity, state, meta, snapshot_reaches, committed, vote, _lock: lock })
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is known besides the state.
    pub fn about(&self) -> serde_json::Value {
        let index = |id: Option<LogId>| id.map(|id| id.index);
        let members = self.meta.last_membership.membership();
        let nodes: BTreeMap<String, &str> =
            members.nodes().map(|(id, node)| (id.to_string(), node.addr.as_str())).collect();
        serde_json::json!({
            "cluster_id": self.identity.cluster_id,
            "node_id": self.identity.node_id,
            "last_entry": index(self.meta.last_log_id),
            "known_committed": index(self.committed),
            "snapshot_reaches": index(self.snapshot_reaches),
            "term": self.vote.map(|vote| vote.leader_id().term),
            "voters": members.voter_ids().collect::<Vec<NodeId>>(),
            "frontends": nodes,
        })
    }

    /// Write everything into a new file.
    pub fn export(&self, path: &Path) -> Result<u64> {
        if path.try_exists().context(|| format!("look at {}", path.display()))? {
            return Err(Error::already_exists(format!("{} exists; choose another name", path.display())));
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}", fsx::TMP_SUFFIX));
        let aside = PathBuf::from(aside);
        let bytes = snapshot::write_image(&aside, &self.meta, &self.state)?;
        fsx::rename_durably(&aside, path)?;
        Ok(bytes)
    }

    /// Make this frontend the only one of its cluster. Returns where what was before is kept, and the ids of the others.
    pub fn recover_single(mut self, address: &str) -> Result<(PathBuf, Vec<NodeId>)> {
        let id = self.identity.node_id;
        let last = self.meta.last_log_id.ok_or_else(|| {
            Error::not_found(format!(
                "{} holds no entry and no snapshot: there is nothing to recover",
                self.dir.display()
            ))
        })?;
        let before = self.dir.join(format!("before-recovery-{}.image", uuid::Uuid::new_v4().simple()));
        self.export(&before)?;
        let others = self.meta.last_membership.nodes().map(|(other, _)| *other).filter(|other| *other != id).collect();
        alone(&mut self.meta, &mut self.state, id, address);
        let store = snapshot::Store::open(&self.dir.join("snapshot"))?.0;
        store.replace(&self.meta, &self.state)?;
        let term = self.vote.map_or(0, |vote| vote.leader_id().term) + TERMS_AHEAD;
        write_log(&self.dir.join("log"), Vote::new(term, id), last)?;
        Ok((before, others))
    }
}

/// A new metadata directory from an exported image: a cluster of this one frontend.
pub fn import(dir: &Path, image_file: &Path, address: &str) -> Result<Offline> {
    let file = File::open(image_file).context(|| format!("open {}", image_file.display()))?;
    let (mut meta, mut state) = image::read(BufReader::new(file), image_file)?;
    fsx::create_dir(dir)?;
    let lock_file = lock(dir)?;
    let taken = std::fs::read_dir(dir).context(|| format!("list {}", dir.display()))?;
    let taken: Vec<String> = taken.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if let Some(name) = taken.iter().find(|name| !["lock", "metadata.key"].contains(&name.as_str())) {
        return Err(Error::already_exists(format!(
            "{} is not empty (it has {name}): an image is imported into a new directory",
            dir.display()
        )));
    }
    let last = meta.last_log_id.ok_or_else(|| Error::invalid("the image is of a frontend that had nothing"))?;
    // An id that nobody has or had: whoever was dropped must not take it for its own.
    let known = meta.last_membership.nodes().map(|(id, _)| *id).chain(state.frontends.keys().copied()).max();
    let id = state.next_frontend.max(known.unwrap_or(0) + 1);
    alone(&mut meta, &mut state, id, address);
    // The identity last: without it the directory is nobody's, and the import can be repeated.
    snapshot::Store::open(&dir.join("snapshot"))?.0.replace(&meta, &state)?;
    write_log(&dir.join("log"), Vote::new(last.leader_id.term + TERMS_AHEAD, id), last)?;
    Identity::write(dir, state.cluster_id, id)?;
    drop(lock_file);
    Offline::open(dir)
}

fn alone(meta: &mut SnapshotMeta, state: &mut State, id: NodeId, address: &str) {
    // The others count as dropped: they are refused by name when they come.
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let (host, port) = (host.to_owned(), port.parse().unwrap_or(0));
    let next = state.frontends.keys().max().map_or(0, |last| last + 1);
    let own = Frontend { id, host, port, observer: false, added_ms: 0, token: Some(String::new()) };
    state.next_frontend = state.next_frontend.max(next).max(id + 1);
    state.frontends = BTreeMap::from([(id, own)]);
    let nodes = BTreeMap::from([(id, BasicNode::new(address))]);
    let members = openraft::Membership::new(vec![BTreeSet::from([id])], nodes);
    meta.last_membership = Membership::new(meta.last_log_id, members);
    meta.snapshot_id = format!("{}-{}", meta.last_log_id.map_or(0, |last| last.index), uuid::Uuid::new_v4());
}

/// The vote, and nothing before the snapshot.
fn write_log(dir: &Path, vote: Vote, purged: LogId) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut log = LogStore::open(dir)?;
        let failed = |error: super::types::Stop| Error::unavailable(format!("write {}: {error}", dir.display()));
        log.save_vote(&vote).await.map_err(failed)?;
        log.truncate(LogId::new(purged.leader_id, purged.index + 1)).await.map_err(failed)?;
        log.purge(purged).await.map_err(failed)
    })
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.context(|| format!("open {}; is {} a metadata directory?", path.display(), dir.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::conflict(format!(
            "metadata directory {} is in use by a frontend process; stop it first, or copy the directory",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(error).context(|| format!("lock {}", path.display())),
    }
}
