//! openraft's network: its messages to other frontends, over the `Peer` service.
//!
//! openraft gives each AppendEntries no longer than [`crate::limits::APPEND_WITHIN`] and then sends it again. An entry of many
//! megabytes (a table or job of hundreds of thousands of tablets) may take longer than that: such a message goes on in the
//! background, accompanied by empty messages that tell the follower that its leader lives, and the next try picks up its
//! answer instead of sending it again.

use super::peers::Peers;
use super::types::{Entry, LogId, NodeId, TypeConfig};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use coffer_proto::v1::RaftCall;
use openraft::error::{
    InstallSnapshotError, NetworkError, PayloadTooLarge, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{BasicNode, Vote};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Bytes of entries sent together; a single larger entry goes alone.
const BATCH_BYTES: usize = 2 << 20;
/// From here on a message goes on in the background.
const LARGE_BYTES: usize = 256 << 10;
/// How long a large message may take.
const LARGE_WITHIN: Duration = Duration::from_secs(120);
/// Between the signs of life that accompany a large message.
const ALIVE_EVERY: Duration = Duration::from_millis(100);
/// Between tries to reach a frontend that does not answer.
const AGAIN: Duration = Duration::from_millis(250);

/// What of an AppendEntries is not in its body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AppendMeta {
    pub(super) vote: Vote<NodeId>,
    pub(super) prev: Option<LogId>,
    pub(super) commit: Option<LogId>,
}

/// What of a piece of a snapshot is not in its body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PieceMeta {
    pub(super) vote: Vote<NodeId>,
    pub(super) meta: super::types::SnapshotMeta,
    pub(super) offset: u64,
    pub(super) done: bool,
}

/// Makes connections.
pub(super) struct Network {
    pub(super) peers: Peers,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Connection {
        let way = Way { peers: self.peers.clone(), target, address: node.addr.clone() };
        Connection { way, large: None }
    }
}

/// A connection to one frontend.
pub(super) struct Connection {
    way: Way,
    large: Option<Large>,
}

/// A large message on its way.
struct Large {
    vote: Vote<NodeId>,
    prev: Option<LogId>,
    last: LogId,
    answer: JoinHandle<Result<Answered>>,
}

impl Drop for Large {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

type Answered = std::result::Result<AppendEntriesResponse<NodeId>, RaftError<NodeId>>;
type Failed<E = openraft::error::Infallible> = RPCError<NodeId, BasicNode, RaftError<NodeId, E>>;

#[derive(Clone)]
struct Way {
    peers: Peers,
    target: NodeId,
    address: String,
}

impl Way {
    async fn call<M: Serialize, R: DeserializeOwned>(
        &self,
        call: RaftCall,
        (meta, body): (&M, Bytes),
        limit: Duration,
    ) -> Result<R> {
        let meta = serde_json::to_vec(meta).map_err(|error| Error::bug(format!("encode a message: {error}")))?;
        let reply = self.peers.raft((self.target, &self.address), call, (meta, body), limit).await?;
        serde_json::from_slice(&reply)
            .map_err(|error| Error::bug(format!("frontend {}: an answer cannot be read: {error}", self.address)))
    }

    async fn append(&self, meta: AppendMeta, body: Bytes, limit: Duration) -> Result<Answered> {
        self.call(RaftCall::Append, (&meta, body), limit).await
    }

    /// Send a large message; meanwhile say again and again that the leader lives.
    async fn append_large(self, meta: AppendMeta, body: Bytes) -> Result<Answered> {
        let alive = AppendMeta { vote: meta.vote, prev: None, commit: None };
        let sending = self.append(meta, body, LARGE_WITHIN);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                answered = &mut sending => return answered,
                () = tokio::time::sleep(ALIVE_EVERY) => {
                    // Whatever is wrong shows in the answer to the message itself.
                    let _ = self.append(alive.clone(), Bytes::new(), ALIVE_EVERY).await;
                }
            }
        }
    }

    fn failed<E: std::error::Error>(&self, error: &Error) -> Failed<E> {
        match error.kind() {
            ErrorKind::Timeout => NetworkError::new(error).into(),
            _ => Unreachable::new(error).into(),
        }
    }

    fn remote<E: std::error::Error>(&self, error: RaftError<NodeId, E>) -> Failed<E> {
        RemoteError::new(self.target, error).into()
    }
}

/// Entries as the body of a message, as many as fit together.
enum Body {
    All(Bytes),
    TooMany { fit: u64 },
}

fn body(entries: &[Entry]) -> Result<Body> {
    let mut bytes = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        serde_json::to_writer(&mut bytes, entry).map_err(|error| Error::bug(format!("encode an entry: {error}")))?;
        bytes.push(b'\n');
        if number > 0 && bytes.len() > BATCH_BYTES {
            return Ok(Body::TooMany { fit: number as u64 });
        }
    }
    Ok(Body::All(bytes.into()))
}

/// The entries of a body.
pub(super) fn entries(body: &[u8]) -> Result<Vec<Entry>> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::invalid(format!("an entry of the metadata log cannot be read: {error}")))
}

impl Connection {
    /// Wait for the large message on its way, if it is the beginning of what is to be sent now.
    async fn awaited(&mut self, rpc: &AppendEntriesRequest<TypeConfig>) -> Option<Result<Answered>> {
        let large = self.large.as_mut()?;
        let last = rpc.entries.last().map(|entry| entry.log_id)?;
        if large.vote != rpc.vote || large.prev != rpc.prev_log_id || large.last > last {
            self.large = None;
            return None;
        }
        // Not taken out before it has answered: openraft may drop this future meanwhile and come again.
        let answer = (&mut large.answer).await;
        let covered = large.last;
        self.large = None;
        let answer = answer.unwrap_or_else(|error| Err(Error::unavailable(format!("a large message died: {error}"))));
        Some(match answer {
            Ok(Ok(AppendEntriesResponse::Success)) if covered < last => {
                Ok(Ok(AppendEntriesResponse::PartialSuccess(Some(covered))))
            }
            other => other,
        })
    }
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failed> {
        if let Some(answer) = self.awaited(&rpc).await {
            let answer = answer.map_err(|error| self.way.failed(&error))?;
            return answer.map_err(|error| self.way.remote(error));
        }
        let body = match body(&rpc.entries).map_err(|error| self.way.failed(&error))? {
            Body::All(body) => body,
            Body::TooMany { fit } => return Err(PayloadTooLarge::new_entries_hint(fit).into()),
        };
        let meta = AppendMeta { vote: rpc.vote, prev: rpc.prev_log_id, commit: rpc.leader_commit };
        let large = rpc.entries.last().filter(|_| body.len() > LARGE_BYTES).map(|entry| entry.log_id);
        let answer = if let Some(last) = large {
            let answer = tokio::spawn(self.way.clone().append_large(meta, body));
            self.large = Some(Large { vote: rpc.vote, prev: rpc.prev_log_id, last, answer });
            self.awaited(&rpc).await.unwrap_or_else(|| Err(Error::bug("a large message was lost")))
        } else {
            self.way.append(meta, body, option.hard_ttl()).await
        };
        answer.map_err(|error| self.way.failed(&error))?.map_err(|error| self.way.remote(error))
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failed<InstallSnapshotError>> {
        let meta = PieceMeta { vote: rpc.vote, meta: rpc.meta, offset: rpc.offset, done: rpc.done };
        type Reply = std::result::Result<Vote<NodeId>, RaftError<NodeId, InstallSnapshotError>>;
        let reply: Result<Reply> = self.way.call(RaftCall::Snapshot, (&meta, rpc.data.into()), option.hard_ttl()).await;
        let vote = reply.map_err(|error| self.way.failed(&error))?.map_err(|error| self.way.remote(error))?;
        Ok(InstallSnapshotResponse { vote })
    }

    async fn vote(&mut self, rpc: VoteRequest<NodeId>, option: RPCOption) -> Result<VoteResponse<NodeId>, Failed> {
        let meta = (rpc.vote, rpc.last_log_id);
        type Reply = std::result::Result<(Vote<NodeId>, bool, Option<LogId>), RaftError<NodeId>>;
        let reply: Result<Reply> = self.way.call(RaftCall::Vote, (&meta, Bytes::new()), option.hard_ttl()).await;
        let reply = reply.map_err(|error| self.way.failed(&error))?;
        let (vote, vote_granted, last_log_id) = reply.map_err(|error| self.way.remote(error))?;
        Ok(VoteResponse { vote, vote_granted, last_log_id })
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(AGAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::command::Command;
    use openraft::{CommittedLeaderId, EntryPayload};

    fn entry(index: u64, bytes: usize) -> Entry {
        let command = Command::CreateDatabase { name: "x".repeat(bytes) };
        Entry { log_id: LogId::new(CommittedLeaderId::new(1, 1), index), payload: EntryPayload::Normal(command) }
    }

    #[test]
    fn entries_read_back_and_too_many_are_cut_before_the_one_that_does_not_fit() {
        let few = [entry(1, 10), entry(2, 20)];
        let Ok(Body::All(bytes)) = body(&few) else { panic!("it fits") };
        assert_eq!(entries(&bytes).unwrap(), few);
        assert!(entries(b"{").is_err() && entries(b"").unwrap().is_empty());
        let large = [entry(1, BATCH_BYTES * 2)];
        assert!(matches!(body(&large), Ok(Body::All(_))), "a single entry always goes");
        let many = [entry(1, 10), entry(2, BATCH_BYTES / 2), entry(3, BATCH_BYTES / 2), entry(4, 1)];
        assert!(matches!(body(&many), Ok(Body::TooMany { fit: 2 })));
    }
}
