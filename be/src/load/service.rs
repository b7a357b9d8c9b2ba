//! The `Tablets` service: rows of a load for this backend's tablets, and whole loads that a frontend hands over.

use crate::load::LoadDeps;
use crate::load::batches::{check_lengths, decode};
use crate::load::coordinator::Coordinator;
use crate::load::receiver::Receiver;
use crate::load::rejects::describe_key;
use bytes::Bytes;
use coffer_proto::status;
use coffer_proto::v1::tablets_server::Tablets;
use coffer_proto::v1::{self, ingest_message, write_message};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_table::Schema;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming};

/// The Tablets service.
#[derive(Debug, Clone)]
pub struct TabletsService {
    deps: LoadDeps,
}

impl TabletsService {
    /// The service.
    pub fn new(deps: LoadDeps) -> TabletsService {
        TabletsService { deps }
    }

    async fn write_all(&self, mut stream: Streaming<v1::WriteMessage>) -> Result<v1::WriteReply> {
        let first = message(stream.message().await)?.and_then(|message| message.kind);
        let Some(write_message::Kind::Open(open)) = first else {
            return Err(Error::invalid("the first message of a write must open it"));
        };
        let schema: Schema = serde_json::from_str(&open.schema)
            .map_err(|error| Error::invalid(format!("schema of the load: {error}")))?;
        let arrow = schema.arrow();
        let mut receiver = Receiver::begin(&self.deps, open.transaction_id, Arc::new(schema))?;
        while let Some(next) = message(stream.message().await)? {
            let Some(write_message::Kind::Batch(rows)) = next.kind else {
                return Err(Error::invalid("only rows may follow the opening of a write"));
            };
            // A copy of its own: the message is a piece of a larger buffer, which would stay as long as the rows of any tablet
            // in it wait in memory.
            let message = Bytes::copy_from_slice(&rows.batch);
            drop(rows.batch);
            for batch in decode(&message, &arrow)? {
                receiver.push(rows.tablet_id, batch).await?;
            }
        }
        receiver.finish().await.map(|tablets| v1::WriteReply { tablets })
    }

    async fn ingest_all(&self, mut stream: Streaming<v1::IngestMessage>) -> Result<v1::IngestReply> {
        let first = message(stream.message().await)?.and_then(|message| message.kind);
        let Some(ingest_message::Kind::Plan(plan)) = first else {
            return Err(Error::invalid("the first message must be the plan of the load"));
        };
        let (transaction, limit) = (plan.transaction_id, Duration::from_secs(u64::from(plan.timeout_s.max(1))));
        let ingest = async {
            let mut coordinator = Coordinator::new(&self.deps, plan, &[])?;
            let schema = coordinator.schema().clone();
            let arrow = schema.arrow();
            while let Some(next) = message(stream.message().await)? {
                let Some(ingest_message::Kind::Batch(bytes)) = next.kind else {
                    return Err(Error::invalid("only rows may follow the plan of a load"));
                };
                for batch in decode(&bytes, &arrow)? {
                    check_lengths(&batch, &schema)?;
                    let unroutable = coordinator.push(batch.clone()).await?;
                    if let Some(row) = unroutable.first() {
                        let key = describe_key(&batch, &schema, coordinator.partition_columns(), *row as usize);
                        return Err(Error::invalid(format!("no partition for this row: {key}")));
                    }
                }
            }
            coordinator.finish().await
        };
        let late = |_| Error::timeout(format!("transaction {transaction} did not end within {} s", limit.as_secs()));
        let written = tokio::time::timeout(limit, ingest).await.map_err(late)??;
        Ok(v1::IngestReply { tablets: written.tablets, rows: written.rows, bytes: written.bytes })
    }
}

fn message<T>(received: Result<Option<T>, Status>) -> Result<Option<T>> {
    received.map_err(|error| status::from_status(&error, "sender of the load")).context(|| "rows of a load")
}

#[tonic::async_trait]
impl Tablets for TabletsService {
    async fn ingest(
        &self,
        request: Request<Streaming<v1::IngestMessage>>,
    ) -> Result<Response<v1::IngestReply>, Status> {
        let _place = self.deps.place().map_err(|error| status::to_status(&error))?;
        let reply = self.ingest_all(request.into_inner()).await;
        reply.map(Response::new).map_err(|error| status::to_status(&error))
    }

    async fn write(&self, request: Request<Streaming<v1::WriteMessage>>) -> Result<Response<v1::WriteReply>, Status> {
        let reply = self.write_all(request.into_inner()).await;
        reply.map(Response::new).map_err(|error| {
            tracing::warn!(%error, "rows of a load were not taken");
            status::to_status(&error)
        })
    }
}
