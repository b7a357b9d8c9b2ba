//! Every metric this process exports, in the text form of Prometheus.

use coffer_stdx::{Error, Result};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// All metrics; names begin with `coffer_be_`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Tablets that are served.
    pub tablets: IntGauge,
    /// Tablets that are bad.
    pub bad_tablets: IntGauge,
    /// Bytes by directory and kind (total, available, data, trash).
    pub disk_bytes: IntGaugeVec,
    /// Stream loads by status.
    pub loads: IntCounterVec,
    /// Rows loaded by stream load.
    pub load_rows: IntCounter,
    /// Bytes received by stream load.
    pub load_bytes: IntCounter,
    /// Memory of rows of running loads.
    pub load_memory_bytes: IntGauge,
    /// Rows written to staged files by any load.
    pub written_rows: IntCounter,
    /// Bytes of staged files written by any load.
    pub written_bytes: IntCounter,
    /// Scans begun.
    pub scans: IntCounter,
    /// Rows sent by scans.
    pub scan_rows: IntCounter,
    /// Merges of rowsets.
    pub compactions: IntCounter,
    /// Bytes of files that were merged.
    pub compaction_bytes: IntCounter,
    tasks: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let make = Maker { registry: Registry::new() };
        Metrics {
            tablets: make.gauge("tablets", "Tablets that are served"),
            bad_tablets: make.gauge("bad_tablets", "Tablets that are not served because their bytes are wrong"),
            disk_bytes: make.gauges("disk_bytes", "Bytes by data directory and kind", &["path", "kind"]),
            loads: make.counters("stream_loads_total", "Stream loads by status", &["status"]),
            load_rows: make.counter("stream_load_rows_total", "Rows loaded by stream load"),
            load_bytes: make.counter("stream_load_bytes_total", "Bytes received by stream load"),
            load_memory_bytes: make.gauge("load_memory_bytes", "Memory of rows of running loads"),
            written_rows: make.counter("written_rows_total", "Rows written to files by loads"),
            written_bytes: make.counter("written_bytes_total", "Bytes of files written by loads"),
            scans: make.counter("scans_total", "Scans begun"),
            scan_rows: make.counter("scan_rows_total", "Rows sent by scans"),
            compactions: make.counter("compactions_total", "Merges of small rowsets into one"),
            compaction_bytes: make.counter("compaction_bytes_total", "Bytes of files that were merged"),
            tasks: make.counters("tasks_total", "Tasks of the leader that ended", &["kind", "outcome"]),
            registry: make.registry,
        }
    }

    /// A task ended.
    pub fn task_ended(&self, kind: &str, ok: bool) {
        self.tasks.with_label_values(&[kind, if ok { "ok" } else { "failed" }]).inc();
    }

    /// The text that `/metrics` answers.
    pub fn text(&self) -> Result<String> {
        let encoded = TextEncoder::new().encode_to_string(&self.registry.gather());
        encoded.map_err(|error| Error::bug(format!("metrics: {error}")))
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

struct Maker {
    registry: Registry,
}

impl Maker {
    fn register<T: prometheus::core::Collector + Clone + 'static>(&self, made: prometheus::Result<T>) -> T {
        // Names are literals of this file, and a test makes them all.
        let metric = made.expect("metric names and labels are valid");
        self.registry.register(Box::new(metric.clone())).expect("metric names are different");
        metric
    }

    fn options(name: &str, help: &str) -> Opts {
        Opts::new(format!("coffer_be_{name}"), help)
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(Maker::options(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Maker::options(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(Maker::options(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Maker::options(name, help), labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_have_valid_names() {
        let metrics = Metrics::new();
        metrics.task_ended("upload", false);
        assert!(metrics.text().unwrap().contains(r#"coffer_be_tasks_total{kind="upload",outcome="failed"} 1"#));
    }
}
