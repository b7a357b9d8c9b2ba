//! What the processes say to each other: generated messages, ids, and error kinds on the wire.

pub mod channel;
pub mod ids;
pub mod scan;
pub mod status;

/// The generated messages and services, one package.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("coffer.v1");
}
