//! The body of a pack, made while it is sent: files are read, hashed and handed on in one pass, without a copy.
//!
//! A blocking task reads ahead of the network by [`READ_AHEAD`] chunks, so that disk, hash and wire overlap; memory per
//! pack is `(READ_AHEAD + 2) * CHUNK_BYTES`. Each file's BLAKE3 must be the one its tablet recorded when the file was
//! written: a rotten file ends the body with a `Corrupt` error, which aborts the put, so that it never enters a
//! repository. Dropping the body ends the reading.

use crate::checksum::Checksum;
use crate::pack::{self, BlobEntry, HEADER_BYTES};
use bytes::Bytes;
use coffer_stdx::error::Context as _;
use coffer_stdx::{Error, Result};
use futures::Stream;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Bytes of one chunk: the payload of one message on the wire.
pub const CHUNK_BYTES: usize = 512 << 10;
/// Chunks read before the network asks for them.
pub const READ_AHEAD: usize = 4;

/// A local file that becomes a blob.
#[derive(Debug, Clone)]
pub struct PackFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size, as recorded.
    pub bytes: u64,
    /// Its BLAKE3, as recorded.
    pub checksum: Checksum,
}

/// Where each file of a pack will lie, in order.
pub fn entries(files: &[PackFile]) -> Vec<BlobEntry> {
    let mut offset = HEADER_BYTES;
    let place = |file: &PackFile| {
        let entry = BlobEntry { checksum: file.checksum, offset, length: file.bytes };
        offset += file.bytes;
        entry
    };
    files.iter().map(place).collect()
}

/// The size of the pack of these files.
pub fn packed_bytes(files: &[PackFile]) -> u64 {
    pack::pack_bytes(files.len(), files.iter().map(|file| file.bytes).sum())
}

/// Why a body ended early: kept aside, because a store may wrap or replace the error of a body.
#[derive(Debug, Clone, Default)]
pub struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    /// The error the body ended with.
    pub fn get(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, error: &Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }
}

/// A pack as a stream of chunks.
#[derive(Debug)]
pub struct PackBody {
    chunks: mpsc::Receiver<Result<Bytes>>,
    failure: Failure,
}

impl PackBody {
    /// Start reading `files`. `on_file_bytes` is told how many bytes of files were handed on; it must be quick.
    /// Must be called inside a tokio runtime.
    pub fn new(files: Vec<PackFile>, on_file_bytes: impl Fn(u64) + Send + 'static) -> PackBody {
        let (sender, chunks) = mpsc::channel(READ_AHEAD);
        let failure = Failure::default();
        let kept = failure.clone();
        tokio::task::spawn_blocking(move || {
            let mut producer = Producer { sender, on_file_bytes, chunk: Vec::with_capacity(CHUNK_BYTES) };
            match producer.run(&files) {
                Ok(()) | Err(Stop::Abandoned) => {}
                Err(Stop::Failed(error)) => {
                    kept.set(&error);
                    // A receiver that is gone no longer wants to know.
                    let _ = producer.sender.blocking_send(Err(error));
                }
            }
        });
        PackBody { chunks, failure }
    }

    /// A handle that tells later why the body ended early.
    pub fn failure(&self) -> Failure {
        self.failure.clone()
    }
}

impl Stream for PackBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.chunks.poll_recv(context)
    }
}

enum Stop {
    /// Nobody reads the body any more.
    Abandoned,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

/// Reads into one chunk until it is full, so that many small files make few chunks.
struct Producer<F> {
    sender: mpsc::Sender<Result<Bytes>>,
    on_file_bytes: F,
    chunk: Vec<u8>,
}

impl<F: Fn(u64)> Producer<F> {
    fn run(&mut self, files: &[PackFile]) -> std::result::Result<(), Stop> {
        self.add(&pack::header())?;
        for file in files {
            self.add_file(file)?;
        }
        let entries = entries(files);
        let end = entries.last().map_or(HEADER_BYTES, |entry| entry.offset + entry.length);
        self.add(&pack::trailer(&entries, end))?;
        self.flush()
    }

    fn flush(&mut self) -> std::result::Result<(), Stop> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.sender.blocking_send(Ok(Bytes::from(chunk))).map_err(|_| Stop::Abandoned)
    }

    fn room(&mut self) -> std::result::Result<usize, Stop> {
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(CHUNK_BYTES - self.chunk.len())
    }

    fn add(&mut self, mut bytes: &[u8]) -> std::result::Result<(), Stop> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.room()?.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn add_file(&mut self, file: &PackFile) -> std::result::Result<(), Stop> {
        let name = file.path.display();
        let corrupt = |what: String| Stop::Failed(Error::corrupt(format!("file {name} {what}")));
        let mut reader = File::open(&file.path).context(|| format!("open {name}"))?;
        let mut hasher = blake3::Hasher::new();
        let mut left = file.bytes;
        while left > 0 {
            let want = left.min(self.room()? as u64);
            let start = self.chunk.len();
            let read = reader.by_ref().take(want).read_to_end(&mut self.chunk).context(|| format!("read {name}"))?;
            if read == 0 {
                return Err(corrupt(format!("is {left} bytes shorter than the {} recorded", file.bytes)));
            }
            hasher.update(&self.chunk[start..]);
            left -= read as u64;
            (self.on_file_bytes)(read as u64);
        }
        if reader.read(&mut [0]).context(|| format!("read {name}"))? != 0 {
            return Err(corrupt(format!("is longer than the {} bytes recorded", file.bytes)));
        }
        let found = Checksum::finish(&hasher);
        if found != file.checksum {
            return Err(corrupt(format!("has BLAKE3 {found}, but {} was recorded: it changed on disk", file.checksum)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;
    use futures::TryStreamExt;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn file(dir: &Path, name: &str, content: &[u8]) -> PackFile {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        PackFile { path, bytes: content.len() as u64, checksum: Checksum::of(content) }
    }

    async fn collect(body: PackBody) -> Result<Vec<u8>> {
        body.try_fold(Vec::new(), |mut all, chunk| async move {
            assert!(chunk.len() <= CHUNK_BYTES);
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
    }

    #[tokio::test]
    async fn a_body_is_a_pack_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let large: Vec<u8> = (0..CHUNK_BYTES * 9 / 4).map(|at| (at % 251) as u8).collect();
        let files = vec![file(dir.path(), "a", b"abc"), file(dir.path(), "b", b""), file(dir.path(), "c", &large)];
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let body = PackBody::new(files.clone(), move |bytes| {
            count.fetch_add(bytes, Ordering::Relaxed);
        });
        let pack = collect(body).await.unwrap();
        assert_eq!(pack.len() as u64, packed_bytes(&files));
        assert_eq!(sent.load(Ordering::Relaxed), 3 + large.len() as u64);
        for (entry, content) in entries(&files).iter().zip([&b"abc"[..], b"", &large]) {
            assert_eq!(&pack[entry.offset as usize..][..entry.length as usize], content);
        }
        let size = pack.len() as u64;
        let footer_at = pack.len() - pack::FOOTER_BYTES as usize;
        let footer = pack::parse_footer(&pack[footer_at..], size, "p").unwrap();
        let trailer = &pack[footer.trailer_offset as usize..footer_at];
        assert_eq!(pack::parse_trailer(&pack[..16], trailer, &footer, "p").unwrap(), entries(&files));
    }

    #[tokio::test]
    async fn rotten_cut_grown_and_missing_files_end_the_body() {
        let dir = tempfile::tempdir().unwrap();
        let good = file(dir.path(), "good", b"abc");
        for (name, content) in [("rotten", &b"abx"[..]), ("cut", b"ab"), ("grown", b"abcd")] {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            let body = PackBody::new(vec![good.clone(), PackFile { path, ..good.clone() }], |_| {});
            let failure = body.failure();
            let error = collect(body).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.message().contains(name), "{error}");
            assert_eq!(failure.get(), Some(error));
        }
        let missing = PackFile { path: dir.path().join("missing"), ..good };
        assert_eq!(collect(PackBody::new(vec![missing], |_| {})).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
