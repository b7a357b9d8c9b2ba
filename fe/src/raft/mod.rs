//! The replicated log below the state: openraft with its log and snapshots in files of ours. All that the rest of the
//! frontend sees of it is [`Meta`].

#[cfg(test)]
mod cluster_tests;
mod figures;
mod handle;
mod home;
mod image;
mod log;
mod machine;
mod network;
pub mod offline;
mod proposer;
#[cfg(test)]
mod simulation_tests;
mod snapshot;
#[cfg(test)]
mod tests;
mod types;

pub use figures::{Figures, SnapshotFigures};
pub use handle::{Leadership, Meta};
pub use types::NodeId;
