//! What the processes say to each other, and who may: generated messages, ids, error kinds on the wire, channels, the secret
//! and the certificates of a cluster, and the doors of all ports.

pub mod authority;
pub mod channel;
pub mod door;
pub mod http;
pub mod ids;
pub mod options;
pub mod scan;
pub mod secret;
pub mod status;
pub mod tls;

/// The generated messages and services, one package.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("coffer.v1");
}
