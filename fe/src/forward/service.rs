//! What the leader does for frontends that follow it.

use super::{Tried, here};
use crate::error::{Error, Result};
use crate::exec::{Answer, Context, RowSet, Session};
use crate::limits;
use crate::raft::Leader;
use crate::raft::service::check;
use crate::sql;
use coffer_proto::channel::MAX_MESSAGE_BYTES;
use coffer_proto::ids::BackendId;
use coffer_proto::status::{to_status, to_wire};
use coffer_proto::v1;
use coffer_proto::v1::forward_reply::Kind;
use coffer_proto::v1::leader_server::{self, LeaderServer};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Rows in one message.
const ROWS_AT_A_TIME: usize = 1_000;

/// The service, ready to be added to a server.
pub fn service(context: Context) -> LeaderServer<Service> {
    LeaderServer::new(Service { context })
        .max_decoding_message_size(limits::MAX_FORWARDED_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Answers [`leader_server::Leader`] calls.
pub struct Service {
    context: Context,
}

impl Service {
    /// How it ended, and whether the session is in no database any more.
    async fn execute(&self, request: v1::ForwardRequest) -> (Tried, bool) {
        if self.context.meta.leader() != Leader::Here {
            return (Tried::NotBegun(Error::not_leader("this frontend does not lead")), false);
        }
        let statement = match sql::parse(&request.statement) {
            Ok(statement) => statement,
            Err(error) => return (Tried::Answered(Err(error)), false),
        };
        let mut session = Session::new(request.connection, request.user, request.host);
        let had_database = request.database.is_some();
        session.database = request.database;
        session.account = request.account;
        session.variables = request.variables.into_iter().collect();
        // Frontends of before do not say how long they wait.
        let wait = match request.wait_ms {
            0 => limits::LEADER_WAIT,
            ms => Duration::from_millis(ms).min(limits::LEADER_WAIT),
        };
        let tried = here::run(&self.context, &mut session, (&request.request_id, wait), statement).await;
        (tried, had_database && session.database.is_none())
    }
}

fn told(error: &Error, not_begun: bool) -> Kind {
    Kind::Error(v1::ForwardError { error: Some(to_wire(error)), number: u32::from(error.number()), not_begun })
}

fn done(done: crate::exec::Done, left_database: bool) -> Kind {
    Kind::Done(v1::ForwardDone { affected: done.affected, warnings: done.warnings, info: done.info, left_database })
}

fn rows(set: RowSet) -> Vec<Kind> {
    let columns = Kind::Columns(v1::ForwardColumns { names: set.columns });
    let row = |row: Vec<Option<String>>| v1::ForwardRow {
        cells: row.into_iter().map(|text| v1::ForwardCell { text }).collect(),
    };
    let mut kinds = vec![columns];
    let mut left = set.rows.into_iter().map(row).peekable();
    while left.peek().is_some() {
        kinds.push(Kind::Rows(v1::ForwardRows { rows: left.by_ref().take(ROWS_AT_A_TIME).collect() }));
    }
    kinds
}

/// An answer as messages; rows of a query as text.
async fn replies((tried, left_database): (Tried, bool)) -> Vec<Kind> {
    match tried {
        Tried::NotBegun(error) => vec![told(&error, true)],
        Tried::Lost(error) | Tried::Answered(Err(error)) => vec![told(&error, false)],
        Tried::Answered(Ok(Answer::Done(answer))) => vec![done(answer, left_database)],
        Tried::Answered(Ok(Answer::Rows(set))) => rows(set),
        Tried::Answered(Ok(Answer::Stream(query))) => match collect(query).await {
            Ok(set) => rows(set),
            Err(error) => vec![told(&error, false)],
        },
    }
}

async fn collect(query: crate::query::QueryStream) -> Result<RowSet> {
    let mut set = RowSet::new(query.columns.iter().map(|column| column.name.clone()));
    let mut batches = query.into_rows();
    while let Some(batch) = batches.try_next().await? {
        let text = |value: coffer_mysql::Value| match value {
            coffer_mysql::Value::Null => None,
            value => Some(value.to_string()),
        };
        set.rows.extend(batch.into_iter().map(|row| row.into_iter().map(text).collect()));
        if set.rows.len() > limits::MAX_FORWARDED_ROWS {
            return Err(Error::limit(format!("a forwarded result has at most {} rows", limits::MAX_FORWARDED_ROWS)));
        }
    }
    Ok(set)
}

#[tonic::async_trait]
impl leader_server::Leader for Service {
    type ForwardStream = BoxStream<'static, Result<v1::ForwardReply, Status>>;

    async fn forward(&self, request: Request<v1::ForwardRequest>) -> Result<Response<Self::ForwardStream>, Status> {
        let request = request.into_inner();
        check(&self.context.meta, request.peer.as_ref()).map_err(|error| to_status(&error))?;
        let kinds = replies(self.execute(request).await).await;
        let replies = kinds.into_iter().map(|kind| Ok(v1::ForwardReply { kind: Some(kind) }));
        Ok(Response::new(futures::stream::iter(replies).boxed()))
    }

    async fn backends(&self, request: Request<v1::BackendsRequest>) -> Result<Response<v1::BackendsReply>, Status> {
        check(&self.context.meta, request.get_ref().peer.as_ref()).map_err(|error| to_status(&error))?;
        if self.context.meta.leader() != Leader::Here {
            return Err(to_status(&Error::not_leader("this frontend does not lead")));
        }
        let mut alive = self.context.backends.addresses();
        alive.retain(|backend| self.context.backends.alive(BackendId(backend.backend_id)));
        Ok(Response::new(v1::BackendsReply { alive }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_in_bounded_messages() {
        let mut set = RowSet::new(["a"]);
        for n in 0..ROWS_AT_A_TIME + 1 {
            set.push([n.to_string()]);
        }
        set.rows.push(vec![None]);
        let kinds = rows(set);
        let sizes: Vec<usize> = kinds
            .iter()
            .map(|kind| match kind {
                Kind::Rows(rows) => rows.rows.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(sizes, [0, ROWS_AT_A_TIME, 2]);
        assert_eq!(rows(RowSet::new(["a"])).len(), 1);
    }
}
