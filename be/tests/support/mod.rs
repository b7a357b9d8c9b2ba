//! A frontend of a hundred lines and backends in this process.

#![allow(dead_code, unreachable_pub, reason = "a module of each test, which uses a part of it")]

use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use coffer_be::config::Config;
use coffer_be::node::Node;
use coffer_proto::v1::agent_client::AgentClient;
use coffer_proto::v1::frontend_server::{self, FrontendServer};
use coffer_proto::v1::task::Work;
use coffer_proto::v1::task_result::Output;
use coffer_proto::v1::{self, backend_message, leader_message};
use coffer_proto::{channel, status};
use coffer_stdx::options::Live;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result};
use coffer_table::{Bound, Column, ColumnType, KeyRange, Layout, LayoutPartition, Scalar, Schema};
use futures::TryStreamExt;
use prost::Message;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

const TABLETS: [u64; 2] = [10, 11];
pub const WAIT: Duration = Duration::from_secs(30);

/// `id INT NOT NULL` (key), `name VARCHAR(20)`.
pub fn schema() -> Schema {
    let column = |name: &str, kind: ColumnType, key: bool| Column {
        name: name.to_owned(),
        kind,
        nullable: !key,
        default: None,
        key,
        comment: String::new(),
        aggregate: None,
    };
    Schema {
        model: coffer_table::Model::Duplicate,
        columns: vec![column("id", ColumnType::Int, true), column("name", ColumnType::Varchar { length: 20 }, false)],
    }
}

fn layout() -> Layout {
    let range = KeyRange::new(vec![Bound::Value(Scalar::Int(0))], vec![Bound::Max]);
    Layout {
        partition_columns: vec!["id".to_owned()],
        bucket_columns: vec!["id".to_owned()],
        partitions: vec![LayoutPartition { id: 5, name: "p".into(), range: Some(range), tablets: TABLETS.to_vec() }],
    }
}

/// One backend in a directory of its own.
pub struct Backend {
    pub id: u64,
    dir: tempfile::TempDir,
    addresses: (String, String),
    shutdown: Shutdown,
    task: Option<tokio::task::JoinHandle<Result<()>>>,
}

impl Backend {
    pub async fn start(id: u64) -> Backend {
        let dir = tempfile::tempdir().unwrap();
        let mut backend = Backend { id, dir, addresses: Default::default(), shutdown: Shutdown::new(), task: None };
        backend.up("127.0.0.1:0", "127.0.0.1:0").await;
        backend
    }

    async fn up(&mut self, grpc: &str, http: &str) {
        let config = Config {
            data_dirs: vec![self.dir.path().to_owned()],
            grpc_listen: grpc.to_owned(),
            http_listen: http.to_owned(),
            load_memory_mib: 16,
            stop_wait_s: Live::new(5),
            ..Config::default()
        };
        let node = Node::bind(config).await.unwrap();
        let (grpc, http) = node.addresses().unwrap();
        self.addresses = (grpc.to_string(), http.to_string());
        self.shutdown = Shutdown::new();
        self.task = Some(tokio::spawn(node.serve(self.shutdown.clone())));
    }

    pub async fn stop(&mut self) {
        self.shutdown.begin();
        if let Some(task) = self.task.take() {
            tokio::time::timeout(WAIT, task).await.unwrap().unwrap().unwrap();
        }
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.up("127.0.0.1:0", "127.0.0.1:0").await;
    }

    pub fn grpc(&self) -> String {
        self.addresses.0.clone()
    }

    /// Transactions with staged files.
    pub fn staged(&self) -> Vec<u64> {
        let entries = std::fs::read_dir(self.dir.path().join("staging")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    }

    pub async fn get(&self, path: &str) -> String {
        reqwest::get(format!("http://{}{path}", self.addresses.1)).await.unwrap().text().await.unwrap()
    }

    pub async fn put(&self, password: &str, headers: &[(&str, &str)], body: impl Into<String>) -> reqwest::Response {
        let url = format!("http://{}/api/d/t/_stream_load", self.addresses.1);
        let mut request = reqwest::Client::new().put(url).basic_auth("root", Some(password)).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    pub async fn load(&self, headers: &[(&str, &str)], body: impl Into<String>) -> serde_json::Value {
        self.put("", headers, body).await.json().await.unwrap()
    }

    /// The rows of both tablets as text.
    pub async fn scan(&self, version: u64, columns: &[&str], limit: u64) -> Result<Vec<String>> {
        let mut batches = self.open_scan(&self.scans(), version, columns, limit).await?;
        let mut rows = Vec::new();
        while let Some(batch) = batches.try_next().await.map_err(|error| Error::bug(error.to_string()))? {
            for row in 0..batch.num_rows() {
                let shown =
                    |array: &arrow::array::ArrayRef| arrow::util::display::array_value_to_string(array, row).unwrap();
                rows.push(batch.columns().iter().map(shown).collect::<Vec<_>>().join(","));
            }
        }
        Ok(rows)
    }

    /// One connection, as frontends have for all their scans.
    pub fn scans(&self) -> Channel {
        channel::connect_scans(&self.grpc()).unwrap()
    }

    /// Begin to read both tablets.
    pub async fn open_scan(
        &self,
        connection: &Channel,
        version: u64,
        columns: &[&str],
        limit: u64,
    ) -> Result<FlightRecordBatchStream> {
        let ticket = v1::ScanTicket {
            table_id: 4,
            tablets: TABLETS.map(|tablet_id| v1::TabletVersion { tablet_id, version }).to_vec(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            limit,
            layout: String::new(),
        };
        let mut client = FlightServiceClient::new(connection.clone());
        let ticket = Ticket { ticket: ticket.encode_to_vec().into() };
        let answer = client.do_get(ticket).await.map_err(|error| status::from_status(&error, "backend"))?;
        let data = answer.into_inner().map_err(|error| arrow_flight::error::FlightError::Tonic(Box::new(error)));
        Ok(FlightRecordBatchStream::new_from_flight_data(data))
    }
}

/// A frontend that knows one table with two tablets.
#[derive(Clone)]
pub struct Frontend {
    address: String,
    state: Arc<State>,
}

struct State {
    replicas: Vec<u64>,
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    version: u64,
    labels: HashMap<String, String>,
    transactions: HashMap<u64, String>,
    aborted: Vec<u64>,
    backends: Vec<v1::BackendAddress>,
    links: HashMap<u64, mpsc::Sender<v1::LeaderMessage>>,
    results: HashMap<(u64, String), v1::TaskResult>,
    reports: HashMap<u64, Vec<v1::TabletStat>>,
}

impl Frontend {
    pub async fn start(replicas: &[u64]) -> Frontend {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Inner { next: 100, version: 1, ..Default::default() };
        let state = State { replicas: replicas.to_vec(), inner: Mutex::new(inner), changed: watch::Sender::new(()) };
        let frontend = Frontend { address, state: Arc::new(state) };
        let service = FrontendServer::new(frontend.clone());
        tokio::spawn(channel::server().add_service(service).serve_with_incoming(channel::incoming(listener)));
        frontend
    }

    pub async fn greet(&self, backends: &[&Backend]) {
        let addresses = backends.iter().map(|backend| v1::BackendAddress {
            backend_id: backend.id,
            grpc: backend.grpc(),
            http: backend.addresses.1.clone(),
        });
        self.state.inner.lock().unwrap().backends = addresses.collect();
        for backend in backends {
            self.try_greet(backend, "test", 3).await.unwrap();
        }
    }

    pub async fn try_greet(&self, backend: &Backend, cluster: &str, term: u64) -> Result<v1::Registered> {
        let (sender, receiver) = mpsc::channel(16);
        let hello = v1::Hello {
            cluster_id: cluster.to_owned(),
            backend_id: backend.id,
            term,
            frontend: self.address.clone(),
            heartbeat_ms: 200,
            backends: self.state.inner.lock().unwrap().backends.clone(),
            limits: Vec::new(),
        };
        sender.send(v1::LeaderMessage { kind: Some(leader_message::Kind::Hello(hello)) }).await.unwrap();
        let mut client = AgentClient::new(channel::connect(&backend.grpc())?);
        let failed = |error: Status| status::from_status(&error, "backend");
        let mut up = client.control(ReceiverStream::new(receiver)).await.map_err(failed)?.into_inner();
        let first = up.message().await.map_err(failed)?.and_then(|message| message.kind);
        let Some(backend_message::Kind::Registered(registered)) = first else { panic!("{first:?}") };
        let (frontend, id) = (self.clone(), backend.id);
        self.state.inner.lock().unwrap().links.insert(id, sender);
        tokio::spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                frontend.take(id, message.kind.unwrap());
            }
        });
        Ok(registered)
    }

    fn take(&self, backend: u64, kind: backend_message::Kind) {
        let mut inner = self.state.inner.lock().unwrap();
        match kind {
            backend_message::Kind::Result(result) => {
                inner.results.insert((backend, result.id.clone()), result);
            }
            backend_message::Kind::Tablets(report) => {
                let known = inner.reports.entry(backend).or_default();
                if report.first {
                    known.clear();
                }
                known.extend(report.tablets);
            }
            _ => {}
        }
        drop(inner);
        self.state.changed.send_replace(());
    }

    async fn until<T>(&self, mut look: impl FnMut(&mut Inner) -> Option<T>) -> T {
        let mut changed = self.state.changed.subscribe();
        let wait = async {
            loop {
                if let Some(found) = look(&mut self.state.inner.lock().unwrap()) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(WAIT, wait).await.expect("in time")
    }

    /// Run one task to its end.
    pub async fn task(&self, backend: u64, work: Work) -> Result<Option<Output>> {
        let (link, id) = {
            let mut inner = self.state.inner.lock().unwrap();
            inner.next += 1;
            (inner.links[&backend].clone(), format!("test/{}/0", inner.next))
        };
        let task = v1::Task { id: id.clone(), term: 3, work: Some(work) };
        link.send(v1::LeaderMessage { kind: Some(leader_message::Kind::Task(task)) }).await.unwrap();
        let result = self.until(|inner| inner.results.remove(&(backend, id.clone()))).await;
        match result.error {
            Some(error) => Err(status::from_wire(&error)),
            None => Ok(result.output),
        }
    }

    /// Publish a load everywhere; true when no tablet failed.
    pub async fn publish(&self, transaction_id: u64, version: u64) -> bool {
        let tablet = |tablet_id| v1::PublishTablet { tablet_id, version, partition_id: 5, rows_expected: false };
        let publish = v1::PublishVersion {
            transaction_id,
            tablets: TABLETS.map(tablet).to_vec(),
            table_id: 4,
            schema: serde_json::to_string(&schema()).unwrap(),
            delete: String::new(),
        };
        let mut done = true;
        for backend in &self.state.replicas {
            let output = self.task(*backend, Work::Publish(publish.clone())).await;
            done &= matches!(output, Ok(Some(Output::Tablets(tablets))) if tablets.failures.is_empty());
        }
        done
    }

    /// A full report of a backend that has tablets.
    pub async fn report_of(&self, backend: u64) -> Vec<v1::TabletStat> {
        self.until(|inner| inner.reports.get(&backend).filter(|tablets| tablets.len() == TABLETS.len()).cloned()).await
    }

    pub fn aborted(&self) -> Vec<u64> {
        self.state.inner.lock().unwrap().aborted.clone()
    }

    pub fn plan(&self) -> v1::LoadPlan {
        let mut inner = self.state.inner.lock().unwrap();
        inner.next += 1;
        v1::LoadPlan {
            transaction_id: inner.next,
            table_id: 4,
            schema: serde_json::to_string(&schema()).unwrap(),
            layout: serde_json::to_string(&layout()).unwrap(),
            tablets: TABLETS
                .map(|tablet_id| v1::TabletReplicas { tablet_id, backend_ids: self.state.replicas.clone() })
                .to_vec(),
            backends: inner.backends.clone(),
            timeout_s: 60,
        }
    }
}

#[tonic::async_trait]
impl frontend_server::Frontend for Frontend {
    async fn begin_load(&self, request: Request<v1::BeginLoadRequest>) -> Result<Response<v1::LoadPlan>, Status> {
        let request = request.into_inner();
        if !request.password.is_empty() {
            return Err(status::to_status(&Error::denied("wrong password")));
        }
        if let Some(state) = self.state.inner.lock().unwrap().labels.get(&request.label) {
            let text = format!("Label [{}] has already been used, relate to txn [1], status [{state}].", request.label);
            return Err(status::to_status(&Error::already_exists(text)));
        }
        let plan = self.plan();
        let mut inner = self.state.inner.lock().unwrap();
        inner.labels.insert(request.label.clone(), "PREPARE".to_owned());
        inner.transactions.insert(plan.transaction_id, request.label);
        Ok(Response::new(plan))
    }

    async fn finish_load(
        &self,
        request: Request<v1::FinishLoadRequest>,
    ) -> Result<Response<v1::FinishLoadReply>, Status> {
        let id = request.into_inner().transaction_id;
        let version = {
            let mut inner = self.state.inner.lock().unwrap();
            let label = inner.transactions[&id].clone();
            inner.labels.insert(label, "VISIBLE".to_owned());
            inner.version += 1;
            inner.version
        };
        Ok(Response::new(v1::FinishLoadReply { visible: self.publish(id, version).await }))
    }

    async fn end_load(&self, _: Request<v1::EndLoadRequest>) -> Result<Response<v1::EndLoadReply>, Status> {
        Err(Status::unimplemented("loads of two phases"))
    }

    async fn abort_load(&self, request: Request<v1::AbortLoadRequest>) -> Result<Response<v1::AbortLoadReply>, Status> {
        let id = request.into_inner().transaction_id;
        let mut inner = self.state.inner.lock().unwrap();
        inner.aborted.push(id);
        if let Some(label) = inner.transactions.get(&id).cloned() {
            inner.labels.remove(&label);
        }
        Ok(Response::new(v1::AbortLoadReply {}))
    }
}
