//! One stream load, from the opened transaction to the answer.
//!
//! Body, parser and router run side by side with small queues between them, so a file of any size needs little memory and
//! the slowest of the three sets the pace. Whatever fails, the transaction is aborted before the client is told, so its
//! label is free again. A process that dies in the middle leaves a transaction that the leader aborts when its time is
//! over, and staged rows that it then discards.

use super::frontend;
use super::intake::Intake;
use super::json::rows::JsonParser;
use super::options::{Compression, Format, Options};
use super::reply::{Outcome, Reply};
use super::text::TextParser;
use super::unpack::Unpacker;
use super::{StreamDeps, columnar};
use crate::load::coordinator::{Coordinator, Written};
use crate::load::rejects::{Rejects, describe_key};
use crate::task::blocking;
use arrow::array::RecordBatch;
use coffer_proto::v1;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_table::Schema;
use coffer_table::condition::Filter;
use std::fs::File;
use std::io::{Seek, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Chunks of the body waiting for the parser.
const CHUNKS: usize = 4;
/// Batches waiting for the router.
const BATCHES: usize = 2;

/// What a client asked for.
#[derive(Debug)]
pub struct Request {
    /// Database in the path.
    pub database: String,
    /// Table in the path.
    pub table: String,
    /// User and password, for the frontend to check.
    pub credentials: Credentials,
    /// The client's address.
    pub client: String,
    /// Headers.
    pub options: Options,
    /// `http://host:port` under which the client reached us.
    pub base_url: String,
}

/// A user and a password that does not print.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// User.
    pub user: String,
    /// Password.
    pub password: coffer_stdx::secret::Secret,
}

/// Counts of one file.
#[derive(Debug, Default)]
struct Counts {
    total: u64,
    rejects: Rejects,
}

/// Load the body and say how it went.
pub async fn run(deps: &StreamDeps, request: Request, intake: &mut Intake) -> Reply {
    let began = Instant::now();
    let label = request.options.label.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let mut reply = Reply::new(&label, &request.options.comment);
    reply.two_phase_commit = if request.options.two_phase { "true" } else { "false" };
    let mut ended = match deps.load.place() {
        Ok(_place) => attempt(deps, &request, &label, intake, &mut reply).await,
        Err(error) => reply.fail(&error),
    };
    if ended.status != Outcome::Success && ended.status != Outcome::PublishTimeout {
        intake.drain().await;
    }
    ended.load_bytes = intake.bytes();
    ended.read_data_time_ms = millis(intake.waited());
    ended.load_time_ms = millis(began.elapsed());
    deps.load.metrics.loads.with_label_values(&[ended.status.name()]).inc();
    deps.load.metrics.load_rows.inc_by(ended.number_loaded_rows);
    deps.load.metrics.load_bytes.inc_by(ended.load_bytes);
    tracing::info!(
        transaction = ended.txn_id,
        label,
        database = request.database,
        table = request.table,
        status = ended.status.name(),
        rows = ended.number_loaded_rows,
        filtered = ended.number_filtered_rows,
        bytes = ended.load_bytes,
        ms = ended.load_time_ms,
        message = ended.message,
        "stream load"
    );
    ended
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

async fn attempt(deps: &StreamDeps, request: &Request, label: &str, intake: &mut Intake, reply: &mut Reply) -> Reply {
    let since = Instant::now();
    let begin = v1::BeginLoadRequest {
        user: request.credentials.user.clone(),
        password: request.credentials.password.reveal().to_owned(),
        database: request.database.clone(),
        table: request.table.clone(),
        label: label.to_owned(),
        timeout_s: request.options.timeout_s,
        client: request.client.clone(),
    };
    let plan = frontend::begin(&deps.load.cluster, &begin).await;
    reply.begin_txn_time_ms = millis(since.elapsed());
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            let mut refused = reply.clone().fail(&error);
            if let Some(status) = frontend::existing_status(&error) {
                refused.status = Outcome::LabelAlreadyExists;
                refused.existing_job_status = Some(status);
            }
            return refused;
        }
    };
    let transaction = plan.transaction_id;
    reply.txn_id = transaction as i64;
    let since = Instant::now();
    let limit = Duration::from_secs(u64::from(request.options.timeout_s));
    let loaded = tokio::time::timeout(limit, load(deps, request, plan, intake, reply)).await;
    reply.write_data_time_ms = millis(since.elapsed());
    let late = |_| Err(Error::timeout(format!("the load did not end within {} s (header timeout)", limit.as_secs())));
    match loaded.unwrap_or_else(late) {
        Ok(written) => commit(deps, (transaction, request.options.two_phase), written, reply).await,
        Err(error) => {
            frontend::abort(&deps.load.cluster, transaction, error.message()).await;
            reply.clone().fail(&error)
        }
    }
}

async fn commit(deps: &StreamDeps, (transaction_id, two_phase): (u64, bool), written: Written, reply: &Reply) -> Reply {
    let since = Instant::now();
    let Written { tablets, rows, bytes } = written;
    let request = v1::FinishLoadRequest { transaction_id, tablets, rows, bytes, two_phase };
    let finished = frontend::finish(&deps.load.cluster, &request).await;
    let mut reply = reply.clone();
    reply.commit_and_publish_time_ms = millis(since.elapsed());
    match finished {
        Ok(finished) => {
            reply.number_loaded_rows = rows;
            (reply.status, reply.message) = if finished.visible || two_phase {
                (Outcome::Success, "OK".to_owned())
            } else {
                let message = "committed; becomes visible later, do not send it again";
                (Outcome::PublishTimeout, message.to_owned())
            };
            reply
        }
        Err(error) if error.kind().is_transient() => reply.fail(&Error::new(
            error.kind(),
            format!(
                "it is not known whether transaction {transaction_id} was committed: {error}; send it again with the same label to find out"
            ),
        )),
        Err(error) => {
            frontend::abort(&deps.load.cluster, transaction_id, error.message()).await;
            reply.fail(&error)
        }
    }
}

/// Everything up to the commit: rows durable on their replicas.
async fn load(
    deps: &StreamDeps,
    request: &Request,
    plan: v1::LoadPlan,
    intake: &mut Intake,
    reply: &mut Reply,
) -> Result<Written> {
    let mut coordinator = Coordinator::new(&deps.load, plan, &request.options.partitions)?;
    let schema = coordinator.schema().clone();
    let chosen = request.options.chosen.as_ref().map(|chosen| chosen.compile_for_rows(&schema)).transpose()?;
    let (batches, receiver) = mpsc::channel(BATCHES);
    let parsing = async {
        match &request.options.format {
            Format::Csv => {
                let parser = TextParser::new(schema.clone(), &request.options)?;
                parse(parser, request.options.compression, intake, batches).await
            }
            Format::Json(_) => {
                let parser = JsonParser::new(schema.clone(), &request.options)?;
                parse(parser, request.options.compression, intake, batches).await
            }
            Format::Parquet => parse_parquet(deps, schema.clone(), &request.options, intake, batches).await,
        }
    };
    let (parsed, routed) = tokio::join!(parsing, route(&mut coordinator, chosen.as_ref(), receiver));
    // A router that failed ends the parser, so its error is the cause.
    let (unroutable, unselected) = routed?;
    let mut counts = parsed?;
    counts.rejects.merge(unroutable);
    let filtered = counts.rejects.count();
    (reply.number_total_rows, reply.number_filtered_rows) = (counts.total, filtered);
    reply.number_unselected_rows = unselected;
    if filtered > 0 {
        let name = deps.error_logs.keep(counts.rejects.text());
        reply.error_url = Some(format!("{}/api/_load_error_log?file={name}", request.base_url));
    }
    let meant = counts.total - unselected;
    if filtered as f64 > request.options.max_filter_ratio * meant as f64 {
        let first = counts.rejects.first().unwrap_or_default();
        return Err(Error::invalid(format!(
            "[DATA_QUALITY_ERROR]too many filtered rows: {filtered} of {meant}, max_filter_ratio is {}; first: {first}",
            request.options.max_filter_ratio
        )));
    }
    coordinator.finish().await
}

/// Send the chosen rows on their way; those that have nowhere to go, and how many were not chosen.
async fn route(
    coordinator: &mut Coordinator,
    chosen: Option<&Filter>,
    mut batches: mpsc::Receiver<RecordBatch>,
) -> Result<(Rejects, u64)> {
    let (mut rejects, mut unselected) = (Rejects::default(), 0);
    while let Some(all) = batches.recv().await {
        let batch = chosen.map_or_else(|| Ok(all.clone()), |chosen| chosen.choose(&all))?;
        unselected += (all.num_rows() - batch.num_rows()) as u64;
        if batch.num_rows() == 0 {
            continue;
        }
        let unroutable = coordinator.push(batch.clone()).await?;
        for row in unroutable {
            rejects.add(|| {
                let key = describe_key(&batch, coordinator.schema(), coordinator.partition_columns(), row as usize);
                format!("Reason: no partition for this row: {key};")
            });
        }
    }
    Ok((rejects, unselected))
}

/// Hand a batch to the router, from a thread that may block.
fn emit_to(batches: mpsc::Sender<RecordBatch>) -> impl FnMut(RecordBatch) -> Result<()> {
    move |batch| batches.blocking_send(batch).map_err(|_| Error::cancelled("the load failed"))
}

/// Takes a file from its beginning to its end.
trait Parser: Send + 'static {
    fn feed(&mut self, chunk: &[u8], emit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()>;
    fn finish(self, emit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<(u64, Rejects)>;
}

impl Parser for TextParser {
    fn feed(&mut self, chunk: &[u8], emit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        TextParser::feed(self, chunk, emit)
    }

    fn finish(self, emit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<(u64, Rejects)> {
        TextParser::finish(self, emit)
    }
}

impl Parser for JsonParser {
    fn feed(&mut self, chunk: &[u8], emit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        JsonParser::feed(self, chunk, emit)
    }

    fn finish(self, emit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<(u64, Rejects)> {
        JsonParser::finish(self, emit)
    }
}

async fn parse(
    mut parser: impl Parser,
    compression: Compression,
    intake: &mut Intake,
    batches: mpsc::Sender<RecordBatch>,
) -> Result<Counts> {
    let (chunks, mut receiver) = mpsc::channel(CHUNKS);
    let reading = async move {
        while let Some(chunk) = intake.next().await? {
            if chunks.send(chunk).await.is_err() {
                break;
            }
        }
        Ok::<(), Error>(())
    };
    let parsing = blocking(move || {
        let (mut emit, mut unpacker) = (emit_to(batches), Unpacker::new(compression));
        while let Some(chunk) = receiver.blocking_recv() {
            unpacker.feed(&chunk, |plain| parser.feed(plain, &mut emit))?;
        }
        unpacker.finish(|plain| parser.feed(plain, &mut emit))?;
        let (total, rejects) = parser.finish(&mut emit)?;
        Ok(Counts { total, rejects })
    });
    let (read, parsed) = tokio::join!(reading, parsing);
    read.and(parsed)
}

async fn parse_parquet(
    deps: &StreamDeps,
    schema: Arc<Schema>,
    options: &Options,
    intake: &mut Intake,
    batches: mpsc::Sender<RecordBatch>,
) -> Result<Counts> {
    let mut file = spool_file(deps).await?;
    while let Some(chunk) = intake.next().await? {
        file = blocking(move || file.write_all(&chunk).map(|()| file).context(|| "keep the Parquet file of a load"))
            .await?;
    }
    let options = options.clone();
    blocking(move || {
        file.rewind().context(|| "read the Parquet file of a load")?;
        let (total, rejects) = columnar::read(file, &schema, &options, emit_to(batches))?;
        Ok(Counts { total, rejects })
    })
    .await
}

/// A file without a name: Parquet is read from its end, so all of it must be here first.
async fn spool_file(deps: &StreamDeps) -> Result<File> {
    let store = deps.load.store.clone();
    blocking(move || {
        let disk = store.choose_disk(0)?;
        let path = disk.layout().spool(&uuid::Uuid::new_v4().simple().to_string());
        let open = || {
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            std::fs::remove_file(&path).map(|()| file)
        };
        open().context(|| format!("create {}", path.display()))
    })
    .await
}
