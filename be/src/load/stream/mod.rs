//! Stream load: one file over HTTP into one table.
//!
//! Bottom to top: [`unpack`], [`csv`], [`text`], [`json`], [`columnar`] with [`options`] (headers) and [`words`], bytes to batches, pure | [`frontend`],
//! [`intake`], [`reply`] | [`run`] (one load) | [`http`].

pub mod columnar;
pub mod csv;
pub mod frontend;
pub mod http;
pub mod intake;
pub mod json;
pub mod options;
pub mod reply;
pub mod run;
pub mod text;
pub mod unpack;
pub mod words;

use crate::config::Config;
use crate::load::LoadDeps;
use crate::load::rejects::ErrorLogs;
use coffer_stdx::shutdown::Shutdown;
use std::sync::Arc;

/// What stream loads need from outside.
#[derive(Debug, Clone)]
pub struct StreamDeps {
    /// What every load needs.
    pub load: LoadDeps,
    /// Reasons of filtered rows.
    pub error_logs: ErrorLogs,
    /// Says how large a body may be.
    pub config: Arc<Config>,
    /// Waits for running loads.
    pub shutdown: Shutdown,
}
