//! The HTTP service: `/api/health` for load balancers and people, `/metrics` for Prometheus, and the stream load redirect.

use crate::exec::Context;
use crate::load;
use crate::metrics::{Metrics, Seen};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;

struct Pages {
    context: Context,
    metrics: Metrics,
}

/// All routes.
pub fn router(context: Context, metrics: Metrics) -> Router {
    let loads = load::http::routes(context.loads.clone());
    let pages = Arc::new(Pages { context, metrics });
    let own = Router::new().route("/api/health", get(health)).route("/metrics", get(metrics_page)).with_state(pages);
    own.merge(loads)
}

async fn health(State(pages): State<Arc<Pages>>) -> Response {
    let meta = &pages.context.meta;
    let leading = meta.leadership().borrow().leading;
    let cluster_id = meta.view(|state| state.cluster_id.clone());
    let (code, status) =
        if leading { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not leading") };
    (code, Json(json!({ "status": status, "leader": leading, "cluster_id": cluster_id }))).into_response()
}

async fn metrics_page(State(pages): State<Arc<Pages>>) -> Response {
    match pages.metrics.render(&seen(&pages.context)) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn seen(context: &Context) -> Seen {
    let count = |number: usize| number as u64;
    context.meta.view(|state| {
        let tables = || state.databases.values().flat_map(|database| database.tables.values());
        let backups = state.backups.values().filter(|job| !job.state.is_over()).count();
        let restores = state.restores.values().filter(|job| !job.state.is_over()).count();
        let open = state.transactions.values().filter(|transaction| !transaction.state.is_over()).count();
        let backends = state.backends.keys().filter(|id| context.backends.alive(**id)).count();
        let brokers = state.brokers.iter().flat_map(|(name, group)| {
            group
                .addresses
                .iter()
                .filter(|address| context.backends.broker_status(name, address).is_some_and(|status| status.alive))
        });
        Seen {
            applied: *context.meta.applied().borrow(),
            leading: context.meta.leadership().borrow().leading,
            objects: [
                ("database", count(state.databases.len())),
                ("table", count(tables().count())),
                ("tablet", count(tables().map(|table| table.tablets().count()).sum())),
                ("running_job", count(backups + restores)),
                ("open_transaction", count(open)),
            ],
            meta: context.meta.figures(),
            nodes_alive: [("backend", count(backends)), ("broker", count(brokers.count()))],
        }
    })
}
