//! A frontend that follows asks the leader which backends live, so that it can redirect loads and choose replicas well.
//! It is a hint: whoever acts on it finds out.

use crate::exec::Context;
use crate::limits;
use crate::raft::{Leader, NodeId};
use coffer_proto::v1;
use coffer_proto::v1::leader_client::LeaderClient;
use coffer_stdx::Result;
use coffer_stdx::shutdown::Shutdown;
use std::time::Duration;

/// Between questions.
const ASK_EVERY: Duration = Duration::from_millis(1_000);
/// Before the first answer of a leader.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Ask again and again while another frontend leads, until shutdown.
pub async fn follow(context: Context, shutdown: Shutdown) {
    let token = shutdown.token();
    let asking = async {
        loop {
            let heard = match context.meta.leader() {
                Leader::Here => {
                    context.backends.heard(Vec::new());
                    true
                }
                Leader::At(id, address) => match ask(&context, id, &address).await {
                    Ok(alive) => {
                        context.backends.heard(alive);
                        true
                    }
                    Err(error) => {
                        tracing::debug!(address, %error, "the leader does not say which backends live");
                        false
                    }
                },
                Leader::Unknown => false,
            };
            tokio::time::sleep(if heard { ASK_EVERY } else { ASK_AGAIN }).await;
        }
    };
    token.run_until_cancelled(asking).await;
}

async fn ask(context: &Context, id: NodeId, address: &str) -> Result<Vec<v1::BackendAddress>> {
    let Some(peers) = context.meta.peers() else { return Ok(Vec::new()) };
    let mut client = LeaderClient::new(peers.channel(address)?);
    let request = v1::BackendsRequest { peer: Some(peers.head(id)) };
    let reply = peers.answer((address, limits::STATUS_WITHIN), client.backends(request)).await?;
    Ok(reply.alive)
}
