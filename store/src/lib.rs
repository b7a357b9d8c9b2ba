//! The object store trait, its backends, wrappers and contract suite.
//!
//! A store keeps *objects*: immutable byte strings under relative, `/`-separated paths below one *location*. What holds
//! for every backend, and is tested by [`suite`] against each of them:
//!
//! - an object is visible only as a whole: [`Store::put`] either makes all bytes of its body visible at once, or nothing;
//! - when `put` answers, the object is durable: it survives a crash of this process and of the machine that stores it;
//! - a body that ends in an error aborts the put and leaves nothing under the name, nor temporary bytes behind
//!   (a crash in the middle may leave temporary bytes, which no `list` shows);
//! - memory is bounded, whatever the size of an object and the length of a listing.
//!
//! Which backend serves a location is decided in [`open`] alone. The modules, bottom to top:
//! `path`, `body`, `budget`, `rate` | `memory`, `local`, `s3`, `hdfs`, `null`, `remote` | `retrying`, `limited`, `faulty` |
//! `open` | `suite`.

use async_trait::async_trait;
use bytes::Bytes;
use coffer_stdx::Result;
use futures::Stream;
use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;

pub mod body;
pub mod budget;
pub mod faulty;
pub mod hdfs;
pub mod limited;
pub mod local;
pub mod memory;
pub mod null;
pub mod open;
pub mod path;
pub mod rate;
pub mod remote;
pub mod retrying;
pub mod s3;
pub mod suite;

pub use body::{from_bytes, read_all, rechunk};
pub use budget::Budget;
pub use limited::Limited;
pub use open::{open, open_within};

/// The bytes of an object, in order, in chunks of any size. An error ends it.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// The answer of [`Store::list`]. An error ends it.
pub type ObjectStream = Pin<Box<dyn Stream<Item = Result<ObjectInfo>> + Send>>;

/// The answer of [`Store::children`]. An error ends it.
pub type ChildStream = Pin<Box<dyn Stream<Item = Result<Child>> + Send>>;

/// Objects below one location. All paths are relative to it and pass [`path::check`].
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Store `body` under `path`: visible only as a whole, durable when this answers. An error in the body aborts and
    /// leaves what was there before.
    async fn put(&self, path: &str, body: ByteStream, options: PutOptions) -> Result<ObjectInfo>;

    /// The bytes of an object, or of `range` of it. A range that reaches past the end is cut at the end; one that starts
    /// at or past the end is empty.
    async fn get(&self, path: &str, range: Option<Range<u64>>) -> Result<ByteStream>;

    /// Size and time of an object.
    async fn stat(&self, path: &str) -> Result<ObjectInfo>;

    /// All objects below the folder `prefix`, at any depth, in any order; `""` is the location itself. A folder that
    /// does not exist is empty.
    async fn list(&self, prefix: &str) -> Result<ObjectStream>;

    /// What lies in the folder `prefix` itself, in any order: its objects, and each folder in it once, whatever that
    /// holds. The cost does not depend on what the folders hold.
    async fn children(&self, prefix: &str) -> Result<ChildStream>;

    /// Remove an object, and with `recursive` everything below `path/` too. Missing is fine.
    async fn delete(&self, path: &str, recursive: bool) -> Result<()>;

    /// Give an object another name, replacing what is there.
    async fn rename(&self, from: &str, to: &str) -> Result<()>;
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Path below the location.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// When it was stored, milliseconds since 1970 UTC, by the clock of the storage.
    pub modified_ms: u64,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Child {
    /// An object.
    Object(ObjectInfo),
    /// A folder with something in it: its path below the location, without a slash at the end.
    Folder(String),
}

impl Child {
    /// Path below the location.
    pub fn path(&self) -> &str {
        match self {
            Child::Object(info) => &info.path,
            Child::Folder(path) => path,
        }
    }
}

/// How to store an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Fail with `AlreadyExists` when the object is there.
    pub create_new: bool,
    /// Expected length, for part sizes; wrong is allowed.
    pub length_hint: Option<u64>,
}

/// What this process lets a location on its own disks reach, and what lies there for other locations.
#[derive(Debug, Clone, Default)]
pub struct LocalAccess {
    /// Directories below which `file://` locations may lie; empty: none may.
    pub roots: Vec<PathBuf>,
    /// The folder with `core-site.xml` and `hdfs-site.xml`, for `hdfs://` locations.
    pub conf_dir: Option<PathBuf>,
}
