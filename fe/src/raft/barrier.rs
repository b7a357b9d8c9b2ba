//! Reads that see everything acknowledged before they began.
//!
//! A read first learns how far the log was committed when it began, from the leader, which makes sure that it still leads;
//! then it waits until that much is applied here. Reads that wait together ask once. Without a leader they wait a bounded
//! time.

use super::core::Core;
use crate::error::{Error, Result};
use crate::limits;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Reads waiting for the next question.
const MAX_WAITING: usize = 4_096;

type Ask = oneshot::Sender<Result<()>>;

/// Where reads wait; clones share it.
#[derive(Clone)]
pub(super) struct Barrier {
    asks: mpsc::Sender<Ask>,
}

impl Barrier {
    /// Start answering.
    pub(super) fn start(core: Core) -> Barrier {
        let (asks, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(run(core, waiting));
        Barrier { asks }
    }

    /// Wait until a read here is up to date.
    pub(super) async fn pass(&self) -> Result<()> {
        let gone = || Error::unavailable("the metadata log has stopped");
        let (ask, answer) = oneshot::channel();
        self.asks.send(ask).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn run(core: Core, mut waiting: mpsc::Receiver<Ask>) {
    let mut asks = Vec::new();
    while waiting.recv_many(&mut asks, MAX_WAITING).await > 0 {
        let answer = round(&core).await;
        for ask in asks.drain(..) {
            // Who went away needs no answer.
            let _ = ask.send(answer.clone());
        }
    }
}

async fn round(core: &Core) -> Result<()> {
    let deadline = Instant::now() + limits::LEADER_WAIT;
    loop {
        let error = match core.read_index().await {
            Ok(index) => return core.applied(index, deadline).await,
            Err(error) => error,
        };
        if !error.kind().is_transient() {
            return Err(error);
        }
        if Instant::now() >= deadline {
            return Err(core.no_leader(&error));
        }
        tokio::time::sleep(limits::LEADER_AGAIN).await;
    }
}
