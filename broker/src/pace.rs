//! How fast bytes may pass this broker: its own limit over everything, and one per repository.
//!
//! The limits of repositories come with requests and, for streams that run already, with the pings of the leading
//! frontend. The broker's own limit is the smallest of what its configuration and the clusters that use it say.

use coffer_proto::v1::{PingRequest, RateLimit};
use coffer_store::rate::{Limits, Pair};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Clusters whose limits are remembered; a broker serves a few.
const MAX_CLUSTERS: usize = 64;

/// Every limit of a broker.
#[derive(Debug, Default)]
pub struct Pace {
    configured: Mutex<(u64, u64)>,
    own: Arc<Pair>,
    said: Mutex<BTreeMap<String, RateLimit>>,
    repositories: Limits,
}

impl Pace {
    /// Bytes per second that may come in and go out; 0: no limit.
    pub fn new(upload: u64, download: u64) -> Pace {
        let pace = Pace::default();
        pace.configure(upload, download);
        pace
    }

    /// The configuration says another limit now.
    pub fn configure(&self, upload: u64, download: u64) {
        // Nothing panics while it holds the locks with an entry half changed.
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        *self.configured.lock().unwrap_or_else(PoisonError::into_inner) = (upload, download);
        self.settle(&said);
    }

    /// Take in what a ping says.
    pub fn hear(&self, ping: &PingRequest) {
        for limit in &ping.limits {
            self.repositories.learn(limit);
        }
        let Some(own) = &ping.own else { return };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let known = said.get(&own.key);
        if known.is_some_and(|known| known.version >= own.version) || (known.is_none() && said.len() >= MAX_CLUSTERS) {
            return;
        }
        said.insert(own.key.clone(), own.clone());
        self.settle(&said);
    }

    /// The smallest of all limits holds.
    fn settle(&self, said: &BTreeMap<String, RateLimit>) {
        let configured = *self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        let smallest = |configured, of: fn(&RateLimit) -> u64| {
            let all = said.values().map(of).chain([configured]);
            all.filter(|limit| *limit > 0).min().unwrap_or(0)
        };
        let upload = smallest(configured.0, |limit| limit.upload_bytes_per_second);
        let download = smallest(configured.1, |limit| limit.download_bytes_per_second);
        if (self.own.upload.per_second(), self.own.download.per_second()) != (upload, download) {
            tracing::info!(upload, download, "limit of this broker, bytes per second");
            self.own.set(upload, download);
        }
    }

    /// The limits that a request of this repository keeps.
    pub fn of(&self, repository: Option<&RateLimit>) -> Vec<Arc<Pair>> {
        let repository = repository.map(|limit| self.repositories.learn(limit));
        repository.into_iter().chain([Arc::clone(&self.own)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(cluster: &str, version: u64, upload: u64) -> PingRequest {
        let own = RateLimit {
            key: cluster.to_owned(),
            version,
            upload_bytes_per_second: upload,
            download_bytes_per_second: 0,
        };
        PingRequest { own: Some(own), ..PingRequest::default() }
    }

    #[test]
    fn the_smallest_limit_of_all_who_may_say_holds() {
        let pace = Pace::new(100, 0);
        let now = || (pace.own.upload.per_second(), pace.own.download.per_second());
        assert_eq!(now(), (100, 0));
        for (said, holds) in [
            (ping("a", 1, 70), 70),
            (ping("b", 1, 50), 50),
            (ping("b", 1, 10), 50),
            (ping("b", 2, 0), 70),
            (ping("a", 2, 500), 100),
        ] {
            pace.hear(&said);
            assert_eq!(now(), (holds, 0));
        }
        pace.hear(&PingRequest::default());
        assert_eq!(now(), (100, 0));
        pace.configure(0, 9);
        assert_eq!(now(), (500, 9));
    }

    #[test]
    fn pings_change_the_limits_of_repositories_under_way() {
        let pace = Pace::new(0, 0);
        let limit = |version, upload| RateLimit {
            key: "c/1".to_owned(),
            version,
            upload_bytes_per_second: upload,
            ..RateLimit::default()
        };
        let running = pace.of(Some(&limit(1, 10)));
        assert_eq!((running.len(), running[0].upload.per_second()), (2, 10));
        pace.hear(&PingRequest { limits: vec![limit(2, 0)], ..PingRequest::default() });
        assert_eq!(running[0].upload.per_second(), 0);
        assert_eq!(pace.of(None).len(), 1);
    }
}
