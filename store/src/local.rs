//! A directory as a store: every object is a file, every segment of its path a directory.
//!
//! A put writes `.coffer-tmp-<writer>-<random>` beside its target, syncs it, gives it its name (rename, or link when the
//! object must be new) and syncs the directory. A crash leaves the old object or the new one, and perhaps a temporary file,
//! which no listing shows. The first put into its directory, or the delete of the last object there, removes it once its
//! writer is known to be dead (see `writer`), or when nobody wrote to it for a day. Reading never writes. Directories appear when an object
//! needs them and go when their last object goes, so that a location looks as it would in an object store.
//!
//! All file work runs on blocking threads, one piece at a time, so that no slow peer holds a thread.

mod dirs;
mod walk;
mod write;
mod writer;

use crate::{ByteStream, Child, ChildStream, LocalAccess, ObjectInfo, ObjectStream, PutOptions, Store, body, path};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use dirs::Dirs;
use futures::{StreamExt, TryStreamExt, stream};
use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use walk::{Depth, Walk};
use write::Pending;

/// Bytes read at once; also what one message to a peer carries.
const READ_BYTES: u64 = coffer_proto::channel::MESSAGE_BYTES as u64;
/// Reads under way for one stream.
const READS_AHEAD: usize = 2;
/// Bytes gathered before they are handed to a writing thread.
const WRITE_BYTES: usize = 1 << 20;

/// A directory.
#[derive(Debug, Clone)]
pub struct LocalStore {
    dirs: Arc<Dirs>,
}

impl LocalStore {
    /// The directory `location`, which must lie below one of the roots. It is created when the first object is put.
    pub fn open(location: &Path, access: &LocalAccess) -> Result<LocalStore> {
        let (base, root) = resolve(location, access)?;
        Ok(LocalStore { dirs: Arc::new(Dirs::new(base, root)) })
    }

    fn file_path(&self, path: &str) -> Result<PathBuf> {
        path::check(path)?;
        Ok(self.dirs.root().join(path))
    }

    async fn walk(&self, prefix: &str, depth: Depth) -> Result<ChildStream> {
        path::check_prefix(prefix)?;
        let (dirs, prefix) = (Arc::clone(&self.dirs), prefix.to_owned());
        let walk = blocking(move || {
            dirs.check_base()?;
            Walk::start(dirs.root(), &prefix, depth)
        })
        .await?;
        let pages = stream::try_unfold(walk, |mut walk| async move {
            let (page, walk) = blocking(move || walk.page().map(|page| (page, walk))).await?;
            Ok::<_, Error>((!page.is_empty()).then_some((page, walk)))
        });
        Ok(pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten().boxed())
    }
}

/// The root a location lies below, and the location itself, both without symbolic links.
fn resolve(location: &Path, access: &LocalAccess) -> Result<(PathBuf, PathBuf)> {
    let shown = location.display();
    if !location.is_absolute() || location.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err(Error::invalid(format!("location '{shown}' must be an absolute path without '..'")));
    }
    if access.roots.is_empty() {
        return Err(Error::denied(format!(
            "location '{shown}': directories of this host are not open to repositories; list the allowed ones in the \
             option local_roots of this process"
        )));
    }
    let real = real_path(location).context(|| format!("look at {shown}"))?;
    let mut missing = Vec::new();
    for root in &access.roots {
        match fs::canonicalize(root) {
            Ok(root) if real.starts_with(&root) => return Ok((root, real)),
            Ok(_) => {}
            Err(error) => missing.push(format!("{}: {error}", root.display())),
        }
    }
    let roots: Vec<String> = access.roots.iter().map(|root| root.display().to_string()).collect();
    let roots = roots.join(", ");
    let mut reason = format!("location '{shown}' is not below any of the local_roots of this process: {roots}");
    if !missing.is_empty() {
        reason = format!("{reason} (of which some cannot be used: {})", missing.join(", "));
    }
    Err(Error::denied(reason))
}

/// The path with the links of the part that exists resolved.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(real_path(parent)?.join(name)),
            _ => Err(error),
        },
        other => other,
    }
}

/// Run file work on a blocking thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

fn joined<T>(outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|error| Err(Error::bug(format!("file work ended early: {error}"))))
}

fn info(path: &str, meta: &Metadata) -> ObjectInfo {
    let modified = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let modified_ms = modified.map_or(0, |since| since.as_millis() as u64);
    ObjectInfo { path: path.to_owned(), bytes: meta.len(), modified_ms }
}

/// Open a file that is an object; a directory is none.
fn open_object(file: &Path) -> Result<(File, Metadata)> {
    let doing = || format!("open {}", file.display());
    let opened = File::open(file).map_err(absent).context(doing)?;
    let meta = opened.metadata().context(doing)?;
    if meta.is_file() { Ok((opened, meta)) } else { Err(no_object(file)) }
}

/// A path that runs through a file names nothing, as in an object store.
fn absent(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotADirectory => io::Error::new(io::ErrorKind::NotFound, error),
        _ => error,
    }
}

fn no_object(file: &Path) -> Error {
    Error::not_found(format!("{} is a directory, not an object", file.display()))
}

/// Write `body` into the pending object, reading the next piece while the last one is written.
async fn feed(mut body: ByteStream, pending: Pending) -> Result<Pending> {
    let mut gather = body::Gather::new();
    let mut writing = tokio::task::spawn_blocking(move || Ok(pending));
    loop {
        let next = body.try_next().await;
        let last = matches!(next, Ok(None));
        match next {
            Ok(Some(chunk)) => gather.push(chunk),
            Ok(None) => {}
            Err(error) => {
                // Wait for the writer, so that the temporary file is gone when the caller hears of it.
                let pending = joined(writing.await);
                blocking(move || pending.map(drop)).await.ok();
                return Err(error);
            }
        }
        if last || gather.bytes() >= WRITE_BYTES {
            let pending = joined(writing.await)?;
            let batch = gather.take();
            writing = tokio::task::spawn_blocking(move || pending.write(&batch));
        }
        if last {
            return joined(writing.await);
        }
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn put(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo> {
        let target = self.file_path(path)?;
        let dirs = Arc::clone(&self.dirs);
        let pending = blocking(move || Pending::create(dirs, target, options.create_new)).await?;
        let pending = feed(body, pending).await?;
        let path = path.to_owned();
        blocking(move || pending.commit().map(|meta| info(&path, &meta))).await
    }

    async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<ByteStream> {
        let file = self.file_path(path)?;
        let shown = file.display().to_string();
        let (opened, meta) = blocking(move || open_object(&file)).await?;
        let range = body::clamp(range, meta.len());
        let opened = Arc::new(opened);
        let starts = range.clone().step_by(READ_BYTES as usize);
        let chunks = stream::iter(starts).map(move |start| {
            let (opened, shown) = (Arc::clone(&opened), shown.clone());
            let length = (range.end - start).min(READ_BYTES) as usize;
            blocking(move || {
                let chunk = fsx::read_at(&opened, start, length).context(|| format!("read {shown} at {start}"))?;
                Ok(Bytes::from(chunk))
            })
        });
        Ok(chunks.buffered(READS_AHEAD).boxed())
    }

    async fn stat(&self, path: &str) -> Result<ObjectInfo> {
        let file = self.file_path(path)?;
        let path = path.to_owned();
        blocking(move || {
            let meta = fs::metadata(&file).map_err(absent).context(|| format!("look at {}", file.display()))?;
            if meta.is_file() { Ok(info(&path, &meta)) } else { Err(no_object(&file)) }
        })
        .await
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
        let file = self.file_path(path)?;
        let dirs = Arc::clone(&self.dirs);
        blocking(move || dirs.remove(&file, recursive)).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.file_path(from)?, self.file_path(to)?);
        let dirs = Arc::clone(&self.dirs);
        blocking(move || {
            open_object(&from)?;
            dirs.with_parent(&to, || fs::rename(&from, &to))
                .context(|| format!("rename {} to {}", from.display(), to.display()))?;
            for dir in [to.parent(), from.parent()].into_iter().flatten() {
                fsx::sync_dir(dir)?;
            }
            dirs.prune(&from);
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    fn access(root: &Path) -> LocalAccess {
        LocalAccess { roots: vec![root.to_owned()], ..LocalAccess::default() }
    }

    #[test]
    fn a_location_must_lie_below_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("out")).unwrap();
        resolve(&root, &access(&root)).unwrap();
        resolve(&root.join("not/yet"), &access(&root)).unwrap();
        for (location, access, says) in [
            (root.join("a"), LocalAccess::default(), "local_roots"),
            (dir.path().join("a"), access(&root), "not below any"),
            (root.join("out/a"), access(&root), "not below any"),
            (dir.path().join("rooter"), access(&root), "not below any"),
            (root.join("a"), access(&dir.path().join("gone")), "No such file"),
        ] {
            let error = resolve(&location, &access).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            for root in &access.roots {
                assert!(error.message().contains(&root.display().to_string()), "{error}");
            }
            assert!(error.message().contains(says), "{error}");
        }
        for location in ["relative", "/a/../b"] {
            assert_eq!(resolve(Path::new(location), &access(&root)).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[tokio::test]
    async fn nothing_but_objects_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path(), &access(dir.path())).unwrap();
        let count = || walk_all(dir.path()).len();
        let broken = stream::iter([Ok(Bytes::from("half")), Err(Error::cancelled("stop"))]).boxed();
        let error = store.put("a/b/c", broken, PutOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(count(), 0, "neither the temporary file nor its directories");
        store.put("a/b/c", body::from_bytes("x"), PutOptions::default()).await.unwrap();
        store.delete("a/b/c", false).await.unwrap();
        assert_eq!(count(), 0, "empty directories go with their last object");
    }

    #[tokio::test]
    async fn temporary_files_of_a_crash_are_not_listed_and_go_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path(), &access(dir.path())).unwrap();
        let (old, new) = (dir.path().join("d/.coffer-tmp-1"), dir.path().join("d/.coffer-tmp-2"));
        fs::create_dir(dir.path().join("d")).unwrap();
        for path in [&old, &new] {
            fs::write(path, "half").unwrap();
        }
        let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
        File::options().write(true).open(&old).unwrap().set_modified(yesterday).unwrap();
        let listed: Vec<_> = store.list("").await.unwrap().try_collect().await.unwrap();
        assert_eq!(listed, []);
        store.put("d/a", body::from_bytes("x"), PutOptions::default()).await.unwrap();
        assert!(!old.exists() && new.exists());
    }

    #[tokio::test]
    async fn what_a_dead_writer_left_goes_at_once_and_never_that_of_a_living_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path(), &access(dir.path())).unwrap();
        let leave = |folder: &str, name: &str| {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            let path = dir.path().join(folder).join(name);
            fs::write(&path, "half").unwrap();
            path
        };
        let left = |folder: &str| leave(folder, &writer::tests::name_of_a_dead_writer());
        // By a put, with the same process's own file beside it.
        let (dead, own) = (left("a"), leave("a", &writer::name()));
        store.put("a/x", body::from_bytes("x"), PutOptions::default()).await.unwrap();
        assert!(!dead.exists() && own.exists());
        // By the delete of the last object, in a folder this store knows already: the folder goes too.
        store.put("b/x", body::from_bytes("x"), PutOptions::default()).await.unwrap();
        let dead = left("b");
        store.delete("b/x", false).await.unwrap();
        assert!(!dead.exists() && !dir.path().join("b").exists());
        // Never by a listing: it may be that of a repository that must not be written.
        let (deep, kept) = (left("c/d"), leave("e", &writer::name()));
        let listed: Vec<_> = store.list("").await.unwrap().try_collect().await.unwrap();
        assert_eq!(listed.iter().map(|object| object.path.as_str()).collect::<Vec<_>>(), ["a/x"]);
        assert!(deep.exists() && kept.exists() && own.exists());
    }

    #[tokio::test]
    async fn a_file_in_the_way_of_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path(), &access(dir.path())).unwrap();
        store.put("a", body::from_bytes("x"), PutOptions::default()).await.unwrap();
        let error = store.put("a/b", body::from_bytes("x"), PutOptions::default()).await.unwrap_err();
        assert!(error.message().contains("/a"), "{error}");
        assert_eq!(store.stat("a/b").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.get("a/b", None).await.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    }

    fn walk_all(dir: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(walk_all(&path));
            }
            found.push(path);
        }
        found
    }
}
