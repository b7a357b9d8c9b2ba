//! The backend: tablet files, loads, scans, snapshots and their transfer.
//!
//! Modules, bottom to top; each imports only from lines above it: `config limits sync metrics` | `tablet` | `task` |
//! `load scan` | `snapshot transfer` | `agent` | `http` | `node`.

pub mod config;
pub mod limits;
mod sync;
pub mod tablet;
pub mod task;
