//! The replicated log below the state: openraft with its log and snapshots in files of ours. All that the rest of the
//! frontend sees of it is [`Meta`].
//!
//! Modules, bottom to top: `types`, `image`, `home`, `request` | `log`, `snapshot`, `machine`, `figures` | `canvass`,
//! `hearing`, `peers`, `leadership`, `proposer` | `network`, `core` | `barrier`, `election` | `handle` with `opening` |
//! `service`, `membership`, `offline`.

mod barrier;
mod canvass;
#[cfg(test)]
mod canvass_tests;
#[cfg(test)]
mod cluster_tests;
mod core;
mod election;
mod figures;
mod handle;
mod hearing;
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
