//! Propose, read, watch, who leads: all that the rest of the frontend sees of Raft.

use crate::error::Result;
use crate::meta::apply::apply;
use crate::meta::command::{Command, Outcome};
use crate::meta::state::State;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// The replicated state and the way to change it. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    shared: Arc<Shared>,
    leadership: watch::Receiver<Leadership>,
    log: Log,
}

/// Who decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The Raft term.
    pub term: u64,
    /// Whether this frontend leads in it and has applied everything that earlier leaders committed.
    pub leading: bool,
}

#[derive(Clone)]
enum Log {
    /// No log: for tests.
    Memory(Arc<watch::Sender<Leadership>>),
}

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

    pub(super) fn announce(&self, index: u64) {
        self.applied.send_replace(index);
    }
}

impl Meta {
    /// A state without a log, bootstrapped, leading in term 1: for tests.
    pub fn in_memory() -> Meta {
        let mut state = State::default();
        apply(&mut state, &Command::Bootstrap { cluster_id: "test-cluster".to_owned() });
        let (sender, leadership) = watch::channel(Leadership { term: 1, leading: true });
        Meta { shared: Arc::new(Shared::new(state, 1)), leadership, log: Log::Memory(Arc::new(sender)) }
    }

    /// Make a change. Returns when it is durable and applied here; a refusal is an error.
    pub async fn propose(&self, command: Command) -> Result<Outcome> {
        match &self.log {
            Log::Memory(_) => {
                let (outcome, index) = self.shared.change(|state| {
                    let outcome = apply(state, &command);
                    (outcome, *self.shared.applied.borrow() + 1)
                });
                self.shared.announce(index);
                outcome.into_result()
            }
        }
    }

    /// Look at the state as applied here. Keep it short: changes wait meanwhile.
    pub fn view<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.shared.view(look)
    }

    /// Changes whenever entries were applied; the value is the index of the last one.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// Whether this frontend leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }
}
