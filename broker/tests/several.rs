//! Several brokers for one location: clients of a busy or stopping one go to another, limits change while bytes pass, and
//! bytes that a wire garbles blame the wire.

use bytes::Bytes;
use coffer_broker::Bound;
use coffer_broker::config::Config;
use coffer_proto::v1;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_store::{ByteStream, LocalAccess, PutOptions, Store, from_bytes, open, read_all};
use futures::{StreamExt, TryStreamExt, stream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use v1::broker_client::BrokerClient;
use v1::write_object::Kind;

const LIMIT: Duration = Duration::from_secs(60);
/// The put counter of the metrics page.
const PUTS: &str = "coffer_broker_requests_total{operation=\"write\",outcome=\"ok\"}";

struct Running {
    address: String,
    http: String,
    shutdown: Shutdown,
    ended: JoinHandle<Result<()>>,
}

/// With the smallest budget the share for writes is one stream.
const SMALLEST_MIB: u64 = 16;

async fn start(root: &Path) -> Result<Running> {
    start_with(root, SMALLEST_MIB).await
}

async fn start_with(root: &Path, memory_budget_mib: u64) -> Result<Running> {
    let config = Config {
        listen: "127.0.0.1:0".to_owned(),
        http_listen: "127.0.0.1:0".to_owned(),
        local_roots: vec![root.to_owned()],
        memory_budget_mib,
        ..Config::default()
    };
    let bound = Bound::bind(config).await?;
    let (address, http) = (bound.grpc_address()?.to_string(), bound.http_address()?.to_string());
    let shutdown = Shutdown::new();
    let ended = tokio::spawn(bound.serve(shutdown.clone()));
    Ok(Running { address, http, shutdown, ended })
}

impl Running {
    /// The value of a line of its metrics page.
    async fn metric(&self, name: &str) -> Result<u64> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut connection = tokio::net::TcpStream::connect(&self.http).await?;
        connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut page = String::new();
        connection.read_to_string(&mut page).await?;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    }
}

fn spec(dir: &TempDir, brokers: &[&Running]) -> v1::StorageSpec {
    v1::StorageSpec {
        location: format!("file://{}/repo", dir.path().display()),
        brokers: brokers.iter().map(|broker| broker.address.clone()).collect(),
        ..v1::StorageSpec::default()
    }
}

fn remote(spec: &v1::StorageSpec) -> Result<Arc<dyn Store>> {
    open(spec, &LocalAccess::default())
}

/// A body that stands still after its first chunk until it is told to end, and says when it got there.
fn halting() -> (ByteStream, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (reached, waits) = oneshot::channel();
    let (go, gone) = oneshot::channel();
    let body = stream::once(async { Ok(Bytes::from(vec![7; 1 << 20])) }).chain(stream::once(async move {
        let _ = reached.send(());
        gone.await.map_err(|_| Error::cancelled("test ended"))?;
        Ok(Bytes::from("end"))
    }));
    (body.boxed(), waits, go)
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it takes too long")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_memory_sends_its_clients_to_another() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (one, two) = (start(dir.path()).await?, start(dir.path()).await?);
    let store = remote(&spec(&dir, &[&one, &two]))?;
    let (body, reached, go) = halting();
    let holder = remote(&spec(&dir, &[&one]))?;
    let held = tokio::spawn(async move { holder.put("held", body, PutOptions::default()).await });
    within(reached).await.unwrap();

    within(store.put("a", from_bytes("x"), PutOptions::default())).await?;
    assert_eq!((one.metric(PUTS).await?, two.metric(PUTS).await?), (0, 1));

    // Both are full: the put waits, and goes through when there is memory again.
    let (body, reached, go_two) = halting();
    let holder = remote(&spec(&dir, &[&two]))?;
    let held_two = tokio::spawn(async move { holder.put("held2", body, PutOptions::default()).await });
    within(reached).await.unwrap();
    let mut waiting =
        tokio::spawn(async move { store.put("b", from_bytes("y"), PutOptions::default()).await.map(|_| store) });
    let mut client = BrokerClient::new(coffer_proto::channel::connect(&two.address)?);
    within(async {
        loop {
            let reply = client.ping(v1::PingRequest::default()).await.unwrap().into_inner();
            if reply.waiting > 0 {
                assert!(reply.memory_used > 0 && reply.running > 0, "{reply:?}");
                return;
            }
        }
    })
    .await;
    assert!(!waiting.is_finished());
    for go in [go, go_two] {
        go.send(()).unwrap();
    }
    for held in [held, held_two] {
        within(held).await.unwrap()?;
    }
    let store = within(&mut waiting).await.unwrap()?;
    assert_eq!(within(read_all(&*store, "b", 1)).await?, "y");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_broker_finishes_what_runs_and_new_calls_go_elsewhere() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (one, two) = (start_with(dir.path(), 64).await?, start(dir.path()).await?);
    let store = remote(&spec(&dir, &[&one, &two]))?;
    let (body, reached, go) = halting();
    let running = Arc::clone(&store);
    let put = tokio::spawn(async move { running.put("a", body, PutOptions::default()).await });
    within(reached).await.unwrap();
    one.shutdown.begin();
    // The stop reaches the connection sooner or later; from then on nothing new is served there.
    let mut names = 0;
    within(async {
        while two.metric(PUTS).await? == 0 {
            names += 1;
            store.put(&format!("new-{names}"), from_bytes("x"), PutOptions::default()).await?;
        }
        Ok::<(), Error>(())
    })
    .await?;
    assert!(!put.is_finished());
    go.send(()).unwrap();
    assert_eq!(within(put).await.unwrap()?.bytes, (1 << 20) + 3);
    within(one.ended).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_reach_streams_that_run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let limit = |version, upload_bytes_per_second| v1::RateLimit {
        key: "c/1".to_owned(),
        version,
        upload_bytes_per_second,
        ..v1::RateLimit::default()
    };
    let limited = v1::StorageSpec { limit: Some(limit(1, 1)), ..spec(&dir, &[&broker]) };
    let store = remote(&limited)?;
    let bytes = vec![3; 3 << 20];
    let length = bytes.len() as u64;
    let mut put = tokio::spawn(async move { store.put("a", from_bytes(bytes), PutOptions::default()).await });
    within(async {
        while broker.metric("coffer_broker_received_bytes_total ").await? == 0 {}
        Ok::<(), Error>(())
    })
    .await?;
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut put).await.is_err(), "the limit was not kept");
    let mut client = BrokerClient::new(coffer_proto::channel::connect(&broker.address)?);
    client.ping(v1::PingRequest { limits: vec![limit(2, 0)], ..Default::default() }).await.unwrap();
    assert_eq!(within(put).await.unwrap()?.bytes, length);

    // The broker's own limit stops everything likewise.
    let own = |version, upload_bytes_per_second| v1::PingRequest {
        own: Some(v1::RateLimit { key: "c".to_owned(), ..limit(version, upload_bytes_per_second) }),
        ..Default::default()
    };
    client.ping(own(1, 1)).await.unwrap();
    let store = remote(&spec(&dir, &[&broker]))?;
    let mut put =
        tokio::spawn(async move { store.put("b", from_bytes(vec![3; 3 << 20]), PutOptions::default()).await });
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut put).await.is_err(), "the limit was not kept");
    client.ping(own(2, 0)).await.unwrap();
    assert_eq!(within(put).await.unwrap()?.bytes, length);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn garbled_bytes_blame_the_way_and_may_be_sent_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let mut client = BrokerClient::new(coffer_proto::channel::connect(&broker.address)?);
    let storage = v1::StorageSpec { brokers: Vec::new(), ..spec(&dir, &[]) };
    let open = v1::OpenWrite { storage: Some(storage), path: "a".to_owned(), ..Default::default() };
    let garbled = v1::WriteChunk { offset: 0, data: Bytes::from("abc"), crc32c: 1 };
    let messages = [Kind::Open(open), Kind::Chunk(garbled)].map(|kind| v1::WriteObject { kind: Some(kind) });
    let answers = client.write(stream::iter(messages)).await.unwrap().into_inner();
    let status = answers.try_collect::<Vec<_>>().await.unwrap_err();
    let error = coffer_proto::status::from_status(&status, "broker");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("changed on the way to this broker"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_request_ends_in_time_with_what_the_storage_said() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    // A listener that takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let properties = [
        ("s3.endpoint", endpoint.as_str()),
        ("s3.region", "x"),
        ("s3.access_key", "a"),
        ("s3.secret_key", "b"),
        ("use_path_style", "true"),
    ];
    let spec = v1::StorageSpec {
        location: "s3://bucket/p".to_owned(),
        properties: properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        brokers: vec![broker.address.clone()],
        patience_ms: 500,
        ..v1::StorageSpec::default()
    };
    let put = within(remote(&spec)?.put("a", from_bytes("x"), PutOptions::default())).await;
    let error = put.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains(&broker.address) && error.message().contains("0.5 s"), "{error}");
    Ok(())
}
