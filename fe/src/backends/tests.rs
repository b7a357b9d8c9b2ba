//! The leader's end of the control stream against a backend that says what it is told to.

use super::*;
use crate::meta::command::{Command, Outcome};
use coffer_proto::channel;
use coffer_proto::v1::agent_server::{Agent, AgentServer};
use coffer_proto::v1::backend_message::Kind as Up;
use coffer_proto::v1::leader_message::Kind as Down;
use coffer_proto::v1::task::Work;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

const LIMIT: Duration = Duration::from_secs(20);

/// A backend that registers, reports one tablet, and answers tasks; its first `breaks` streams end at the first task.
#[derive(Clone, Default)]
struct Fake {
    breaks: usize,
    streams: Arc<AtomicUsize>,
    said: Arc<Mutex<Vec<String>>>,
    tablet: u64,
}

impl Fake {
    fn note(&self, what: String) {
        self.said.lock().unwrap().push(what);
    }

    fn heard(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    async fn serve(self, mut down: Streaming<v1::LeaderMessage>, up: mpsc::Sender<Result<v1::BackendMessage, Status>>) {
        let stream = self.streams.fetch_add(1, Ordering::SeqCst);
        let send = |kind: Up| up.send(Ok(v1::BackendMessage { kind: Some(kind) }));
        while let Ok(Some(message)) = down.message().await {
            match message.kind {
                Some(Down::Hello(hello)) => {
                    self.note(format!("hello {} {}", hello.cluster_id, hello.term));
                    let said = v1::Registered { http_port: 8040, jobs: vec![9_000], ..Default::default() };
                    send(Up::Registered(said)).await.unwrap();
                    let stat = v1::TabletStat { tablet_id: self.tablet, ..Default::default() };
                    let report = v1::TabletReport { tablets: vec![stat], first: true, last: true };
                    send(Up::Tablets(report)).await.unwrap();
                }
                Some(Down::Task(task)) => {
                    if stream < self.breaks {
                        return;
                    }
                    let work = match task.work {
                        Some(Work::Drop(drop)) => format!("drop {:?}", drop.tablet_ids),
                        Some(Work::Release(release)) => format!("release {}", release.job_id),
                        _ => task.id.clone(),
                    };
                    self.note(work);
                    let progress = Some(v1::Progress { files_done: 1, ..Default::default() });
                    send(Up::Progress(v1::TaskProgress { id: task.id.clone(), progress })).await.unwrap();
                    send(Up::Result(v1::TaskResult { id: task.id, ..Default::default() })).await.unwrap();
                }
                Some(Down::Cancel(cancel)) => self.note(format!("cancel {}", cancel.id)),
                None => {}
            }
        }
    }
}

#[tonic::async_trait]
impl Agent for Fake {
    type ControlStream = ReceiverStream<Result<v1::BackendMessage, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<v1::LeaderMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let (up, receiver) = mpsc::channel(16);
        tokio::spawn(self.clone().serve(request.into_inner(), up));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// A leader whose catalog has this backend.
async fn start_with(fake: &Fake) -> (Meta, Backends, BackendId, Shutdown) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = channel::server().add_service(AgentServer::new(fake.clone()));
    tokio::spawn(server.serve_with_incoming(channel::incoming(listener)));
    let (meta, shutdown) = (Meta::in_memory(), Shutdown::new());
    let backends = start(meta.clone(), Arc::new(Config::default()), shutdown.clone());
    let addresses = vec![("127.0.0.1".to_owned(), port)];
    let added = meta.propose(Command::AddBackends { addresses, now_ms: 1 }).await.unwrap();
    assert!(!matches!(added, Outcome::Refused { .. }));
    let backend = meta.view(|state| *state.backends.keys().next().unwrap());
    until(&backends, || backends.alive(backend)).await;
    (meta, backends, backend, shutdown)
}

/// Wait for what the registry or the fake must come to.
async fn until(backends: &Backends, holds: impl Fn() -> bool) {
    let mut changes = backends.changes();
    let wait = async {
        while !holds() {
            // A change that the registry does not announce shows a little later.
            let _ = tokio::time::timeout(Duration::from_millis(20), changes.changed()).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap();
}

fn release(job_id: u64) -> Work {
    Work::Release(v1::ReleaseJob { job_id })
}

#[tokio::test]
async fn a_new_backend_registers_and_does_tasks() {
    let fake = Fake::default();
    let (_meta, backends, backend, _shutdown) = start_with(&fake).await;
    let progress = AtomicUsize::new(0);
    let done = backends
        .run_with_progress(backend, "release/1/1".to_owned(), release(1), |told| {
            progress.fetch_add(told.files_done as usize, Ordering::SeqCst);
        })
        .await;
    assert_eq!(done, Ok(None));
    assert!(fake.heard().iter().any(|said| said == "hello test-cluster 1"));
    assert_eq!(backends.addresses()[0].http, "127.0.0.1:8040");
    let nobody = backends.run(BackendId(5), "x/1/1".to_owned(), release(1)).await;
    assert!(nobody.unwrap_err().message().contains("backend 5"));
}

#[tokio::test]
async fn a_task_survives_a_stream_that_breaks() {
    let fake = Fake { breaks: 2, ..Fake::default() };
    let (_meta, backends, backend, _shutdown) = start_with(&fake).await;
    assert_eq!(backends.run(backend, "release/7/1".to_owned(), release(7)).await, Ok(None));
    assert!(fake.streams.load(Ordering::SeqCst) >= 3);
}

#[tokio::test]
async fn what_nobody_claims_is_dropped_and_released() {
    // The first id of a new cluster is that of the backend: no tablet has it.
    let fake = Fake { tablet: crate::meta::state::FIRST_ID, ..Fake::default() };
    let (_meta, backends, backend, _shutdown) = start_with(&fake).await;
    let wanted = ["drop [10001]".to_owned(), "release 9000".to_owned()];
    until(&backends, || wanted.iter().all(|one| fake.heard().contains(one))).await;
    until(&backends, || backends.tablet_stat(TabletId(crate::meta::state::FIRST_ID), backend).is_none()).await;
}

#[tokio::test]
async fn a_backend_that_leaves_the_catalog_fails_its_tasks() {
    let fake = Fake { breaks: usize::MAX, ..Fake::default() };
    let (meta, backends, backend, _shutdown) = start_with(&fake).await;
    let running = {
        let backends = backends.clone();
        tokio::spawn(async move { backends.run(backend, "release/1/1".to_owned(), release(1)).await })
    };
    until(&backends, || fake.streams.load(Ordering::SeqCst) > 1).await;
    meta.propose(Command::DropBackends { backends: vec![backend] }).await.unwrap();
    let error = tokio::time::timeout(LIMIT, running).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), coffer_stdx::ErrorKind::Unavailable);
    assert_eq!(backends.presence(backend), Presence::Unknown);
}
