//! The metadata directory: who may use it, and whose it is.
//!
//! ```text
//! <meta_dir>/lock       held by the running process
//! <meta_dir>/new        there while the log may be empty: from before the identity until the first entry is applied
//! <meta_dir>/identity   cluster id and node id, written once
//! <meta_dir>/log/       the Raft log and vote
//! <meta_dir>/joining    what a new frontend says when it joins a cluster, until it has an identity
//! <meta_dir>/snapshot   the state up to some entry
//! ```
//!
//! A crash during the first start leaves at most an identity and an empty log; the next start goes on from there. One
//! before the identity leaves at most `joining`, with which the next try gets the same answer, and `new`. An empty log without `new`
//! was lost: whoever went on with it would have forgotten votes and entries that others count on.

use super::types::NodeId;
use crate::error::{Context, Error, Result};
use coffer_stdx::fsx;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
/// Marks a directory whose log may be empty.
const NEW: &str = "new";
/// The id of the first frontend of a cluster.
pub const FIRST_NODE: NodeId = 1;

/// An opened metadata directory; dropping it lets another process in.
pub(super) struct Home {
    dir: PathBuf,
    pub(super) identity: Identity,
    _lock: File,
}

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    format: u32,
    pub(super) cluster_id: String,
    pub(super) node_id: NodeId,
}

/// A metadata directory as found.
pub(super) enum Found {
    /// It belongs to a frontend.
    Known(Home),
    /// It belongs to nobody yet.
    Fresh(Fresh),
}

/// A locked directory without an identity.
pub(super) struct Fresh {
    dir: PathBuf,
    lock: File,
}

impl Fresh {
    /// Begin a new cluster.
    pub(super) fn found(self) -> Result<Home> {
        let cluster_id = uuid::Uuid::new_v4().simple().to_string();
        self.belongs_to(cluster_id, FIRST_NODE)
    }

    /// What tells this directory from another that asks for the same id; the same in every try to join.
    pub(super) fn token(&self) -> Result<String> {
        let path = self.dir.join("joining");
        match std::fs::read_to_string(&path) {
            Ok(token) if !token.is_empty() => return Ok(token),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(|| format!("read {}", path.display()));
            }
            Ok(_) | Err(_) => {}
        }
        let token = uuid::Uuid::new_v4().simple().to_string();
        fsx::write_durably(&path, token.as_bytes())?;
        Ok(token)
    }

    /// Become this frontend.
    pub(super) fn belongs_to(self, cluster_id: String, node_id: NodeId) -> Result<Home> {
        fsx::write_durably(&self.dir.join(NEW), b"")?;
        let identity = Identity::write(&self.dir, cluster_id, node_id)?;
        Ok(Home { dir: self.dir, identity, _lock: self.lock })
    }
}

impl Home {
    /// Lock the directory and learn whose it is; a new one starts a new cluster.
    #[cfg(test)]
    pub(super) fn open(dir: &Path) -> Result<Home> {
        match Home::find(dir)? {
            Found::Known(home) => Ok(home),
            Found::Fresh(fresh) => fresh.found(),
        }
    }

    /// Lock the directory and learn whose it is.
    pub(super) fn find(dir: &Path) -> Result<Found> {
        fsx::create_dir(dir)?;
        let lock_path = dir.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.context(|| format!("open {}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::conflict(format!(
                    "metadata directory {} is in use by another frontend process; stop it first",
                    dir.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context(|| format!("lock {}", lock_path.display()));
            }
        }
        let dir = dir.to_owned();
        Ok(match identity(&dir)? {
            Some(identity) => Found::Known(Home { dir, identity, _lock: lock }),
            None => Found::Fresh(Fresh { dir, lock }),
        })
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(super) fn snapshot(&self) -> PathBuf {
        self.dir.join("snapshot")
    }

    /// Whether the log that was found, empty or not, may be this frontend's.
    pub(super) fn check_log(&self, empty: bool) -> Result<()> {
        if !empty || self.is_new()? {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "metadata directory {} belongs to frontend {} of cluster {}, but its log is gone: put the directory back as it \
             was last; else DROP this frontend, ADD it again and start it with --helper and an empty directory, or, when it \
             is the only one, import an exported image",
            self.dir.display(),
            self.identity.node_id,
            self.identity.cluster_id
        )))
    }

    /// Whether nothing of the log was applied yet, as far as is recorded.
    pub(super) fn is_new(&self) -> Result<bool> {
        self.dir.join(NEW).try_exists().context(|| format!("look into {}", self.dir.display()))
    }

    /// The log is no more empty, and never will be again.
    pub(super) fn settled(&self) -> Result<()> {
        fsx::remove(&self.dir.join(NEW))?;
        fsx::sync_dir(&self.dir)
    }

    /// Whether this frontend began its cluster.
    pub(super) fn is_first(&self) -> bool {
        self.identity.node_id == FIRST_NODE
    }
}

impl Identity {
    /// The identity in a directory, if it has one.
    pub(super) fn read(dir: &Path) -> Result<Option<Identity>> {
        let path = dir.join("identity");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(|| format!("read {}", path.display())),
        };
        let identity: Identity = serde_json::from_slice(&bytes)
            .map_err(|error| Error::corrupt(format!("identity file {}: {error}", path.display())))?;
        if identity.format != FORMAT {
            let (path, format) = (path.display(), identity.format);
            return Err(Error::not_supported(format!(
                "identity file {path} has format {format}, this program reads {FORMAT}"
            )));
        }
        Ok(Some(identity))
    }

    /// Make a directory that of this frontend; durable.
    pub(super) fn write(dir: &Path, cluster_id: String, node_id: NodeId) -> Result<Identity> {
        let identity = Identity { format: FORMAT, cluster_id, node_id };
        let bytes = serde_json::to_vec_pretty(&identity)
            .map_err(|error| Error::bug(format!("encode the identity: {error}")))?;
        fsx::write_durably(&dir.join("identity"), &bytes)?;
        Ok(identity)
    }
}

fn identity(dir: &Path) -> Result<Option<Identity>> {
    match Identity::read(dir)? {
        Some(identity) => Ok(Some(identity)),
        None => {
            if dir.join("log").try_exists().context(|| format!("look into {}", dir.display()))? {
                return Err(Error::corrupt(format!(
                    "metadata directory {} has a log but its identity file is gone",
                    dir.display()
                )));
            }
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    #[test]
    fn one_process_at_a_time_and_the_identity_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::open(dir.path()).unwrap();
        let refused = Home::open(dir.path()).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.message().contains("another frontend process"));
        let identity = first.identity.clone();
        drop(first);
        assert_eq!(Home::open(dir.path()).unwrap().identity, identity);
    }

    #[test]
    fn who_joins_says_the_same_in_every_try() {
        let dir = tempfile::tempdir().unwrap();
        let fresh = || match Home::find(dir.path()).unwrap() {
            Found::Fresh(fresh) => fresh,
            Found::Known(_) => panic!("it has no identity yet"),
        };
        let token = fresh().token().unwrap();
        assert_eq!(fresh().token().unwrap(), token);
        let home = fresh().belongs_to("c".to_owned(), 7).unwrap();
        assert!(!home.is_first());
        drop(home);
        let Found::Known(home) = Home::find(dir.path()).unwrap() else { panic!("it has an identity") };
        assert_eq!((home.identity.cluster_id.as_str(), home.identity.node_id), ("c", 7));
    }

    #[test]
    fn a_kill_between_the_marker_and_the_identity_costs_nothing() {
        for joins in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let fresh = || match Home::find(dir.path()).unwrap() {
                Found::Fresh(fresh) => fresh,
                Found::Known(_) => panic!("it has no identity yet"),
            };
            let token = joins.then(|| fresh().token().unwrap());
            fsx::write_durably(&dir.path().join(NEW), b"").unwrap();
            let home = match token {
                Some(token) => {
                    assert_eq!(fresh().token().unwrap(), token);
                    fresh().belongs_to("c".to_owned(), 7).unwrap()
                }
                None => fresh().found().unwrap(),
            };
            assert_eq!(home.is_first(), !joins);
            assert!(home.is_new().unwrap());
            home.check_log(true).unwrap();
            home.settled().unwrap();
            assert_eq!(home.check_log(true).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_damaged_or_missing_identity_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let identity = dir.path().join("identity");
        for content in ["{", r#"{"format":9,"cluster_id":"c","node_id":1}"#] {
            std::fs::write(&identity, content).unwrap();
            assert!(Home::open(dir.path()).err().unwrap().message().contains("identity"));
        }
        std::fs::remove_file(&identity).unwrap();
        std::fs::create_dir(dir.path().join("log")).unwrap();
        assert_eq!(Home::open(dir.path()).err().unwrap().kind(), ErrorKind::Corrupt);
    }
}
