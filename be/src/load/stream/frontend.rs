//! What a load asks of the leading frontend. Calls follow the leader: each try goes to the one that greeted last.

use crate::cluster::Cluster;
use crate::limits::FRONTEND_CALL;
use coffer_proto::status;
use coffer_proto::v1;
use coffer_proto::v1::frontend_client::FrontendClient;
use coffer_stdx::retry::Policy;
use coffer_stdx::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// A commit is tried for about a minute: a new leader is elected in seconds.
const COMMIT: Policy = Policy { attempts: 16, first_ms: 200, max_ms: 5_000 };
/// An abort is a courtesy: transactions that nobody ends are aborted when their time is over.
const ABORT: Policy = Policy { attempts: 3, first_ms: 100, max_ms: 400 };

/// Open a transaction.
pub async fn begin(cluster: &Cluster, request: &v1::BeginLoadRequest) -> Result<v1::LoadPlan> {
    Policy::CALL
        .run(|| async {
            let (mut client, peer) = client(cluster)?;
            answer(&peer, FRONTEND_CALL, client.begin_load(request.clone())).await
        })
        .await
}

/// Commit. An error of a transient kind means that it is not known whether it did.
pub async fn finish(cluster: &Cluster, request: &v1::FinishLoadRequest) -> Result<v1::FinishLoadReply> {
    COMMIT
        .run(|| async {
            let (mut client, peer) = client(cluster)?;
            answer(&peer, FRONTEND_CALL * 2, client.finish_load(request.clone())).await
        })
        .await
}

/// The second half of a two-phase load; the transaction it was about.
pub async fn end(cluster: &Cluster, request: &v1::EndLoadRequest) -> Result<u64> {
    let tries = AtomicU32::new(0);
    let ended = COMMIT.run(|| async {
        let again = tries.fetch_add(1, Ordering::Relaxed) > 0;
        let (mut client, peer) = client(cluster)?;
        let request = v1::EndLoadRequest { again, ..request.clone() };
        answer(&peer, FRONTEND_CALL * 2, client.end_load(request)).await
    });
    ended.await.map(|reply| reply.transaction_id)
}

/// Give a transaction up.
pub async fn abort(cluster: &Cluster, transaction_id: u64, reason: &str) {
    let request = v1::AbortLoadRequest { transaction_id, reason: reason.to_owned() };
    let aborted = ABORT
        .run(|| async {
            let (mut client, peer) = client(cluster)?;
            answer(&peer, FRONTEND_CALL, client.abort_load(request.clone())).await
        })
        .await;
    if let Err(error) = aborted {
        tracing::warn!(transaction = transaction_id, %error, "the abort of a load was not taken");
    }
}

/// What became of the load that took a label, from the frontend's refusal: "..., status [VISIBLE]."
pub fn existing_status(refusal: &Error) -> Option<&'static str> {
    if refusal.kind() != ErrorKind::AlreadyExists {
        return None;
    }
    let (_, state) = refusal.message().rsplit_once("status [")?;
    Some(match state.trim_end_matches("].") {
        "PREPARE" => "RUNNING",
        "PRECOMMITTED" => "PRECOMMITTED",
        _ => "FINISHED",
    })
}

fn client(cluster: &Cluster) -> Result<(FrontendClient<Channel>, String)> {
    let address = cluster.leader()?.frontend;
    let client = FrontendClient::new(cluster.channel(&address)?)
        .max_decoding_message_size(coffer_proto::channel::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(coffer_proto::channel::MAX_MESSAGE_BYTES);
    Ok((client, format!("frontend {address}")))
}

async fn answer<T>(peer: &str, limit: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(error)) => Err(status::from_status(&error, peer)),
        Err(_) => Err(Error::timeout(format!("{peer}: no answer within {} s", limit.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_label_says_what_became_of_it() {
        let taken = |state| {
            Error::already_exists(format!("Label [l] has already been used, relate to txn [7], status [{state}]."))
        };
        assert_eq!(existing_status(&taken("VISIBLE")), Some("FINISHED"));
        assert_eq!(existing_status(&taken("COMMITTED")), Some("FINISHED"));
        assert_eq!(existing_status(&taken("PREPARE")), Some("RUNNING"));
        assert_eq!(existing_status(&taken("PRECOMMITTED")), Some("PRECOMMITTED"));
        assert_eq!(existing_status(&Error::conflict("status [PREPARE]")), None);
    }
}
