//! Tools that know nothing about Coffer's tables or backups: the error kinds every process shares, durable file
//! operations, retry, shutdown, telemetry and values that never print.
//!
//! Nothing here imports anything of ours.

pub mod config;
pub mod error;
pub mod fsx;
pub mod notify;
pub mod options;
pub mod retry;
pub mod secret;
mod shared_sync;
pub mod shutdown;
pub mod telemetry;
pub mod testing;
pub mod time;

pub use error::{Error, ErrorKind, Result};
