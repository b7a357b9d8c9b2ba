//! What a server is told about itself and about the other end of a connection.

use crate::auth::Plugin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Limits and looks of a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The version clients are told; drivers choose their ways by its number.
    pub version: String,
    /// The plugin of the greeting; clients that prefer the other one are served as well.
    pub plugin: Plugin,
    /// The longest packet a client may send, in bytes; also what its prepared statements may hold together.
    pub max_packet: usize,
    /// How many statements a connection may have prepared.
    pub max_statements: usize,
    /// How long a client may take to log in.
    pub handshake_timeout: Duration,
    /// How long a client may say nothing.
    pub idle_timeout: Duration,
    /// How long a client may take none of the bytes sent to it.
    pub write_timeout: Duration,
    /// With it, clients that ask for TLS get it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether clients that do not ask for TLS are refused.
    pub tls_required: bool,
    /// When the server started, for its statistics.
    pub started: Instant,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            version: "8.0.33-Coffer".to_owned(),
            plugin: Plugin::Native,
            max_packet: 64 * 1024 * 1024,
            max_statements: 1024,
            // A login that names a database waits for a leader; it is to hear that there is none.
            handshake_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(8 * 3600),
            write_timeout: Duration::from_secs(600),
            tls: None,
            tls_required: false,
            started: Instant::now(),
        }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The number of the connection, unique while it lives.
    pub connection: u32,
    /// The address of the client, without its port.
    pub host: String,
}
