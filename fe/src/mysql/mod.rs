//! The MySQL protocol for operators and their tools: `coffer_mysql` speaks it, this folder ties it to [`crate::exec`].
//!
//! Modules, bottom to top: `errors`, `reply` | `session` | `server`.

pub mod errors;
mod reply;
mod server;
mod session;

pub use server::Server;
