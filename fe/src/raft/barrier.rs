//! Reads that see everything acknowledged before they began.
//!
//! A read first learns how far the log was committed when it began, from the leader, which makes sure that it still leads;
//! then it waits until that much is applied here. Reads that wait together ask once. Without a leader they wait a bounded
//! time; each has its own bound, also while others before it are being answered.

use super::core::Core;
use crate::error::{Error, Result};
use crate::limits;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Reads waiting for the next question.
const MAX_WAITING: usize = 4_096;

type Ask = oneshot::Sender<Result<()>>;

/// Where reads wait; clones share it.
#[derive(Clone)]
pub(super) struct Barrier {
    asks: mpsc::Sender<Ask>,
    /// Why the last question was not answered.
    trouble: watch::Receiver<Option<Error>>,
}

impl Barrier {
    /// Start answering.
    pub(super) fn start(core: Core) -> Barrier {
        let (asks, waiting) = mpsc::channel(MAX_WAITING);
        let (trouble, seen) = watch::channel(None);
        tokio::spawn(run(core, waiting, trouble));
        Barrier { asks, trouble: seen }
    }

    /// Wait until a read here is up to date.
    pub(super) async fn pass(&self, deadline: Instant) -> Result<()> {
        let passing = async {
            let gone = || Error::unavailable("the metadata log has stopped");
            let (ask, answer) = oneshot::channel();
            self.asks.send(ask).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        tokio::time::timeout_at(deadline, passing).await.unwrap_or_else(|_| {
            let trouble = self.trouble.borrow().clone();
            Err(no_leader(&trouble.unwrap_or_else(|| Error::timeout("the leader does not answer in time"))))
        })
    }
}

async fn run(core: Core, mut waiting: mpsc::Receiver<Ask>, trouble: watch::Sender<Option<Error>>) {
    let mut asks = Vec::new();
    while waiting.recv_many(&mut asks, MAX_WAITING).await > 0 {
        let answer = round(&core, &trouble).await;
        for ask in asks.drain(..) {
            // Who went away needs no answer.
            let _ = ask.send(answer.clone());
        }
    }
}

async fn round(core: &Core, trouble: &watch::Sender<Option<Error>>) -> Result<()> {
    let deadline = Instant::now() + limits::LEADER_WAIT;
    loop {
        let error = match core.read_index().await {
            Ok(index) => {
                trouble.send_replace(None);
                return core.applied(index, deadline).await;
            }
            Err(error) => error,
        };
        if !error.kind().is_transient() {
            return Err(error);
        }
        if Instant::now() >= deadline {
            return Err(no_leader(&error));
        }
        trouble.send_replace(Some(error));
        tokio::time::sleep(limits::LEADER_AGAIN).await;
    }
}

/// What a statement is told that waited for a leader in vain.
fn no_leader(cause: &Error) -> Error {
    Error::unavailable(format!(
        "Node catalog is not ready, please wait for a while. No leader answered within {} s: {cause}",
        limits::LEADER_WAIT.as_secs()
    ))
}
