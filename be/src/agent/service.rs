//! Takes control streams. The first message must be a Hello of our cluster and of a term that is not over; the newest
//! accepted stream replaces the one before, so that two leaders never drive this backend at once.

use crate::agent::queue::{Deps, TaskQueue};
use crate::agent::report::{self, Process};
use crate::agent::session::Session;
use crate::cluster::Cluster;
use crate::limits::CONTROL_QUEUE;
use crate::sync;
use crate::tablet::TabletStore;
use crate::task::blocking;
use coffer_proto::status;
use coffer_proto::v1::agent_server::Agent;
use coffer_proto::v1::{self, backend_message, leader_message};
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// The Agent service.
#[derive(Debug, Clone)]
pub struct AgentService {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<TabletStore>,
    cluster: Arc<Cluster>,
    queue: Arc<TaskQueue>,
    shutdown: Shutdown,
    process: Process,
    current: Mutex<CancellationToken>,
}

impl AgentService {
    /// The service; tasks run in a queue of its own.
    pub fn new(deps: Deps, process: Process) -> AgentService {
        let shared = Shared {
            store: deps.store.clone(),
            cluster: deps.cluster.clone(),
            shutdown: deps.shutdown.clone(),
            queue: TaskQueue::new(deps),
            process,
            current: Mutex::new(CancellationToken::new()),
        };
        AgentService { shared: Arc::new(shared) }
    }

    /// Tasks waiting or running.
    pub fn running_tasks(&self) -> usize {
        self.shared.queue.running()
    }

    async fn open(
        &self,
        mut down: Streaming<v1::LeaderMessage>,
    ) -> Result<ReceiverStream<Result<v1::BackendMessage, Status>>> {
        let first = down.message().await.map_err(|error| status::from_status(&error, "leading frontend"))?;
        let Some(leader_message::Kind::Hello(hello)) = first.and_then(|message| message.kind) else {
            return Err(Error::invalid("the first message of a control stream must be Hello"));
        };
        let (cluster, store) = (self.shared.cluster.clone(), self.shared.store.clone());
        let (heartbeat_ms, term, frontend) = (hello.heartbeat_ms, hello.term, hello.frontend.clone());
        let process = self.shared.process.clone();
        let registered = blocking(move || {
            cluster.greet(&hello)?;
            report::registered(&process, &store)
        })
        .await?;
        tracing::info!(frontend, term, "leading frontend connected");
        let (up, receiver) = mpsc::channel(CONTROL_QUEUE);
        let first = v1::BackendMessage { kind: Some(backend_message::Kind::Registered(registered)) };
        // The receiver is right here and the queue is empty.
        let _ = up.send(Ok(first)).await;
        let replaced = CancellationToken::new();
        std::mem::replace(&mut *sync::lock(&self.shared.current), replaced.clone()).cancel();
        let session = Session {
            store: self.shared.store.clone(),
            cluster: self.shared.cluster.clone(),
            queue: self.shared.queue.clone(),
            up,
            heartbeat: Duration::from_millis(u64::from(heartbeat_ms)),
        };
        let shutdown = self.shared.shutdown.clone();
        self.shared.shutdown.spawn(async move {
            tokio::select! {
                ended = session.run(down) => tracing::info!(frontend, term, reason = %ended, "control stream ended"),
                () = replaced.cancelled() => tracing::info!(frontend, term, "control stream replaced by a newer one"),
                () = shutdown.begun() => {}
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

#[tonic::async_trait]
impl Agent for AgentService {
    type ControlStream = ReceiverStream<Result<v1::BackendMessage, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<v1::LeaderMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        match self.open(request.into_inner()).await {
            Ok(stream) => Ok(Response::new(stream)),
            Err(error) => {
                tracing::warn!(%error, "control stream refused");
                Err(status::to_status(&error))
            }
        }
    }
}
