//! DELETE: a version without rows, under which older rows that match are gone.
//!
//! A transaction as of a load that writes nothing: one entry commits it with its conditions and gives each partition its
//! next version; backends are told with the publish, and it is visible when a majority has it. A crash before that entry
//! leaves a transaction that its deadline aborts; after it the rows go, whatever fails.

use super::{Begin, Loads};
use crate::catalog::table::FIRST_VERSION;
use crate::meta::command::Command;
use coffer_proto::ids::{PartitionId, TransactionId};
use coffer_stdx::time::now_ms;
use coffer_stdx::{ErrorKind, Result};
use coffer_table::Predicate;

impl Loads {
    /// Delete from these partitions; those that never took a row are left out. The transaction, and whether it is visible
    /// already.
    pub async fn delete(
        &self,
        begin: &Begin,
        partitions: &[PartitionId],
        predicate: Predicate,
    ) -> Result<(TransactionId, bool)> {
        let plan = self.begin(begin).await?;
        let (id, table) = (TransactionId(plan.transaction_id), plan.table_id);
        let touched = self.shared.meta.view(|state| {
            let tables = state.databases.values().flat_map(|database| database.tables.values());
            let found = tables.filter(|known| known.id.0 == table).flat_map(|known| known.partitions.values());
            let used = found.filter(|partition| partition.committed_version > FIRST_VERSION);
            used.map(|partition| partition.id).filter(|id| partitions.contains(id)).collect::<Vec<_>>()
        });
        let command = Command::CommitDelete { transaction: id, partitions: touched, predicate, now_ms: now_ms() };
        match self.shared.meta.propose(command).await {
            Ok(_) => Ok((id, self.visible(id).await?)),
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::NotLeader) => Err(error),
            Err(error) => {
                // Committed or aborted before: abort refuses the one and repeats the other; the first error counts.
                let _ = self.abort(id, error.message()).await;
                Err(error)
            }
        }
    }
}
