//! A folder of an HDFS as a store. `HDFS.md` says what operators set, and what the client library lacks.
//!
//! An object is a file; folders appear with the first object in them and go with the last one, the location's own
//! excepted, as it may carry quotas and permissions. A put writes a temporary file and renames it, so that an object is
//! visible as a whole or not at all (`put`). It is durable as HDFS understands it: on as many DataNodes as it has
//! replicas, written to their disks in due time (`dfs.datanode.synconclose` makes them wait for that).
//!
//! Every call has a time limit; silence, lost connections and NameNodes that change roles are tried again for a while
//! (`pool`). Memory of a put is bounded by `window`, that of a get by the pieces it asks for.

mod diagnose;
mod failure;
mod names;
mod pool;
mod put;
mod replay;
mod settings;
mod site;
mod walk;
mod window;

use crate::budget::Permit;
use crate::{
    Budget, ByteStream, Child, ChildStream, LocalAccess, ObjectInfo, ObjectStream, PutOptions, Store, body, path,
};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::retry::Policy;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, ErrorKind, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hdfs_native::client::FileStatus;
use hdfs_native::file::FileReader;
use pool::{ANSWER_WITHIN, Cluster, WORK_WITHIN};
use put::Put;
use replay::Replay;
use settings::Settings;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use walk::{Depth, Walk};

/// What hdfs-native holds of a block that it reads ahead of a slow reader: a hundred packets. A range is asked for at once
/// when there is memory for that.
const AHEAD_BYTES: u64 = 6 << 20;
/// Bytes asked of a DataNode at once when there is not.
const SMALL_PIECE_BYTES: u64 = 1 << 20;
/// Chunks, one packet of HDFS each, that wait for a reader beyond that.
const CHUNKS_AHEAD: usize = 4;
/// How long the bytes of a file may stand still. hdfs-native tries every replica within it.
const STALL: Duration = Duration::from_secs(90);
/// Times the folders of a new name are made again when somebody removes them meanwhile.
const FOLDER_TRIES: u32 = 3;

/// A folder of an HDFS.
#[derive(Debug, Clone)]
pub struct HdfsStore {
    place: Arc<Place>,
    pieces: Budget,
}

impl HdfsStore {
    /// Bodies that break off are taken up again; everything else is tried again within.
    pub const RETRY: Policy = Policy { attempts: 1, first_ms: 200, max_ms: 2_000 };

    /// The location of `spec`; what reads and retries hold beyond the least comes from
    /// `pieces`. Nothing is connected yet.
    pub fn open(spec: &StorageSpec, access: &LocalAccess, pieces: &Budget) -> Result<HdfsStore> {
        let site = access.conf_dir.as_deref().map_or_else(|| Ok(BTreeMap::new()), site::read)?;
        let settings = Settings::parse(&spec.location, &spec.properties, site)?;
        let cluster = pool::cluster(&settings.cluster)?;
        let Settings { folder, replication, block_bytes, .. } = settings;
        let place = Place { cluster, folder, replication, block_bytes };
        Ok(HdfsStore { place: Arc::new(place), pieces: pieces.clone() })
    }

    async fn walk(&self, prefix: &str, depth: Depth) -> Result<ChildStream> {
        path::check_prefix(prefix)?;
        let folder = if prefix.is_empty() { self.place.folder.clone() } else { self.place.path(prefix)? };
        let mut walk = Walk::start(Arc::clone(&self.place), folder, depth);
        // The first entry shows whether the cluster answers at all.
        let first = walk.next().await?;
        let rest =
            stream::try_unfold(walk, |mut walk| async move { Ok(walk.next().await?.map(|child| (child, walk))) });
        Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
    }
}

/// A folder of a cluster.
#[derive(Debug)]
struct Place {
    cluster: Arc<Cluster>,
    folder: String,
    replication: Option<u32>,
    block_bytes: Option<u64>,
}

/// The folder a path lies in.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Place {
    /// The path of an object in HDFS.
    fn path(&self, object: &str) -> Result<String> {
        path::check(object)?;
        Ok(format!("{}/{}", self.folder, names::encoded(object)))
    }

    /// The object at a path in HDFS.
    fn object(&self, path: &str) -> Option<String> {
        path.strip_prefix(&self.folder)?.strip_prefix('/').map(names::decoded)
    }

    /// A path in HDFS as people write it.
    fn shown(&self, path: &str) -> String {
        format!("{}{path}", self.cluster.settings.url)
    }

    async fn look(&self, path: &str) -> Result<Option<FileStatus>> {
        let doing = format!("look at {}", self.shown(path));
        let asked = self.cluster.ask(&doing, ANSWER_WITHIN, |client| {
            let path = path.to_owned();
            async move { walk::found(client.get_file_info(&path).await) }
        });
        asked.await
    }

    /// What is at a path, when it is a file.
    async fn file(&self, path: &str) -> Result<Option<FileStatus>> {
        Ok(self.look(path).await?.filter(|status| !status.isdir))
    }

    /// The object at a path; a folder is none.
    async fn existing(&self, path: &str) -> Result<FileStatus> {
        match self.look(path).await? {
            Some(status) if status.isdir => {
                Err(Error::not_found(format!("{} is a folder, not an object", self.shown(path))))
            }
            Some(status) => Ok(status),
            None => Err(Error::not_found(format!("object {} does not exist", self.shown(path)))),
        }
    }

    async fn remove_file(&self, path: &str) -> Result<()> {
        let doing = format!("delete {}", self.shown(path));
        let asked = self.cluster.ask(&doing, ANSWER_WITHIN, |client| {
            let path = path.to_owned();
            async move { client.delete(&path, false).await }
        });
        asked.await.map(drop)
    }

    /// Remove the folders above `path` that are empty, up to the location.
    async fn prune(&self, path: &str) {
        let mut folder = parent(path);
        while folder.len() > self.folder.len() {
            // Not recursive: the NameNode refuses when something is inside.
            let removed = self.cluster.ask_once("remove an empty folder", ANSWER_WITHIN, |client| {
                let folder = folder.to_owned();
                async move { client.delete(&folder, false).await }
            });
            if removed.await.is_err() {
                return;
            }
            folder = parent(folder);
        }
    }

    async fn make_folder(&self, folder: &str) -> Result<()> {
        let doing = format!("create folder {}", self.shown(folder));
        let asked = self.cluster.ask(&doing, ANSWER_WITHIN, |client| {
            let folder = folder.to_owned();
            async move { client.mkdirs(&folder, 0o755, true).await }
        });
        asked.await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let doing = format!("rename {} to {}", self.shown(from), self.shown(to));
        let asked = self.cluster.ask_once(&doing, ANSWER_WITHIN, |client| {
            let (from, to) = (from.to_owned(), to.to_owned());
            async move { client.rename(&from, &to, true).await }
        });
        asked.await
    }
}

/// A range being read, one piece after the other, by a task of its own: what is left alone in the middle of a call of
/// hdfs-native may hold a lock that others wait for.
struct Reading {
    place: Arc<Place>,
    path: String,
    reader: FileReader,
    rest: Range<u64>,
    piece_bytes: u64,
    // How much this stream may have in memory.
    _memory: Option<Permit>,
}

impl Reading {
    /// Send the range; ends early when nobody listens.
    async fn run(mut self, chunks: mpsc::Sender<Result<Bytes>>) {
        loop {
            let chunk = self.next_piece(&chunks).await;
            let ended = chunk.is_err();
            if let Err(Some(error)) = chunk {
                let _ = chunks.send(Err(error)).await;
            }
            if ended || self.rest.is_empty() {
                return;
            }
        }
    }

    /// One piece. The error is none when nobody listens.
    async fn next_piece(&mut self, chunks: &mpsc::Sender<Result<Bytes>>) -> Result<(), Option<Error>> {
        let length = (self.rest.end - self.rest.start).min(self.piece_bytes);
        let piece = self.reader.read_range_stream(self.rest.start as usize, length as usize);
        tokio::pin!(piece);
        loop {
            let next = tokio::time::timeout(STALL, piece.next()).await;
            let doing = || format!("get {} at {}", self.place.shown(&self.path), self.rest.start);
            let settings = &self.place.cluster.settings;
            match next {
                Ok(Some(Ok(chunk))) => {
                    self.rest.start += chunk.len() as u64;
                    chunks.send(Ok(chunk)).await.map_err(|_| None)?;
                }
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(Some(failure::failed(&doing(), settings, error))),
                Err(_) => return Err(Some(failure::silent(&doing(), settings, STALL.as_secs()))),
            }
        }
    }
}

#[async_trait]
impl Store for HdfsStore {
    async fn put(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        let target = self.place.path(path)?;
        if options.create_new && self.place.look(&target).await?.is_some() {
            return Err(put::exists(&self.place, &target));
        }
        let put = Put { place: Arc::clone(&self.place), target, options };
        let bytes = pool::on_io(put.run(Replay::new(body, &self.pieces))).await??;
        // By this host's clock: to ask would be one more call of five for a small object.
        Ok(ObjectInfo { path: path.to_owned(), bytes, modified_ms: now_ms() })
    }

    async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let file = self.place.path(path)?;
        let doing = format!("get {}", self.place.shown(&file));
        let opened = self.place.cluster.ask(&doing, ANSWER_WITHIN, |client| {
            let file = file.clone();
            async move { client.read(&file).await }
        });
        let reader = opened.await?;
        let rest = body::clamp(range, reader.file_length() as u64);
        let memory = self.pieces.try_take(AHEAD_BYTES).filter(|_| rest.end - rest.start > SMALL_PIECE_BYTES);
        let piece_bytes = if memory.is_some() { u64::MAX } else { SMALL_PIECE_BYTES };
        if rest.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let place = Arc::clone(&self.place);
        let reading = Reading { place, path: file, reader, rest, piece_bytes, _memory: memory };
        let (send, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let task = pool::spawn(reading.run(send))?;
        // The task ends with the stream; a task that came to grief ends the stream with an error, never short.
        let chunks = stream::unfold(Some((chunks, task)), |reading| async {
            let (mut chunks, mut task) = reading?;
            match chunks.recv().await {
                Some(chunk) => Some((chunk, Some((chunks, task)))),
                None => task.ended().await.err().map(|error| (Err(error), None)),
            }
        });
        Ok(chunks.boxed())
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        let status = self.place.existing(&self.place.path(path)?).await?;
        Ok(walk::info(path.to_owned(), &status))
    }

    async fn list(&self, prefix: &str) -> Result<ObjectStream> {
        let children = self.walk(prefix, Depth::All).await?;
        let objects = children.try_filter_map(|child| async move {
            Ok(match child {
                Child::Object(info) => Some(info),
                Child::Folder(_) => None,
            })
        });
        Ok(objects.boxed())
    }

    async fn children(&self, prefix: &str) -> Result<ChildStream> {
        self.walk(prefix, Depth::One).await
    }

    async fn delete(&self, path: &str, recursive: bool) -> Result<()> {
        let target = self.place.path(path)?;
        if recursive {
            let doing = format!("delete {}", self.place.shown(&target));
            let asked = self.place.cluster.ask(&doing, WORK_WITHIN, |client| {
                let target = target.clone();
                async move { client.delete(&target, true).await }
            });
            asked.await?;
        } else if self.place.file(&target).await?.is_some() {
            self.place.remove_file(&target).await?;
        } else {
            return Ok(());
        }
        self.place.prune(&target).await;
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (source, target) = (self.place.path(from)?, self.place.path(to)?);
        self.place.existing(&source).await?;
        let mut tries = 1;
        loop {
            self.place.make_folder(parent(&target)).await?;
            match self.place.rename(&source, &target).await {
                Err(error) if error.kind() == ErrorKind::NotFound && tries < FOLDER_TRIES => {
                    self.place.existing(&source).await?;
                    tries += 1;
                }
                outcome => {
                    self.place.prune(if outcome.is_ok() { &source } else { &target }).await;
                    return outcome;
                }
            }
        }
    }
}
