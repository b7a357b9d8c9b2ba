//! Many streams through one broker at once, and what that does to its memory.

use crate::bench::mebibytes;
use crate::cluster::process::Identity;
use crate::screen;
use bytes::Bytes;
use coffer_stdx::{Error, Result};
use coffer_store::{PutOptions, Store};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use std::sync::Arc;
use std::time::Instant;

/// Bytes of each stream: more than a part, so that uploads go by parts.
const STREAM_BYTES: u64 = 20 << 20;
const CHUNK: usize = 1 << 20;
/// What a broker may need beyond its budget.
const BESIDE_MIB: u64 = 64;

/// Put `count` objects at once, then get them at once.
pub(super) async fn measure(
    store: &Arc<dyn Store>,
    folder: &str,
    count: usize,
    broker: Option<(Identity, u64)>,
) -> Result<()> {
    if let Some((broker, _)) = broker {
        broker.forget_peak()?;
    }
    let mut rows = Vec::new();
    for what in ["put", "get"] {
        let begun = Instant::now();
        let one = |at: usize| {
            let (store, path) = (Arc::clone(store), format!("{folder}/{at}"));
            tokio::spawn(
                async move { if what == "put" { put(&*store, &path).await } else { get(&*store, &path).await } },
            )
        };
        for outcome in join_all((0..count).map(one)).await {
            outcome.map_err(|error| Error::bug(format!("a stream ended early: {error}")))??;
        }
        let rate = (count as u64 * STREAM_BYTES) as f64 / 1e6 / begun.elapsed().as_secs_f64();
        let mut row = vec![what.to_owned(), format!("{rate:.0} MB/s")];
        if let Some((broker, budget)) = broker {
            let peak = mebibytes(broker.memory("VmHWM"));
            row.extend([peak, format!("{} MiB", budget + BESIDE_MIB)]);
        }
        rows.push(row);
    }
    screen::line(&format!("\n{count} streams of {} MiB at once through the broker", STREAM_BYTES >> 20));
    screen::line(&screen::table(&["", "rate", "peak memory", "at most"], &rows));
    Ok(())
}

async fn put(store: &dyn Store, path: &str) -> Result<()> {
    let chunk = Bytes::from(vec![0x5a; CHUNK]);
    let body = stream::iter((0..STREAM_BYTES / CHUNK as u64).map(move |_| Ok(chunk.clone()))).boxed();
    store.put(path, body, PutOptions::default()).await.map(|_| ())
}

async fn get(store: &dyn Store, path: &str) -> Result<()> {
    let body = store.get(path, None).await?;
    let read = body.try_fold(0, |sum, chunk| async move { Ok(sum + chunk.len() as u64) }).await?;
    if read == STREAM_BYTES { Ok(()) } else { Err(Error::corrupt(format!("{read} of {STREAM_BYTES} bytes came back"))) }
}
