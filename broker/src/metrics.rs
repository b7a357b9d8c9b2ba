//! Every metric of a broker.

use coffer_stdx::{Error, Result};
use coffer_store::Budget;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// The numbers of one broker.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Bytes of objects received.
    pub received: IntCounter,
    /// Bytes of objects sent.
    pub sent: IntCounter,
    /// Stores open now.
    pub stores: IntGauge,
    requests: IntCounterVec,
    in_flight: IntGaugeVec,
    budget: IntGaugeVec,
}

impl Metrics {
    /// All zero.
    pub fn new() -> Result<Metrics> {
        let registry = Registry::new();
        let metrics = Metrics::build(registry);
        metrics.map_err(|error| Error::bug(format!("metrics: {error}")))
    }

    fn build(registry: Registry) -> prometheus::Result<Metrics> {
        let opts = |name: &str, help: &str| Opts::new(format!("coffer_broker_{name}"), help);
        let metrics = Metrics {
            received: IntCounter::with_opts(opts("received_bytes_total", "Bytes of objects received."))?,
            sent: IntCounter::with_opts(opts("sent_bytes_total", "Bytes of objects sent."))?,
            stores: IntGauge::with_opts(opts("open_stores", "Storages kept open."))?,
            requests: IntCounterVec::new(
                opts("requests_total", "Requests by operation and outcome."),
                &["operation", "outcome"],
            )?,
            in_flight: IntGaugeVec::new(opts("requests_in_flight", "Requests being served."), &["operation"])?,
            budget: IntGaugeVec::new(opts("budget_bytes", "Memory budget by share."), &["share", "state"])?,
            registry,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.received.clone()))?;
        registry.register(Box::new(metrics.sent.clone()))?;
        registry.register(Box::new(metrics.stores.clone()))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.budget.clone()))?;
        Ok(metrics)
    }

    /// A request begins; the gauge falls when the answer is dropped.
    pub fn begin(&self, operation: &'static str) -> InFlight {
        let gauge = self.in_flight.with_label_values(&[operation]);
        gauge.inc();
        InFlight { gauge }
    }

    /// Requests being served.
    pub fn running(&self) -> u32 {
        use prometheus::core::Collector;
        let running: f64 = self
            .in_flight
            .collect()
            .iter()
            .flat_map(|family| family.get_metric())
            .map(|one| one.get_gauge().get_value())
            .sum();
        running.max(0.0) as u32
    }

    /// A request ended.
    pub fn end(&self, operation: &'static str, outcome: &str) {
        self.requests.with_label_values(&[operation, outcome]).inc();
    }

    /// Requests that ended so, for tests and health checks.
    pub fn ended(&self, operation: &str, outcome: &str) -> u64 {
        self.requests.with_label_values(&[operation, outcome]).get()
    }

    /// The text format, with the budgets as they are now.
    pub fn render(&self, budgets: &[(&str, &Budget)]) -> Result<String> {
        for (share, budget) in budgets {
            self.budget.with_label_values(&[*share, "used"]).set(budget.used() as i64);
            self.budget.with_label_values(&[*share, "total"]).set(budget.total() as i64);
        }
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        encoded.map_err(|error| Error::bug(format!("metrics: {error}")))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// A request being served.
#[derive(Debug)]
pub struct InFlight {
    gauge: IntGauge,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_happened() {
        let metrics = Metrics::new().unwrap();
        let running = metrics.begin("read");
        metrics.end("write", "ok");
        metrics.received.inc_by(7);
        assert_eq!(metrics.running(), 1);
        let budget = Budget::new(1 << 20);
        let page = metrics.render(&[("reads", &budget)]).unwrap();
        for line in [
            "coffer_broker_received_bytes_total 7",
            "coffer_broker_requests_total{operation=\"write\",outcome=\"ok\"} 1",
            "coffer_broker_requests_in_flight{operation=\"read\"} 1",
            "coffer_broker_budget_bytes{share=\"reads\",state=\"total\"} 1048576",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
        drop(running);
        assert!(metrics.render(&[]).unwrap().contains("in_flight{operation=\"read\"} 0"));
    }
}
