//! The limits that this frontend tells processes: an operator's limit, cut into even shares.
//!
//! A limit holds for the whole cluster. It is divided by the number of processes that carry bytes to that repository now:
//! the brokers of its name that are alive, or, without a broker, the backends that are. So together they never pass more,
//! and pass less while some of them have nothing to do.
//!
//! Every change of a share gets a higher version: term of the leader, then its count. Processes keep the highest. A
//! frontend that does not lead says version 0, which never overrules a leader.

use crate::catalog::rate::RateLimits;
use coffer_proto::v1::RateLimit;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bits of a version that count; those above are the term.
const COUNT_BITS: u32 = 20;

/// What was said last, by key.
#[derive(Debug, Default)]
pub(super) struct Rates {
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// The term this frontend leads in.
    term: Option<u64>,
    count: u64,
    limits: BTreeMap<String, RateLimit>,
}

impl Rates {
    fn said(&self) -> MutexGuard<'_, Said> {
        // Nothing panics while it holds the lock.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This frontend leads in a term, or not at all. Everything is said again then.
    pub(super) fn lead(&self, term: Option<u64>) {
        let mut said = self.said();
        if said.term != term {
            // The count goes on, so that no version of one term is given twice.
            *said = Said { term, count: said.count, ..Said::default() };
        }
    }

    /// Whether this frontend leads.
    pub(super) fn leads(&self) -> bool {
        self.said().term.is_some()
    }

    /// The message about one key.
    pub(super) fn say(&self, key: String, share: RateLimits) -> RateLimit {
        let mut said = self.said();
        let (upload_bytes_per_second, download_bytes_per_second) = (share.upload, share.download);
        let same = |limit: &&RateLimit| {
            (limit.upload_bytes_per_second, limit.download_bytes_per_second) == (share.upload, share.download)
        };
        if let Some(known) = said.limits.get(&key).filter(same) {
            return known.clone();
        }
        let version = match said.term {
            None => 0,
            Some(term) => {
                said.count += 1;
                (term << COUNT_BITS) + said.count
            }
        };
        let limit = RateLimit { key: key.clone(), version, upload_bytes_per_second, download_bytes_per_second };
        said.limits.insert(key, limit.clone());
        limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_and_every_leader_overrules_what_was_before() {
        let rates = Rates::default();
        let share = |upload| RateLimits { upload, download: 0 };
        let say = |upload| rates.say("k".to_owned(), share(upload)).version;
        assert!(!rates.leads());
        assert_eq!((say(1), say(2)), (0, 0));
        rates.lead(Some(3));
        assert!(rates.leads());
        let first = say(1);
        assert!(first > 0 && say(1) == first);
        let second = say(2);
        assert!(second > first);
        rates.lead(Some(3));
        assert_eq!(say(2), second);
        rates.lead(Some(4));
        assert!(say(1) > second);
        rates.lead(None);
        assert_eq!(say(5), 0);
    }
}
