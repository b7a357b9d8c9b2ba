//! SIGTERM to a real broker process while streams pass through it: they end well, nothing new begins, and what does not
//! end in time is cut off without a trace.
#![allow(clippy::unwrap_used, reason = "tests")]

mod process;

use bytes::Bytes;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::{Error, Result};
use coffer_store::{ByteStream, LocalAccess, ObjectInfo, PutOptions, from_bytes, open};
use futures::{StreamExt, TryStreamExt, stream};
use process::{Broker, LIMIT};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const ANY: PutOptions = PutOptions { create_new: false, length_hint: None };
/// More than all windows and buffers on the way hold, so that a read is under way until it is read.
const LARGE: usize = 48 << 20;

fn location(dir: &Path) -> String {
    format!("file://{}/r", dir.display())
}

fn broker(dir: &Path, drain_seconds: u32) -> std::io::Result<Broker> {
    Broker::start(&[], &format!("local_roots = ['{}']\ndrain_seconds = {drain_seconds}", dir.display()))
}

/// A body that stands still after its first 3 MiB until it is told to end, and says when it got there.
fn halting() -> (ByteStream, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (reached, waits) = oneshot::channel();
    let (go, gone) = oneshot::channel();
    let body = stream::once(async { Ok(Bytes::from(vec![7; 3 << 20])) }).chain(stream::once(async move {
        let _ = reached.send(());
        gone.await.map_err(|_| Error::cancelled("the test ended"))?;
        Ok(Bytes::from("end"))
    }));
    (body.boxed(), waits, go)
}

async fn until_nobody_listens(address: &str) {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(begun.elapsed() < LIMIT, "a stopping broker takes new connections");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is there, without a broker.
async fn names(dir: &Path) -> Result<Vec<String>> {
    let access = LocalAccess { roots: vec![dir.to_owned()], ..LocalAccess::default() };
    let direct = open(&StorageSpec { location: location(dir), ..StorageSpec::default() }, &access)?;
    let listed: Vec<ObjectInfo> = direct.list("").await?.try_collect().await?;
    Ok(listed.into_iter().map(|info| info.path).collect())
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it takes too long")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_run_end_well_after_sigterm() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut broker = broker(dir.path(), 600)?;
    let store = broker.store(location(dir.path()), &[])?;
    store.put("old", from_bytes(vec![5; LARGE]), ANY).await?;
    let mut read = store.get("old", None).await?;
    let mut bytes = within(read.try_next()).await?.unwrap().len();
    let (body, reached, go) = halting();
    let writer = Arc::clone(&store);
    let put = tokio::spawn(async move { writer.put("new", body, ANY).await });
    within(reached).await.unwrap();

    broker.terminate();
    until_nobody_listens(&broker.address).await;
    let late = broker.store(location(dir.path()), &[])?;
    let refused = within(late.put("late", from_bytes("x"), ANY)).await.unwrap_err();
    assert!(refused.kind().is_transient() && refused.message().contains(&broker.address), "{refused}");
    assert!(!put.is_finished());
    while let Some(chunk) = within(read.try_next()).await? {
        bytes += chunk.len();
    }
    assert_eq!(bytes, LARGE);
    go.send(()).unwrap();
    assert_eq!(within(put).await.unwrap()?.bytes, (3 << 20) + 3);
    assert!(broker.ended().await?.success());
    let mut names = names(dir.path()).await?;
    names.sort();
    assert_eq!(names, ["new", "old"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_in_time_is_cut_off_without_a_trace() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut broker = broker(dir.path(), 1)?;
    let store = broker.store(location(dir.path()), &[])?;
    let (body, reached, go) = halting();
    let put = tokio::spawn(async move { store.put("new", body, ANY).await });
    within(reached).await.unwrap();
    broker.terminate();
    assert!(broker.ended().await?.success());
    let error = within(put).await.unwrap().unwrap_err();
    assert!(error.kind().is_transient() && error.message().contains(&broker.address), "{error}");
    assert!(names(dir.path()).await?.is_empty());
    drop(go);
    Ok(())
}
