//! Openraft's state machine: the state in memory, and its snapshots in one file.
//!
//! The state itself is never written in place: a restart reads the last snapshot and openraft applies the log behind it
//! again. The log is purged only up to a snapshot that is durable. A snapshot is written from a copy of the state, which
//! costs a few reference counts ([`Map`](crate::catalog::map::Map)); entries are applied meanwhile. A crash leaves the old
//! snapshot or the new one. A snapshot that does not match its checksums stops the process with the name of the file.

use super::figures::{Figures, SnapshotFigures};
use super::log::LogCounters;
use super::snapshot::{SnapshotFile, Store};
use super::types::{Entry, LogId, Membership, SnapshotMeta, Stop, TypeConfig, stop};
use crate::error::{Error, Result};
use crate::meta::apply::apply;
use crate::meta::command::Outcome;
use crate::meta::state::State;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, ErrorSubject, ErrorVerb, OptionalSend};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The state as the state machine and its readers share it.
pub(super) struct Shared {
    state: RwLock<State>,
    applied: watch::Sender<u64>,
    snapshots: Mutex<SnapshotFigures>,
    log: OnceLock<Arc<LogCounters>>,
}

impl Shared {
    pub(super) fn new(state: State, applied: u64) -> Shared {
        Shared {
            state: RwLock::new(state),
            applied: watch::Sender::new(applied),
            snapshots: Mutex::default(),
            log: OnceLock::new(),
        }
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

    /// The log whose figures are shown with those of the snapshots.
    pub(super) fn count(&self, log: Arc<LogCounters>) {
        // The first stays; there is one log per state.
        let _ = self.log.set(log);
    }

    /// What log and snapshots did since the start.
    pub(super) fn figures(&self) -> Figures {
        Figures::new(self.log.get(), *self.snapshots())
    }

    fn written(&self, bytes: u64, (took, held_up): (Duration, Duration)) {
        let mut figures = self.snapshots();
        *figures = SnapshotFigures { written: figures.written + 1, bytes, took, held_up, running: false };
    }

    fn snapshots(&self) -> MutexGuard<'_, SnapshotFigures> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state machine.
pub(super) struct Machine {
    shared: Arc<Shared>,
    store: Arc<Store>,
    last: Option<LogId>,
    membership: Membership,
}

impl Machine {
    /// Start from the last snapshot, or from nothing.
    pub(super) fn open(path: &Path) -> Result<Machine> {
        let (store, found) = Store::open(path)?;
        let (meta, state) = found.unwrap_or_default();
        let index = meta.last_log_id.map_or(0, |last| last.index);
        Ok(Machine {
            shared: Arc::new(Shared::new(state, index)),
            store: Arc::new(store),
            last: meta.last_log_id,
            membership: meta.last_membership,
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
    shared: Arc<Shared>,
    store: Arc<Store>,
    state: State,
    last: Option<LogId>,
    membership: Membership,
    held_up: Duration,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> std::result::Result<Snapshot<TypeConfig>, Stop> {
        let id = format!("{}-{}", self.last.map_or(0, |last| last.index), uuid::Uuid::new_v4());
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone(), snapshot_id: id };
        let (store, state, of) = (Arc::clone(&self.store), std::mem::take(&mut self.state), meta.clone());
        let begun = Instant::now();
        self.shared.snapshots().running = true;
        let written = off_runtime(move || store.write(&of, &state)).await;
        self.shared.snapshots().running = false;
        let bytes = written.map_err(|error| stop(ErrorSubject::Snapshot(None), ErrorVerb::Write, &error))?;
        let took = begun.elapsed();
        self.shared.written(bytes, (took, self.held_up));
        let index = self.last.map(|last| last.index);
        tracing::info!(index, bytes, ms = took.as_millis() as u64, "metadata snapshot written");
        match current(&self.store).await? {
            // A newer one was installed meanwhile: openraft goes on with that.
            Some((meta, file)) => Ok(Snapshot { meta, snapshot: Box::new(file) }),
            None => {
                let error = Error::corrupt("the metadata snapshot that was just written is gone");
                Err(stop(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))
            }
        }
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
        let begun = Instant::now();
        let state = self.shared.view(State::clone);
        Builder {
            shared: Arc::clone(&self.shared),
            store: Arc::clone(&self.store),
            state,
            last: self.last,
            membership: self.membership.clone(),
            held_up: begun.elapsed(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> std::result::Result<Box<SnapshotFile>, Stop> {
        let file = self.store.receive();
        file.map(Box::new).map_err(|error| stop(ErrorSubject::Snapshot(None), ErrorVerb::Write, &error))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotFile>,
    ) -> std::result::Result<(), Stop> {
        let failed = |error: Error| stop(ErrorSubject::Snapshot(None), ErrorVerb::Write, &error);
        let path = snapshot.received(&self.store).await.map_err(failed)?;
        let (store, of) = (Arc::clone(&self.store), meta.clone());
        let state = off_runtime(move || store.install(&path, &of)).await.map_err(failed)?;
        self.shared.change(|current| *current = state);
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.shared.announce(self.last.map_or(0, |last| last.index));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> std::result::Result<Option<Snapshot<TypeConfig>>, Stop> {
        let found = current(&self.store).await?;
        Ok(found.map(|(meta, file)| Snapshot { meta, snapshot: Box::new(file) }))
    }
}

async fn current(store: &Arc<Store>) -> std::result::Result<Option<(SnapshotMeta, SnapshotFile)>, Stop> {
    let store = Arc::clone(store);
    let found = off_runtime(move || store.current()).await;
    found.map_err(|error| stop(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))
}

/// Blocking work on a thread of its own.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::bug(format!("a task on the metadata snapshot died: {error}"))))
}
