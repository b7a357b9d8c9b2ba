//! Stream load with bounded memory: rows are made while the request runs, a few pieces ahead of the network.
//!
//! A body that is made on the fly cannot be sent twice, so the frontend is first asked with an empty request where the
//! rows should go, and the body goes straight to the backend it names.

use crate::tour::tables::Table;
use bytes::Bytes;
use coffer_stdx::{Error, Result};
use indicatif::ProgressBar;
use reqwest::{Body, Client, RequestBuilder, StatusCode, redirect};
use serde::Deserialize;
use tokio::sync::mpsc;

/// Pieces of text that may wait for the network.
const PIECES_AHEAD: usize = 8;

/// Where and as whom to load.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    client: Client,
    http: String,
    user: String,
    password: String,
    database: String,
}

/// One load request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) table: Table,
    pub(crate) scale: f64,
    pub(crate) part: u32,
    pub(crate) parts: u32,
    pub(crate) label: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    number_loaded_rows: u64,
    #[serde(default)]
    number_filtered_rows: u64,
}

impl Loader {
    /// Loads into `database` through the frontend at `http` (`host:port`).
    pub(crate) fn new(http: &str, user: &str, password: &str, database: &str) -> Result<Loader> {
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).build();
        let client = client.map_err(|error| Error::bug(format!("build the HTTP client: {error}")))?;
        let (user, password) = (user.to_owned(), password.to_owned());
        Ok(Loader { client, http: http.to_owned(), user, password, database: database.to_owned() })
    }

    /// Generate and load one part; returns the number of rows. `bar` advances by bytes sent.
    pub(crate) async fn load(&self, part: Part<'_>, bar: &ProgressBar) -> Result<u64> {
        let Part { table, scale, part: number, parts, label } = part;
        let write = move |give: &mut dyn FnMut(Bytes) -> bool| table.write_part(scale, number, parts, give);
        self.load_rows((table.name(), label), bar, write).await
    }

    /// Load the rows that `write` gives, which returns their number, into a table under a label.
    pub(crate) async fn load_rows(
        &self,
        (table, label): (&str, &str),
        bar: &ProgressBar,
        write: impl FnOnce(&mut dyn FnMut(Bytes) -> bool) -> Result<u64> + Send + 'static,
    ) -> Result<u64> {
        let target = self.target(table, label).await?;
        let (sender, receiver) = mpsc::channel::<Bytes>(PIECES_AHEAD);
        let writer = tokio::task::spawn_blocking(move || write(&mut |piece| sender.blocking_send(piece).is_ok()));
        let bar = bar.clone();
        let pieces = futures::stream::unfold(receiver, move |mut receiver| {
            let bar = bar.clone();
            async move {
                let piece = receiver.recv().await?;
                bar.inc(piece.len() as u64);
                Some((Ok::<Bytes, std::io::Error>(piece), receiver))
            }
        });
        let reply = self.request(&target, label).body(Body::wrap_stream(pieces)).send().await;
        let reply = reply.map_err(|error| Error::unavailable(format!("load {label}: {error:?}")))?;
        let written = writer.await.map_err(|error| Error::bug(format!("generate rows: {error}")))??;
        let loaded = check(label, reply).await?;
        if loaded != written {
            return Err(Error::corrupt(format!("load {label}: sent {written} rows, loaded {loaded}")));
        }
        Ok(loaded)
    }

    /// The backend's URL.
    async fn target(&self, table: &str, label: &str) -> Result<String> {
        let url = format!("http://{}/api/{}/{table}/_stream_load", self.http, self.database);
        let reply = self.request(&url, label).header("content-length", "0").send().await;
        let reply = reply.map_err(|error| Error::unavailable(format!("load {label}: {url}: {error}")))?;
        let location = reply.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        match (reply.status(), location) {
            (StatusCode::TEMPORARY_REDIRECT, Some(location)) => Ok(location),
            (status, _) => {
                let text = reply.text().await.unwrap_or_default();
                Err(Error::unavailable(format!("load {label}: {url} answered {status}: {text}")))
            }
        }
    }

    fn request(&self, url: &str, label: &str) -> RequestBuilder {
        let request = self.client.put(url).basic_auth(&self.user, Some(&self.password));
        request.header("label", label).header("column_separator", "|").header("format", "csv")
    }
}

async fn check(label: &str, reply: reqwest::Response) -> Result<u64> {
    let status = reply.status();
    let text = reply.text().await.map_err(|error| Error::unavailable(format!("load {label}: {error}")))?;
    let answer: Answer =
        serde_json::from_str(&text).map_err(|_| Error::unavailable(format!("load {label}: {status}: {text}")))?;
    if answer.status != "Success" || answer.number_filtered_rows > 0 {
        return Err(Error::conflict(format!(
            "load {label}: {}, {} rows filtered: {}",
            answer.status, answer.number_filtered_rows, answer.message
        )));
    }
    Ok(answer.number_loaded_rows)
}
