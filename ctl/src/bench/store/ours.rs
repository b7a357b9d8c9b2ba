//! Our store as a backend uses it: files read and written on blocking threads, several streams at once.

use super::leg::Load;
use bytes::Bytes;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_store::{ByteStream, PutOptions, Store, from_bytes};
use futures::{StreamExt, TryStreamExt, stream};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes read from a file at once; smaller files are read and written whole.
const CHUNK: u64 = 1 << 20;
/// Chunks that wait between disk and network.
const CHUNKS_AHEAD: usize = 8;

/// Put every file.
pub(super) async fn upload(store: &Arc<dyn Store>, load: &Load, folder: &str) -> Result<()> {
    let size = load.files.size;
    let puts = load.files.names().map(|name| {
        let (store, path, file) = (Arc::clone(store), format!("{folder}/{name}"), load.files.dir.join(name));
        async move {
            let task = tokio::spawn(async move {
                let body = if size <= CHUNK { from_bytes(read_whole(file).await?) } else { read_along(file) };
                store.put(&path, body, PutOptions { create_new: false, length_hint: Some(size) }).await
            });
            joined(task.await).map(|_| ())
        }
    });
    stream::iter(puts).buffer_unordered(load.streams.max(1)).try_collect().await
}

/// Get every file.
pub(super) async fn download(store: &Arc<dyn Store>, load: &Load, folder: &str, target: &Path) -> Result<()> {
    let size = load.files.size;
    let gets = load.files.names().map(|name| {
        let (store, path, file) = (Arc::clone(store), format!("{folder}/{name}"), target.join(name));
        async move {
            let task = tokio::spawn(async move {
                // With its length, as it is known to whoever restores.
                let body = store.get(&path, Some(0..size)).await?;
                if size <= CHUNK { write_whole(body, file).await } else { write_along(body, file).await }
            });
            joined(task.await)
        }
    });
    stream::iter(gets).buffer_unordered(load.streams.max(1)).try_collect().await
}

fn joined<T>(outcome: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|error| Err(Error::bug(format!("a stream ended early: {error}"))))
}

async fn read_whole(file: PathBuf) -> Result<Vec<u8>> {
    joined(tokio::task::spawn_blocking(move || std::fs::read(&file).context(|| file.display().to_string())).await)
}

fn read_along(path: PathBuf) -> ByteStream {
    let (sender, receiver) = mpsc::channel::<Result<Bytes>>(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let chunks = || -> Result<()> {
            let mut file = File::open(&path).context(|| path.display().to_string())?;
            loop {
                let mut chunk = Vec::with_capacity(CHUNK as usize);
                (&mut file).take(CHUNK).read_to_end(&mut chunk).context(|| path.display().to_string())?;
                if chunk.is_empty() || sender.blocking_send(Ok(chunk.into())).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = chunks() {
            // The put may be gone already.
            let _ = sender.blocking_send(Err(error));
        }
    });
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
}

async fn write_whole(mut body: ByteStream, file: PathBuf) -> Result<()> {
    let mut chunks: Vec<Bytes> = Vec::new();
    while let Some(chunk) = body.try_next().await? {
        chunks.push(chunk);
    }
    let write = move || std::fs::write(&file, chunks.concat()).context(|| file.display().to_string());
    joined(tokio::task::spawn_blocking(write).await)
}

async fn write_along(mut body: ByteStream, path: PathBuf) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
    let writer = tokio::task::spawn_blocking(move || -> Result<()> {
        let mut file = File::create(&path).context(|| path.display().to_string())?;
        let mut chunks = Vec::with_capacity(CHUNKS_AHEAD);
        while receiver.blocking_recv_many(&mut chunks, CHUNKS_AHEAD) > 0 {
            for chunk in chunks.drain(..) {
                file.write_all(&chunk).context(|| path.display().to_string())?;
            }
        }
        Ok(())
    });
    while let Some(chunk) = body.try_next().await? {
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    joined(writer.await)
}
