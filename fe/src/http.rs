//! The HTTP service: `/api/health` and `/api/ready` for load balancers and people, `/metrics` for Prometheus, and the stream
//! load redirect. All but the first two ask for a user of the cluster.

use crate::error::Error;
use crate::exec::Context;
use crate::load;
use crate::load::http::unauthorized;
use crate::login::{basic_credentials, host_of};
use crate::metrics::{Metrics, Seen};
use crate::raft::Leader;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use coffer_proto::secret::is_metrics_token;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;

struct Pages {
    context: Context,
    metrics: Metrics,
}

/// All routes.
pub fn router(context: Context, metrics: Metrics) -> Router {
    let loads = load::http::routes(context.loads.clone());
    let pages = Arc::new(Pages { context, metrics });
    let guarded = Router::new().route("/metrics", get(metrics_page));
    let guarded = guarded.route_layer(from_fn_with_state(Arc::clone(&pages), need_login));
    let open = Router::new().route("/api/health", get(health)).route("/api/ready", get(ready));
    guarded.merge(open).with_state(pages).merge(loads)
}

/// That the process lives: without a leader, too, because a restart brings none.
async fn health(State(pages): State<Arc<Pages>>) -> Response {
    let meta = &pages.context.meta;
    let status = if has_leader(&pages) { "ok" } else { "no leader" };
    let leading = meta.leader() == Leader::Here;
    let cluster_id = meta.view(|state| state.cluster_id.clone());
    Json(json!({ "status": status, "leader": leading, "cluster_id": cluster_id })).into_response()
}

/// Whether the cluster and who leads it are known here.
fn has_leader(pages: &Pages) -> bool {
    let meta = &pages.context.meta;
    meta.leader() != Leader::Unknown && meta.view(|state| !state.cluster_id.is_empty())
}

/// Whether statements would be answered, by this frontend or through it by the leader.
async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    match pages.context.meta.unready() {
        None => Json(json!({ "status": "ready" })).into_response(),
        Some(reason) => {
            let page = Json(json!({ "status": "not ready", "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, page).into_response()
        }
    }
}

/// Every page but those for load balancers asks for a user of the cluster, or for its metrics token.
async fn need_login(
    State(pages): State<Arc<Pages>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if pages.context.config.metrics_public || is_metrics_token(given) {
        return next.run(request).await;
    }
    let Some((user, password)) = basic_credentials(request.headers()) else {
        return unauthorized(&Error::denied("a user and a password are needed (HTTP Basic)"));
    };
    match pages.context.login.check(&user, password.reveal(), &host_of(&client.to_string())).await {
        Ok(_) => next.run(request).await,
        Err(error) => unauthorized(&error),
    }
}

async fn metrics_page(State(pages): State<Arc<Pages>>) -> Response {
    match pages.metrics.render(&seen(&pages.context)) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn seen(context: &Context) -> Seen {
    let count = |number: usize| number as u64;
    // Counting takes a while in a large catalog; changes go on meanwhile.
    let state = context.meta.view(crate::meta::state::State::clone);
    let tables = || state.databases.values().flat_map(|database| database.tables.values());
    let partitions = tables().flat_map(|table| table.partitions.values());
    let tablets = partitions.map(|partition| partition.tablets.len()).sum();
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
            ("tablet", count(tablets)),
            ("running_job", count(backups + restores)),
            ("open_transaction", count(open)),
        ],
        meta: context.meta.figures(),
        nodes_alive: [("backend", count(backends)), ("broker", count(brokers.count()))],
    }
}
