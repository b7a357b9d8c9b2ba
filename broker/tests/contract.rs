//! The contract suite, and what it cannot say, against a store reached through brokers.

use bytes::Bytes;
use coffer_broker::Bound;
use coffer_broker::config::Config;
use coffer_proto::v1;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_store::{LocalAccess, PutOptions, Store, from_bytes, open, read_all, suite};
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
    v1::StorageSpec { location, properties: Default::default(), brokers }
}

fn below(dir: &TempDir) -> String {
    format!("file://{}/repo", dir.path().display())
}

fn remote(location: String, brokers: &[&str]) -> Result<Arc<dyn Store>> {
    open(&spec(location, brokers), &LocalAccess::default())
}

#[tokio::test]
async fn a_directory_behind_a_broker_keeps_the_contract() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    suite::run(remote(below(&dir), &[&broker.address])?, "suite").await?;
    let page = get(&broker.http, "/metrics").await?;
    assert!(page.contains("coffer_broker_requests_in_flight{operation=\"write\"} 0"), "{page}");
    assert!(page.contains("coffer_broker_budget_bytes{share=\"writes\",state=\"used\"} 0"), "{page}");
    assert!(get(&broker.http, "/api/health").await?.contains("\"ok\""));
    broker.shutdown.begin();
    broker.ended.await.unwrap()
}

/// With the smallest budget, so that one put at a time has memory for its parts. `COFFER_TEST_S3` and its companions are
/// those of coffer-store's own test against a real service.
#[tokio::test]
async fn s3_behind_a_broker_keeps_the_contract() -> Result<()> {
    let Ok(endpoint) = std::env::var("COFFER_TEST_S3") else {
        eprintln!("COFFER_TEST_S3 is not set: the contract is not tested against S3 behind a broker");
        return Ok(());
    };
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let dir = tempfile::tempdir()?;
    let broker = start(dir.path()).await?;
    let folder = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let properties = [
        ("s3.endpoint", endpoint),
        ("s3.access_key", variable("COFFER_TEST_S3_KEY", "testkey")),
        ("s3.secret_key", variable("COFFER_TEST_S3_SECRET", "testsecret")),
        ("use_path_style", "true".to_owned()),
    ];
    let spec = v1::StorageSpec {
        properties: properties.map(|(key, value)| (key.to_owned(), value)).into(),
        ..spec(format!("s3://coffer-test/{folder}"), &[&broker.address])
    };
    suite::run(open(&spec, &LocalAccess::default())?, "suite").await
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
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it never came about");
}
