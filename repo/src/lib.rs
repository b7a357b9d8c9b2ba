//! What a backup looks like at rest, and the only code that writes or reads one. `FORMAT.md` beside this crate says the
//! same in words, byte by byte, for people who want to read a repository without us.
//!
//! - *blob*: the bytes of one file of a tablet, known by its BLAKE3;
//! - *pack*: one object with one or more blobs ([`pack`]), written once under a random name, never changed;
//! - *manifest part*: tablet -> rowsets -> files -> blob location, written by one backend ([`manifest`]);
//! - *meta*: the catalog objects of a snapshot ([`meta`]);
//! - *info*: the summary of a snapshot that names all its parts ([`info`]). **It is written last: a snapshot exists
//!   exactly when its info does.** What exists without an info is a left-over.
//!
//! Crash anywhere before the info: packs, parts and meta of an unfinished job remain; [`Repository::delete_leftovers`]
//! removes exactly those of one job, because every pack lies in a folder named after the job's random prefix.
//! Crash after it: the snapshot is complete, and repeating any step changes nothing.
//!
//! Every byte read back is checked: blobs against the BLAKE3 in the manifest, parts, meta and info against the BLAKE3 in
//! their own name, pack trailers and `__repo_info` against one inside.
//!
//! Modules, bottom to top: `checksum`, `layout` | `pack`, `plan`, `body` | `manifest`, `manifest_reader` |
//! `meta`, `info` | `repository`, `snapshots`, `writer`, `cleanup`, `removal`.

pub mod body;
pub mod checksum;
mod cleanup;
pub mod info;
pub mod layout;
pub mod manifest;
pub mod manifest_reader;
pub mod meta;
pub mod pack;
pub mod places;
pub mod plan;
mod removal;
pub mod repository;
pub mod snapshots;
mod writer;

pub use body::{PackBody, PackFile};
pub use checksum::Checksum;
pub use info::{
    Content, ManifestRef, MetaRef, PartitionSummary, RepositoryInfo, SnapshotInfo, TableSummary, Totals, ViewSummary,
};
pub use layout::{Layout, PackId, PackPrefix, SnapshotId};
pub use manifest::{DeleteRecord, FileRecord, ManifestWriter, RowsetRecord, TabletRecord, WrittenPart};
pub use manifest_reader::ManifestReader;
pub use meta::{PartitionMeta, SnapshotMeta, TableMeta, ViewMeta, version_for};
pub use places::repositories_at;
pub use removal::Removed;
pub use repository::{Opened, Repository};
pub use snapshots::{Inspected, SnapshotEntry, SnapshotStatus};

/// The version of everything written here but snapshots that need [`SNAPSHOT_VERSION`]. Readers take this and older ones,
/// and refuse newer ones by name.
pub const FORMAT_VERSION: u32 = 1;
/// The version of the info and the meta of a snapshot with views, LIST partitions, tables of another model than
/// DUPLICATE KEY or tables that had a DELETE. Others are written as [`FORMAT_VERSION`] says, so that older readers take them.
pub const SNAPSHOT_VERSION: u32 = 2;

/// Refuse what a newer Coffer wrote; `newest` is what this one reads, `what` names the object.
fn check_version(found: u32, newest: u32, what: &str) -> coffer_stdx::Result<()> {
    if found == 0 {
        return Err(coffer_stdx::Error::corrupt(format!("{what}: format version 0 does not exist")));
    }
    if found > newest {
        return Err(coffer_stdx::Error::not_supported(format!(
            "{what} has repository format version {found}; this Coffer reads up to version {newest}: use a Coffer that \
             supports format version {found}"
        )));
    }
    Ok(())
}
