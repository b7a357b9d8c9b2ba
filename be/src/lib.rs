//! The backend: tablet files, loads, scans, snapshots and their transfer.
//!
//! Modules, bottom to top; each imports only from lines above it: `config limits sync metrics` | `tablet` | `task` |
//! `cluster` | `load scan compact` | `snapshot transfer repair` | `agent` | `http` | `node`.

pub mod agent;
pub mod cluster;
pub mod compact;
pub mod config;
pub mod http;
pub mod limits;
pub mod load;
pub mod metrics;
pub mod node;
pub mod repair;
pub mod scan;
pub mod snapshot;
mod sync;
pub mod tablet;
pub mod task;
pub mod transfer;
