//! How fast bytes go from a process like a backend through a broker, when nothing waits behind it.
//!
//! The client does what a backend's upload does: it reads tablet files, hashes every byte with BLAKE3, and puts packs of
//! many files through the store that talks to brokers. The broker checks every chunk and throws it away.

use crate::bench::files::Files;
use bytes::Bytes;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_store::{LocalAccess, PutOptions, Store};
use futures::{StreamExt, stream};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Bytes per message.
const CHUNK: usize = 1 << 20;
/// Chunks that wait between disk and network.
const CHUNKS_AHEAD: usize = 4;

/// What is sent at least: small sets of files are sent again and again.
const AT_LEAST: u64 = 1 << 30;

/// Send the files through the broker at `address` over `streams` streams; how many bytes that was and the time it took.
pub(crate) async fn measure(address: &str, files: &Files, streams: usize) -> Result<(u64, Duration)> {
    let streams = streams.max(1);
    let times = AT_LEAST.div_ceil(files.bytes.max(1)).clamp(1, 1000);
    let spec =
        StorageSpec { location: "null://".to_owned(), brokers: vec![address.to_owned()], ..StorageSpec::default() };
    let store = coffer_store::open(&spec, &LocalAccess::default())?;
    let begun = Instant::now();
    let mut sending = Vec::new();
    for number in 0..streams {
        let all = std::iter::repeat_n(&files.paths, times as usize).flatten();
        let share: Vec<PathBuf> = all.skip(number).step_by(streams).cloned().collect();
        sending.push(tokio::spawn(send(Arc::clone(&store), format!("packs/{number}"), share)));
    }
    let mut sent = 0;
    for task in sending {
        sent += task.await.map_err(|error| Error::bug(format!("sink: {error}")))??;
    }
    let expected = files.bytes * times;
    if sent != expected {
        return Err(Error::corrupt(format!("the sink took {sent} of {expected} bytes")));
    }
    Ok((sent, begun.elapsed()))
}

async fn send(store: Arc<dyn Store>, path: String, files: Vec<PathBuf>) -> Result<u64> {
    let (sender, receiver) = mpsc::channel::<Result<Bytes>>(CHUNKS_AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        if let Err(error) = read_all(&files, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    let body = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let stored = store.put(&path, body.boxed(), PutOptions::default()).await?;
    reader.await.map_err(|error| Error::bug(format!("sink: {error}")))?;
    Ok(stored.bytes)
}

/// The files back to back, in chunks, each file hashed as it passes.
fn read_all(files: &[PathBuf], sender: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK);
    for path in files {
        let mut file = std::fs::File::open(path).context(|| format!("open {}", path.display()))?;
        let mut hasher = blake3::Hasher::new();
        loop {
            let before = chunk.len();
            let room = (CHUNK - before) as u64;
            let read = (&mut file).take(room).read_to_end(&mut chunk).context(|| format!("read {}", path.display()))?;
            hasher.update(&chunk[before..]);
            if chunk.len() == CHUNK {
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
                if sender.blocking_send(Ok(Bytes::from(full))).is_err() {
                    return Ok(());
                }
            } else if read as u64 <= room {
                break;
            }
        }
        std::hint::black_box(hasher.finalize());
    }
    if !chunk.is_empty() {
        let _ = sender.blocking_send(Ok(Bytes::from(chunk)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_arrive_back_to_back_whatever_their_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let sizes = [0, 1, CHUNK, CHUNK + 1, 3];
        let files: Vec<PathBuf> = (0..sizes.len()).map(|n| dir.path().join(n.to_string())).collect();
        let mut all = Vec::new();
        for (n, path) in files.iter().enumerate() {
            let bytes = vec![n as u8; sizes[n]];
            std::fs::write(path, &bytes).unwrap();
            all.extend(bytes);
        }
        let (sender, mut receiver) = mpsc::channel(16);
        read_all(&files, &sender).unwrap();
        drop(sender);
        let mut got = Vec::new();
        while let Some(chunk) = receiver.blocking_recv() {
            got.extend_from_slice(&chunk.unwrap());
        }
        assert!(got == all);
    }
}
