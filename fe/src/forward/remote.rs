//! A statement sent to the leader, and its answer.
//!
//! The wait for the answer ends when another frontend leads, and when the leader answers nothing any more: one that is frozen
//! or cut off gives none.

use super::Tried;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::{Answer, Context, Done, RowSet, Session};
use crate::limits;
use crate::raft::{Leader, NodeId, Peers};
use coffer_proto::channel::MAX_MESSAGE_BYTES;
use coffer_proto::status::{from_status, from_wire};
use coffer_proto::v1;
use coffer_proto::v1::forward_reply::Kind;
use coffer_proto::v1::leader_client::LeaderClient;
use std::collections::HashMap;
use std::time::Duration;
use tonic::Streaming;

/// Send it to frontend `id` at `address`, where it may wait so long until that one is up to date.
pub(super) async fn run(
    context: &Context,
    session: &mut Session,
    text: &str,
    (request, wait): (&str, Duration),
    (id, address): (NodeId, &str),
) -> Tried {
    let Some(peers) = context.meta.peers() else {
        return Tried::NotBegun(Error::bug("this frontend has no way to others"));
    };
    let channel = match peers.channel(address) {
        Ok(channel) => channel,
        Err(error) => return Tried::NotBegun(error),
    };
    let mut client = LeaderClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(limits::MAX_FORWARDED_BYTES);
    let message = v1::ForwardRequest {
        peer: Some(peers.head(id)),
        request_id: request.to_owned(),
        statement: text.to_owned(),
        connection: session.connection,
        user: session.user.clone(),
        host: session.host.clone(),
        database: session.database.clone(),
        account: session.account.clone(),
        variables: session.variables.clone().into_iter().collect::<HashMap<_, _>>(),
        wait_ms: (wait.as_millis() as u64).max(1),
    };
    let peer = format!("frontend {address}");
    let answer = async {
        let replies = client.forward(message).await.map_err(|status| from_status(&status, &peer));
        match replies {
            Ok(replies) => read(replies.into_inner(), (&peer, &mut session.database)).await,
            // Nothing was connected, so nothing was sent.
            Err(error) if refused(&error) => Tried::NotBegun(error),
            Err(error) => failed(error),
        }
    };
    tokio::select! {
        tried = answer => tried,
        why = lost(context, peers, (id, address)) => Tried::Lost(Error::not_leader(format!("{peer} {why}"))),
    }
}

/// Whether nobody listened at the address.
fn refused(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable && error.message().to_ascii_lowercase().contains("connection refused")
}

fn failed(error: Error) -> Tried {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::NotLeader => Tried::Lost(error),
        _ => Tried::Answered(Err(error)),
    }
}

/// Wait until `id` is not the leader known here, or gives no answers; [`super::follow`] asks it all the time.
async fn lost(context: &Context, peers: &Peers, (id, address): (NodeId, &str)) -> &'static str {
    while matches!(context.meta.leader(), Leader::At(now, _) if now == id) {
        if peers.silent(address) >= limits::LEADER_SILENT {
            return "does not answer";
        }
        tokio::time::sleep(limits::LEADER_AGAIN).await;
    }
    "does not lead any more"
}

async fn read(mut replies: Streaming<v1::ForwardReply>, (peer, database): (&str, &mut Option<String>)) -> Tried {
    let mut set: Option<RowSet> = None;
    loop {
        let kind = match replies.message().await {
            Ok(Some(reply)) => reply.kind,
            Ok(None) => {
                return match set {
                    Some(set) => Tried::Answered(Ok(Answer::Rows(set))),
                    None => Tried::Lost(Error::unavailable(format!("{peer}: gave no answer"))),
                };
            }
            Err(status) => return failed(from_status(&status, peer)),
        };
        match kind {
            Some(Kind::Done(done)) => {
                if done.left_database {
                    *database = None;
                }
                let done = Done { affected: done.affected, warnings: done.warnings, info: done.info };
                return Tried::Answered(Ok(Answer::Done(done)));
            }
            Some(Kind::Columns(columns)) => set = Some(RowSet::new(columns.names)),
            Some(Kind::Rows(rows)) => {
                if let Err(error) = take(set.as_mut(), rows, peer) {
                    return Tried::Answered(Err(error));
                }
            }
            Some(Kind::Error(told)) => return refusal(told),
            None => return Tried::Answered(Err(Error::bug(format!("{peer}: an answer of an unknown kind")))),
        }
    }
}

fn take(set: Option<&mut RowSet>, rows: v1::ForwardRows, peer: &str) -> Result<()> {
    let set = set.ok_or_else(|| Error::bug(format!("{peer}: rows without columns")))?;
    set.rows.extend(rows.rows.into_iter().map(|row| row.cells.into_iter().map(|cell| cell.text).collect()));
    Ok(())
}

fn refusal(told: v1::ForwardError) -> Tried {
    let error = told.error.as_ref().map_or_else(|| Error::bug("an error without a text"), from_wire);
    let error = error.numbered(u16::try_from(told.number).unwrap_or(0));
    if told.not_begun {
        Tried::NotBegun(error)
    } else if error.kind() == ErrorKind::NotLeader {
        Tried::Lost(error)
    } else {
        Tried::Answered(Err(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_proto::status::to_wire;

    #[test]
    fn errors_keep_kind_text_and_number_and_say_whether_to_try_again() {
        let told = |error: &Error, not_begun| v1::ForwardError {
            error: Some(to_wire(error)),
            number: u32::from(error.number()),
            not_begun,
        };
        let exists = crate::error::database_exists("d");
        let Tried::Answered(Err(error)) = refusal(told(&exists, false)) else { panic!("an answer") };
        assert_eq!(error, exists);
        assert!(matches!(refusal(told(&Error::not_leader("x"), true)), Tried::NotBegun(_)));
        assert!(matches!(refusal(told(&Error::not_leader("x"), false)), Tried::Lost(_)));
        assert!(matches!(failed(Error::unavailable("broke")), Tried::Lost(_)));
        assert!(matches!(failed(Error::denied("dropped")), Tried::Answered(Err(_))));
        assert!(refused(&Error::unavailable("frontend h:1: tcp connect error: Connection refused (os error 111)")));
        assert!(!refused(&Error::unavailable("frontend h:1: broken pipe")));
    }
}
