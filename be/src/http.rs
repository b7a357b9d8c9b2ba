//! The HTTP service: health, readiness, metrics, and the routes of loads.

use crate::load::stream::{StreamDeps, http};
use crate::metrics::Metrics;
use crate::tablet::TabletStore;
use crate::task::blocking;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use coffer_proto::http::need_metrics_token;
use coffer_stdx::shutdown::Shutdown;
use std::sync::Arc;

#[derive(Debug, Clone)]
struct Seen {
    store: Arc<TabletStore>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

/// All routes. `metrics_public`: metrics are for everybody.
pub fn routes(loads: StreamDeps, metrics_public: bool) -> Router {
    let (store, figures) = (loads.load.store.clone(), loads.load.metrics.clone());
    let seen = Seen { store, metrics: figures, shutdown: loads.shutdown.clone() };
    let need_token = from_fn(move |request, next| need_metrics_token(metrics_public, request, next));
    let guarded = Router::new().route("/metrics", get(metrics)).route_layer(need_token);
    let own = guarded.route("/api/health", get(health)).route("/api/ready", get(ready)).with_state(seen);
    own.merge(http::routes(loads))
}

async fn health(State(seen): State<Seen>) -> Response {
    let usable = seen.store.disks().iter().any(|disk| disk.usable());
    let (code, text) =
        if usable { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "no data directory works") };
    let json = format!("{{\"status\":\"{text}\",\"tablets\":{}}}\n", seen.store.count());
    (code, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// Whether loads and tasks would be taken: a data directory works and nobody asked the process to stop.
async fn ready(State(seen): State<Seen>) -> Response {
    let usable = seen.store.disks().iter().any(|disk| disk.usable());
    let (code, status) = match (usable, seen.shutdown.is_begun()) {
        (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (true, false) => (StatusCode::OK, "ready"),
    };
    (code, [(header::CONTENT_TYPE, "application/json")], format!("{{\"status\":\"{status}\"}}\n")).into_response()
}

async fn metrics(State(seen): State<Seen>) -> Response {
    let text = blocking(move || {
        seen.metrics.tablets.set(seen.store.count() as i64);
        seen.metrics.bad_tablets.set(seen.store.bad_tablets().len() as i64);
        for disk in seen.store.disks() {
            let path = disk.root().display().to_string();
            let (total, available) = disk.space();
            for (kind, bytes) in
                [("total", total), ("available", available), ("data", disk.data_bytes()), ("trash", disk.trash_bytes())]
            {
                seen.metrics.disk_bytes.with_label_values(&[path.as_str(), kind]).set(bytes as i64);
            }
        }
        seen.metrics.text()
    });
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
