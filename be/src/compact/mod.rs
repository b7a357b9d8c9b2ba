//! Compaction: many small rowsets become one, in the background.
//!
//! Small rowsets go first and rows are rewritten a few times at most (see [`policy`]). What comes out is what a read of the
//! same rowsets gives, in the same order (see `tablet::rows`), so replicas that were merged differently have the same rows.
//! At work at a time: `compaction_workers` tablets, one thread each, `compaction_mib_s` MiB per second of files read and
//! written by each, [`crate::limits::MERGE_BYTES`] of rows and a row group in memory.
//!
//! A crash leaves the rowsets as they were and a file that no meta names, or the merged rowset; see [`merge`].

mod merge;
pub(crate) mod policy;

use crate::config::Config;
use crate::limits::COMPACTION_LOOK_EVERY;
use crate::metrics::Metrics;
use crate::sync;
use crate::tablet::TabletStore;
use crate::task::blocking;
use coffer_stdx::Result;
use coffer_stdx::shutdown::Shutdown;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// What compaction needs from outside.
#[derive(Debug, Clone)]
pub struct Compaction {
    /// Tablets.
    pub store: Arc<TabletStore>,
    /// Configuration.
    pub config: Arc<Config>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Ends it.
    pub shutdown: Shutdown,
}

impl Compaction {
    /// Compact until the process stops.
    pub async fn run(self) {
        let mut looks = tokio::time::interval(COMPACTION_LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut queue, mut queued) = (VecDeque::new(), HashSet::new());
        let mut running: JoinSet<(u64, bool)> = JoinSet::new();
        loop {
            while running.len() < self.config.compaction_workers
                && let Some(tablet) = queue.pop_front()
            {
                let work = self.clone();
                running.spawn(async move { work.tablet(tablet).await });
            }
            let found: Vec<u64> = tokio::select! {
                () = self.shutdown.begun() => return,
                Some(ended) = running.join_next() => {
                    let Ok((tablet, well)) = ended else { continue };
                    queued.remove(&tablet);
                    // Versions may have come meanwhile.
                    if well && self.wants(tablet) { vec![tablet] } else { Vec::new() }
                }
                grown = self.store.wait_for_growth() => grown.into_iter().filter(|id| self.wants(*id)).collect(),
                _ = looks.tick() => {
                    self.forget_replaced().await;
                    let all = self.store.tablets().into_iter().map(|tablet| tablet.id());
                    all.filter(|id| self.wants(*id)).collect()
                }
            };
            queue.extend(found.into_iter().filter(|tablet| queued.insert(*tablet)));
        }
    }

    /// Whether a tablet has rowsets to merge.
    fn wants(&self, id: u64) -> bool {
        self.config.compaction_workers > 0
            && self.store.tablet(id).is_some_and(|tablet| policy::choose(&tablet.meta()).is_some())
    }

    /// Merge in one tablet as long as there is something to merge. Failures wait for the next look.
    async fn tablet(self, id: u64) -> (u64, bool) {
        let done = blocking(move || {
            while !self.shutdown.is_begun() && merge::once(&self, id)? {}
            Ok(())
        });
        let done = done.await;
        if let Err(error) = &done {
            tracing::warn!(tablet = id, %error, "compaction failed");
        }
        (id, done.is_ok())
    }

    /// Remove what was replaced long enough ago.
    async fn forget_replaced(&self) {
        let (store, keep) = (self.store.clone(), Duration::from_secs(self.config.replaced_keep_s.get()));
        let forget = move || -> Result<()> {
            for tablet in store.tablets().into_iter().filter(|tablet| tablet.has_replaced()) {
                let _nobody_replaces = sync::lock(store.publishing());
                if let Err(error) = tablet.forget_replaced(keep) {
                    tracing::warn!(tablet = tablet.id(), %error, "replaced rowsets stay");
                }
            }
            Ok(())
        };
        if let Err(error) = blocking(forget).await {
            tracing::warn!(%error, "replaced rowsets stay");
        }
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
