//! The one HTTP question every process answers: is it well?

use coffer_stdx::{Error, Result};
use std::time::Duration;

/// Longest time a healthy process takes to say so.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);

/// A client for `/api/health` and `/api/ready`.
pub(crate) fn probe() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(HEALTH_LIMIT)
        .no_proxy()
        .build()
        .map_err(|error| Error::bug(format!("build the HTTP client: {error}")))
}

/// Whether the process at `address` (`host:port`) says that it is ready.
pub(crate) async fn is_healthy(client: &reqwest::Client, address: &str) -> bool {
    let asked = client.get(format!("http://{address}/api/ready")).send().await;
    asked.is_ok_and(|reply| reply.status().is_success())
}
