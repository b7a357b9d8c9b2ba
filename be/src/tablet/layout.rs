//! Every local path, built and parsed.
//!
//! ```text
//! <data dir>/
//!   lock                              held while a process uses the directory
//!   cluster_id                        the cluster this directory belongs to
//!   leader_term                       the highest term of a leader seen here
//!   data/<tablet>/meta                what the tablet is and which files it has
//!   data/<tablet>/<name>.parquet      rows, never changed
//!   data/<tablet>/replaced            rowsets that compaction replaced and that are kept for a while
//!   staging/<transaction>/manifest    rows of a load that is written but not published
//!   staging/<transaction>/<tablet>/<name>.parquet
//!   snapshot/<job>/<tablet>/          hard links of a backup
//!   restore/<job>/<tablet>/           tablets of a restore on their way
//!   clone/<tablet>/                   a copy of another backend's replica, complete, on its way to data/
//!   trash/<milliseconds>-<tablet>/    dropped tablets, kept for a while; the time is that of `trash_clock`
//!   trash_clock                       milliseconds for which a process has had the directory open
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Name of a tablet's meta file.
pub const META: &str = "meta";
/// Name of the list of replaced rowsets.
pub const REPLACED: &str = "replaced";
/// Ending of a file of rows.
pub const ROWS_SUFFIX: &str = "parquet";

/// Builds the paths of one data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirLayout {
    root: PathBuf,
}

impl DirLayout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> DirLayout {
        DirLayout { root: root.into() }
    }

    /// The data directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock file.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The file with the cluster id.
    pub fn cluster_id(&self) -> PathBuf {
        self.root.join("cluster_id")
    }

    /// The file with the highest leader term.
    pub fn leader_term(&self) -> PathBuf {
        self.root.join("leader_term")
    }

    /// A file written now and then to see whether the disk still works.
    pub fn probe(&self) -> PathBuf {
        self.root.join("probe")
    }

    /// The clock of the trash.
    pub fn trash_clock(&self) -> PathBuf {
        self.root.join("trash_clock")
    }

    /// The directories that must exist.
    pub fn folders(&self) -> [PathBuf; 6] {
        [self.data(), self.staging(), self.snapshots(), self.restores(), self.clones(), self.trash()]
    }

    /// Where tablets live.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// One tablet.
    pub fn tablet(&self, tablet: u64) -> PathBuf {
        self.data().join(tablet.to_string())
    }

    /// Loads that are not published.
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// One such load.
    pub fn staged_load(&self, transaction: u64) -> PathBuf {
        self.staging().join(transaction.to_string())
    }

    /// The list of what a load wrote; the load counts as written here once it exists.
    pub fn staged_manifest(&self, transaction: u64) -> PathBuf {
        self.staged_load(transaction).join("manifest")
    }

    /// Files of one tablet in a load.
    pub fn staged_tablet(&self, transaction: u64, tablet: u64) -> PathBuf {
        self.staged_load(transaction).join(tablet.to_string())
    }

    /// A file that is only kept open, never named for longer than it takes to remove its name.
    pub fn spool(&self, name: &str) -> PathBuf {
        self.root.join(format!("spool-{name}"))
    }

    /// Snapshots of all jobs.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshot")
    }

    /// Snapshots of one job.
    pub fn snapshot_job(&self, job: u64) -> PathBuf {
        self.snapshots().join(job.to_string())
    }

    /// The snapshot of one tablet.
    pub fn snapshot_tablet(&self, job: u64, tablet: u64) -> PathBuf {
        self.snapshot_job(job).join(tablet.to_string())
    }

    /// Restored tablets of all jobs, not in force yet.
    pub fn restores(&self) -> PathBuf {
        self.root.join("restore")
    }

    /// Restored tablets of one job.
    pub fn restore_job(&self, job: u64) -> PathBuf {
        self.restores().join(job.to_string())
    }

    /// One restored tablet.
    pub fn restore_tablet(&self, job: u64, tablet: u64) -> PathBuf {
        self.restore_job(job).join(tablet.to_string())
    }

    /// Copies of other backends' replicas, not in force yet.
    pub fn clones(&self) -> PathBuf {
        self.root.join("clone")
    }

    /// One such copy.
    pub fn clone_tablet(&self, tablet: u64) -> PathBuf {
        self.clones().join(tablet.to_string())
    }

    /// Dropped tablets.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// A tablet dropped at a time of the trash's clock.
    pub fn trashed(&self, time_ms: u64, tablet: u64) -> PathBuf {
        self.trash().join(format!("{time_ms}-{tablet}"))
    }
}

/// The meta file in a tablet's directory, wherever that is.
pub fn meta_file(tablet_dir: &Path) -> PathBuf {
    tablet_dir.join(META)
}

/// The list of replaced rowsets in a tablet's directory.
pub fn replaced_file(tablet_dir: &Path) -> PathBuf {
    tablet_dir.join(REPLACED)
}

/// A directory name that is an id.
pub fn parse_id(name: &OsStr) -> Option<u64> {
    name.to_str().and_then(|name| name.parse().ok())
}

/// Time and tablet of a name in the trash.
pub fn parse_trashed(name: &OsStr) -> Option<(u64, u64)> {
    let (time, tablet) = name.to_str()?.split_once('-')?;
    Some((time.parse().ok()?, tablet.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        let layout = DirLayout::new("/d");
        assert_eq!(parse_id(layout.tablet(7).file_name().unwrap()), Some(7));
        assert_eq!(parse_trashed(layout.trashed(123, 7).file_name().unwrap()), Some((123, 7)));
        assert_eq!(parse_trashed(OsStr::new("7")), None);
        assert_eq!(parse_id(OsStr::new("meta")), None);
        assert_eq!(layout.staged_manifest(3), Path::new("/d/staging/3/manifest"));
        assert_eq!(layout.restore_tablet(1, 2), Path::new("/d/restore/1/2"));
        assert_eq!(layout.snapshot_tablet(1, 2), Path::new("/d/snapshot/1/2"));
    }
}
