//! Every path of a repository, built and parsed here alone.
//!
//! ```text
//! __coffer_repository_<name>/
//!   __repo_info
//!   packs/<prefix>/<aa>/<pack id>                  pack id = <prefix> <aa> <random>, 32 hex digits
//!   __ss_<label>/__manifest_<timestamp>.<n>.<b3>
//!   __ss_<label>/__meta_<timestamp>.<b3>
//!   __ss_<label>/__info_<timestamp>.<b3>           written last
//!   __ss_<label>/__drop_<timestamp>.<b3>           only while the snapshot is being dropped
//! ```
//!
//! `<prefix>` is a random number drawn once per backup job. So all packs of a job, those of a backend that died before
//! it could report them too, lie in one folder that no other job shares, and one recursive delete removes a cancelled
//! job. `<aa>` spreads a large job over at most 256 folders (HDFS allows about a million entries in one; 100 TB are 1.6
//! million packs); an upload task uses one of them, so that a small job makes one folder.

use crate::checksum::{Checksum, parse_hex, write_hex};
use coffer_stdx::{Error, Result};
use std::fmt;
use std::str::FromStr;

const ROOT_PREFIX: &str = "__coffer_repository_";
const REPO_INFO: &str = "__repo_info";
const PROBE_PREFIX: &str = "__probe_";
const PACKS: &str = "packs";
const SNAPSHOT_PREFIX: &str = "__ss_";
const MANIFEST_PREFIX: &str = "__manifest_";
const META_PREFIX: &str = "__meta_";
const INFO_PREFIX: &str = "__info_";
const DROP_PREFIX: &str = "__drop_";

/// Longest repository name, bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest label, bytes.
pub const MAX_LABEL_BYTES: usize = 128;
const TIMESTAMP_PATTERN: &[u8; 19] = b"dddd-dd-dd-dd-dd-dd";

/// Names and labels are compared as they are, case included.
fn is_word(text: &str, limit: usize, also: &[u8]) -> bool {
    (1..=limit).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || also.contains(&byte))
}

/// Check a repository name: `^[-_A-Za-z0-9]{1,64}$`.
pub fn check_name(name: &str) -> Result<()> {
    if is_word(name, MAX_NAME_BYTES, b"") {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "repository name '{}' does not match ^[-_A-Za-z0-9]{{1,64}}$: choose another name",
        name.escape_debug()
    )))
}

/// Check a snapshot label: `^[-_A-Za-z0-9:]{1,128}$`.
pub fn check_label(label: &str) -> Result<()> {
    if is_word(label, MAX_LABEL_BYTES, b":") {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "label '{}' does not match ^[-_A-Za-z0-9:]{{1,128}}$: choose another label",
        label.escape_debug()
    )))
}

/// Check a backup timestamp, such as `2022-04-08-15-52-29`.
pub fn check_timestamp(timestamp: &str) -> Result<()> {
    let fits = timestamp.len() == TIMESTAMP_PATTERN.len()
        && timestamp.bytes().zip(TIMESTAMP_PATTERN).all(|(byte, pattern)| match pattern {
            b'd' => byte.is_ascii_digit(),
            other => byte == *other,
        });
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "backup timestamp '{}' does not have the form 2022-04-08-15-52-29: take it from SHOW SNAPSHOT",
        timestamp.escape_debug()
    )))
}

/// The text form of a time, UTC.
pub fn timestamp_text(epoch_ms: u64) -> String {
    let seconds = epoch_ms / 1000;
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02}-{:02}-{:02}-{:02}", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

/// Days since 1970-01-01 to year, month, day of the Gregorian calendar (400-year cycles that start in March).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A snapshot: its label and when it was taken. Both are checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    label: String,
    timestamp: String,
}

impl SnapshotId {
    /// Check both.
    pub fn new(label: &str, timestamp: &str) -> Result<SnapshotId> {
        check_label(label)?;
        check_timestamp(timestamp)?;
        Ok(SnapshotId { label: label.to_owned(), timestamp: timestamp.to_owned() })
    }

    /// The label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The timestamp.
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' of {}", self.label, self.timestamp)
    }
}

/// 64 random bits in a row.
fn random() -> u64 {
    // The fixed bits of a version 4 UUID (48..52 and 62..64 of the whole) fall on random ones of the other half.
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low.rotate_left(32)
}

/// What the ids of all packs of one backup job start with: 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackPrefix([u8; 8]);

impl PackPrefix {
    /// For a new job.
    pub fn random() -> PackPrefix {
        PackPrefix(random().to_be_bytes())
    }
}

impl fmt::Display for PackPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for PackPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for PackPrefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<PackPrefix> {
        parse_hex(text).map(PackPrefix).ok_or_else(|| {
            Error::invalid(format!("pack prefix '{}' is not 16 lower-case hex digits", text.escape_debug()))
        })
    }
}

/// The name of a pack: 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackId([u8; 16]);

impl PackId {
    /// A new one. `lane` chooses the folder among the 256 of the job; the last 56 bits are random.
    pub fn random(prefix: PackPrefix, lane: u8) -> PackId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&prefix.0);
        id[8..].copy_from_slice(&random().to_be_bytes());
        id[8] = lane;
        PackId(id)
    }

    /// From a manifest.
    pub fn from_slice(bytes: &[u8]) -> Result<PackId> {
        let bytes =
            bytes.try_into().map_err(|_| Error::corrupt(format!("a pack id has 16 bytes, not {}", bytes.len())))?;
        Ok(PackId(bytes))
    }

    /// For a manifest.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The job it belongs to.
    pub fn prefix(&self) -> PackPrefix {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        PackPrefix(prefix)
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// An object in the folder of a snapshot label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotObject {
    /// When the snapshot was taken.
    pub timestamp: String,
    /// What it is.
    pub kind: ObjectKind,
    /// Of its content.
    pub checksum: Checksum,
}

/// What an object in the folder of a snapshot label is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// `__manifest_`, with the number of the part.
    Manifest(u32),
    /// `__meta_`.
    Meta,
    /// `__info_`.
    Info,
    /// `__drop_`: the snapshot is being dropped.
    Drop,
}

impl SnapshotObject {
    /// Its file name.
    pub fn name(&self) -> String {
        let (timestamp, checksum) = (&self.timestamp, self.checksum);
        match self.kind {
            ObjectKind::Manifest(part) => format!("{MANIFEST_PREFIX}{timestamp}.{part}.{checksum}"),
            ObjectKind::Meta => format!("{META_PREFIX}{timestamp}.{checksum}"),
            ObjectKind::Info => format!("{INFO_PREFIX}{timestamp}.{checksum}"),
            ObjectKind::Drop => format!("{DROP_PREFIX}{timestamp}.{checksum}"),
        }
    }

    /// From a file name; `None` when it is none of ours (a temporary file, something that people put there).
    pub fn parse(name: &str) -> Option<SnapshotObject> {
        let (stem, checksum) = name.rsplit_once('.')?;
        let checksum = checksum.parse().ok()?;
        let (kind, timestamp) = if let Some(rest) = stem.strip_prefix(MANIFEST_PREFIX) {
            let (timestamp, part) = rest.split_once('.')?;
            (ObjectKind::Manifest(part.parse().ok()?), timestamp)
        } else if let Some(timestamp) = stem.strip_prefix(META_PREFIX) {
            (ObjectKind::Meta, timestamp)
        } else if let Some(timestamp) = stem.strip_prefix(DROP_PREFIX) {
            (ObjectKind::Drop, timestamp)
        } else {
            (ObjectKind::Info, stem.strip_prefix(INFO_PREFIX)?)
        };
        check_timestamp(timestamp).ok()?;
        let object = SnapshotObject { timestamp: timestamp.to_owned(), kind, checksum };
        // Only the one spelling that we write, so that a name and what it means map one to one.
        (object.name() == name).then_some(object)
    }
}

/// The checksum in the name of a snapshot object, which must be what it is taken for.
pub(crate) fn checksum_in(name: &str, what: &str) -> Result<SnapshotObject> {
    SnapshotObject::parse(name)
        .ok_or_else(|| Error::invalid(format!("'{}' is not the file name of {what}", name.escape_debug())))
}

/// The name of the repository whose root is this folder.
pub(crate) fn repository_of(folder: &str) -> Option<&str> {
    folder.strip_prefix(ROOT_PREFIX)
}

/// The paths of one repository, relative to its location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: String,
}

impl Layout {
    /// The paths of the repository `name`.
    pub fn new(name: &str) -> Result<Layout> {
        check_name(name)?;
        Ok(Layout { root: format!("{ROOT_PREFIX}{name}") })
    }

    /// Everything is below it.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// What makes a folder a repository.
    pub fn repo_info(&self) -> String {
        format!("{}/{REPO_INFO}", self.root)
    }

    /// A small object that proves that we may write, read and delete.
    pub fn probe(&self, unique: &str) -> String {
        format!("{}/{PROBE_PREFIX}{unique}", self.root)
    }

    /// A pack.
    pub fn pack(&self, id: &PackId) -> String {
        let lane = id.0[8];
        format!("{}/{lane:02x}/{id}", self.job_packs(&id.prefix()))
    }

    /// The folder with all packs of one job.
    pub fn job_packs(&self, prefix: &PackPrefix) -> String {
        format!("{}/{PACKS}/{prefix}", self.root)
    }

    /// The folder of a label.
    pub fn snapshot_folder(&self, label: &str) -> String {
        format!("{}/{SNAPSHOT_PREFIX}{label}", self.root)
    }

    /// The label of a folder below the root; `None` for other folders.
    pub fn parse_snapshot_folder<'a>(&self, path: &'a str) -> Option<&'a str> {
        let label = path.strip_prefix(&self.root)?.strip_prefix('/')?.strip_prefix(SNAPSHOT_PREFIX)?;
        check_label(label).ok().map(|()| label)
    }

    /// An object of a snapshot, by its file name.
    pub fn snapshot_object(&self, label: &str, name: &str) -> String {
        format!("{}/{name}", self.snapshot_folder(label))
    }

    /// The label and object of a path below the root; `None` for everything that is not part of a snapshot.
    pub fn parse_snapshot_object<'a>(&self, path: &'a str) -> Option<(&'a str, SnapshotObject)> {
        let below = path.strip_prefix(&self.root)?.strip_prefix('/')?;
        let (folder, name) = below.split_once('/')?;
        let label = folder.strip_prefix(SNAPSHOT_PREFIX)?;
        check_label(label).ok()?;
        Some((label, SnapshotObject::parse(name)?))
    }

    /// The id of the pack at a path.
    pub fn parse_pack(&self, path: &str) -> Option<PackId> {
        let id = PackId(parse_hex(path.rsplit_once('/')?.1)?);
        (self.pack(&id) == path).then_some(id)
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
