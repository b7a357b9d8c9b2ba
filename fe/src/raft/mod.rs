//! The replicated log below the state: openraft with its log and snapshots in files of ours. All that the rest of the
//! frontend sees of it is [`Meta`].
//!
//! Modules, bottom to top: `types`, `image`, `home`, `request` | `log`, `snapshot`, `machine`, `figures` | `peers`,
//! `leadership`, `proposer` | `network`, `core` | `barrier` | `handle` with `opening` | `service`, `membership`, `offline`.

mod barrier;
#[cfg(test)]
mod cluster_tests;
mod core;
mod figures;
mod handle;
mod home;
mod image;
mod leadership;
mod log;
mod machine;
pub mod membership;
mod network;
pub mod offline;
mod opening;
mod peers;
mod proposer;
mod request;
pub mod service;
#[cfg(test)]
mod simulation_tests;
mod snapshot;
#[cfg(test)]
mod tests;
mod types;

pub use figures::{Figures, SnapshotFigures};
pub use handle::{Leader, Meta};
pub use home::FIRST_NODE;
pub use leadership::Leadership;
pub use opening::Opening;
pub use peers::Peers;
pub use request::Request;
pub use types::NodeId;
