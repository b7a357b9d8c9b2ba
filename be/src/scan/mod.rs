//! Scans: rows of tablets at given versions, over Arrow Flight.

pub mod read;
pub mod service;

pub use service::ScanService;
