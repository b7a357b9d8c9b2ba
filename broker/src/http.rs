//! `/api/health` and `/api/ready` for load balancers and people, `/metrics` for Prometheus.

use crate::metrics::Metrics;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use coffer_proto::http::need_metrics_token;
use coffer_stdx::shutdown::Shutdown;
use coffer_store::Budget;
use serde_json::json;
use std::sync::Arc;

/// What the pages show.
#[derive(Debug)]
pub struct Pages {
    /// The numbers.
    pub metrics: Metrics,
    /// Budgets by the name of their share.
    pub budgets: Vec<(&'static str, Budget)>,
    /// Whether metrics are for everybody.
    pub metrics_public: bool,
    /// Whether the broker is stopping.
    pub shutdown: Shutdown,
}

/// The routes.
pub fn router(pages: Pages) -> Router {
    let public = pages.metrics_public;
    let need_token = from_fn(move |request, next| need_metrics_token(public, request, next));
    let guarded = Router::new().route("/metrics", get(metrics)).route_layer(need_token);
    let own = guarded.route("/api/health", get(health)).route("/api/ready", get(ready));
    own.with_state(Arc::new(pages))
}

async fn health(State(pages): State<Arc<Pages>>) -> Response {
    match pages.shutdown.is_begun() {
        true => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "stopping"}))).into_response(),
        false => Json(json!({"status": "ok"})).into_response(),
    }
}

/// A broker keeps nothing, so it is ready as long as it does not stop.
async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    match pages.shutdown.is_begun() {
        true => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "stopping"}))).into_response(),
        false => Json(json!({"status": "ready"})).into_response(),
    }
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    let budgets: Vec<(&str, &Budget)> = pages.budgets.iter().map(|(share, budget)| (*share, budget)).collect();
    match pages.metrics.render(&budgets) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
