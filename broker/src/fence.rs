//! Requests of a leader that another has followed are refused: before they are served and, for a write, once more when its
//! last byte is here; then the object does not become visible.
//!
//! A frontend that was frozen in the middle of its work and wakes does not know yet that another leads. What backends send
//! is not marked: they refuse tasks of an older leader themselves, and work that they have begun for one is the very work
//! that the next one asks for. Nothing is durable: after a restart the first ping of the leader tells who it is.

use coffer_proto::v1::{LeaderMark, StorageSpec};
use coffer_stdx::{Error, Result};
use coffer_store::ByteStream;
use futures::{StreamExt, stream};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Clusters whose leaders are remembered; a broker serves a few.
const MAX_CLUSTERS: usize = 1_024;

/// The latest leader of each cluster that spoke here; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Fences {
    latest: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Fences {
    /// Refuse a leader that another has followed; remember a later one.
    pub fn check(&self, mark: &LeaderMark) -> Result<()> {
        // Nothing panics while it holds the lock.
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() >= MAX_CLUSTERS && !latest.contains_key(&mark.cluster_id) {
            latest.clear();
        }
        let known = latest.entry(mark.cluster_id.clone()).or_default();
        if mark.term < *known {
            return Err(Error::not_leader(format!(
                "term {} of cluster {} is over, a leader of term {known} was here",
                mark.term, mark.cluster_id
            )));
        }
        *known = mark.term;
        Ok(())
    }

    /// [`Fences::check`] of a request, if it speaks for a leader.
    pub fn admit(&self, spec: Option<&StorageSpec>) -> Result<()> {
        spec.and_then(|spec| spec.leader.as_ref()).map_or(Ok(()), |mark| self.check(mark))
    }

    /// A body whose end is an error when another leader has come meanwhile.
    pub fn guarded(&self, body: ByteStream, spec: Option<&StorageSpec>) -> ByteStream {
        let Some(mark) = spec.and_then(|spec| spec.leader.clone()) else { return body };
        let fences = self.clone();
        let last = stream::once(async move { fences.check(&mark) });
        body.chain(last.filter_map(|checked| async { checked.err().map(Err) })).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use coffer_stdx::ErrorKind;

    fn mark(cluster_id: &str, term: u64) -> LeaderMark {
        LeaderMark { cluster_id: cluster_id.to_owned(), term }
    }

    fn spec(term: u64) -> StorageSpec {
        StorageSpec { leader: Some(mark("c", term)), ..StorageSpec::default() }
    }

    #[test]
    fn an_earlier_leader_is_refused_and_clusters_do_not_meet() {
        let fences = Fences::default();
        for (cluster, term) in [("c", 5), ("c", 5), ("d", 1), ("c", 6)] {
            fences.check(&mark(cluster, term)).unwrap();
        }
        let refused = fences.clone().admit(Some(&spec(5))).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotLeader);
        assert_eq!(refused.message(), "term 5 of cluster c is over, a leader of term 6 was here");
        fences.admit(Some(&StorageSpec::default())).unwrap();
        fences.admit(None).unwrap();
    }

    #[test]
    fn only_so_many_clusters_are_remembered() {
        let fences = Fences::default();
        for n in 0..=MAX_CLUSTERS {
            fences.check(&mark(&n.to_string(), 9)).unwrap();
        }
        assert_eq!(fences.latest.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_write_that_was_overtaken_ends_in_an_error() {
        let fences = Fences::default();
        let body = || stream::iter([Ok(Bytes::from_static(b"x"))]).boxed();
        fences.admit(Some(&spec(3))).unwrap();
        let ended = |spec: StorageSpec| fences.guarded(body(), Some(&spec)).collect::<Vec<_>>();
        assert_eq!(ended(spec(3)).await.len(), 1);
        let overtaken = ended(spec(3));
        fences.check(&mark("c", 4)).unwrap();
        let overtaken = overtaken.await;
        assert!(overtaken.len() == 2 && overtaken[1].is_err());
        assert_eq!(ended(StorageSpec::default()).await.len(), 1);
    }
}
