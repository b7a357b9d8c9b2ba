//! Calls to other frontends: channels, who speaks to whom, and what a refusal means.
//!
//! Every message names the cluster, its sender and its receiver. A frontend that is told that it was dropped remembers it;
//! its process then stops with that reason ([`Peers::expelled`]). Nothing here is durable.

use super::types::NodeId;
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use coffer_proto::channel::{self, MAX_MESSAGE_BYTES, MESSAGE_BYTES};
use coffer_proto::status::from_status;
use coffer_proto::v1::peer_client::PeerClient;
use coffer_proto::v1::{self, RaftCall};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// Channels kept; addresses of frontends rarely change.
const MAX_CHANNELS: usize = 4 * crate::limits::MAX_FRONTENDS;

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
    channels: Mutex<HashMap<String, Channel>>,
    expelled: watch::Sender<Option<Error>>,
    complained: Mutex<Option<Instant>>,
}

impl Peers {
    /// Speaks for this frontend.
    pub(super) fn new(cluster_id: String, node_id: NodeId) -> Peers {
        let inner = Inner {
            cluster_id,
            node_id,
            channels: Mutex::default(),
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
        let mut channels = self.inner.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        if channels.len() >= MAX_CHANNELS {
            channels.clear();
        }
        let channel = channel::connect(address)?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
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
        let answered = match tokio::time::timeout(limit, call).await {
            Ok(answered) => answered.map_err(|status| from_status(&status, &peer)),
            Err(_) => Err(Error::timeout(format!("{peer}: no answer within {} ms", limit.as_millis()))),
        };
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
        let mut last = self.inner.complained.lock().unwrap_or_else(PoisonError::into_inner);
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
