//! What an operator sets: a TOML file, every key with a default, unknown keys refused by name.
//!
//! Keys that only one part reads are documented here all the same, so that this file is the whole list.

use coffer_proto::tls::TlsConfig;
pub use coffer_stdx::options::{Flag, Live};
use coffer_stdx::options::{Options, Slot, Text};
use coffer_stdx::telemetry::LogConfig;
use coffer_stdx::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The configuration of a frontend.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the metadata lives: the Raft log, its snapshots, the identity of this node. Default `/var/lib/coffer/fe`.
    pub meta_dir: PathBuf,
    /// The name or address under which backends, other frontends and HTTP clients reach this machine.
    /// Default `127.0.0.1`.
    pub host: String,
    /// MySQL protocol. Default `0.0.0.0:9030`.
    pub mysql_listen: SocketAddr,
    /// HTTP: stream load, health, metrics. Default `0.0.0.0:8030`.
    pub http_listen: SocketAddr,
    /// gRPC between the processes of the cluster. Default `0.0.0.0:9010`.
    pub grpc_listen: SocketAddr,
    /// "host:port" under which others reach the gRPC service, where that is not `host` and the port of `grpc_listen`.
    /// Default empty.
    pub grpc_advertise: String,
    /// gRPC address ("host:port") of a frontend of the cluster to join; counts only while `meta_dir` is empty. Without it
    /// an empty `meta_dir` begins a new cluster. Default empty.
    pub helper: String,
    /// A file with the secret that all processes of the cluster share; only its owner may read it. Empty (the default):
    /// none; gRPC then listens on loopback only, unless there are certificates or `trust_network` is set.
    pub cluster_secret_file: PathBuf,
    /// The file with the key of secrets in the metadata; made when a new cluster starts, the same on every frontend. Empty (the
    /// default): `metadata.key` in `meta_dir`.
    pub metadata_key_file: PathBuf,
    /// Whether calls without the cluster's secret are served: the network keeps strangers out, or the cluster is getting its
    /// secret just now. Default false.
    pub trust_network: bool,
    /// Certificates: TLS between processes and on the MySQL and HTTP ports. Default: none.
    pub tls: TlsConfig,
    /// Directories below which a repository `WITH LOCAL` may live. Empty (the default) refuses such repositories.
    pub local_roots: Vec<PathBuf>,
    /// Folder with `core-site.xml` and `hdfs-site.xml` for `hdfs://` repositories without a broker. Default: none.
    pub conf_dir: Option<PathBuf>,
    /// Level and shape of log lines. Default level `info,openraft=off`.
    pub log: LogConfig,

    /// Whether every statement, load and failed login is noted in the audit log. Default true.
    pub audit_log: bool,
    /// The directory of the audit log. Empty (the default): `audit` below `meta_dir`.
    pub audit_dir: PathBuf,
    /// Whether `/metrics` answers without a user and a password. Default false.
    pub metrics_public: bool,

    /// MySQL connections at a time. Default 1024.
    pub max_connections: usize,
    /// A connection that says nothing for so long is closed, seconds. Default 28800.
    pub wait_timeout_s: u64,
    /// Replicas of a new partition when the statement does not say, limited to the backends that are alive. Default 3.
    pub default_replication_num: Live,
    /// Buckets of a new partition when the statement does not say. Default 10.
    pub default_buckets: Live,

    /// How often backends and brokers are asked whether they live, milliseconds. Default 1000.
    pub heartbeat_ms: u64,
    /// Without a heartbeat for so long a backend or broker counts as dead, milliseconds. Default 5000.
    pub heartbeat_timeout_ms: u64,
    /// A load that has not committed after so long is aborted, seconds, unless it names its own timeout. Default 600.
    pub load_timeout_s: Live,
    /// A load of two phases that was neither committed nor aborted after so long is aborted, seconds. Default 3600.
    pub stream_load_default_precommit_timeout_second: Live,
    /// How long a committed load waits to become visible before it answers `Publish Timeout`, milliseconds.
    /// Default 30000.
    pub publish_timeout_ms: Live,
    /// Labels of ended loads are remembered for so long, seconds. Default 259200 (3 days).
    pub label_keep_s: Live,
    /// A backup or restore that has not ended after so long is cancelled, seconds, unless it names its own timeout.
    /// Default 86400.
    pub job_timeout_s: Live,

    /// What was dropped without FORCE, and what a restore replaced, can be brought back for so long, seconds.
    /// Default 86400.
    pub catalog_trash_expire_second: Live,
    /// Whether dynamic partitions are made and dropped. Default true.
    pub dynamic_partition_enable: Flag,
    /// How often each table with dynamic partitions is looked at, seconds. Default 600.
    pub dynamic_partition_check_interval_seconds: Live,

    /// A backend that the leader has not reached for so long is given up: its replicas are made anew on other backends, as
    /// far as there are healthy copies and room. What it has too many when it comes back is removed. Seconds; 0: never.
    /// Default 1800.
    pub tablet_repair_delay_factor_second: Live,

    /// Print databases in BackupObjs as `default_cluster:db`, as old scripts expect. Default false.
    pub show_default_cluster: bool,

    /// How often each repository is looked at for SHOW REPOSITORIES, seconds. Default 60.
    pub repository_check_s: u64,

    /// For rehearsals: a directory in which files named after states (`UPLOADING`) hold backup and restore jobs there.
    /// Default empty: nothing is held.
    pub job_hold_dir: PathBuf,

    /// Memory that all queries together may hold for sorting, joining and grouping, MiB; what does not fit is spilled to
    /// the temporary directory. Default 1024.
    pub query_memory_mb: usize,
}

impl Default for Config {
    fn default() -> Config {
        let any = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
        Config {
            meta_dir: PathBuf::from("/var/lib/coffer/fe"),
            host: "127.0.0.1".to_owned(),
            mysql_listen: any(9030),
            http_listen: any(8030),
            grpc_listen: any(9010),
            grpc_advertise: String::new(),
            helper: String::new(),
            cluster_secret_file: PathBuf::new(),
            metadata_key_file: PathBuf::new(),
            trust_network: false,
            tls: TlsConfig::default(),
            local_roots: Vec::new(),
            conf_dir: None,
            log: LogConfig { level: Text::new("info,openraft=off"), ..LogConfig::default() },
            audit_log: true,
            audit_dir: PathBuf::new(),
            metrics_public: false,
            max_connections: 1_024,
            wait_timeout_s: 28_800,
            default_replication_num: Live::new(3),
            default_buckets: Live::new(10),
            heartbeat_ms: 1_000,
            heartbeat_timeout_ms: 5_000,
            load_timeout_s: Live::new(600),
            stream_load_default_precommit_timeout_second: Live::new(3_600),
            publish_timeout_ms: Live::new(30_000),
            label_keep_s: Live::new(3 * 86_400),
            job_timeout_s: Live::new(86_400),
            catalog_trash_expire_second: Live::new(86_400),
            dynamic_partition_enable: Flag::new(true),
            dynamic_partition_check_interval_seconds: Live::new(600),
            tablet_repair_delay_factor_second: Live::new(1_800),
            show_default_cluster: false,
            repository_check_s: 60,
            job_hold_dir: PathBuf::new(),
            query_memory_mb: 1_024,
        }
    }
}

impl Options for Config {
    const PROCESS: &'static str = "frontend";
    const EXAMPLE: &'static str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/fe.toml"));

    fn live(&self) -> Vec<(&'static str, Slot<'_>)> {
        let looks = &self.dynamic_partition_check_interval_seconds;
        vec![
            ("catalog_trash_expire_second", Slot::Number(&self.catalog_trash_expire_second)),
            ("default_buckets", Slot::Number(&self.default_buckets)),
            ("default_replication_num", Slot::Number(&self.default_replication_num)),
            ("dynamic_partition_check_interval_seconds", Slot::Number(looks)),
            ("dynamic_partition_enable", Slot::Flag(&self.dynamic_partition_enable)),
            ("job_timeout_s", Slot::Number(&self.job_timeout_s)),
            ("label_keep_s", Slot::Number(&self.label_keep_s)),
            ("load_timeout_s", Slot::Number(&self.load_timeout_s)),
            ("log.level", Slot::Text(&self.log.level)),
            ("publish_timeout_ms", Slot::Number(&self.publish_timeout_ms)),
            (
                "stream_load_default_precommit_timeout_second",
                Slot::Number(&self.stream_load_default_precommit_timeout_second),
            ),
            ("tablet_repair_delay_factor_second", Slot::Number(&self.tablet_repair_delay_factor_second)),
        ]
    }

    fn check(&self) -> Result<()> {
        Config::check(self)
    }
}

impl Config {
    /// Read and check a file.
    pub fn load(path: &Path) -> Result<Config> {
        let config: Config = coffer_stdx::config::load(path)?;
        config.check()?;
        Ok(config)
    }

    /// Refuse values that cannot work, by name.
    pub fn check(&self) -> Result<()> {
        let wrong = |key: &str, why: &str| Err(Error::invalid(format!("config {key}: {why}")));
        if self.host.is_empty() || self.host.contains([':', '/', ' ']) {
            return wrong("host", "a host name or an IPv4 address is needed, without a port");
        }
        for (key, address) in [("grpc_advertise", &self.grpc_advertise), ("helper", &self.helper)] {
            let good =
                address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if !address.is_empty() && !good {
                return wrong(key, "must be host:port");
            }
        }
        if self.meta_dir.as_os_str().is_empty() {
            return wrong("meta_dir", "must not be empty");
        }
        if self.max_connections == 0 {
            return wrong("max_connections", "must be at least 1");
        }
        if self.wait_timeout_s == 0 {
            return wrong("wait_timeout_s", "must be at least 1");
        }
        let replicas = self.default_replication_num.get();
        if replicas == 0 || replicas > u64::from(crate::limits::MAX_REPLICAS) {
            return wrong("default_replication_num", &format!("must be 1 to {}", crate::limits::MAX_REPLICAS));
        }
        let buckets = self.default_buckets.get();
        if buckets == 0 || buckets > u64::from(crate::limits::MAX_BUCKETS) {
            return wrong("default_buckets", &format!("must be 1 to {}", crate::limits::MAX_BUCKETS));
        }
        if self.heartbeat_ms == 0 || self.heartbeat_timeout_ms <= self.heartbeat_ms {
            return wrong("heartbeat_timeout_ms", "must be more than heartbeat_ms, and heartbeat_ms more than 0");
        }
        if [&self.load_timeout_s, &self.label_keep_s, &self.job_timeout_s].iter().any(|seconds| seconds.get() == 0) {
            return wrong("load_timeout_s, label_keep_s, job_timeout_s", "must be at least 1");
        }
        if self.stream_load_default_precommit_timeout_second.get() == 0 {
            return wrong("stream_load_default_precommit_timeout_second", "must be at least 1");
        }
        if self.dynamic_partition_check_interval_seconds.get() == 0 {
            return wrong("dynamic_partition_check_interval_seconds", "must be at least 1");
        }
        if self.repository_check_s == 0 {
            return wrong("repository_check_s", "must be at least 1");
        }
        if self.query_memory_mb < 16 {
            return wrong("query_memory_mb", "must be at least 16");
        }
        self.log.check()
    }

    /// Where the audit log lies.
    pub fn audit_path(&self) -> PathBuf {
        if self.audit_dir.as_os_str().is_empty() { self.meta_dir.join("audit") } else { self.audit_dir.clone() }
    }

    /// Where the key of secrets in the metadata lies.
    pub fn metadata_key_path(&self) -> PathBuf {
        match self.metadata_key_file.as_os_str().is_empty() {
            true => self.meta_dir.join("metadata.key"),
            false => self.metadata_key_file.clone(),
        }
    }

    /// "host:port" of the gRPC service as others reach it.
    pub fn grpc_address(&self) -> String {
        if !self.grpc_advertise.is_empty() {
            return self.grpc_advertise.clone();
        }
        format!("{}:{}", self.host, self.grpc_listen.port())
    }

    /// How long a silent backend or broker counts as alive.
    pub fn heartbeat_timeout(&self) -> Duration {
        Duration::from_millis(self.heartbeat_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::options;

    #[test]
    fn the_defaults_are_valid_and_every_wrong_value_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 12] = [
            ("grpc_advertise", |c| c.grpc_advertise = "h".to_owned()),
            ("helper", |c| c.helper = ":1".to_owned()),
            ("host", |c| c.host = "h:1".to_owned()),
            ("meta_dir", |c| c.meta_dir = PathBuf::new()),
            ("max_connections", |c| c.max_connections = 0),
            ("wait_timeout_s", |c| c.wait_timeout_s = 0),
            ("default_replication_num", |c| c.default_replication_num = Live::new(0)),
            ("default_buckets", |c| c.default_buckets = Live::new(0)),
            ("heartbeat_timeout_ms", |c| c.heartbeat_timeout_ms = 1),
            ("label_keep_s", |c| c.label_keep_s = Live::new(0)),
            ("repository_check_s", |c| c.repository_check_s = 0),
            ("heartbeat_ms", |c| c.heartbeat_ms = 0),
        ];
        for (key, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            assert!(config.check().unwrap_err().message().contains(key), "{key}");
        }
    }

    #[test]
    fn options_are_explained_and_some_change() {
        let config = Config::default();
        let shown = options::list(&config).unwrap();
        assert!(shown.iter().all(|option| !option.comment.is_empty()), "{shown:?}");
        for (key, slot) in config.live() {
            let value = match slot {
                Slot::Text(_) => "warn",
                Slot::Flag(_) => "false",
                Slot::Number(_) => "7",
            };
            options::change(&config, &[(key.to_owned(), value.to_owned())].into()).unwrap();
            let shown = options::list(&config).unwrap();
            assert!(shown.iter().any(|option| option.key == key && option.value == value && option.mutable), "{key}");
        }
        assert!(options::change(&config, &[("default_buckets".to_owned(), "0".to_owned())].into()).is_err());
        assert_eq!((config.default_buckets.get_u32(), config.clone().label_keep_s.get()), (7, 7));
        assert_eq!(config.audit_path(), PathBuf::from("/var/lib/coffer/fe/audit"));
    }

    #[test]
    fn a_file_overrides_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fe.toml");
        std::fs::write(&path, "host = \"10.0.0.1\"\ngrpc_listen = \"0.0.0.0:7\"\nlog.level = \"debug\"\n").unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.grpc_address(), "10.0.0.1:7");
        assert_eq!(config.mysql_listen.port(), 9030);
    }
}
