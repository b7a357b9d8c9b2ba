//! `PUT /api/{db}/{table}/_stream_load` and `GET /api/_load_error_log`.

use super::StreamDeps;
use super::intake::Intake;
use super::options::Options;
use super::reply::Reply;
use super::run::{self, Credentials, Request};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use base64::Engine;
use coffer_stdx::secret::Secret;
use coffer_stdx::{Error, Result};
use std::collections::HashMap;
use std::net::SocketAddr;

/// The routes of loads.
pub fn routes(deps: StreamDeps) -> Router {
    Router::new()
        .route("/api/{db}/{table}/_stream_load", put(stream_load))
        .route("/api/_load_error_log", get(error_log))
        .with_state(deps)
}

async fn stream_load(
    State(deps): State<StreamDeps>,
    Path((database, table)): Path<(String, String)>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let max_bytes = deps.config.stream_load_max_mib.get() << 20;
    let mut intake = Intake::new(body, max_bytes, headers.contains_key(header::EXPECT));
    let credentials = match credentials(&headers) {
        Ok(credentials) => credentials,
        Err(error) => {
            intake.drain().await;
            return answer(&Reply::new("", "").fail(&error));
        }
    };
    let options = match Options::parse(|name| headers.get(name).map(|value| value.as_bytes())) {
        Ok(options) => options,
        Err(error) => {
            intake.drain().await;
            return answer(&Reply::new("", "").fail(&error));
        }
    };
    let request =
        Request { database, table, credentials, client: client.to_string(), options, base_url: base_url(&headers) };
    // In a task of its own, so that a client that goes away does not stop it between two steps.
    let shutdown = deps.shutdown.clone();
    let load = shutdown.spawn(async move { run::run(&deps, request, &mut intake).await });
    match load.await {
        Ok(reply) => answer(&reply),
        Err(_) => answer(&Reply::new("", "").fail(&Error::bug("the load panicked; see the log of this backend"))),
    }
}

fn answer(reply: &Reply) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    if reply.denied {
        let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"coffer\"")];
        return (StatusCode::UNAUTHORIZED, realm, json, reply.json()).into_response();
    }
    (StatusCode::OK, json, reply.json()).into_response()
}

fn credentials(headers: &HeaderMap) -> Result<Credentials> {
    let missing = || Error::denied("no valid Basic authorization; give user and password, as in curl -u user:password");
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    let (scheme, encoded) = value.split_once(' ').ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(missing());
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).map_err(|_| missing())?;
    let text = String::from_utf8(decoded).map_err(|_| missing())?;
    let (user, password) = text.split_once(':').ok_or_else(missing)?;
    Ok(Credentials { user: user.to_owned(), password: Secret::new(password) })
}

fn base_url(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("{}://{host}", coffer_proto::tls::http_scheme())
}

async fn error_log(State(deps): State<StreamDeps>, Query(query): Query<HashMap<String, String>>) -> Response {
    let text = query.get("file").and_then(|name| deps.error_logs.get(name));
    match text {
        Some(text) => text.to_string().into_response(),
        None => (StatusCode::NOT_FOUND, "no such error log; only those of the last loads are kept\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_read() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            credentials(&headers)
        };
        let found = with("Basic cm9vdDpwOnc=").unwrap();
        assert_eq!((found.user.as_str(), found.password.reveal()), ("root", "p:w"));
        assert!(!format!("{found:?}").contains("p:w"));
        for bad in ["Basic", "Bearer x", "Basic !!!", "Basic cm9vdA=="] {
            assert!(with(bad).is_err(), "{bad}");
        }
        assert!(credentials(&HeaderMap::new()).is_err());
    }
}
