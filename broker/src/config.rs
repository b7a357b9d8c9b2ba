//! The broker's configuration: one TOML file, every option with a default. `deploy/config/broker.toml` lists them all.

use coffer_proto::tls::TlsConfig;
use coffer_stdx::options::{Live, Options, Slot};
use coffer_stdx::telemetry::LogConfig;
use coffer_stdx::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Options of a broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where frontends and backends reach this broker, `host:port`. Default `0.0.0.0:8000`.
    pub listen: String,
    /// Where `/metrics` and `/api/health` answer, `host:port`. Default `0.0.0.0:8001`.
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
    /// Directories of this host, mounted file systems among them, below which `file://` locations may lie. Default: none.
    pub local_roots: Vec<PathBuf>,
    /// Folder with `core-site.xml` and `hdfs-site.xml` for `hdfs://` locations. Default: that of the configuration file.
    pub conf_dir: Option<PathBuf>,
    /// Memory for bytes on their way, shared by all streams, MiB; what does not fit waits. Default 128, at least 16.
    pub memory_budget_mib: u64,
    /// Serve `null://` locations, which throw away what is put there: for measurements. Default false.
    pub allow_null: bool,
    /// How long a stopping broker lets running requests finish, seconds. Default 30.
    pub drain_seconds: Live,
    /// How long a connection to a storage is kept without use, seconds. Default 600.
    pub store_idle_seconds: Live,
    /// Bytes per second that all clients together may send into storages, whatever the clusters allow; 0 is no limit.
    /// Default 0.
    pub max_upload_bytes_per_second: Live,
    /// Likewise, out of storages. Default 0.
    pub max_download_bytes_per_second: Live,
    /// Logs.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: "0.0.0.0:8000".to_owned(),
            http_listen: "0.0.0.0:8001".to_owned(),
            cluster_secret_file: PathBuf::new(),
            trust_network: false,
            tls: TlsConfig::default(),
            metrics_public: false,
            local_roots: Vec::new(),
            conf_dir: None,
            memory_budget_mib: 128,
            allow_null: false,
            drain_seconds: Live::new(30),
            store_idle_seconds: Live::new(600),
            max_upload_bytes_per_second: Live::new(0),
            max_download_bytes_per_second: Live::new(0),
            log: LogConfig::default(),
        }
    }
}

impl Options for Config {
    const PROCESS: &'static str = "broker";
    const EXAMPLE: &'static str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/broker.toml"));

    fn live(&self) -> Vec<(&'static str, Slot<'_>)> {
        vec![
            ("drain_seconds", Slot::Number(&self.drain_seconds)),
            ("log.level", Slot::Text(&self.log.level)),
            ("max_download_bytes_per_second", Slot::Number(&self.max_download_bytes_per_second)),
            ("max_upload_bytes_per_second", Slot::Number(&self.max_upload_bytes_per_second)),
            ("store_idle_seconds", Slot::Number(&self.store_idle_seconds)),
        ]
    }

    fn check(&self) -> Result<()> {
        Config::check(self)
    }
}

/// Longest times, seconds: some 30 years.
const MOST_SECONDS: u64 = 1_000_000_000;
const SMALLEST_BUDGET_MIB: u64 = 16;
const LARGEST_BUDGET_MIB: u64 = 1 << 20;

impl Config {
    /// Refuse values that cannot work, by the name of the option.
    pub fn check(&self) -> Result<()> {
        for (option, address) in [("listen", &self.listen), ("http_listen", &self.http_listen)] {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(Error::invalid(format!("option {option} = '{address}' must be host:port")));
            }
        }
        if !(SMALLEST_BUDGET_MIB..=LARGEST_BUDGET_MIB).contains(&self.memory_budget_mib) {
            return Err(Error::invalid(format!(
                "option memory_budget_mib = {} must be from {SMALLEST_BUDGET_MIB} to {LARGEST_BUDGET_MIB}",
                self.memory_budget_mib
            )));
        }
        for (option, seconds) in
            [("drain_seconds", &self.drain_seconds), ("store_idle_seconds", &self.store_idle_seconds)]
        {
            if seconds.get() > MOST_SECONDS {
                return Err(Error::invalid(format!("option {option} must be at most {MOST_SECONDS}")));
            }
        }
        self.log.check()?;
        match self.local_roots.iter().find(|root| !root.is_absolute()) {
            Some(root) => Err(Error::invalid(format!("option local_roots: '{}' must be absolute", root.display()))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::options;

    fn checked(text: &str) -> Result<()> {
        let config: Config = toml::from_str(text).map_err(|error| Error::invalid(error.to_string()))?;
        config.check()
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

    #[test]
    fn defaults_work_and_faults_are_named() {
        checked("").unwrap();
        checked("listen = '127.0.0.1:0'\nlocal_roots = ['/backup']\n[log]\nlevel = 'debug'").unwrap();
        for (text, says) in [
            ("listen = 'nohost'", "listen"),
            ("http_listen = 'h:99999'", "http_listen"),
            ("memory_budget_mib = 1", "memory_budget_mib"),
            ("local_roots = ['here']", "'here' must be absolute"),
            ("allow_nul = true", "allow_nul"),
            ("drain_seconds = 1000000001", "drain_seconds"),
            ("log.level = 'coffer_broker=loud'", "log.level"),
        ] {
            let error = checked(text).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }
}
