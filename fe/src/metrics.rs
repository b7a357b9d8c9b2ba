//! Every metric of a frontend.

use crate::error::{Error, Result};
use crate::raft::Figures;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::time::Duration;

/// The numbers of one frontend; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// MySQL connections open now.
    pub connections: IntGauge,
    statements: IntCounterVec,
    statement_seconds: Histogram,
    logins: IntCounterVec,
    /// Lines of the audit log that were dropped.
    pub audit_dropped: IntCounter,
    applied: IntGauge,
    leading: IntGauge,
    objects: IntGaugeVec,
    nodes_alive: IntGaugeVec,
    meta: IntGaugeVec,
}

/// What is counted when the page is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Index of the last entry applied.
    pub applied: u64,
    /// Whether this frontend leads.
    pub leading: bool,
    /// Databases, tables, tablets, running jobs, open transactions.
    pub objects: [(&'static str, u64); 5],
    /// Backends and brokers that are alive.
    pub nodes_alive: [(&'static str, u64); 2],
    /// The metadata log and its snapshots.
    pub meta: Figures,
}

impl Metrics {
    /// All zero.
    pub fn new() -> Result<Metrics> {
        Metrics::build().map_err(|error| Error::bug(format!("metrics: {error}")))
    }

    fn build() -> prometheus::Result<Metrics> {
        let opts = |name: &str, help: &str| Opts::new(format!("coffer_fe_{name}"), help);
        let metrics = Metrics {
            registry: Registry::new(),
            connections: IntGauge::with_opts(opts("mysql_connections", "MySQL connections open now."))?,
            statements: IntCounterVec::new(opts("statements_total", "Statements by outcome."), &["outcome"])?,
            statement_seconds: Histogram::with_opts(HistogramOpts::from(opts(
                "statement_seconds",
                "Time of statements until their answer, or the start of their rows.",
            )))?,
            logins: IntCounterVec::new(opts("logins_total", "Logins over MySQL and HTTP by outcome."), &["outcome"])?,
            audit_dropped: IntCounter::with_opts(opts(
                "audit_dropped_total",
                "Lines of the audit log that were dropped because the disk was too slow.",
            ))?,
            applied: IntGauge::with_opts(opts("raft_applied_index", "Last metadata log entry applied."))?,
            leading: IntGauge::with_opts(opts("raft_leading", "1 when this frontend leads."))?,
            objects: IntGaugeVec::new(opts("objects", "Objects in the metadata."), &["kind"])?,
            nodes_alive: IntGaugeVec::new(opts("nodes_alive", "Nodes that answer heartbeats."), &["role"])?,
            meta: IntGaugeVec::new(opts("meta", "The metadata log and its snapshots since the start."), &["what"])?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.statements.clone()))?;
        registry.register(Box::new(metrics.statement_seconds.clone()))?;
        registry.register(Box::new(metrics.logins.clone()))?;
        registry.register(Box::new(metrics.audit_dropped.clone()))?;
        registry.register(Box::new(metrics.applied.clone()))?;
        registry.register(Box::new(metrics.leading.clone()))?;
        registry.register(Box::new(metrics.objects.clone()))?;
        registry.register(Box::new(metrics.nodes_alive.clone()))?;
        registry.register(Box::new(metrics.meta.clone()))?;
        Ok(metrics)
    }

    /// A statement was answered.
    pub fn statement(&self, error: Option<&Error>, took: Duration) {
        self.statements.with_label_values(&[error.map_or("ok", |error| error.kind().name())]).inc();
        self.statement_seconds.observe(took.as_secs_f64());
    }

    /// A login was answered: ok, denied, blocked.
    pub fn login(&self, outcome: &str) {
        self.logins.with_label_values(&[outcome]).inc();
    }

    /// The text format.
    pub fn render(&self, seen: &Seen) -> Result<String> {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.applied.set(number(seen.applied));
        self.leading.set(i64::from(seen.leading));
        for (kind, count) in seen.objects {
            self.objects.with_label_values(&[kind]).set(number(count));
        }
        for (role, count) in seen.nodes_alive {
            self.nodes_alive.with_label_values(&[role]).set(number(count));
        }
        let snapshots = &seen.meta.snapshots;
        for (what, value) in [
            ("log_fsyncs", seen.meta.fsyncs),
            ("log_entries", seen.meta.entries),
            ("log_bytes", seen.meta.bytes),
            ("snapshots", snapshots.written),
            ("snapshot_bytes", snapshots.bytes),
            ("snapshot_microseconds", snapshots.took.as_micros() as u64),
            ("snapshot_hold_up_microseconds", snapshots.held_up.as_micros() as u64),
            ("snapshot_running", u64::from(snapshots.running)),
        ] {
            self.meta.with_label_values(&[what]).set(number(value));
        }
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.map_err(|error| Error::bug(format!("metrics: {error}")))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_happened() {
        let metrics = Metrics::new().unwrap();
        metrics.connections.inc();
        metrics.statement(None, Duration::from_millis(2));
        metrics.statement(Some(&Error::not_found("x")), Duration::from_millis(2));
        let meta = Figures { fsyncs: 9, ..Figures::default() };
        let seen = Seen { applied: 7, leading: true, meta, ..Seen::default() };
        let page = metrics.render(&seen).unwrap();
        for line in [
            "coffer_fe_mysql_connections 1",
            "coffer_fe_statements_total{outcome=\"NOT_FOUND\"} 1",
            "coffer_fe_statements_total{outcome=\"ok\"} 1",
            "coffer_fe_statement_seconds_count 2",
            "coffer_fe_raft_applied_index 7",
            "coffer_fe_raft_leading 1",
            "coffer_fe_meta{what=\"log_fsyncs\"} 9",
            "coffer_fe_meta{what=\"snapshots\"} 0",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
