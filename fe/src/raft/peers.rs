//! Calls to other frontends: channels, who speaks to whom, and what a refusal means.
//!
//! Every message names the cluster, its sender and its receiver. A frontend that is told that it was dropped remembers it;
//! its process then stops with that reason ([`Peers::expelled`]). Nothing here is durable.

use super::types::NodeId;
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use coffer_proto::channel::{Channels, MAX_MESSAGE_BYTES, MESSAGE_BYTES, connect};
use coffer_proto::status::from_status;
use coffer_proto::v1::peer_client::PeerClient;
use coffer_proto::v1::{self, RaftCall};
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// Channels kept; addresses of frontends rarely change.
const MAX_CHANNELS: usize = 4 * crate::limits::MAX_FRONTENDS;

/// When a frontend gave no answer for so long, it is called on a new connection, and again after as long: the old one may
/// be dead without anybody having been told, and would try to send ever more rarely.
const RENEW_AFTER: Duration = Duration::from_secs(1);

/// Who was not called for so long may be there again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3);

/// For how long a frontend counts as reached.
const REACHED_FOR: Duration = Duration::from_secs(1);

/// What a frontend is told that was dropped. No other refusal ends its process.
pub(super) const DROPPED: &str = "was dropped from cluster";

/// Between complaints about refusals.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Reaches other frontends; clones share channels.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    cluster_id: String,
    node_id: NodeId,
    channels: Channels,
    /// Who was called and gave no answer.
    silent: Mutex<HashMap<String, Silence>>,
    reached: Mutex<HashMap<(NodeId, String), Instant>>,
    expelled: watch::Sender<Option<Error>>,
    complained: Mutex<Option<Instant>>,
}

/// Of one address.
#[derive(Clone, Copy)]
struct Silence {
    since: Instant,
    /// When it was last called in vain.
    last: Instant,
    /// When it was last called on a new connection.
    renewed: Instant,
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that waits; whoever drops it before it is answered had no answer.
struct Call<'a> {
    peers: &'a Peers,
    address: &'a str,
    answered: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        match self.answered {
            true => drop(locked(&self.peers.inner.silent).remove(self.address)),
            false => self.peers.unanswered(self.address, Instant::now()),
        }
    }
}

impl Peers {
    /// Speaks for this frontend.
    pub(super) fn new(cluster_id: String, node_id: NodeId) -> Peers {
        let inner = Inner {
            cluster_id,
            node_id,
            channels: Channels::new(connect, MAX_CHANNELS),
            silent: Mutex::default(),
            reached: Mutex::default(),
            expelled: watch::Sender::new(None),
            complained: Mutex::default(),
        };
        Peers { inner: Arc::new(inner) }
    }

    /// The cluster this frontend belongs to.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// From here to `to`; 0: to whoever has the address.
    pub fn head(&self, to: NodeId) -> v1::PeerHead {
        v1::PeerHead { cluster_id: self.inner.cluster_id.clone(), from: self.inner.node_id, to }
    }

    /// The channel to "host:port", opened on first use.
    pub fn channel(&self, address: &str) -> Result<Channel> {
        self.inner.channels.to(address)
    }

    /// A call had no answer.
    fn unanswered(&self, address: &str, now: Instant) {
        let mut silent = locked(&self.inner.silent);
        if silent.len() >= MAX_CHANNELS {
            silent.clear();
        }
        let fresh = Silence { since: now, last: now, renewed: now };
        let known = silent.entry(address.to_owned()).or_insert(fresh);
        if now.saturating_duration_since(known.last) >= FORGOTTEN_AFTER {
            *known = fresh;
        }
        known.last = now;
        if now.saturating_duration_since(known.renewed) >= RENEW_AFTER {
            known.renewed = now;
            self.inner.channels.renew(address);
        }
    }

    /// For how long calls to this address had no answer, if it was called lately.
    pub fn silent(&self, address: &str) -> Duration {
        let known = locked(&self.inner.silent).get(address).copied();
        let lately = known.filter(|known| known.last.elapsed() < FORGOTTEN_AFTER);
        lately.map_or(Duration::ZERO, |known| known.since.elapsed())
    }

    fn client(&self, address: &str) -> Result<PeerClient<Channel>> {
        Ok(PeerClient::new(self.channel(address)?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// One message of the Raft protocol; `meta` and `body` as in `RaftHead` and `RaftChunk`.
    pub(super) async fn raft(
        &self,
        (to, address): (NodeId, &str),
        call: RaftCall,
        (meta, body): (Vec<u8>, Bytes),
        limit: Duration,
    ) -> Result<Bytes> {
        let head = v1::RaftHead {
            peer: Some(self.head(to)),
            call: call.into(),
            meta: meta.into(),
            body_bytes: body.len() as u64,
        };
        let mut client = self.client(address)?;
        let sent = client.raft(tokio_stream::iter(chunks(head, body)));
        self.answer((address, limit), sent).await.map(|reply| reply.body)
    }

    /// How the frontend at this address is.
    pub async fn status(&self, address: &str, limit: Duration) -> Result<v1::FrontendStatus> {
        let request = v1::StatusRequest { peer: Some(self.head(0)) };
        let mut client = self.client(address)?;
        self.answer((address, limit), client.status(request)).await
    }

    /// Ask the leader up to where a read must have applied the log.
    pub(super) async fn barrier(&self, (to, address): (NodeId, &str), limit: Duration) -> Result<u64> {
        let request = v1::BarrierRequest { peer: Some(self.head(to)) };
        let mut client = self.client(address)?;
        self.answer((address, limit), client.barrier(request)).await.map(|reply| reply.index)
    }

    /// Ask a voter whether it would vote for this frontend, whose log ends with `last` and which has `address`.
    pub(super) async fn pre_vote(
        &self,
        (voter, at): (NodeId, &str),
        (last, address): (Vec<u8>, String),
        limit: Duration,
    ) -> Result<v1::PreVoteReply> {
        let request = v1::PreVoteRequest { peer: Some(self.head(voter)), last: last.into(), address };
        let mut client = self.client(at)?;
        self.answer((at, limit), client.pre_vote(request)).await
    }

    /// Whether the frontend is reached at its address, now or a moment ago.
    pub(super) async fn reaches(&self, (id, address): (NodeId, &str), limit: Duration) -> Result<()> {
        let key = (id, address.to_owned());
        if locked(&self.inner.reached).get(&key).is_some_and(|reached| reached.elapsed() < REACHED_FOR) {
            return Ok(());
        }
        let request = v1::StatusRequest { peer: Some(self.head(id)) };
        let mut client = self.client(address)?;
        let status = self.answer((address, limit), client.status(request)).await?;
        if status.node_id != id || status.cluster_id != self.inner.cluster_id {
            let (other, cluster) = (status.node_id, status.cluster_id);
            return Err(Error::conflict(format!("frontend {other} of cluster {cluster} is at {address}, not {id}")));
        }
        let mut reached = locked(&self.inner.reached);
        reached.retain(|_, at| at.elapsed() < REACHED_FOR);
        reached.insert(key, Instant::now());
        Ok(())
    }

    /// Pass a newcomer's question on to the leader.
    pub(super) async fn join(&self, address: &str, request: v1::JoinRequest, limit: Duration) -> Result<v1::JoinReply> {
        let mut client = self.client(address)?;
        self.answer((address, limit), client.join(request)).await
    }

    /// Wait for an answer, at most `limit`; a refusal because this frontend was dropped is remembered.
    pub async fn answer<T>(
        &self,
        (address, limit): (&str, Duration),
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T> {
        let peer = format!("frontend {address}");
        let mut waiting = Call { peers: self, address, answered: false };
        let answered = match tokio::time::timeout(limit, call).await {
            Ok(answered) => {
                // What the connection says is no answer.
                waiting.answered = answered.as_ref().err().is_none_or(|status| status.source().is_none());
                answered.map_err(|status| from_status(&status, &peer))
            }
            Err(_) => Err(Error::timeout(format!("{peer}: no answer within {} ms", limit.as_millis()))),
        };
        drop(waiting);
        match answered.as_ref().err().map(|error| (error.kind(), error)) {
            Some((ErrorKind::Denied, error)) if error.message().contains(DROPPED) => {
                self.inner.expelled.send_replace(Some(error.clone()));
            }
            Some((ErrorKind::Conflict | ErrorKind::Invalid, error)) => self.complain(address, error),
            _ => {}
        }
        answered.map(Response::into_inner)
    }

    /// A refusal comes again with every heartbeat; it is told once in a while.
    fn complain(&self, address: &str, error: &Error) {
        let mut last = locked(&self.inner.complained);
        if last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            *last = Some(Instant::now());
            tracing::warn!(address, %error, "another frontend refuses to talk to this one");
        }
    }

    /// Wait until another frontend says that this one was dropped.
    pub(super) async fn expelled(&self) -> Error {
        let mut expelled = self.inner.expelled.subscribe();
        loop {
            if let Some(error) = expelled.borrow_and_update().clone() {
                return error;
            }
            if expelled.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A message cut into pieces of bounded size.
fn chunks(head: v1::RaftHead, mut body: Bytes) -> Vec<v1::RaftChunk> {
    let first = body.split_to(body.len().min(MESSAGE_BYTES));
    let mut chunks = vec![v1::RaftChunk { head: Some(head), body: first }];
    while !body.is_empty() {
        chunks.push(v1::RaftChunk { head: None, body: body.split_to(body.len().min(MESSAGE_BYTES)) });
    }
    chunks
}

/// Ask a frontend for the identity of a newcomer.
pub(super) async fn ask_to_join(helper: &str, request: v1::JoinRequest, limit: Duration) -> Result<v1::JoinReply> {
    Peers::new(String::new(), 0).join(helper, request, limit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_and_nothing_is_lost() {
        for (bytes, pieces) in [(0, 1), (1, 1), (MESSAGE_BYTES, 1), (MESSAGE_BYTES + 1, 2), (3 * MESSAGE_BYTES, 3)] {
            let body: Bytes = (0..bytes).map(|n| n as u8).collect::<Vec<u8>>().into();
            let chunks = chunks(v1::RaftHead::default(), body.clone());
            assert_eq!(chunks.len(), pieces);
            assert!(chunks[0].head.is_some() && chunks[1..].iter().all(|chunk| chunk.head.is_none()));
            let joined: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.body.to_vec()).collect();
            assert_eq!(joined, body.to_vec());
        }
    }

    #[tokio::test]
    async fn who_gives_no_answer_is_called_on_a_new_connection_every_second() {
        let peers = Peers::new("c".to_owned(), 7);
        let pending = || std::future::pending::<Result<Response<()>, Status>>();
        peers.answer(("h:1", Duration::ZERO), pending()).await.unwrap_err();
        let first = locked(&peers.inner.silent)["h:1"];
        assert_eq!(first.renewed, first.since);
        peers.unanswered("h:1", first.since + RENEW_AFTER / 2);
        assert_eq!(locked(&peers.inner.silent)["h:1"].renewed, first.since);
        peers.unanswered("h:1", first.since + RENEW_AFTER);
        let renewed = locked(&peers.inner.silent)["h:1"];
        assert_eq!((renewed.since, renewed.renewed), (first.since, first.since + RENEW_AFTER));
        // An error that the other one sent is an answer, one of the connection is none, nor is a call that was given up.
        let broken = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        peers.answer(("h:1", REACHED_FOR), async { Err::<Response<()>, _>(broken) }).await.unwrap_err();
        let given_up = peers.answer(("h:1", REACHED_FOR), pending());
        assert!(futures::FutureExt::now_or_never(given_up).is_none());
        assert!(locked(&peers.inner.silent).contains_key("h:1"));
        let refused = Status::unavailable("a majority does not answer");
        peers.answer(("h:1", REACHED_FOR), async { Err::<Response<()>, _>(refused) }).await.unwrap_err();
        assert_eq!(peers.silent("h:1"), Duration::ZERO);
    }

    #[tokio::test]
    async fn only_a_refusal_expels() {
        let peers = Peers::new("c".to_owned(), 7);
        let answer = |error: Error| async move { Err::<Response<()>, Status>(coffer_proto::status::to_status(&error)) };
        let limit = Duration::from_secs(10);
        peers.answer(("h:1", limit), answer(Error::conflict("other cluster"))).await.unwrap_err();
        assert!(peers.inner.expelled.borrow().is_none());
        peers.answer(("h:1", limit), answer(Error::denied("no certificate"))).await.unwrap_err();
        assert!(peers.inner.expelled.borrow().is_none());
        let dropped = format!("frontend 7 {DROPPED} c");
        peers.answer(("h:1", limit), answer(Error::denied(dropped.as_str()))).await.unwrap_err();
        assert_eq!(peers.expelled().await.message(), dropped);
        let late = peers.answer(("h:1", Duration::ZERO), std::future::pending::<Result<Response<()>, Status>>()).await;
        assert_eq!(late.unwrap_err().message(), "frontend h:1: no answer within 0 ms");
    }
}
