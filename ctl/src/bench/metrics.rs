//! Figures of a frontend from its `/metrics` page.

use coffer_stdx::{Error, Result};
use std::collections::HashMap;

/// What the page says of the metadata log and its snapshots, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures(HashMap<String, u64>);

impl Figures {
    /// Ask the frontend whose HTTP address this is.
    pub(crate) async fn of(client: &reqwest::Client, address: &str) -> Result<Figures> {
        let failed = |error: reqwest::Error| Error::unavailable(format!("metrics of {address}: {error}"));
        let reply = client
            .get(format!("http://{address}/metrics"))
            .basic_auth("root", Some(""))
            .send()
            .await
            .map_err(failed)?;
        Ok(Figures::parse(&reply.text().await.map_err(failed)?))
    }

    fn parse(page: &str) -> Figures {
        let pairs = page.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("coffer_fe_meta{what=\"")?.split_once("\"} ")?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Figures(pairs.collect())
    }

    /// One of them; 0 when the page does not have it.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_understood() {
        let page = "# HELP x\ncoffer_fe_raft_leading 1\ncoffer_fe_meta{what=\"log_fsyncs\"} 42\ncoffer_fe_meta{what=\"x\"} y\n";
        let figures = Figures::parse(page);
        assert_eq!((figures.get("log_fsyncs"), figures.get("x"), figures.get("none")), (42, 0, 0));
    }
}
