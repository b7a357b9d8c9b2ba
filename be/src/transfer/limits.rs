//! Every bound of a transfer.
//!
//! Memory of a pack on its way out: `(coffer_repo::body::READ_AHEAD + 2) * CHUNK_BYTES` = 3 MiB, plus what the wire
//! buffers; of a fetch: [`FETCH_QUEUE`] chunks of the store. Both are counted by [`PACK_SLOTS`], whatever the number of
//! tasks and jobs.

use tokio::sync::Semaphore;

/// Packs of one task under way at once.
pub(super) const PACKS_PER_TASK: usize = 4;
/// Packs and fetches of all tasks under way at once.
pub(super) static PACK_SLOTS: Semaphore = Semaphore::const_new(8);
/// Bytes of a pack that may have been read and not be stored: read ahead, and the window of a stream to a broker.
pub(super) const ON_THE_WAY_BYTES: u64 =
    ((coffer_repo::body::READ_AHEAD + 2) * coffer_repo::body::CHUNK_BYTES + (8 << 20)) as u64;
/// Files planned together: bounds the memory of a plan, whatever the size of a task.
pub(super) const FILES_PER_BATCH: usize = 16_384;
/// Bytes downloaded before they are synced and kept for good.
pub(super) const BYTES_PER_BATCH: u64 = 8 << 30;
/// Chunks between the network and the disk, per fetch.
pub(super) const FETCH_QUEUE: usize = 4;
/// Bytes of a downloaded file after which the disk begins with them, so that little is left for the sync at the end.
pub(super) const WRITE_BACK_BYTES: u64 = 4 << 20;
/// The same at the end of a file; smaller ones are left to the sync, which orders them better.
pub(super) const WRITE_BACK_TAIL_BYTES: u64 = 256 << 10;
/// Kept free on a disk beyond what a restore needs.
pub(super) const SPARE_BYTES: u64 = 64 << 20;
