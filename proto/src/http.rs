//! HTTP ports: pages and loads, plain or over TLS, with bounded heads and bounded patience.

use crate::door::{self, Greeting, Io};
use crate::{secret, tls};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use coffer_stdx::shutdown::Shutdown;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Headers of one request.
const MAX_HEADERS: usize = 100;
/// Bytes of the head of one request, and of what is read at a time.
const MAX_HEAD_BYTES: usize = 256 << 10;
/// How long the head of a request may take, the wait for the next request on a connection included.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// Serve these routes until the shutdown begins and every request at hand is answered.
pub async fn serve(listener: TcpListener, routes: Router, shutdown: Shutdown) {
    let tls = tls::loaded();
    let greeting = tls.front.filter(|_| tls.https).map_or(Greeting::None, Greeting::Tls);
    let mut door = door::open(listener, greeting);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.begun() => break,
            io = door.recv() => match io {
                Some(io) => drop(connections.spawn(converse(io, routes.clone(), shutdown.clone()))),
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(door);
    while connections.join_next().await.is_some() {}
}

async fn converse(io: Io, routes: Router, shutdown: Shutdown) {
    let peer: SocketAddr = io.peer();
    let routes = TowerToHyperService::new(routes);
    let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        routes.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    builder.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), answer));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// Pages of a backend or broker for whoever collects metrics: with the token of the cluster (`Authorization: Bearer`), or
/// for everybody where the option `metrics_public` is set or the cluster has no secret.
pub async fn need_metrics_token(public: bool, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if public || !secret::is_known() || secret::is_metrics_token(given) {
        return next.run(request).await;
    }
    let text =
        "the metrics token of the cluster is needed: `cofferctl secret metrics-token`, or option metrics_public\n";
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer realm=\"coffer\"")], text).into_response()
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod http_tests;
