//! HTTP as `curl --location-trusted` speaks it: the request is repeated, with credentials, where the frontend points.

use crate::node::Node;
use anyhow::Context;
use reqwest::{Client, StatusCode, redirect};
use serde_json::Value;

/// A client that follows no redirect by itself.
pub fn client() -> anyhow::Result<Client> {
    Ok(Client::builder().no_proxy().redirect(redirect::Policy::none()).build()?)
}

/// GET a path of a node as root without a password.
pub async fn get(node: &Node, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let reply = client()?.get(format!("http://{}{path}", node.http)).basic_auth("root", Some("")).send().await?;
    Ok((reply.status(), reply.text().await?))
}

/// The second half of a two-phase load, at a frontend or backend as `user`; status and JSON answer.
pub async fn end_load(
    node: &Node,
    path: &str,
    user: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<(StatusCode, Value)> {
    let client = client()?;
    let put = |url: &str| {
        let request = client.put(url).basic_auth(user, Some(""));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send()
    };
    let mut reply = put(&format!("http://{}/api/{path}", node.http)).await?;
    if reply.status() == StatusCode::TEMPORARY_REDIRECT {
        let url = reply.headers().get("location").context("307 without Location")?.to_str()?.to_owned();
        reply = put(&url).await.with_context(|| format!("PUT {url}"))?;
    }
    let (status, text) = (reply.status(), reply.text().await?);
    Ok((status, serde_json::from_str(&text).with_context(|| format!("{path}: {status}: {text}"))?))
}

/// One stream load.
#[derive(Debug, Clone)]
pub struct StreamLoad {
    url: String,
    user: String,
    password: String,
    headers: Vec<(String, String)>,
}

impl StreamLoad {
    /// Into `database.table`, through the frontend, columns separated by `|`.
    pub fn new(frontend: &Node, database: &str, table: &str) -> StreamLoad {
        let url = format!("http://{}/api/{database}/{table}/_stream_load", frontend.http);
        let load = StreamLoad { url, user: "root".into(), password: String::new(), headers: Vec::new() };
        load.header("column_separator", "|")
    }

    /// Set a header; a second value replaces the first.
    pub fn header(mut self, name: &str, value: &str) -> StreamLoad {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As another user.
    pub fn as_user(mut self, user: &str, password: &str) -> StreamLoad {
        (self.user, self.password) = (user.to_owned(), password.to_owned());
        self
    }

    /// Send the bytes and return the JSON answer. The frontend is asked without them, as by a client that waits for 100
    /// Continue: it answers a redirect at once and never reads a body.
    pub async fn send(&self, body: impl Into<bytes::Bytes>) -> anyhow::Result<Value> {
        let client = client()?;
        let put = |url: &str, body: bytes::Bytes| {
            let mut request = client.put(url).basic_auth(&self.user, Some(&self.password)).body(body);
            for (name, value) in &self.headers {
                request = request.header(name, value);
            }
            request.send()
        };
        let mut reply = put(&self.url, bytes::Bytes::new()).await.with_context(|| format!("PUT {}", self.url))?;
        if reply.status() == StatusCode::TEMPORARY_REDIRECT {
            let url = reply.headers().get("location").context("307 without Location")?.to_str()?.to_owned();
            reply = put(&url, body.into()).await.with_context(|| format!("PUT {url}"))?;
        }
        let (status, text) = (reply.status(), reply.text().await?);
        serde_json::from_str(&text).with_context(|| format!("{}: {status}: {text}", self.url))
    }

    /// Send the bytes; the answer must be `Success`.
    pub async fn must_succeed(&self, body: impl Into<bytes::Bytes>) -> anyhow::Result<Value> {
        let answer = self.send(body).await?;
        anyhow::ensure!(answer["Status"] == "Success", "{}: {answer}", self.url);
        Ok(answer)
    }
}
