//! `PUT /api/{db}/{table}/_stream_load`, `PUT /api/{db}[/{table}]/_stream_load_2pc` and `GET /api/_load_error_log`.

use super::StreamDeps;
use super::frontend;
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
use coffer_proto::v1;
use coffer_stdx::secret::Secret;
use coffer_stdx::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::net::SocketAddr;

/// The routes of loads.
pub fn routes(deps: StreamDeps) -> Router {
    Router::new()
        .route("/api/{db}/{table}/_stream_load", put(stream_load))
        .route("/api/{db}/_stream_load_2pc", put(end_of_database))
        .route("/api/{db}/{table}/_stream_load_2pc", put(end_of_table))
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

async fn end_of_database(
    State(deps): State<StreamDeps>,
    Path(database): Path<String>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    end(deps, (database, String::new()), client, headers).await
}

async fn end_of_table(
    State(deps): State<StreamDeps>,
    Path(place): Path<(String, String)>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    end(deps, place, client, headers).await
}

/// The second half of a two-phase load.
async fn end(deps: StreamDeps, place: (String, String), client: SocketAddr, headers: HeaderMap) -> Response {
    let request = match end_request(place, client, &headers) {
        Ok(request) => request,
        Err(error) => return ended(&Err(error), ""),
    };
    let deed = if request.commit { "commit" } else { "abort" };
    // In a task of its own, so that a client that goes away does not stop it between two tries.
    let shutdown = deps.shutdown.clone();
    let done = shutdown.spawn(async move { frontend::end(&deps.load.cluster, &request).await }).await;
    ended(&done.unwrap_or_else(|_| Err(Error::bug("it panicked; see the log of this backend"))), deed)
}

fn end_request(
    (database, table): (String, String),
    client: SocketAddr,
    headers: &HeaderMap,
) -> Result<v1::EndLoadRequest> {
    let credentials = credentials(headers)?;
    let header = |name: &str| {
        let value = headers.get(name).map(|value| value.to_str().map(str::trim));
        let value = value.transpose().map_err(|_| Error::invalid(format!("header '{name}' is not plain text")))?;
        Ok::<_, Error>(value.filter(|value| !value.is_empty()))
    };
    let commit = match header("txn_operation")?.unwrap_or_default().to_ascii_lowercase().as_str() {
        "commit" => true,
        "abort" => false,
        other => return Err(Error::invalid(format!("txn_operation: '{other}' is neither commit nor abort"))),
    };
    let label = header("label")?.unwrap_or_default().to_owned();
    let transaction_id = match header("txn_id")? {
        Some(id) => {
            let id = id.parse().ok().filter(|id| *id > 0);
            id.ok_or_else(|| Error::invalid("txn_id is not the number of a transaction"))?
        }
        None if label.is_empty() => return Err(Error::invalid("one of the headers txn_id and label is needed")),
        None => 0,
    };
    Ok(v1::EndLoadRequest {
        user: credentials.user,
        password: credentials.password.reveal().to_owned(),
        client: client.to_string(),
        database,
        table,
        transaction_id,
        label,
        commit,
        again: false,
    })
}

/// The answer that clients of the classic system read.
fn ended(done: &Result<u64>, deed: &str) -> Response {
    let (status, message) = match done {
        Ok(id) => ("Success", format!("transaction [{id}] {deed} successfully.")),
        Err(error) => ("Fail", error.message().to_owned()),
    };
    let body = serde_json::json!({ "status": status, "msg": message }).to_string() + "\n";
    let json = [(header::CONTENT_TYPE, "application/json")];
    if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Denied) {
        let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"coffer\"")];
        return (StatusCode::UNAUTHORIZED, realm, json, body).into_response();
    }
    (StatusCode::OK, json, body).into_response()
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
    fn the_second_half_of_a_load_names_what_and_how() {
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let ask = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, "Basic cm9vdDo=".parse().unwrap());
            pairs.iter().for_each(|(name, value)| drop(headers.insert(*name, value.parse().unwrap())));
            end_request(("d".to_owned(), String::new()), client, &headers)
        };
        let found = ask(&[("txn_id", " 7 "), ("txn_operation", "Commit")]).unwrap();
        assert_eq!((found.transaction_id, found.commit, found.again), (7, true, false));
        let found = ask(&[("label", "l"), ("txn_operation", "abort")]).unwrap();
        assert_eq!((found.transaction_id, found.label.as_str(), found.commit), (0, "l", false));
        for (pairs, text) in [
            (&[("txn_operation", "commit")][..], "one of the headers"),
            (&[("txn_id", "7")], "neither commit nor abort"),
            (&[("txn_id", "0"), ("txn_operation", "commit")], "not the number"),
        ] {
            assert!(ask(pairs).unwrap_err().message().contains(text), "{text}");
        }
    }

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
