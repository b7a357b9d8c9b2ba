//! One shutdown signal per process, and a gate that waits for what is still running.

use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handed to everything that runs; cloned freely.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A signal that nobody has raised yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Raise it.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it is raised.
    pub fn is_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Wait until it is raised.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// A token that is cancelled with this signal.
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }

    /// Run a task that [`Shutdown::finish`] waits for.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(future)
    }

    /// Raise it and wait for the tasks, at most `limit`. True when all ended.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.begin();
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }

    /// Raise it on SIGTERM or SIGINT.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("signal received, stopping");
            shutdown.begin();
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finish_waits_for_tasks() {
        let shutdown = Shutdown::new();
        let inner = shutdown.clone();
        let task = shutdown.spawn(async move {
            inner.begun().await;
            7
        });
        assert!(shutdown.finish(Duration::from_secs(5)).await);
        assert_eq!(task.await.unwrap(), 7);
    }
}
