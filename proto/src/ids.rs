//! Ids, one type per noun, so that a tablet is never taken for a table. All are unique within a cluster.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
            #[serde(transparent)]
            pub struct $name(pub u64);

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }

            impl FromStr for $name {
                type Err = std::num::ParseIntError;

                fn from_str(text: &str) -> Result<Self, Self::Err> {
                    text.parse().map($name)
                }
            }
        )*
    };
}

ids! {
    /// A database.
    DbId,
    /// A table.
    TableId,
    /// A partition.
    PartitionId,
    /// A tablet: one hash bucket of a partition.
    TabletId,
    /// A backend.
    BackendId,
    /// A repository.
    RepositoryId,
    /// A backup or restore job.
    JobId,
    /// A load transaction.
    TransactionId,
}
