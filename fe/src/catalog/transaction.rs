//! Load transactions and labels.

use coffer_proto::ids::{DbId, PartitionId, TableId, TabletId, TransactionId};
use coffer_table::Predicate;
use serde::{Deserialize, Serialize};

/// One load. A label loads once: it is free again only when its transaction was aborted or has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Id.
    pub id: TransactionId,
    /// Unique in the database among transactions that are not aborted.
    pub label: String,
    /// Database.
    pub db: DbId,
    /// Table.
    pub table: TableId,
    /// When begun, milliseconds.
    pub begun_ms: u64,
    /// Until when it must commit, milliseconds; the leader aborts it later.
    pub deadline_ms: u64,
    /// Where it stands.
    pub state: TransactionState,
    /// Place in the order of commits, from [`State::next_id`](crate::meta::state::State::next_id); 0 before the commit.
    /// Transactions of one table are published in this order.
    #[serde(default)]
    pub sequence: u64,
    /// When it was precommitted, milliseconds; 0: it was not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub precommitted_ms: u64,
    /// Tablets that got rows: publishing one where the rows are not must fail, not advance. Kept as long as the
    /// transaction, so that a replica that lost its disk is never made up of empty versions.
    #[serde(default)]
    pub tablets: Vec<TabletId>,
    /// A DELETE: which rows of older versions go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<Predicate>,
}

fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

/// PREPARED (-> PRECOMMITTED) -> COMMITTED -> VISIBLE, or PREPARED (-> PRECOMMITTED) -> ABORTED.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionState {
    /// Rows are being written.
    Prepared,
    /// The rows are where a commit needs them, and the client is to say commit or abort.
    Precommitted {
        /// The partitions that got rows.
        partitions: Vec<PartitionId>,
        /// Rows loaded.
        rows: u64,
    },
    /// Decided: a majority of replicas of every tablet has the rows; backends are told to publish.
    Committed {
        /// The version each touched partition gets.
        versions: Vec<(PartitionId, u64)>,
        /// Rows loaded.
        rows: u64,
        /// When, milliseconds.
        at_ms: u64,
    },
    /// A majority of replicas of every tablet has published.
    Visible {
        /// As committed; lagging backends are still told to publish these.
        versions: Vec<(PartitionId, u64)>,
        /// Rows loaded.
        rows: u64,
        /// When, milliseconds.
        at_ms: u64,
    },
    /// Given up; staged rows are discarded.
    Aborted {
        /// Why.
        reason: String,
        /// When, milliseconds.
        at_ms: u64,
    },
}

impl TransactionState {
    /// The name operators know.
    pub fn name(&self) -> &'static str {
        match self {
            TransactionState::Prepared => "PREPARE",
            TransactionState::Precommitted { .. } => "PRECOMMITTED",
            TransactionState::Committed { .. } => "COMMITTED",
            TransactionState::Visible { .. } => "VISIBLE",
            TransactionState::Aborted { .. } => "ABORTED",
        }
    }

    /// Whether its rows may still be on their way, or be given up.
    pub fn is_open(&self) -> bool {
        matches!(self, TransactionState::Prepared | TransactionState::Precommitted { .. })
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self, TransactionState::Visible { .. } | TransactionState::Aborted { .. })
    }
}
