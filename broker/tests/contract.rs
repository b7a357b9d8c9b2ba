//! The contract suite, and what it cannot say, against a store reached through brokers.

use bytes::Bytes;
use coffer_broker::Bound;
use coffer_broker::config::Config;
use coffer_proto::v1;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, ErrorKind, Result, testing};
use coffer_store::suite::Suite;
use coffer_store::suite::wire::Wire;
use coffer_store::{LocalAccess, PutOptions, Store, from_bytes, open, read_all};
use futures::{StreamExt, TryStreamExt, stream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use v1::broker_client::BrokerClient;
use v1::write_object::Kind;

struct Running {
    address: String,
    http: String,
    shutdown: Shutdown,
    ended: JoinHandle<Result<()>>,
}

async fn start(root: &Path) -> Result<Running> {
    let config = Config {
        listen: "127.0.0.1:0".to_owned(),
        http_listen: "127.0.0.1:0".to_owned(),
        local_roots: vec![root.to_owned()],
        allow_null: true,
        memory_budget_mib: 16,
        ..Config::default()
    };
    let bound = Bound::bind(config).await?;
    let (address, http) = (bound.grpc_address()?.to_string(), bound.http_address()?.to_string());
    let shutdown = Shutdown::new();
    let ended = tokio::spawn(bound.serve(shutdown.clone()));
    Ok(Running { address, http, shutdown, ended })
}

fn spec(location: String, brokers: &[&str]) -> v1::StorageSpec {
    let brokers = brokers.iter().map(|address| (*address).to_owned()).collect();
    v1::StorageSpec { location, brokers, ..v1::StorageSpec::default() }
}

fn below(dir: &TempDir) -> String {
    format!("file://{}/repo", dir.path().display())
}

fn remote(location: String, brokers: &[&str]) -> Result<Arc<dyn Store>> {
    open(&spec(location, brokers), &LocalAccess::default())
}

/// A location behind the broker, with a wire in front of the broker.
async fn behind(broker: &Running, location: String) -> Result<(Arc<dyn Store>, Arc<Wire>)> {
    let wire = Arc::new(Wire::to(&broker.address).await?);
    Ok((remote(location, &[wire.address()])?, wire))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_behind_a_broker_keeps_the_contract() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let (store, wire) = behind(&broker, "memory://contract".to_owned()).await?;
    Suite::new(store, "suite").wire(wire, true).run().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_behind_a_broker_keeps_the_contract() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let (store, wire) = behind(&broker, below(&dir)).await?;
    let outside = remote("file:///etc".to_owned(), &[&broker.address])?;
    Suite::new(store, "suite").names(2_500).wire(wire, true).denied(outside, true).run().await?;
    // What was cancelled or cut off may still be on its way out.
    eventually(async || {
        let page = get(&broker.http, "/metrics").await.unwrap_or_default();
        page.contains("coffer_broker_requests_in_flight{operation=\"write\"} 0")
            && page.contains("coffer_broker_budget_bytes{share=\"writes\",state=\"used\"} 0")
    })
    .await;
    assert!(get(&broker.http, "/api/health").await?.contains("\"ok\""));
    broker.shutdown.begin();
    broker.ended.await.unwrap()
}

/// With the smallest budget, so that one put at a time has memory for its parts, and with the bucket in the host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_behind_a_broker_keeps_the_contract() -> Result<()> {
    let test = "broker contract::s3_behind_a_broker_keeps_the_contract";
    let Some(endpoint) = testing::server("COFFER_TEST_S3", test) else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let wire = Arc::new(Wire::to(&broker.address).await?);
    let variable = |name: &str| std::env::var(format!("COFFER_TEST_S3_{name}")).unwrap_or_default();
    let folder = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let at = |broker: &str, login: &str| {
        let properties = [
            ("s3.endpoint", endpoint.replace("127.0.0.1", "localhost")),
            ("s3.access_key", variable(&format!("{login}KEY"))),
            ("s3.secret_key", variable(&format!("{login}SECRET"))),
            ("use_path_style", "false".to_owned()),
        ];
        let location = format!("s3://{}/{folder}", variable("BUCKET"));
        let properties = properties.map(|(key, value)| (key.to_owned(), value)).into();
        open(&v1::StorageSpec { properties, ..spec(location, &[broker]) }, &LocalAccess::default())
    };
    let (store, stranger) = (at(wire.address(), "")?, at(&broker.address, "STRANGER_")?);
    Suite::new(store, "suite").names(2_500).wire(wire, true).denied(stranger, true).run().await
}

/// One request over plain HTTP/1.0.
async fn get(address: &str, path: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn the_next_broker_is_asked_when_one_is_down() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let store = remote(below(&dir), &["127.0.0.1:1", &broker.address])?;
    store.put("a", from_bytes("x"), PutOptions::default()).await?;
    assert_eq!(read_all(&*store, "a", 1).await?, "x");
    Ok(())
}

#[tokio::test]
async fn errors_name_the_broker_the_object_and_the_cause() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let outside = remote("file:///etc".to_owned(), &[&broker.address])?;
    let error = outside.stat("passwd").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains(&broker.address) && error.message().contains("local_roots"), "{error}");
    let missing = remote(below(&dir), &[&broker.address])?.stat("gone").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.message().contains("repo/gone"), "{missing}");
    Ok(())
}

#[tokio::test]
async fn a_put_that_does_not_add_up_leaves_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let mut client = BrokerClient::new(coffer_proto::channel::connect(&broker.address)?);
    let open = v1::OpenWrite { storage: Some(spec(below(&dir), &[])), path: "a".to_owned(), ..Default::default() };
    let chunk = v1::WriteChunk { offset: 0, data: Bytes::from("abc"), crc32c: crc32c::crc32c(b"abc") };
    let garbled = v1::WriteChunk { crc32c: 1, ..chunk.clone() };
    let short = v1::FinishWrite { length: 2, crc32c: crc32c::crc32c(b"abc") };
    for kinds in [
        vec![Kind::Open(open.clone())],
        vec![Kind::Open(open.clone()), Kind::Chunk(chunk.clone())],
        vec![Kind::Open(open.clone()), Kind::Chunk(garbled)],
        vec![Kind::Open(open.clone()), Kind::Chunk(chunk.clone()), Kind::Finish(short)],
        vec![Kind::Chunk(chunk.clone())],
    ] {
        let messages = kinds.into_iter().map(|kind| v1::WriteObject { kind: Some(kind) });
        let answers = client.write(stream::iter(messages)).await;
        let outcome: Result<Vec<_>, _> = match answers {
            Ok(answers) => answers.into_inner().try_collect().await,
            Err(status) => Err(status),
        };
        outcome.unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path().join("repo")).map_or(0, Iterator::count), 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_put_given_up_in_the_middle_leaves_nothing_and_frees_its_memory() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let store = remote(below(&dir), &[&broker.address])?;
    let (reached, mut waits) = tokio::sync::mpsc::channel(1);
    let body = stream::once(async { Ok(Bytes::from(vec![7; 3 << 20])) }).chain(stream::once(async move {
        reached.send(()).await.map_err(|_| Error::cancelled("test ended"))?;
        std::future::pending().await
    }));
    let put = tokio::spawn(async move { store.put("a", body.boxed(), PutOptions::default()).await });
    waits.recv().await.unwrap();
    put.abort();
    let metric = "coffer_broker_requests_total{operation=\"write\",outcome=\"CANCELLED\"} 1";
    eventually(async || get(&broker.http, "/metrics").await.is_ok_and(|page| page.contains(metric))).await;
    eventually(async || std::fs::read_dir(dir.path().join("repo")).map_or(0, Iterator::count) == 0).await;
    Ok(())
}

#[tokio::test]
async fn a_stopping_broker_lets_a_running_put_finish() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let store = remote(below(&dir), &[&broker.address])?;
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let (reached, mut waits) = tokio::sync::mpsc::channel(1);
    let body = stream::once(async { Ok(Bytes::from(vec![7; 3 << 20])) }).chain(stream::once(async move {
        reached.send(()).await.map_err(|_| Error::cancelled("test ended"))?;
        gone.await.map_err(|_| Error::cancelled("test ended"))?;
        Ok(Bytes::from("end"))
    }));
    let put = tokio::spawn(async move { store.put("a", body.boxed(), PutOptions::default()).await });
    waits.recv().await.unwrap();
    eventually(async || {
        let page = get(&broker.http, "/metrics").await.unwrap_or_default();
        page.contains("coffer_broker_requests_in_flight{operation=\"write\"} 1")
    })
    .await;
    broker.shutdown.begin();
    go.send(()).unwrap();
    assert_eq!(put.await.unwrap()?.bytes, (3 << 20) + 3);
    broker.ended.await.unwrap()
}

#[tokio::test]
async fn a_port_in_use_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let config = Config { listen: broker.address.clone(), ..Config::default() };
    let error = Bound::bind(config).await.unwrap_err();
    assert!(error.message().contains(&broker.address) && error.message().contains("listen"), "{error}");
    Ok(())
}

/// Wait until something holds; the test's own time limit ends a wait in vain.
async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it never came about");
}
