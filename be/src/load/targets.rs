//! The backends that a load writes to: this one in process, the others over one `Tablets.Write` stream each.
//!
//! A target that fails only fails itself; whether enough are left is the coordinator's business. A target whose handle is
//! dropped before [`Target::finish`] breaks its stream, and the other end removes what it got.

use crate::limits::WRITE_QUEUE;
use crate::load::LoadDeps;
use crate::load::batches::encode;
use crate::load::receiver::Receiver;
use arrow::array::RecordBatch;
use bytes::Bytes;
use coffer_proto::channel::MAX_MESSAGE_BYTES;
use coffer_proto::status;
use coffer_proto::v1::tablets_client::TabletsClient;
use coffer_proto::v1::{self, write_message};
use coffer_stdx::{Error, Result};
use coffer_table::Schema;
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Rows of one tablet for one or more targets; encoded once, when the first remote target needs it.
#[derive(Debug)]
pub struct Rows {
    tablet: u64,
    batch: RecordBatch,
    encoded: OnceLock<Bytes>,
}

impl Rows {
    /// Rows that fit into one message.
    pub fn new(tablet: u64, batch: RecordBatch) -> Arc<Rows> {
        Arc::new(Rows { tablet, batch, encoded: OnceLock::new() })
    }

    fn message(&self) -> Result<Bytes> {
        if let Some(bytes) = self.encoded.get() {
            return Ok(bytes.clone());
        }
        let bytes = encode(&self.batch)?;
        Ok(self.encoded.get_or_init(|| bytes).clone())
    }
}

/// What every target of a load needs to know.
#[derive(Debug)]
pub struct LoadHead {
    /// The transaction.
    pub transaction_id: u64,
    /// The table.
    pub table_id: u64,
    /// Its columns.
    pub schema: Arc<Schema>,
    /// The same as JSON.
    pub schema_json: String,
}

/// One backend of a load.
#[derive(Debug)]
pub struct Target {
    backend: u64,
    rows: Option<mpsc::Sender<Arc<Rows>>>,
    task: JoinHandle<Result<Vec<v1::TabletWritten>>>,
    failed: Option<Error>,
}

impl Target {
    /// Open a target. Errors show when rows are sent.
    pub fn open(deps: &LoadDeps, head: &Arc<LoadHead>, backend: u64, address: Option<String>) -> Target {
        let (sender, receiver) = mpsc::channel(WRITE_QUEUE);
        let (deps, head) = (deps.clone(), head.clone());
        let task = tokio::spawn(async move {
            let here = deps.cluster.leader().is_ok_and(|leader| leader.backend_id == backend);
            match address {
                _ if here => receive(&deps, &head, receiver).await,
                Some(address) => send(&deps, &head, &address, receiver).await,
                None => Err(Error::unavailable(format!("the address of backend {backend} is not known"))),
            }
        });
        Target { backend, rows: Some(sender), task, failed: None }
    }

    /// Whether the target takes no more.
    pub fn failed(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Send rows; a target that failed ignores them.
    pub async fn send(&mut self, rows: &Arc<Rows>) {
        let Some(sender) = &self.rows else { return };
        if sender.send(rows.clone()).await.is_err() {
            self.rows = None;
            self.failed = Some(match (&mut self.task).await {
                Ok(Err(error)) => error,
                Ok(Ok(_)) => Error::bug(format!("backend {} ended a load before its end", self.backend)),
                Err(error) => Error::bug(format!("a load to backend {} ended: {error}", self.backend)),
            });
        }
    }

    /// No more rows; returns what is durable there.
    pub async fn finish(mut self) -> Result<Vec<v1::TabletWritten>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.rows = None;
        (&mut self.task)
            .await
            .map_err(|error| Error::bug(format!("a load to backend {} ended: {error}", self.backend)))?
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Ended tasks do not mind. The others must not see the end of rows as the end of the load.
        self.task.abort();
    }
}

async fn receive(
    deps: &LoadDeps,
    head: &LoadHead,
    mut rows: mpsc::Receiver<Arc<Rows>>,
) -> Result<Vec<v1::TabletWritten>> {
    let mut receiver = Receiver::begin(deps, head.transaction_id, head.schema.clone())?;
    while let Some(rows) = rows.recv().await {
        receiver.push(rows.tablet, rows.batch.clone()).await?;
    }
    receiver.finish().await
}

async fn send(
    deps: &LoadDeps,
    head: &LoadHead,
    address: &str,
    rows: mpsc::Receiver<Arc<Rows>>,
) -> Result<Vec<v1::TabletWritten>> {
    let open = v1::WriteOpen {
        transaction_id: head.transaction_id,
        table_id: head.table_id,
        schema: head.schema_json.clone(),
    };
    let open = v1::WriteMessage { kind: Some(write_message::Kind::Open(open)) };
    let (failed, mut failure) = mpsc::channel(1);
    let batches = ReceiverStream::new(rows).map_while(move |rows| match rows.message() {
        Ok(batch) => {
            let batch = v1::WriteBatch { tablet_id: rows.tablet, batch };
            Some(v1::WriteMessage { kind: Some(write_message::Kind::Batch(batch)) })
        }
        Err(error) => {
            let _ = failed.try_send(error);
            None
        }
    });
    let mut client = TabletsClient::new(deps.cluster.channel(address)?).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let written = client.write(tokio_stream::once(open).chain(batches));
    let written = tokio::select! {
        biased;
        Some(error) = failure.recv() => return Err(error),
        written = written => written,
    };
    // Rows that could not be encoded ended the stream early, whatever the other end made of it.
    if let Ok(error) = failure.try_recv() {
        return Err(error);
    }
    written
        .map(|reply| reply.into_inner().tablets)
        .map_err(|error| status::from_status(&error, &format!("backend {address}")))
}
