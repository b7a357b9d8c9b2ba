//! `__repo_info` (what a repository is) and `__info_` (what a snapshot is, and the commit of it). JSON, UTF-8.

use crate::checksum::Checksum;
use crate::layout::PackPrefix;
use crate::{FORMAT_VERSION, check_version};
use coffer_stdx::{Error, Result};
use serde::{Deserialize, Serialize};

/// Largest `__repo_info`.
pub const MAX_REPO_INFO_BYTES: u64 = 64 << 10;
/// Largest `__info_`: some 300,000 partitions and manifest parts.
pub const MAX_INFO_BYTES: u64 = 64 << 20;
/// The only value of [`RepositoryInfo::encryption`] in format version 1.
pub const NOT_ENCRYPTED: &str = "none";

/// What a repository is. Never changes once written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryInfo {
    /// Format version.
    pub format: u32,
    /// UUID.
    pub id: String,
    /// The name in the path.
    pub name: String,
    /// Milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// Pack size that writers aim at.
    pub pack_target_bytes: u64,
    /// `none`.
    pub encryption: String,
    /// BLAKE3 over the fields above, see [`RepositoryInfo::seal`].
    pub check: Checksum,
}

impl RepositoryInfo {
    /// The same with the right [`RepositoryInfo::check`]: the BLAKE3 of the six values as text, each followed by a line
    /// feed, in the order of the fields.
    pub fn seal(self) -> RepositoryInfo {
        RepositoryInfo { check: self.expected_check(), ..self }
    }

    fn expected_check(&self) -> Checksum {
        let RepositoryInfo { format, id, name, created_ms, pack_target_bytes, encryption, check: _ } = self;
        Checksum::of(format!("{format}\n{id}\n{name}\n{created_ms}\n{pack_target_bytes}\n{encryption}\n").as_bytes())
    }

    /// Read and check. `path` is for error texts.
    pub fn parse(bytes: &[u8], path: &str) -> Result<RepositoryInfo> {
        let info: RepositoryInfo = parse_json(bytes, path, FORMAT_VERSION)?;
        if info.check != info.expected_check() {
            return Err(Error::corrupt(format!("'{path}' does not match the BLAKE3 inside it")));
        }
        if info.encryption != NOT_ENCRYPTED {
            let text = format!("'{path}': encryption '{}' is not supported by this Coffer", info.encryption);
            return Err(Error::not_supported(text));
        }
        Ok(info)
    }
}

/// What a snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Content {
    /// Metadata and data.
    All,
    /// Metadata alone.
    MetadataOnly,
}

/// A snapshot: written last, names everything that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Format version.
    pub format: u32,
    /// Label.
    pub label: String,
    /// `2022-04-08-15-52-29`, UTC.
    pub timestamp: String,
    /// The same in milliseconds since 1970 UTC, exactly.
    pub backup_time_ms: u64,
    /// Database it was taken of.
    pub database: String,
    /// Its id.
    pub database_id: u64,
    /// Cluster that made it.
    pub cluster_id: String,
    /// What it has.
    pub content: Content,
    /// In name order.
    pub tables: Vec<TableSummary>,
    /// In name order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<ViewSummary>,
    /// The catalog objects.
    pub meta: MetaRef,
    /// The manifest parts: together they list every tablet once, except those that never took a row (version 1).
    pub manifests: Vec<ManifestRef>,
    /// Sums.
    pub totals: Totals,
    /// What the ids of the packs that this job wrote start with.
    pub pack_prefix: String,
    /// The prefixes of other jobs whose packs the manifests name. Absent: not known, so that only the manifests tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_prefixes: Option<Vec<String>>,
}

/// A table of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSummary {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// In id order.
    pub partitions: Vec<PartitionSummary>,
}

/// A view of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewSummary {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
}

/// A partition of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSummary {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// The version that the snapshot holds.
    pub version: u64,
    /// Tablets.
    pub tablets: u64,
}

/// Where the meta is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRef {
    /// File name.
    pub name: String,
    /// Size.
    pub bytes: u64,
}

/// A manifest part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRef {
    /// File name.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Tablets in it.
    pub tablets: u64,
}

/// Sums over a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// Rows.
    pub rows: u64,
    /// Tablets in the manifests.
    pub tablets: u64,
}

impl SnapshotInfo {
    /// Whether it was written by the job that draws its packs under `prefix`.
    pub fn belongs_to(&self, prefix: &PackPrefix) -> bool {
        self.pack_prefix == prefix.to_string()
    }
}

/// The smallest thing that every JSON object here has: read first, so that a newer format is refused as such and not
/// because a field is missing.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

/// Read JSON of a version up to `newest`. `path` is for error texts.
pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(bytes: &[u8], path: &str, newest: u32) -> Result<T> {
    let broken = |error: serde_json::Error| Error::corrupt(format!("'{path}' cannot be read: {error}"));
    let versioned: Versioned = serde_json::from_slice(bytes).map_err(broken)?;
    check_version(versioned.format, newest, &format!("'{path}'"))?;
    serde_json::from_slice(bytes).map_err(broken)
}

/// As it is stored: compact, the same bytes for the same value.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::bug(format!("write JSON: {error}")))
}
