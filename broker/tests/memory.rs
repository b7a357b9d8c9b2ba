//! A real broker process under 200 streams at once stays within its budget and what a process needs besides.

use bytes::Bytes;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::{Error, Result};
use coffer_store::{ByteStream, LocalAccess, PutOptions, Store, open};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};

const STREAMS: usize = 200;
const BUDGET_MIB: u64 = 64;
/// Program, threads, buffers of connections and what the allocator keeps.
const BESIDES_MIB: u64 = 64;
const OBJECT: usize = 5 << 20;
const CHUNK: usize = 256 << 10;
const START_LIMIT: Duration = Duration::from_secs(60);

/// Ports that were free a moment ago.
async fn address() -> Result<String> {
    Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string())
}

async fn start(root: &std::path::Path) -> Result<(Child, String)> {
    let (grpc, http) = (address().await?, address().await?);
    let config = root.join("broker.toml");
    std::fs::write(
        &config,
        format!(
            "listen = '{grpc}'\nhttp_listen = '{http}'\nlocal_roots = ['{}']\nmemory_budget_mib = {BUDGET_MIB}\n",
            root.display()
        ),
    )?;
    let broker = Command::new(env!("CARGO_BIN_EXE_coffer-broker"))
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let connected = async {
        while tokio::net::TcpStream::connect(&grpc).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(START_LIMIT, connected).await.map_err(|_| Error::timeout("the broker does not start"))?;
    Ok((broker, grpc))
}

/// Peak resident memory, MiB.
fn peak_mib(broker: &Child) -> Result<u64> {
    let pid = broker.id().ok_or_else(|| Error::unavailable("the broker ended"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib >> 10).ok_or_else(|| Error::not_found("no VmHWM"))
}

fn body() -> ByteStream {
    let chunk = Bytes::from(vec![5; CHUNK]);
    stream::iter((0..OBJECT / CHUNK).map(move |_| Ok(chunk.clone()))).boxed()
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "the figure is for people")]
async fn two_hundred_streams_stay_within_the_budget() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (broker, address) = start(dir.path()).await?;
    // A connection each, the worst case: every one has windows of its own.
    let stores = (0..STREAMS).map(|_| {
        let location = format!("file://{}/repo", dir.path().display());
        let spec = StorageSpec { location, brokers: vec![address.clone()], ..StorageSpec::default() };
        open(&spec, &LocalAccess::default())
    });
    let stores: Vec<Arc<dyn Store>> = stores.collect::<Result<_>>()?;
    let before = peak_mib(&broker)?;
    let puts = stores.iter().enumerate().take(STREAMS / 2);
    try_join_all(puts.map(|(at, store)| async move {
        let stored = store.put(&format!("o{at}"), body(), PutOptions::default()).await?;
        assert_eq!(stored.bytes, OBJECT as u64);
        Ok::<(), Error>(())
    }))
    .await?;
    let streams = stores.iter().enumerate().map(|(at, store)| async move {
        if at < STREAMS / 2 {
            return store.put(&format!("o{at}"), body(), PutOptions::default()).await.map(|stored| stored.bytes);
        }
        let object = store.get(&format!("o{}", at - STREAMS / 2), None).await?;
        object.try_fold(0, |sum, chunk| async move { Ok(sum + chunk.len() as u64) }).await
    });
    let moved = try_join_all(streams).await?;
    assert!(moved.iter().all(|bytes| *bytes == OBJECT as u64), "{moved:?}");
    let peak = peak_mib(&broker)?;
    println!(
        "{STREAMS} streams at once, budget {BUDGET_MIB} MiB: the broker peaked at {peak} MiB ({before} MiB before), limit {} MiB",
        BUDGET_MIB + BESIDES_MIB
    );
    assert!(peak < BUDGET_MIB + BESIDES_MIB, "{peak} MiB");
    Ok(())
}
