//! Openraft's state machine: the state in memory, and its snapshots in one file.
//!
//! The state itself is never written in place: a restart reads the last snapshot and openraft applies the log behind it
//! again. The log is purged only up to a snapshot that is durable. A crash leaves the old snapshot or the new one under the
//! file's name. A snapshot that does not match its checksum stops the process with the name of the file.

use super::codec;
use super::types::{Entry, LogId, Membership, SnapshotMeta, Stop, TypeConfig, stop};
use crate::error::{Context, Error, Result};
use crate::meta::apply::apply;
use crate::meta::command::Outcome;
use crate::meta::state::State;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{BasicNode, EntryPayload, ErrorSubject, ErrorVerb, OptionalSend};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// The state as the state machine and its readers share it.
pub(super) struct Shared {
    state: RwLock<State>,
    applied: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(state: State, applied: u64) -> Shared {
        Shared { state: RwLock::new(state), applied: watch::Sender::new(applied) }
    }

    pub(super) fn view<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wake whoever watches.
    pub(super) fn announce(&self, index: u64) {
        self.applied.send_replace(index);
    }

    pub(super) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}

/// The state machine.
pub(super) struct Machine {
    shared: Arc<Shared>,
    path: PathBuf,
    last: Option<LogId>,
    membership: Membership,
}

/// What a snapshot file holds.
struct Image {
    meta: SnapshotMeta,
    /// JSON of the state.
    state: Vec<u8>,
}

impl Machine {
    /// Start from the last snapshot, or from nothing.
    pub(super) fn open(path: &Path) -> Result<Machine> {
        let Some(image) = read_image(path)? else {
            let shared = Arc::new(Shared::new(State::default(), 0));
            return Ok(Machine { shared, path: path.to_owned(), last: None, membership: Membership::default() });
        };
        let state = read_state(&image.state, path)?;
        let index = image.meta.last_log_id.map_or(0, |last| last.index);
        Ok(Machine {
            shared: Arc::new(Shared::new(state, index)),
            path: path.to_owned(),
            last: image.meta.last_log_id,
            membership: image.meta.last_membership,
        })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Up to where the snapshot read at the start reaches.
    pub(super) fn last_applied(&self) -> Option<LogId> {
        self.last
    }
}

/// Writes a snapshot of the state as it was when the builder was made.
pub(super) struct Builder {
    path: PathBuf,
    state: State,
    last: Option<LogId>,
    membership: Membership,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> std::result::Result<Snapshot<TypeConfig>, Stop> {
        let id = format!("{}-{}", self.last.map_or(0, |last| last.index), uuid::Uuid::new_v4());
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone(), snapshot_id: id };
        let (path, state, of) = (self.path.clone(), std::mem::take(&mut self.state), meta.clone());
        let bytes = off_runtime(move || {
            let bytes = serde_json::to_vec(&state).map_err(|error| Error::bug(format!("encode the state: {error}")))?;
            write_image(&path, &of, &bytes)?;
            Ok(bytes)
        })
        .await
        .map_err(|error| stop(ErrorSubject::Snapshot(None), ErrorVerb::Write, &error))?;
        tracing::info!(index = self.last.map(|last| last.index), bytes = bytes.len(), "metadata snapshot written");
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> std::result::Result<(Option<LogId>, Membership), Stop> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> std::result::Result<Vec<Outcome>, Stop>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        for entry in entries {
            self.last = Some(entry.log_id);
            outcomes.push(match entry.payload {
                EntryPayload::Blank => Outcome::Done,
                EntryPayload::Normal(command) => self.shared.change(|state| apply(state, &command)),
                EntryPayload::Membership(membership) => {
                    self.membership = Membership::new(Some(entry.log_id), membership);
                    Outcome::Done
                }
            });
        }
        self.shared.announce(self.last.map_or(0, |last| last.index));
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            path: self.path.clone(),
            state: self.shared.view(State::clone),
            last: self.last,
            membership: self.membership.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> std::result::Result<Box<Cursor<Vec<u8>>>, Stop> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> std::result::Result<(), Stop> {
        let (path, of, bytes) = (self.path.clone(), meta.clone(), snapshot.into_inner());
        let state = off_runtime(move || {
            let state = read_state(&bytes, &path)?;
            write_image(&path, &of, &bytes)?;
            Ok(state)
        })
        .await
        .map_err(|error| stop(ErrorSubject::Snapshot(None), ErrorVerb::Write, &error))?;
        self.shared.change(|current| *current = state);
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.shared.announce(self.last.map_or(0, |last| last.index));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> std::result::Result<Option<Snapshot<TypeConfig>>, Stop> {
        let path = self.path.clone();
        let image = off_runtime(move || read_image(&path))
            .await
            .map_err(|error| stop(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))?;
        Ok(image.map(|image| Snapshot { meta: image.meta, snapshot: Box::new(Cursor::new(image.state)) }))
    }
}

/// Blocking work on a thread of its own.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::bug(format!("a task on the metadata snapshot died: {error}"))))
}

/// The body of the file: one line of JSON that says what it is, then the state.
fn write_image(path: &Path, meta: &SnapshotMeta, state: &[u8]) -> Result<()> {
    let mut body = serde_json::to_vec(meta).map_err(|error| Error::bug(format!("encode a snapshot: {error}")))?;
    body.push(b'\n');
    body.extend_from_slice(state);
    coffer_stdx::fsx::write_durably(path, &codec::seal_file(&body))
}

fn read_image(path: &Path) -> Result<Option<Image>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(|| format!("read metadata snapshot {}", path.display())),
    };
    let body = codec::open_file(&bytes, path)?;
    let unreadable = |why: String| Error::corrupt(format!("metadata snapshot {} is damaged: {why}", path.display()));
    let line = body.iter().position(|byte| *byte == b'\n').ok_or_else(|| unreadable("it has no head".to_owned()))?;
    let meta: openraft::SnapshotMeta<u64, BasicNode> =
        serde_json::from_slice(&body[..line]).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some(Image { meta, state: body[line + 1..].to_vec() }))
}

fn read_state(bytes: &[u8], path: &Path) -> Result<State> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::corrupt(format!("metadata snapshot {} holds a state that cannot be read: {error}", path.display()))
    })
}
