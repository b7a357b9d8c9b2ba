//! One `Agent.Control` stream to every backend of the catalog, while this frontend leads.
//!
//! The supervisor follows leadership and the catalog: it opens a link for each backend, closes the links of backends that
//! left, and closes all when leadership ends; then every task on its way fails with `NotLeader`. A link says Hello with
//! the addresses of all backends and the limits of repositories (again whenever they change), waits for Registered, and then moves messages both ways.
//! It gives up when nothing was heard for `heartbeat_timeout_ms` and dials again after a delay that doubles up to two
//! seconds. A backend that was just added is dialled at once.

use super::hub::{Event, Hub};
use crate::catalog::cluster::{Access, Backend};
use crate::raft::{Leadership, Meta};
use coffer_proto::ids::{BackendId, TransactionId};
use coffer_proto::v1::agent_client::AgentClient;
use coffer_proto::v1::{self, backend_message, leader_message};
use coffer_proto::{channel, status};
use coffer_stdx::retry::Policy;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

/// How long a backend has to answer Hello.
const REGISTER_WITHIN: Duration = Duration::from_secs(5);
/// Messages on their way down one stream.
const DOWN_MESSAGES: usize = 64;
/// Delays between tries to reach a backend.
const REDIAL: Policy = Policy { attempts: u32::MAX, first_ms: 100, max_ms: 2_000 };

/// What every Hello has in common.
#[derive(Debug, Clone, Default, PartialEq)]
struct Common {
    cluster_id: String,
    term: u64,
    backends: Vec<v1::BackendAddress>,
    limits: Vec<v1::RateLimit>,
}

struct Links {
    hub: Arc<Hub>,
    shutdown: Shutdown,
    common: watch::Sender<Arc<Common>>,
    open: BTreeMap<BackendId, CancellationToken>,
    leadership: Leadership,
}

/// Follow leadership and the catalog until shutdown.
pub(super) async fn supervise(meta: Meta, hub: Arc<Hub>, shutdown: Shutdown) {
    let mut applied = meta.applied();
    let mut leadership = meta.leadership();
    let mut changes = hub.registry.changes();
    let mut links = Links {
        hub,
        shutdown: shutdown.clone(),
        common: watch::Sender::default(),
        open: BTreeMap::new(),
        leadership: Leadership::default(),
    };
    loop {
        applied.borrow_and_update();
        let now = *leadership.borrow_and_update();
        if now != links.leadership {
            links.close_all();
            links.leadership = now;
            links.hub.rates.lead(now.leading.then_some(now.term));
        }
        let moved = changes.has_changed().unwrap_or(false);
        changes.borrow_and_update();
        if links.leadership.leading {
            links.follow(&meta, moved);
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { break },
            changed = leadership.changed() => if changed.is_err() { break },
            _ = changes.changed() => (),
            () = shutdown.begun() => break,
        }
    }
    links.close_all();
}

impl Links {
    fn close_all(&mut self) {
        for token in std::mem::take(&mut self.open).into_values() {
            token.cancel();
        }
        self.hub.tasks.close_all(&Error::not_leader("this frontend does not lead any more"));
        self.hub.registry.clear();
    }

    /// Open and close links as the catalog says; tell all about addresses when backends came or went (`moved`).
    fn follow(&mut self, meta: &Meta, moved: bool) {
        let open = &self.open;
        let (cluster_id, added, gone, limits) = meta.view(|state| {
            let added: Vec<Backend> =
                state.backends.values().filter(|backend| !open.contains_key(&backend.id)).cloned().collect();
            let gone: Vec<BackendId> = open.keys().filter(|id| !state.backends.contains_key(id)).copied().collect();
            let direct = state.repositories.values().filter(|one| !matches!(one.access, Access::Broker(_)));
            let limits: Vec<_> = direct.filter_map(|repository| self.hub.limit(state, repository)).collect();
            (state.cluster_id.clone(), added, gone, limits)
        });
        for id in gone {
            if let Some(token) = self.open.remove(&id) {
                token.cancel();
            }
            self.hub.tasks.close(id, &Error::unavailable(format!("backend {id} left the cluster")));
            self.hub.registry.remove(id);
        }
        let stale = {
            let known = self.common.borrow();
            known.term != self.leadership.term || known.limits != limits
        };
        if moved || stale {
            let common = Common { cluster_id, term: self.leadership.term, backends: self.hub.addresses(), limits };
            self.common.send_if_modified(|current| {
                let differs = **current != common;
                if differs {
                    *current = Arc::new(common);
                }
                differs
            });
        }
        for backend in added {
            self.open(backend);
        }
    }

    fn open(&mut self, backend: Backend) {
        let token = self.shutdown.token();
        self.hub.registry.add(backend.id, &backend.address());
        self.hub.tasks.open(backend.id);
        let link = Link {
            id: backend.id,
            address: backend.address(),
            hub: Arc::clone(&self.hub),
            common: self.common.subscribe(),
        };
        self.open.insert(backend.id, token.clone());
        self.shutdown.spawn(async move { token.run_until_cancelled(link.keep_up()).await });
    }
}

/// The stream to one backend.
struct Link {
    id: BackendId,
    address: String,
    hub: Arc<Hub>,
    common: watch::Receiver<Arc<Common>>,
}

impl Link {
    async fn keep_up(mut self) {
        let mut failures = 0;
        loop {
            let mut registered = false;
            let Err(error) = self.session(&mut registered).await;
            failures = if registered { 0 } else { failures + 1 };
            if registered {
                tracing::warn!(backend = %self.id, address = %self.address, %error, "lost a backend");
                // Nobody listening is fine.
                let _ = self.hub.events.send(Event::Down { backend: self.id });
            } else {
                tracing::debug!(backend = %self.id, address = %self.address, %error, "cannot reach a backend");
            }
            self.hub.registry.down(self.id, error.message());
            tokio::time::sleep(REDIAL.ceiling(failures + 2)).await;
        }
    }

    fn peer(&self) -> String {
        format!("backend {}", self.address)
    }

    fn hello(&mut self) -> (v1::LeaderMessage, u64) {
        let common = Arc::clone(&self.common.borrow_and_update());
        let config = &self.hub.config;
        let hello = v1::Hello {
            cluster_id: common.cluster_id.clone(),
            backend_id: self.id.0,
            term: common.term,
            frontend: config.grpc_address(),
            heartbeat_ms: u32::try_from(config.heartbeat_ms).unwrap_or(u32::MAX),
            backends: common.backends.clone(),
            limits: common.limits.clone(),
        };
        (v1::LeaderMessage { kind: Some(leader_message::Kind::Hello(hello)) }, common.term)
    }

    /// Dial, register, and move messages until something breaks.
    async fn session(&mut self, registered: &mut bool) -> Result<std::convert::Infallible> {
        let (down, receiver) = mpsc::channel(DOWN_MESSAGES);
        let (hello, term) = self.hello();
        // The receiver is right here.
        let _ = down.send(hello).await;
        let mut client = AgentClient::new(channel::connect(&self.address)?)
            .max_decoding_message_size(channel::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(channel::MAX_MESSAGE_BYTES);
        let peer = self.peer();
        let silent =
            || Error::unavailable(format!("{peer}: no answer to Hello within {} s", REGISTER_WITHIN.as_secs()));
        let opening = async {
            let response = client.control(ReceiverStream::new(receiver)).await;
            let mut up = response.map_err(|error| status::from_status(&error, &peer))?.into_inner();
            let first = next(&mut up, &peer).await?;
            Ok::<_, Error>((up, first))
        };
        let (up, first) = timeout(REGISTER_WITHIN, opening).await.map_err(|_| silent())??;
        let backend_message::Kind::Registered(said) = first else {
            return Err(Error::bug(format!("{peer}: the first message is not Registered")));
        };
        *registered = true;
        self.welcome(&said);
        self.pump(down, up, term).await
    }

    fn welcome(&self, said: &v1::Registered) {
        tracing::info!(backend = %self.id, address = %self.address, version = %said.version, "backend is up");
        let before = self.hub.registry.status(self.id).map(|status| status.start_ms);
        if before != Some(said.start_time_ms) {
            self.hub.tasks.restarted(self.id);
        }
        self.hub.tasks.reconnected(self.id);
        self.hub.registry.up(self.id, said);
        self.hub.registry.jobs_held(self.id, &said.jobs);
        let staged = said.staged_transactions.iter().copied().map(TransactionId).collect();
        // Nobody listening is fine.
        let _ = self.hub.events.send(Event::Up { backend: self.id, staged });
    }

    async fn pump(
        &mut self,
        down: mpsc::Sender<v1::LeaderMessage>,
        mut up: Streaming<v1::BackendMessage>,
        term: u64,
    ) -> Result<std::convert::Infallible> {
        let (peer, silence) = (self.peer(), self.hub.config.heartbeat_timeout());
        let notify = self.hub.tasks.notify(self.id);
        let mut deadline = Instant::now() + silence;
        loop {
            let ready = self.hub.tasks.has_next(self.id);
            tokio::select! {
                message = timeout_at(deadline, next(&mut up, &peer)) => {
                    let quiet = |_| Error::unavailable(format!("{peer}: nothing heard for {} ms", silence.as_millis()));
                    self.take(message.map_err(quiet)??);
                    deadline = Instant::now() + silence;
                }
                // A full channel must not keep this end from reading, hence a permit and not a send.
                permit = down.reserve(), if ready => {
                    let permit = permit.map_err(|_| Error::unavailable(format!("{peer}: stream closed")))?;
                    if let Some(kind) = self.hub.tasks.next(self.id, term) {
                        permit.send(v1::LeaderMessage { kind: Some(kind) });
                    }
                }
                () = notify.notified(), if !ready => (),
                changed = self.common.changed() => {
                    changed.map_err(|_| Error::cancelled("this frontend stops"))?;
                    let (hello, _) = self.hello();
                    if down.try_send(hello).is_err() {
                        return Err(Error::unavailable(format!("{peer}: takes no messages")));
                    }
                }
            }
        }
    }

    fn take(&self, kind: backend_message::Kind) {
        let (registry, tasks) = (&self.hub.registry, &self.hub.tasks);
        match kind {
            backend_message::Kind::Registered(said) => registry.up(self.id, &said),
            backend_message::Kind::Heartbeat(said) => registry.heartbeat(self.id, said),
            backend_message::Kind::Progress(said) => tasks.progress(self.id, said),
            backend_message::Kind::Result(mut said) => {
                if let Some(v1::task_result::Output::Tablets(done)) = &mut said.output {
                    registry.advanced(self.id, std::mem::take(&mut done.stats));
                }
                tasks.finished(self.id, said);
            }
            backend_message::Kind::Tablets(said) => registry.report(self.id, said),
        }
    }
}

async fn next(up: &mut Streaming<v1::BackendMessage>, peer: &str) -> Result<backend_message::Kind> {
    let message = up.message().await.map_err(|error| status::from_status(&error, peer))?;
    let message = message.ok_or_else(|| Error::unavailable(format!("{peer}: closed the stream")))?;
    message.kind.ok_or_else(|| Error::bug(format!("{peer}: sent a message of a kind that this frontend does not know")))
}
