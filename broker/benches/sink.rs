//! Throughput through a broker process over loopback: `cargo bench -p coffer-broker`, or with `-- 8192` for that many MiB.
//!
//! Puts to a sink that throws the bytes away measure gRPC, checksums and scheduling alone. Puts to and gets from a
//! directory add the disk and the page cache. The last column is the most memory the broker process ever held.

use bytes::Bytes;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::{Error, Result};
use coffer_store::{LocalAccess, PutOptions, Store, open};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const USUAL_MIB: u64 = 4_096;
const DIRECTORY_MIB: u64 = 1_024;

struct Broker {
    process: Child,
    address: String,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Broker {
    fn start(dir: &std::path::Path) -> Result<Broker> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let config = dir.join("broker.toml");
        std::fs::write(&config, "allow_null = true\n[log]\nlevel = \"warn\"\n")?;
        let process = Command::new(env!("CARGO_BIN_EXE_coffer-broker"))
            .arg("--config")
            .arg(&config)
            .args(["--listen", &address, "--http-listen", &format!("127.0.0.1:{}", free_port()?)])
            .arg("--local-root")
            .arg(dir)
            .spawn()?;
        Ok(Broker { process, address })
    }

    fn store(&self, location: String) -> Result<Arc<dyn Store>> {
        let brokers = vec![self.address.clone()];
        open(&StorageSpec { location, brokers, ..StorageSpec::default() }, &LocalAccess::default())
    }

    fn peak_mib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib >> 10)
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn put(store: &dyn Store, path: &str, bytes: u64) -> Result<()> {
    let piece = Bytes::from(vec![0x5a; MIB as usize]);
    let body = stream::iter((0..bytes / MIB).map(move |_| Ok(piece.clone()))).boxed();
    store.put(path, body, PutOptions { create_new: false, length_hint: Some(bytes) }).await.map(|_| ())
}

async fn get(store: &dyn Store, path: &str, bytes: u64) -> Result<()> {
    let read =
        store.get(path, None).await?.try_fold(0, |sum, chunk| async move { Ok(sum + chunk.len() as u64) }).await?;
    if read == bytes { Ok(()) } else { Err(Error::bug(format!("{read} bytes came back of {bytes}"))) }
}

async fn measure(broker: &Broker, what: &str, streams: u64, bytes: u64, reading: bool) -> Result<()> {
    let location = what.split_once(' ').map_or(what, |(_, location)| location);
    // One connection for all streams, as a backend has it.
    let store = broker.store(location.to_owned())?;
    let each = bytes / streams / MIB * MIB;
    let started = Instant::now();
    let one = |at: u64| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let path = format!("bench/{at}");
            if reading { get(&*store, &path, each).await } else { put(&*store, &path, each).await }
        })
    };
    let outcomes = try_join_all((0..streams).map(one)).await;
    outcomes.map_err(|error| Error::bug(error.to_string()))?.into_iter().collect::<Result<()>>()?;
    let rate = (each * streams) as f64 / 1e6 / started.elapsed().as_secs_f64();
    let peak = broker.peak_mib().unwrap_or(0);
    let name = what.split(' ').next().unwrap_or(what);
    writeln!(std::io::stdout(), "{name:<14}{streams:>8}{:>10}{rate:>10.0}{peak:>16}", (each * streams) / MIB)?;
    Ok(())
}

async fn bench(mib: u64) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let broker = Broker::start(dir.path())?;
    let sink = broker.store("null://".to_owned())?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = sink.list("").await {
        if Instant::now() > deadline {
            return Err(error);
        }
    }
    writeln!(std::io::stdout(), "{:<14}{:>8}{:>10}{:>10}{:>16}", "what", "streams", "MiB", "MB/s", "broker peak MiB")?;
    for streams in [1, 2, 4, 8] {
        measure(&broker, "put-sink null://", streams, mib * MIB, false).await?;
    }
    let directory = format!("file://{}/r", dir.path().display());
    for streams in [1, 4] {
        measure(&broker, &format!("put-directory {directory}"), streams, DIRECTORY_MIB.min(mib) * MIB, false).await?;
        measure(&broker, &format!("get-directory {directory}"), streams, DIRECTORY_MIB.min(mib) * MIB, true).await?;
    }
    Ok(())
}

fn main() -> Result<()> {
    // cargo passes `--bench`; a number is ours.
    let mib = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(USUAL_MIB);
    tokio::runtime::Runtime::new()?.block_on(bench(mib))
}
