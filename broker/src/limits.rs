//! Every bound of a broker that is not an option.

use std::time::Duration;

/// What one reading stream holds: two pieces read ahead, one message, and what the connection has not sent yet.
pub const READ_STREAM_BYTES: u64 = 2 << 20;
/// What one writing stream holds: a piece being gathered, one being written, and one message.
pub const WRITE_STREAM_BYTES: u64 = 4 << 20;
/// What a writing stream takes at least, however short its object is said to be.
pub const SMALLEST_WRITE_BYTES: u64 = 64 << 10;
/// Stores kept open.
pub const OPEN_STORES: usize = 256;
/// How often stores are looked at for idleness.
pub const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// A writing peer that sends nothing for so long is taken for gone.
pub const SILENCE: Duration = Duration::from_secs(300);

/// How a memory budget is divided. Reads and writes have shares of their own, so that a peer that copies from one to
/// the other cannot end up waiting for itself; S3 uploads hold whole parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// For reading streams.
    pub reads: u64,
    /// For writing streams.
    pub writes: u64,
    /// For parts of uploads.
    pub parts: u64,
}

impl Shares {
    /// The shares of a budget of `mib`.
    pub fn of(mib: u64) -> Shares {
        let total = mib << 20;
        Shares { reads: total / 4, writes: total / 4, parts: total / 2 }
    }
}
