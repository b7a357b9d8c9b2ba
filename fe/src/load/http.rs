//! Stream load asks here first and is sent on to a backend: `PUT /api/{db}/{table}/_stream_load` answers 307 with the
//! address of a living backend, in turn, and so do `_stream_load_2pc`, which ends loads of two phases. The body is never read; a client that sends `Expect: 100-continue` never sends
//! it here.
//!
//! As in the classic system the credentials of the request are repeated in the address, because clients drop the
//! Authorization header when they follow a redirect to another host.

use super::Loads;
use crate::error::number;
use crate::login::{basic_credentials, host_of};
use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::{CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use coffer_proto::tls::http_scheme;
use coffer_stdx::secret::Secret;
use coffer_stdx::{Error, Result};
use std::fmt::Write;
use std::net::SocketAddr;

/// The routes, to be merged into the frontend's.
pub fn routes(loads: Loads) -> Router {
    Router::new()
        .route("/api/{db}/{table}/_stream_load", put(redirect))
        .route("/api/{db}/_stream_load_2pc", put(redirect_end))
        .route("/api/{db}/{table}/_stream_load_2pc", put(redirect_end))
        .with_state(loads)
}

/// The second half of a two-phase load names a transaction; whether its table may be loaded into is looked at there.
async fn redirect_end(
    State(loads): State<Loads>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let Some((user, password)) = basic_credentials(&headers) else {
        return unauthorized(&Error::denied("stream load needs a user and a password (HTTP Basic)"));
    };
    if let Err(error) = loads.newest().await {
        return failed(StatusCode::OK, &error);
    }
    let host = host_of(&client.to_string());
    if let Err(error) = loads.shared.login.check(&user, password.reveal(), &host).await {
        return unauthorized(&error);
    }
    to_backend(&loads, (&user, &password), &uri).await
}

async fn to_backend(loads: &Loads, (user, password): (&str, &Secret), uri: &Uri) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let backend = loads.next_backend(|backend| &backend.http).await;
    let answer = backend.and_then(|backend| location(user, password, &backend.http, path));
    match answer {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response(),
        Err(error) => failed(StatusCode::OK, &error),
    }
}

async fn redirect(
    State(loads): State<Loads>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path((database, table)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let Some((user, password)) = basic_credentials(&headers) else {
        return unauthorized(&Error::denied("stream load needs a user and a password (HTTP Basic)"));
    };
    if let Err(error) = loads.newest().await {
        return failed(StatusCode::OK, &error);
    }
    let host = host_of(&client.to_string());
    let login = (user.as_str(), password.reveal(), host.as_str());
    match loads.check_login(login, (&database, &table)).await {
        Ok(_) => {}
        Err(error) if error.number() == number::TABLE_DENIED => return failed(StatusCode::FORBIDDEN, &error),
        Err(error) => return unauthorized(&error),
    }
    to_backend(&loads, (&user, &password), &uri).await
}

fn location(user: &str, password: &Secret, backend: &str, path: &str) -> Result<HeaderValue> {
    let (scheme, user, password) = (http_scheme(), escaped(user), escaped(password.reveal()));
    let address = format!("{scheme}://{user}:{password}@{backend}{path}");
    HeaderValue::from_str(&address)
        .map_err(|_| Error::invalid("the path of the load has characters that no address has"))
}

/// Percent-encoded, all but the characters that need not be.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// 401, with what the client should do.
pub fn unauthorized(error: &Error) -> Response {
    let mut response = failed(StatusCode::UNAUTHORIZED, error);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"coffer\""));
    response
}

/// The answer of a load that failed, as clients read it.
fn failed(code: StatusCode, error: &Error) -> Response {
    let body = serde_json::json!({ "Status": "Fail", "Message": error.message() });
    (code, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_repeated_safely() {
        let (user, password) = ("root", Secret::new("p@ss:w/rd"));
        let location = location(user, &password, "10.0.0.1:8040", "/api/d/t/_stream_load?x=1").unwrap();
        assert_eq!(location, "http://root:p%40ss%3Aw%2Frd@10.0.0.1:8040/api/d/t/_stream_load?x=1");
    }
}
