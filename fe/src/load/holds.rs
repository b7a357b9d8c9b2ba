//! Tables whose loads wait a moment before they begin: their last copies are being made.
//!
//! In memory of the leader only. A leader that goes takes its holds along, and a load that began beside one only makes the
//! exchange of replicas wait (`meta::apply::drain`).

use coffer_proto::ids::TableId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a load waits at most; then it begins anyway.
const WAIT_AT_MOST: Duration = Duration::from_secs(15);

/// The tables held now.
#[derive(Debug, Clone)]
pub(super) struct Holds {
    patience: Duration,
    held: Arc<watch::Sender<BTreeMap<TableId, u32>>>,
}

/// Holds tables until it is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    holds: Holds,
    tables: Vec<TableId>,
}

impl Default for Holds {
    fn default() -> Holds {
        Holds { patience: WAIT_AT_MOST, held: Arc::default() }
    }
}

impl Holds {
    /// Let no load into these tables begin.
    pub(super) fn hold(&self, tables: Vec<TableId>) -> Hold {
        self.held.send_modify(|held| tables.iter().for_each(|table| *held.entry(*table).or_default() += 1));
        Hold { holds: self.clone(), tables }
    }

    /// Whether any table is held.
    #[cfg(test)]
    pub(super) fn holds_any(&self) -> bool {
        !self.held.borrow().is_empty()
    }

    /// Wait until a table is not held.
    pub(super) async fn wait(&self, table: TableId) {
        let mut held = self.held.subscribe();
        let free = held.wait_for(|held| !held.contains_key(&table));
        if tokio::time::timeout(self.patience, free).await.is_err() {
            tracing::warn!(%table, "a load begins although the table is held");
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.held.send_modify(|held| {
            for table in &self.tables {
                let left = held.get(table).map_or(0, |count| count.saturating_sub(1));
                if left == 0 {
                    held.remove(table);
                } else {
                    held.insert(*table, left);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_held_table_waits_for_the_last_hold_but_not_for_ever() {
        let (mut holds, table) = (Holds::default(), TableId(1));
        holds.wait(table).await;
        let (first, second) = (holds.hold(vec![table]), holds.hold(vec![table, TableId(2)]));
        drop(first);
        let waits = tokio::spawn({
            let holds = holds.clone();
            async move { holds.wait(table).await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(second);
        waits.await.unwrap();
        assert!(!holds.holds_any());
        let _kept = holds.hold(vec![table]);
        holds.patience = Duration::from_millis(1);
        holds.wait(table).await;
        assert!(holds.holds_any(), "it went on although the table is held");
    }
}
