//! Being asked to stop: Ctrl-C, or the signal that ends a process. Whoever waits here cleans up behind itself.

use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Do `work`, unless somebody asks to stop before it is done; then it is dropped where it is.
pub(crate) async fn unless<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut terminated = signal(SignalKind::terminate()).context(|| "listen for signals")?;
    let mut interrupted = signal(SignalKind::interrupt()).context(|| "listen for signals")?;
    tokio::select! {
        done = work => done,
        _ = interrupted.recv() => Err(Error::cancelled("interrupted")),
        _ = terminated.recv() => Err(Error::cancelled("terminated")),
    }
}
