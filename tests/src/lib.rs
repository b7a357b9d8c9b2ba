//! The cluster harness: real processes, free ports, temporary directories, and nothing left behind.
//!
//! A test reads as a short story: start a [`Cluster`], speak SQL to it through [`Sql`], load files with
//! [`http::StreamLoad`], hurt a [`Node`], and wait for what must come with [`eventually`]. The binaries are those of
//! `COFFER_BIN_DIR`, else the ones cargo built beside the running test (`cargo build --workspace --bins` first;
//! `tests/run` does).

pub mod cluster;
pub mod data;
pub mod http;
pub mod mysql;
pub mod node;
pub mod ports;
pub mod s3;
pub mod wait;

pub use cluster::Cluster;
pub use mysql::Sql;
pub use node::Node;
pub use wait::eventually;

/// The directory of a test's crate, for scripts and data. Cargo is asked at run time: a cached test may run in another
/// checkout than it was built in.
pub fn crate_dir() -> std::path::PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), Into::into)
}

/// What a test returns.
pub type Outcome = anyhow::Result<()>;
