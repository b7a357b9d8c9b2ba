//! The backend's configuration file. Every key has a default; unknown keys are refused by name.

use coffer_proto::tls::TlsConfig;
use coffer_stdx::options::{Live, Options, Slot};
use coffer_stdx::telemetry::LogConfig;
use coffer_stdx::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Largest sizes and rates, MiB.
const MOST_MIB: u64 = 1 << 24;

/// Longest times, seconds: some 30 years.
const MOST_SECONDS: u64 = 1_000_000_000;

/// What `be.toml` may say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directories that hold tablets, best one per disk. Default: `["/var/lib/coffer/be"]`.
    pub data_dirs: Vec<PathBuf>,
    /// Address of the gRPC service, for frontends and other backends. Default: `0.0.0.0:9050`.
    pub grpc_listen: String,
    /// Address of the HTTP service: stream load, metrics, health. Default: `0.0.0.0:8040`.
    pub http_listen: String,
    /// A file with the secret that all processes of the cluster share; only its owner may read it. Empty (the default):
    /// none; gRPC then listens on loopback only, unless there are certificates or `trust_network` is set.
    pub cluster_secret_file: PathBuf,
    /// Whether calls without the cluster's secret are served: the network keeps strangers out, or the cluster is getting its
    /// secret just now. Default false.
    pub trust_network: bool,
    /// Certificates: TLS between processes and on the HTTP port. Default: none.
    pub tls: TlsConfig,
    /// Whether `/metrics` answers without the metrics token of the cluster. Default false.
    pub metrics_public: bool,
    /// Directories below which `file://` repositories may lie that are opened without a broker. Default: none.
    pub local_roots: Vec<PathBuf>,
    /// Folder with `core-site.xml` and `hdfs-site.xml` for `hdfs://` repositories without a broker. Default: none.
    pub conf_dir: Option<PathBuf>,
    /// Logs on standard error.
    pub log: LogConfig,
    /// Memory for rows of running loads that are not in files yet, all loads together, MiB; more go to disk first.
    /// Default: 64.
    pub load_memory_mib: u64,
    /// Loads that may run at the same time; more are refused. Default: 64.
    pub max_loads: usize,
    /// Largest body of one stream load, MiB. Default: 10240.
    pub stream_load_max_mib: Live,
    /// Publish, discard and drop tasks that run at the same time. Default: 4.
    pub publish_workers: usize,
    /// Snapshot tasks that run at the same time. Default: 4.
    pub snapshot_workers: usize,
    /// Upload tasks that run at the same time. Default: 4.
    pub upload_workers: usize,
    /// Download tasks that run at the same time. Default: 4.
    pub download_workers: usize,
    /// Replicas copied from other backends at the same time. Default: 2.
    pub clone_workers: usize,
    /// Tablets whose small files are merged at the same time; 0 switches compaction off. Default: 1.
    pub compaction_workers: usize,
    /// MiB per second that one of those reads and writes at most; 0: no limit. Default: 32.
    pub compaction_mib_s: Live,
    /// Seconds that merged files stay readable for backups and queries that began before. Default: 600.
    pub replaced_keep_s: Live,
    /// MiB per second that the check of all files reads at most; 0 switches the check off. Default: 8.
    pub scrub_mib_s: Live,
    /// Seconds from the start of one check of all files to the next. Default: 604800.
    pub scrub_every_s: Live,
    /// Seconds that dropped tablets stay in the trash. Default: 86400.
    pub trash_keep_s: Live,
    /// Seconds that SIGTERM waits for running loads and tasks. Default: 20.
    pub stop_wait_s: Live,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dirs: vec![PathBuf::from("/var/lib/coffer/be")],
            grpc_listen: "0.0.0.0:9050".to_owned(),
            http_listen: "0.0.0.0:8040".to_owned(),
            cluster_secret_file: PathBuf::new(),
            trust_network: false,
            tls: TlsConfig::default(),
            metrics_public: false,
            local_roots: Vec::new(),
            conf_dir: None,
            log: LogConfig::default(),
            load_memory_mib: 64,
            max_loads: 64,
            stream_load_max_mib: Live::new(10_240),
            publish_workers: 4,
            snapshot_workers: 4,
            upload_workers: 4,
            download_workers: 4,
            clone_workers: 2,
            compaction_workers: 1,
            compaction_mib_s: Live::new(32),
            replaced_keep_s: Live::new(600),
            scrub_mib_s: Live::new(8),
            scrub_every_s: Live::new(604_800),
            trash_keep_s: Live::new(86_400),
            stop_wait_s: Live::new(20),
        }
    }
}

impl Options for Config {
    const PROCESS: &'static str = "backend";
    const EXAMPLE: &'static str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/be.toml"));

    fn live(&self) -> Vec<(&'static str, Slot<'_>)> {
        vec![
            ("compaction_mib_s", Slot::Number(&self.compaction_mib_s)),
            ("log.level", Slot::Text(&self.log.level)),
            ("replaced_keep_s", Slot::Number(&self.replaced_keep_s)),
            ("scrub_every_s", Slot::Number(&self.scrub_every_s)),
            ("scrub_mib_s", Slot::Number(&self.scrub_mib_s)),
            ("stop_wait_s", Slot::Number(&self.stop_wait_s)),
            ("stream_load_max_mib", Slot::Number(&self.stream_load_max_mib)),
            ("trash_keep_s", Slot::Number(&self.trash_keep_s)),
        ]
    }

    fn check(&self) -> Result<()> {
        Config::check(self)
    }
}

impl Config {
    /// Refuse values that cannot work.
    pub fn check(&self) -> Result<()> {
        if self.data_dirs.is_empty() {
            return Err(Error::invalid("config: data_dirs is empty; name at least one directory"));
        }
        if self.load_memory_mib < 16 {
            return Err(Error::invalid("config: load_memory_mib is below 16"));
        }
        for (key, most, value) in [
            ("compaction_mib_s", MOST_MIB, &self.compaction_mib_s),
            ("scrub_mib_s", MOST_MIB, &self.scrub_mib_s),
            ("stream_load_max_mib", MOST_MIB, &self.stream_load_max_mib),
            ("replaced_keep_s", MOST_SECONDS, &self.replaced_keep_s),
            ("scrub_every_s", MOST_SECONDS, &self.scrub_every_s),
            ("stop_wait_s", MOST_SECONDS, &self.stop_wait_s),
            ("trash_keep_s", MOST_SECONDS, &self.trash_keep_s),
        ] {
            if value.get() > most {
                return Err(Error::invalid(format!("config: {key} is above {most}")));
            }
        }
        for (key, value) in [
            ("max_loads", self.max_loads),
            ("publish_workers", self.publish_workers),
            ("snapshot_workers", self.snapshot_workers),
            ("upload_workers", self.upload_workers),
            ("download_workers", self.download_workers),
            ("clone_workers", self.clone_workers),
        ] {
            if value == 0 {
                return Err(Error::invalid(format!("config: {key} is 0; it must be at least 1")));
            }
        }
        self.log.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::options;

    #[test]
    fn the_defaults_pass_and_nonsense_does_not() {
        assert!(Config::default().check().is_ok());
        for broken in [
            Config { data_dirs: vec![], ..Config::default() },
            Config { load_memory_mib: 1, ..Config::default() },
            Config { upload_workers: 0, ..Config::default() },
            Config { trash_keep_s: Live::new(MOST_SECONDS + 1), ..Config::default() },
            Config { stream_load_max_mib: Live::new(u64::MAX), ..Config::default() },
        ] {
            assert!(broken.check().is_err());
        }
    }

    #[test]
    fn options_are_explained_and_some_change() {
        let config = Config::default();
        let shown = options::list(&config).unwrap();
        assert!(shown.iter().all(|option| !option.comment.is_empty()), "{shown:?}");
        for (key, slot) in config.live() {
            let value = if matches!(slot, Slot::Text(_)) { "warn" } else { "7" };
            options::change(&config, &[(key.to_owned(), value.to_owned())].into()).unwrap();
            let shown = options::list(&config).unwrap();
            assert!(shown.iter().any(|option| option.key == key && option.value == value && option.mutable), "{key}");
        }
    }
}
