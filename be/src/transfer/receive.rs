//! One ranged read of a pack becomes files: blobs are cut out as they stream by, hashed and written, in a blocking
//! thread that the network feeds through a short queue.
//!
//! A blob whose BLAKE3 is not the manifest's is Corrupt, by pack and offset; its file is below `.tmp` and goes away.

use crate::task::context::ProgressSink;
use crate::transfer::limits::{FETCH_QUEUE, WRITE_BACK_BYTES, WRITE_BACK_TAIL_BYTES};
use crate::transfer::plan::{Fetch, Want};
use bytes::Bytes;
use coffer_repo::{Checksum, Repository};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use futures::TryStreamExt;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Where blobs go.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Directories of tablets.
    pub(super) dirs: Vec<PathBuf>,
    /// Directory index and name of each file that a [`Want`] names.
    pub(super) files: Vec<(u32, Box<str>)>,
}

impl Targets {
    fn path(&self, file: usize) -> PathBuf {
        let (dir, name) = &self.files[file];
        self.dirs[*dir as usize].join(&**name)
    }
}

/// Read and write everything of one fetch.
pub(super) async fn receive(
    repository: &Repository,
    fetch: Fetch,
    targets: Arc<Targets>,
    progress: ProgressSink,
) -> Result<()> {
    let pack = repository.layout().pack(&fetch.pack);
    let (sender, receiver) = mpsc::channel(FETCH_QUEUE);
    let (id, range) = (fetch.pack, fetch.range.clone());
    let sink = Sink::new(fetch, pack.clone(), targets, progress);
    let writing = tokio::task::spawn_blocking(move || sink.run(receiver));
    let sent = async {
        if range.is_empty() {
            return Ok(());
        }
        let mut body = repository.read_pack(&id, range).await?;
        while let Some(chunk) = body.try_next().await.context(|| format!("read pack '{pack}'"))? {
            if sender.send(chunk).await.is_err() {
                // The writer ended early and says why.
                break;
            }
        }
        Ok(())
    }
    .await;
    drop(sender);
    let written = writing.await.map_err(|error| Error::bug(format!("write blobs of '{pack}': {error}")))?;
    // When the network failed the writer only saw too few bytes.
    sent.and(written)
}

struct Sink {
    pack: String,
    targets: Arc<Targets>,
    progress: ProgressSink,
    /// Offset of the next byte.
    at: u64,
    wants: VecDeque<Want>,
    open: Option<Blob>,
}

/// A blob being written, to more than one file when several want it.
struct Blob {
    wants: Vec<Want>,
    files: Vec<(File, PathBuf)>,
    hasher: blake3::Hasher,
    left: u64,
    /// Bytes that are on their way to the disk.
    sent_on: u64,
}

impl Sink {
    fn new(fetch: Fetch, pack: String, targets: Arc<Targets>, progress: ProgressSink) -> Sink {
        Sink { pack, targets, progress, at: fetch.range.start, wants: fetch.wants.into(), open: None }
    }

    fn run(mut self, mut chunks: mpsc::Receiver<Bytes>) -> Result<()> {
        self.next_blob()?;
        while let Some(chunk) = chunks.blocking_recv() {
            self.push(&chunk)?;
        }
        self.finish()
    }

    /// Everything must be there by now.
    fn finish(&self) -> Result<()> {
        match self.open.as_ref().map(|blob| &blob.wants[0]).or(self.wants.front()) {
            None => Ok(()),
            Some(want) => Err(Error::corrupt(format!(
                "pack '{}' ends at offset {}, within or before the blob at offset {}: it was cut",
                self.pack, self.at, want.offset
            ))),
        }
    }

    fn push(&mut self, mut chunk: &[u8]) -> Result<()> {
        while !chunk.is_empty() {
            let Some(blob) = &mut self.open else {
                // Unwanted bytes up to the next blob, or behind the last one.
                let next = self.wants.front().map_or(u64::MAX, |want| want.offset);
                let skip = (next - self.at).min(chunk.len() as u64);
                chunk = &chunk[skip as usize..];
                self.at += skip;
                self.next_blob()?;
                continue;
            };
            let (now, later) = chunk.split_at(blob.left.min(chunk.len() as u64) as usize);
            blob.write(now)?;
            self.at += now.len() as u64;
            self.progress.add(now.len() as u64 * blob.wants.len() as u64, 0);
            chunk = later;
            if blob.left == 0 {
                self.close()?;
                self.next_blob()?;
            }
        }
        Ok(())
    }

    /// Open the blob that starts here, if one does; those without bytes are done at once.
    fn next_blob(&mut self) -> Result<()> {
        while let Some(first) = self.wants.front().filter(|want| want.offset == self.at).copied() {
            let mut wants = Vec::new();
            let same = |want: &Want| (want.offset, want.length) == (first.offset, first.length);
            while let Some(want) = self.wants.pop_front_if(|want| same(want)) {
                wants.push(want);
            }
            let create = |want: &Want| {
                let path = self.targets.path(want.file);
                let file = File::create(&path).context(|| format!("create {}", path.display()))?;
                Ok((file, path))
            };
            let files = wants.iter().map(create).collect::<Result<_>>()?;
            self.open = Some(Blob { wants, files, hasher: blake3::Hasher::new(), left: first.length, sent_on: 0 });
            if first.length > 0 {
                return Ok(());
            }
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut blob) = self.open.take() else { return Ok(()) };
        blob.send_on(WRITE_BACK_TAIL_BYTES);
        let found = Checksum::finish(&blob.hasher);
        for want in &blob.wants {
            if want.checksum != found {
                return Err(Error::corrupt(format!(
                    "pack '{}': the blob of {} bytes at offset {} has BLAKE3 {found}, but the manifest says {}",
                    self.pack, want.length, want.offset, want.checksum
                )));
            }
        }
        self.progress.add(0, blob.wants.len() as u64);
        Ok(())
    }
}

impl Blob {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.left -= bytes.len() as u64;
        for (file, path) in &mut self.files {
            file.write_all(bytes).context(|| format!("write {}", path.display()))?;
        }
        self.send_on(WRITE_BACK_BYTES);
        Ok(())
    }

    /// Have the disk begin with what was written, when there is so much.
    fn send_on(&mut self, at_least: u64) {
        let written = self.wants[0].length - self.left;
        if written - self.sent_on >= at_least {
            for (file, _) in &self.files {
                fsx::begin_write_back(file, self.sent_on, written - self.sent_on);
            }
            self.sent_on = written;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::plan::fetches;
    use coffer_repo::{PackId, PackPrefix};
    use proptest::prelude::*;

    /// The byte of the pack at an offset.
    fn byte(offset: u64) -> u8 {
        (offset * 31 % 251) as u8
    }

    fn bytes(offset: u64, length: u64) -> Vec<u8> {
        (offset..offset + length).map(byte).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn blobs_are_cut_out_of_chunks_of_any_size(
            gaps in proptest::collection::vec((0_u64..20, 0_u64..30, 1_usize..3), 1..12), chunk in 1_usize..50,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (mut at, mut wants) = (16, Vec::new());
            let mut targets = Targets { dirs: vec![dir.path().to_owned()], files: Vec::new() };
            for (gap, length, times) in gaps {
                at += gap;
                for _ in 0..times {
                    let file = targets.files.len();
                    targets.files.push((0, file.to_string().into()));
                    wants.push(Want { offset: at, length, checksum: Checksum::of(&bytes(at, length)), file });
                }
                at += length;
            }
            let pack = PackId::random(PackPrefix::random(), 0);
            let plan = fetches(wants.iter().map(|want| (pack, *want)));
            prop_assert_eq!(plan.len(), 1);
            let fetch = plan[0].clone();
            let content = bytes(fetch.range.start, fetch.range.end - fetch.range.start);
            let (targets, progress) = (Arc::new(targets), ProgressSink::default());
            let mut sink = Sink::new(fetch, "p".to_owned(), targets, progress.clone());
            sink.next_blob().unwrap();
            for part in content.chunks(chunk) {
                sink.push(part).unwrap();
            }
            sink.finish().unwrap();
            for want in &wants {
                let found = std::fs::read(dir.path().join(want.file.to_string())).unwrap();
                prop_assert_eq!(found, bytes(want.offset, want.length));
            }
            let done = progress.get();
            prop_assert_eq!(done.files_done, wants.len() as u64);
            prop_assert_eq!(done.bytes_done, wants.iter().map(|want| want.length).sum::<u64>());
        }
    }
}
