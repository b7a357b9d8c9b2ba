//! One control stream: messages of the leader to the queue; results, progress, heartbeats and reports to the leader.

use crate::agent::queue::TaskQueue;
use crate::agent::report;
use crate::cluster::Cluster;
use crate::limits::{PROGRESS_EVERY, REPORT_AFTER, REPORT_EVERY};
use crate::tablet::TabletStore;
use crate::task::blocking;
use coffer_proto::status;
use coffer_proto::v1::{self, backend_message::Kind, leader_message};
use coffer_stdx::{Error, Result};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::{Status, Streaming};

/// One stream's state.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) store: Arc<TabletStore>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) queue: Arc<TaskQueue>,
    pub(super) up: mpsc::Sender<Result<v1::BackendMessage, Status>>,
    pub(super) heartbeat: Duration,
}

impl Session {
    /// Run until the stream breaks; says why it did.
    pub(super) async fn run(self, down: Streaming<v1::LeaderMessage>) -> Error {
        let talk = async {
            tokio::select! {
                ended = self.listen(down) => ended,
                ended = self.beat() => ended,
                ended = self.deliver() => ended,
                ended = self.report() => ended,
            }
        };
        match talk.await {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    async fn send(&self, kind: Kind) -> Result<()> {
        let message = v1::BackendMessage { kind: Some(kind) };
        self.up.send(Ok(message)).await.map_err(|_| Error::unavailable("leading frontend: closed the stream"))
    }

    async fn listen(&self, mut down: Streaming<v1::LeaderMessage>) -> Result<Infallible> {
        loop {
            let message = down.message().await.map_err(|error| status::from_status(&error, "leading frontend"))?;
            let message = message.ok_or_else(|| Error::unavailable("leading frontend: closed the stream"))?;
            match message.kind {
                Some(leader_message::Kind::Hello(hello)) => {
                    let cluster = self.cluster.clone();
                    let greeted = blocking(move || cluster.greet(&hello)).await;
                    if let Err(error) = greeted {
                        // The leader learns it as the status that ends the stream.
                        let _ = self.up.send(Err(status::to_status(&error))).await;
                        return Err(error);
                    }
                }
                Some(leader_message::Kind::Task(task)) => self.queue.accept(task),
                Some(leader_message::Kind::Cancel(cancel)) => self.queue.cancel(&cancel.id),
                None => tracing::warn!("message of an unknown kind from the leading frontend ignored"),
            }
        }
    }

    async fn beat(&self) -> Result<Infallible> {
        let mut ticks = interval(self.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (store, running) = (self.store.clone(), self.queue.running());
            let heartbeat = blocking(move || Ok(report::heartbeat(&store, running))).await?;
            self.send(Kind::Heartbeat(heartbeat)).await?;
        }
    }

    async fn deliver(&self) -> Result<Infallible> {
        let mut ticks = interval(PROGRESS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some(result) = self.queue.peek_result() {
                let id = result.id.clone();
                self.send(Kind::Result(result)).await?;
                self.queue.delivered(&id);
            }
            tokio::select! {
                () = self.queue.wait_for_result() => {}
                _ = ticks.tick() => {
                    for progress in self.queue.progress() {
                        self.send(Kind::Progress(progress)).await?;
                    }
                }
            }
        }
    }

    async fn report(&self) -> Result<Infallible> {
        loop {
            let store = self.store.clone();
            let parts = blocking(move || Ok(report::tablets(&store))).await?;
            for part in parts {
                self.send(Kind::Tablets(part)).await?;
            }
            let next = Instant::now() + REPORT_EVERY;
            // Many changes at once make one report.
            if tokio::time::timeout_at(next, self.store.wait_for_change()).await.is_ok() {
                tokio::time::sleep(REPORT_AFTER).await;
            }
        }
    }
}
