//! The HTTP service: health, metrics, and the routes of loads.

use crate::load::stream::{StreamDeps, http};
use crate::metrics::Metrics;
use crate::tablet::TabletStore;
use crate::task::blocking;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

#[derive(Debug, Clone)]
struct Seen {
    store: Arc<TabletStore>,
    metrics: Arc<Metrics>,
}

/// All routes.
pub fn routes(loads: StreamDeps) -> Router {
    let seen = Seen { store: loads.load.store.clone(), metrics: loads.load.metrics.clone() };
    let own = Router::new().route("/metrics", get(metrics)).route("/api/health", get(health)).with_state(seen);
    own.merge(http::routes(loads))
}

async fn health(State(seen): State<Seen>) -> Response {
    let usable = seen.store.disks().iter().any(|disk| disk.usable());
    let (code, text) =
        if usable { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "no data directory works") };
    let json = format!("{{\"status\":\"{text}\",\"tablets\":{}}}\n", seen.store.count());
    (code, [(header::CONTENT_TYPE, "application/json")], json).into_response()
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
