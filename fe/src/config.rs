//! What an operator sets: a TOML file, every key with a default, unknown keys refused by name.
//!
//! Keys that only one part reads are documented here all the same, so that this file is the whole list.

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
    /// Where the metadata lives: the Raft log, its snapshots, the identity of this node. Default `fe-meta`.
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
    /// Directories below which a repository `WITH LOCAL` may live. Empty (the default) refuses such repositories.
    pub local_roots: Vec<PathBuf>,
    /// Level and shape of log lines. Default level `info,openraft=warn`.
    pub log: LogConfig,

    /// MySQL connections at a time. Default 1024.
    pub max_connections: usize,
    /// A connection that says nothing for so long is closed, seconds. Default 28800.
    pub wait_timeout_s: u64,
    /// Replicas of a new partition when the statement does not say, limited to the backends that are alive. Default 3.
    pub default_replication_num: u32,
    /// Buckets of a new partition when the statement does not say. Default 10.
    pub default_buckets: u32,

    /// How often backends and brokers are asked whether they live, milliseconds. Default 1000.
    pub heartbeat_ms: u64,
    /// Without a heartbeat for so long a backend or broker counts as dead, milliseconds. Default 5000.
    pub heartbeat_timeout_ms: u64,
    /// A load that has not committed after so long is aborted, seconds, unless it names its own timeout. Default 600.
    pub load_timeout_s: u64,
    /// How long a committed load waits to become visible before it answers `Publish Timeout`, milliseconds.
    /// Default 30000.
    pub publish_timeout_ms: u64,
    /// Labels of ended loads are remembered for so long, seconds. Default 259200 (3 days).
    pub label_keep_s: u64,
    /// A backup or restore that has not ended after so long is cancelled, seconds, unless it names its own timeout.
    /// Default 86400.
    pub job_timeout_s: u64,

    /// Print databases in BackupObjs as `default_cluster:db`, as old scripts expect. Default false.
    pub show_default_cluster: bool,

    /// Memory that all queries together may hold for sorting, joining and grouping, MiB; what does not fit is spilled to
    /// the temporary directory. Default 1024.
    pub query_memory_mb: usize,
}

impl Default for Config {
    fn default() -> Config {
        let any = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
        Config {
            meta_dir: PathBuf::from("fe-meta"),
            host: "127.0.0.1".to_owned(),
            mysql_listen: any(9030),
            http_listen: any(8030),
            grpc_listen: any(9010),
            local_roots: Vec::new(),
            log: LogConfig { level: "info,openraft=warn".to_owned(), ..LogConfig::default() },
            max_connections: 1_024,
            wait_timeout_s: 28_800,
            default_replication_num: 3,
            default_buckets: 10,
            heartbeat_ms: 1_000,
            heartbeat_timeout_ms: 5_000,
            load_timeout_s: 600,
            publish_timeout_ms: 30_000,
            label_keep_s: 3 * 86_400,
            job_timeout_s: 86_400,
            show_default_cluster: false,
            query_memory_mb: 1_024,
        }
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
        if self.meta_dir.as_os_str().is_empty() {
            return wrong("meta_dir", "must not be empty");
        }
        if self.max_connections == 0 {
            return wrong("max_connections", "must be at least 1");
        }
        if self.wait_timeout_s == 0 {
            return wrong("wait_timeout_s", "must be at least 1");
        }
        if self.default_replication_num == 0 || self.default_replication_num > crate::limits::MAX_REPLICAS {
            return wrong("default_replication_num", &format!("must be 1 to {}", crate::limits::MAX_REPLICAS));
        }
        if self.default_buckets == 0 || self.default_buckets > crate::limits::MAX_BUCKETS {
            return wrong("default_buckets", &format!("must be 1 to {}", crate::limits::MAX_BUCKETS));
        }
        if self.heartbeat_ms == 0 || self.heartbeat_timeout_ms <= self.heartbeat_ms {
            return wrong("heartbeat_timeout_ms", "must be more than heartbeat_ms, and heartbeat_ms more than 0");
        }
        if self.load_timeout_s == 0 || self.label_keep_s == 0 || self.job_timeout_s == 0 {
            return wrong("load_timeout_s, label_keep_s, job_timeout_s", "must be at least 1");
        }
        if self.query_memory_mb < 16 {
            return wrong("query_memory_mb", "must be at least 16");
        }
        Ok(())
    }

    /// "host:port" of the gRPC service as others reach it.
    pub fn grpc_address(&self) -> String {
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

    #[test]
    fn the_defaults_are_valid_and_every_wrong_value_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 9] = [
            ("host", |c| c.host = "h:1".to_owned()),
            ("meta_dir", |c| c.meta_dir = PathBuf::new()),
            ("max_connections", |c| c.max_connections = 0),
            ("wait_timeout_s", |c| c.wait_timeout_s = 0),
            ("default_replication_num", |c| c.default_replication_num = 0),
            ("default_buckets", |c| c.default_buckets = 0),
            ("heartbeat_timeout_ms", |c| c.heartbeat_timeout_ms = 1),
            ("label_keep_s", |c| c.label_keep_s = 0),
            ("heartbeat_ms", |c| c.heartbeat_ms = 0),
        ];
        for (key, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            assert!(config.check().unwrap_err().message().contains(key), "{key}");
        }
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
