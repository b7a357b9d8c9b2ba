//! The gRPC service that other frontends call: Raft messages, newcomers, questions about this frontend.
//!
//! Whoever speaks is checked first: another cluster's frontends, frontends that were dropped, and messages meant for another
//! frontend are refused by name.

use super::core::Core;
use super::election;
use super::handle::{Leader, Meta};
use super::network::{AppendMeta, PieceMeta, entries};
use super::opening::Opening;
use super::peers::DROPPED;
use super::types::{LogId, NodeId};
use crate::error::{Error, Result};
use crate::limits;
use crate::meta::command::Command;
use coffer_proto::channel::MAX_MESSAGE_BYTES;
use coffer_proto::status::{from_status, to_status};
use coffer_proto::v1;
use coffer_proto::v1::RaftCall;
use coffer_proto::v1::peer_server::{Peer, PeerServer};
use openraft::Vote;
use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status, Streaming};

/// From here on entries are read on a thread of their own, bytes.
const LARGE_BYTES: usize = 256 << 10;

/// The service, ready to be added to a server.
pub fn service(meta: Meta) -> PeerServer<Service> {
    PeerServer::new(Service { meta })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Answers [`Peer`] calls.
pub struct Service {
    meta: Meta,
}

/// Refuse who has no business here.
pub fn check(meta: &Meta, peer: Option<&v1::PeerHead>) -> Result<()> {
    let peer = peer.ok_or_else(|| Error::invalid("a message between frontends that does not say who speaks"))?;
    let Some((core, opening)) = meta.core() else { return Ok(()) };
    let own = core.peers.cluster_id();
    if peer.cluster_id != own {
        return Err(Error::conflict(format!(
            "frontend {} belongs to cluster {}, frontend {} to cluster {own}: they do not talk to each other",
            peer.from, peer.cluster_id, opening.address
        )));
    }
    if peer.to != 0 && peer.to != core.node_id {
        return Err(Error::invalid(format!(
            "a message for frontend {} came to {}, which is frontend {}",
            peer.to, opening.address, core.node_id
        )));
    }
    // As long as it has a vote it must not go: a majority may need it to take that vote away.
    let is_member = || core.raft.metrics().borrow().membership_config.membership().get_node(&peer.from).is_some();
    if meta.view(|state| state.was_dropped(peer.from)) && !is_member() {
        return Err(Error::denied(format!(
            "frontend {} {DROPPED} {own}; to bring it back, ALTER SYSTEM ADD FOLLOWER or ADD OBSERVER again \
             and start it with --helper and an empty metadata directory",
            peer.from
        )));
    }
    Ok(())
}

impl Service {
    fn parts(&self) -> Result<(&Core, &Opening)> {
        self.meta.core().ok_or_else(|| Error::bug("this frontend has no log"))
    }

    async fn take(&self, mut chunks: Streaming<v1::RaftChunk>) -> Result<Vec<u8>> {
        let broken = |status: Status| from_status(&status, "another frontend");
        let first = chunks.message().await.map_err(broken)?.ok_or_else(|| Error::invalid("an empty message"))?;
        let head = first.head.ok_or_else(|| Error::invalid("a message without a head"))?;
        check(&self.meta, head.peer.as_ref())?;
        if head.body_bytes > limits::MAX_RAFT_MESSAGE_BYTES {
            let (bytes, most) = (head.body_bytes, limits::MAX_RAFT_MESSAGE_BYTES);
            return Err(Error::limit(format!(
                "a message of {bytes} bytes between frontends, at most {most} are taken"
            )));
        }
        let mut body = first.body.to_vec();
        while let Some(chunk) = chunks.message().await.map_err(broken)? {
            if (body.len() + chunk.body.len()) as u64 > head.body_bytes {
                return Err(Error::invalid("a message between frontends is longer than it says"));
            }
            body.extend_from_slice(&chunk.body);
        }
        if body.len() as u64 != head.body_bytes {
            return Err(Error::invalid("a message between frontends is shorter than it says"));
        }
        self.call(head.call(), &head.meta, body).await
    }

    async fn call(&self, call: RaftCall, meta: &[u8], body: Vec<u8>) -> Result<Vec<u8>> {
        let (core, _) = self.parts()?;
        match call {
            RaftCall::Append => {
                let AppendMeta { vote, prev, commit } = read(meta)?;
                core.hearing.word(&core.raft, &vote);
                let entries = read_entries(body).await?;
                let request = AppendEntriesRequest { vote, prev_log_id: prev, leader_commit: commit, entries };
                write(&core.raft.append_entries(request).await)
            }
            RaftCall::Vote => {
                let (vote, last_log_id): (Vote<NodeId>, Option<LogId>) = read(meta)?;
                let voted = core.raft.vote(VoteRequest { vote, last_log_id }).await;
                if voted.as_ref().is_ok_and(|voted| voted.vote_granted) {
                    core.hearing.voted(vote.leader_id().voted_for());
                }
                write(&voted.map(|voted| (voted.vote, voted.vote_granted, voted.last_log_id)))
            }
            RaftCall::Snapshot => {
                let PieceMeta { vote, meta, offset, done } = read(meta)?;
                core.hearing.word(&core.raft, &vote);
                let request = InstallSnapshotRequest { vote, meta, offset, data: body, done };
                write(&core.raft.install_snapshot(request).await.map(|reply| reply.vote))
            }
            RaftCall::Unspecified => Err(Error::not_supported("a message of a kind that this frontend does not know")),
        }
    }

    async fn admit(&self, request: v1::JoinRequest) -> Result<v1::JoinReply> {
        let (core, opening) = self.parts()?;
        match self.meta.leader() {
            Leader::Here => {}
            Leader::At(_, leader) if !request.passed_on => {
                let request = v1::JoinRequest { passed_on: true, ..request };
                return core.peers.join(&leader, request, limits::LEADER_WAIT).await;
            }
            Leader::At(..) | Leader::Unknown => return Err(Error::not_leader("no frontend leads, try again")),
        }
        self.meta.barrier().await?;
        let address = &request.address;
        let found = self.meta.view(|state| state.frontends.values().find(|one| one.address() == *address).cloned());
        let cluster_id = core.peers.cluster_id().to_owned();
        let frontend = found.ok_or_else(|| {
            Error::not_found(format!(
                "{address} is not a frontend of cluster {cluster_id} (asked at {}): run ALTER SYSTEM ADD FOLLOWER \
                 \"{address}\" or ADD OBSERVER \"{address}\" first",
                opening.address
            ))
        })?;
        self.meta.propose(Command::JoinFrontend { id: frontend.id, token: request.token }).await?;
        tracing::info!(frontend = frontend.id, address, role = frontend.role(), "a frontend joins");
        Ok(v1::JoinReply { cluster_id, node_id: frontend.id })
    }

    fn own_status(&self, request: &v1::StatusRequest) -> Result<v1::FrontendStatus> {
        if let Some(peer) = request.peer.as_ref().filter(|peer| !peer.cluster_id.is_empty()) {
            check(&self.meta, Some(peer))?;
        }
        let (core, opening) = self.parts()?;
        Ok(v1::FrontendStatus {
            cluster_id: core.peers.cluster_id().to_owned(),
            node_id: core.node_id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time_ms: opening.started_ms,
            mysql_port: u32::from(opening.mysql_port),
            http_port: u32::from(opening.http_port),
            applied: *core.shared.applied().borrow(),
            leading: core.leadership.borrow().leading,
            leader: core.leader().map_or(0, |(id, _)| id),
        })
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::invalid(format!("a message between frontends: {error}")))
}

fn write<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::bug(format!("encode an answer: {error}")))
}

async fn read_entries(body: Vec<u8>) -> Result<Vec<super::types::Entry>> {
    if body.len() < LARGE_BYTES {
        return entries(&body);
    }
    let reading = tokio::task::spawn_blocking(move || entries(&body));
    reading.await.unwrap_or_else(|error| Err(Error::bug(format!("reading entries: {error}"))))
}

#[tonic::async_trait]
impl Peer for Service {
    async fn raft(&self, request: Request<Streaming<v1::RaftChunk>>) -> Result<Response<v1::RaftReply>, Status> {
        let body = self.take(request.into_inner()).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::RaftReply { body: body.into() }))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        self.admit(request.into_inner()).await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::FrontendStatus>, Status> {
        self.own_status(&request.into_inner()).map(Response::new).map_err(|error| to_status(&error))
    }

    async fn barrier(&self, request: Request<v1::BarrierRequest>) -> Result<Response<v1::BarrierReply>, Status> {
        let answer = async {
            check(&self.meta, request.get_ref().peer.as_ref())?;
            let index = self.parts()?.0.own_read_index().await?;
            Ok(v1::BarrierReply { index })
        };
        answer.await.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn pre_vote(&self, request: Request<v1::PreVoteRequest>) -> Result<Response<v1::PreVoteReply>, Status> {
        let request = request.into_inner();
        let answer = async {
            check(&self.meta, request.peer.as_ref())?;
            election::answer(self.parts()?.0, &request).await
        };
        answer.await.map(Response::new).map_err(|error| to_status(&error))
    }
}
