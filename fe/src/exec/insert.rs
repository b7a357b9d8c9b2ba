//! INSERT: rows of VALUES or of a query, loaded as one transaction.
//!
//! Literals of VALUES are read as a load file is ([`literals`]); any other source runs in the query engine, and its columns
//! are brought to the types of the table ([`convert`]). Both are strict: the first value that does not fit ends the statement. Batches stream to one backend, which writes them to all replicas; then
//! the transaction commits by the same rules as any load. Whatever fails before the commit aborts it, also a client that
//! goes away, so that a failed INSERT leaves nothing. A crash of this process leaves a transaction that its deadline
//! aborts.

mod convert;
mod literals;

use crate::error::{Error, Result, unknown_column};
use crate::exec::answer::Answer;
use crate::exec::context::Context;
use crate::exec::query::caller;
use crate::exec::session::Session;
use crate::load::{Begin, Loads};
use crate::sql::ast::Insert;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::ipc::writer::StreamWriter;
use coffer_proto::channel::{MAX_MESSAGE_BYTES, connect};
use coffer_proto::ids::TransactionId;
use coffer_proto::status::from_status;
use coffer_proto::v1;
use coffer_proto::v1::ingest_message::Kind;
use coffer_proto::v1::tablets_client::TabletsClient;
use coffer_stdx::ErrorKind;
use coffer_table::Schema;
use convert::{Filler, convert};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use literals::Literals;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Batches on their way at a time.
const IN_FLIGHT: usize = 2;
/// Largest batch on the wire; larger ones are split between rows.
const BATCH_BYTES: usize = 4 << 20;
const COLUMN_TWICE: u16 = 1110;
const COLUMN_COUNT: u16 = 1136;
const NO_DEFAULT: u16 = 1364;

/// Whole rows of the table, some at a time.
type Rows = BoxStream<'static, Result<RecordBatch>>;

/// INSERT.
pub async fn insert(context: &Context, session: &Session, insert: Insert) -> Result<Answer> {
    let (database, table, schema) = context.meta.view(|state| {
        let (database, table) = state.table(&insert.table, session.database.as_deref())?;
        Ok::<_, Error>((database.name.clone(), table.name.clone(), Arc::new(table.schema.clone())))
    })?;
    let rows = rows(context, session, &insert, (&table, &schema)).await?;
    let label = insert.label.unwrap_or_else(|| format!("insert_{}", uuid::Uuid::new_v4().simple()));
    let timeout_s = session.variables.get("insert_timeout").and_then(|value| value.parse().ok()).unwrap_or(0);
    let begin = Begin { database, table, label: label.clone(), timeout_s };
    let plan = context.loads.begin(&begin).await?;
    let guard = Guard { loads: context.loads.clone(), id: TransactionId(plan.transaction_id), armed: true };
    let finished = match load(context, plan, rows, &schema).await {
        Ok(request) => context.loads.finish(&request).await.map(|visible| (request, visible)),
        Err(error) => Err(error),
    };
    let (request, visible) = guard.settle(finished).await?;
    let status = if visible { "VISIBLE" } else { "COMMITTED" };
    let info = format!("{{'label':'{label}', 'status':'{status}', 'txnId':'{}'}}", request.transaction_id);
    Ok(Answer::affected(request.rows, info))
}

/// The rows to insert: literals as they are, anything else from the query engine.
async fn rows(
    context: &Context,
    session: &Session,
    insert: &Insert,
    (table, schema): (&str, &Arc<Schema>),
) -> Result<Rows> {
    let source = insert.source.clone();
    let literals = blocking(move || Ok(Literals::of(&source))).await?;
    if let Some(literals) = literals {
        let origins = origins(schema, table, &insert.columns, literals.width())?;
        let schema = Arc::clone(schema);
        let batches = blocking(move || literals.batches(&schema, &origins)).await?;
        return Ok(futures::stream::iter(batches.into_iter().map(Ok)).boxed());
    }
    let source = context.engine.query(&caller(session), &insert.source).await?;
    let origins = origins(schema, table, &insert.columns, source.columns.len())?;
    let columns = Arc::new(Columns::new(schema, &origins)?);
    let mut before = 0;
    let rows = source.into_batches().and_then(move |batch| {
        let (columns, first) = (Arc::clone(&columns), before);
        before += batch.num_rows() as u64;
        blocking(move || columns.rows(&batch, first))
    });
    Ok(rows.boxed())
}

/// Which value of a source row each column of the table takes; `None`: it is left out.
fn origins(schema: &Schema, table: &str, named: &[String], given: usize) -> Result<Vec<Option<usize>>> {
    let mut origins: Vec<Option<usize>> = vec![None; schema.columns.len()];
    if named.is_empty() {
        origins.iter_mut().enumerate().for_each(|(position, origin)| *origin = Some(position));
    }
    for (source, name) in named.iter().enumerate() {
        let position = schema.index_of(name).ok_or_else(|| unknown_column(name, table))?;
        if origins[position].replace(source).is_some() {
            return Err(Error::invalid(format!("Column '{name}' specified twice")).numbered(COLUMN_TWICE));
        }
    }
    let wanted = origins.iter().flatten().count();
    if wanted != given {
        let text = format!("Column count doesn't match value count: {wanted} columns, {given} values");
        return Err(Error::invalid(text).numbered(COLUMN_COUNT));
    }
    let lacks = |(origin, column): &(&Option<usize>, &coffer_table::Column)| {
        origin.is_none() && column.default.is_none() && !column.nullable
    };
    match origins.iter().zip(&schema.columns).find(lacks) {
        Some((_, column)) => {
            let text = format!("Field '{}' doesn't have a default value", column.name);
            Err(Error::invalid(text).numbered(NO_DEFAULT))
        }
        None => Ok(origins),
    }
}

/// Work that keeps a thread busy.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::bug(format!("INSERT: {error}")))?
}

/// Aborts the transaction when the statement ends without having settled it: the client is gone.
struct Guard {
    loads: Loads,
    id: TransactionId,
    armed: bool,
}

impl Guard {
    async fn settle<T>(mut self, result: Result<T>) -> Result<T> {
        self.armed = false;
        if let Err(error) = &result
            && let Err(failed) = self.loads.abort(self.id, error.message()).await
        {
            // Ended already, or the deadline ends it.
            tracing::debug!(transaction = %self.id, error = %failed, "abort of a failed INSERT");
        }
        result
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.loads.abort_later(self.id, "the client went away");
        }
    }
}

/// Where the columns of the table come from.
struct Columns {
    schema: Arc<Schema>,
    /// Per column of the table.
    origins: Vec<Origin>,
}

enum Origin {
    /// A column of the source.
    Source(usize),
    /// Left out: its default, or NULL.
    Default(Filler),
}

impl Columns {
    fn new(schema: &Arc<Schema>, origins: &[Option<usize>]) -> Result<Columns> {
        let origin = |(origin, column): (&Option<usize>, &coffer_table::Column)| match origin {
            Some(source) => Ok(Origin::Source(*source)),
            None => Filler::new(column).map(Origin::Default),
        };
        let origins = origins.iter().zip(&schema.columns).map(origin).collect::<Result<_>>()?;
        Ok(Columns { schema: Arc::clone(schema), origins })
    }

    /// A batch of the source as whole rows of the table. `before` counts the rows of earlier batches, for messages.
    fn rows(&self, batch: &RecordBatch, before: u64) -> Result<RecordBatch> {
        let origins = self.origins.iter().zip(&self.schema.columns);
        let arrays = origins.map(|(origin, column)| match origin {
            Origin::Source(source) => convert(batch.column(*source), column, before),
            Origin::Default(filler) => filler.fill(batch.num_rows()),
        });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.arrow(), arrays, &options)
            .map_err(|error| Error::bug(format!("rows of INSERT: {error}")))
    }
}

/// Stream the rows to a backend; answers what to finish the transaction with.
async fn load(context: &Context, plan: v1::LoadPlan, rows: Rows, schema: &Schema) -> Result<v1::FinishLoadRequest> {
    let known: Schema = serde_json::from_str(&plan.schema).map_err(|error| Error::bug(format!("schema: {error}")))?;
    if known != *schema {
        return Err(Error::conflict("the table was changed during the statement; run it again"));
    }
    let (transaction_id, limit) = (plan.transaction_id, Duration::from_secs(u64::from(plan.timeout_s)));
    let backend = context.loads.next_backend(|backend| &backend.grpc).await?;
    let peer = format!("backend {}", backend.grpc);
    let mut client = TabletsClient::new(connect(&backend.grpc)?)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    let ask = async {
        let reply = client.ingest(ReceiverStream::new(receiver)).await;
        reply.map(tonic::Response::into_inner).map_err(|status| from_status(&status, &peer))
    };
    let both = async {
        tokio::pin!(ask);
        tokio::select! {
            sent = produce(plan, rows, sender) => {
                let sent = sent?;
                let reply = ask.await?;
                if reply.rows != sent {
                    let text = format!("{peer} took {} of {sent} rows of transaction {transaction_id}", reply.rows);
                    return Err(Error::bug(text));
                }
                Ok(reply)
            }
            reply = &mut ask => match reply {
                Err(error) => Err(error),
                Ok(_) => Err(Error::new(ErrorKind::Bug, format!("{peer} answered before it had all rows"))),
            },
        }
    };
    let reply = tokio::time::timeout(limit, both)
        .await
        .map_err(|_| Error::timeout(format!("INSERT did not finish in {} s", limit.as_secs())))??;
    let (rows, bytes) = (reply.rows, reply.bytes);
    Ok(v1::FinishLoadRequest { transaction_id, tablets: reply.tablets, rows, bytes, two_phase: false })
}

/// Send the plan, then all rows; answers how many. A receiver that is gone ends it early: the call has the reason.
async fn produce(plan: v1::LoadPlan, mut rows: Rows, sender: mpsc::Sender<v1::IngestMessage>) -> Result<u64> {
    let mut sent = 0;
    if sender.send(v1::IngestMessage { kind: Some(Kind::Plan(plan)) }).await.is_err() {
        return std::future::pending().await;
    }
    while let Some(batch) = rows.try_next().await? {
        if batch.num_rows() == 0 {
            continue;
        }
        sent += batch.num_rows() as u64;
        for piece in blocking(move || encode(&batch)).await? {
            if sender.send(v1::IngestMessage { kind: Some(Kind::Batch(piece.into())) }).await.is_err() {
                return std::future::pending().await;
            }
        }
    }
    Ok(sent)
}

/// Arrow IPC streams of one batch each, small enough for a message.
fn encode(batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut write = || {
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
        writer.write(batch)?;
        writer.finish()
    };
    write().map_err(|error: arrow::error::ArrowError| Error::bug(format!("encode rows of INSERT: {error}")))?;
    let rows = batch.num_rows();
    if bytes.len() <= BATCH_BYTES || rows == 1 {
        if bytes.len() > MAX_MESSAGE_BYTES {
            let (size, most) = (bytes.len(), MAX_MESSAGE_BYTES);
            return Err(Error::limit(format!("a row of {size} bytes is too large for INSERT, {most} are allowed")));
        }
        return Ok(vec![bytes]);
    }
    let mut pieces = encode(&batch.slice(0, rows / 2))?;
    pieces.extend(encode(&batch.slice(rows / 2, rows - rows / 2))?);
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;
    use arrow::ipc::reader::StreamReader;
    use coffer_table::{Column, ColumnType};

    fn schema() -> Schema {
        let column = |name: &str, kind, nullable, default: Option<&str>| Column {
            name: name.to_owned(),
            kind,
            nullable,
            default: default.map(str::to_owned),
            key: false,
            comment: String::new(),
            aggregate: None,
        };
        Schema {
            model: coffer_table::Model::Duplicate,
            columns: vec![
                column("id", ColumnType::Int, false, None),
                column("Name", ColumnType::Varchar { length: 5 }, true, Some("none")),
                column("note", ColumnType::String, true, None),
            ],
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn columns_are_found_by_name_and_left_out_ones_filled() {
        let schema = Arc::new(schema());
        let columns = Columns::new(&schema, &origins(&schema, "t", &names(&["NOTE", "id"]), 2).unwrap()).unwrap();
        let note = Arc::new(StringArray::from(vec![Some("x"), None])) as ArrayRef;
        let id = Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("a", note), ("b", id)]).unwrap();
        let rows = columns.rows(&batch, 0).unwrap();
        assert_eq!(rows.column(0).as_primitive::<Int32Type>().values(), &[1, 2]);
        assert_eq!(rows.column(1).as_string::<i32>().value(1), "none");
        assert!(rows.column(2).is_null(1));
    }

    #[test]
    fn columns_that_do_not_fit_are_refused_with_the_known_numbers() {
        for (named, given, number) in [
            (&["nope"][..], 1, 1054),
            (&["id", "ID"], 2, COLUMN_TWICE),
            (&["id"], 2, COLUMN_COUNT),
            (&[], 2, COLUMN_COUNT),
            (&["note"], 1, NO_DEFAULT),
        ] {
            let error = origins(&schema(), "t", &names(named), given).unwrap_err();
            assert_eq!(error.number(), number, "{error}");
        }
    }

    #[test]
    fn large_batches_are_split_between_rows() {
        let text = "x".repeat(1 << 20);
        let array = Arc::new(StringArray::from(vec![text.as_str(); 9])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("a", array)]).unwrap();
        let pieces = encode(&batch).unwrap();
        assert!(pieces.len() >= 3 && pieces.iter().all(|piece| piece.len() <= BATCH_BYTES));
        let rows: usize = pieces
            .iter()
            .map(|piece| StreamReader::try_new(&piece[..], None).unwrap().next().unwrap().unwrap().num_rows())
            .sum();
        assert_eq!(rows, 9);
    }
}
