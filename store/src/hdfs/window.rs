//! How much of a body may be on its way to the DataNodes: hdfs-native holds every packet until it is acknowledged, up to
//! thirteen MiB a file, and does not say how many it holds. So each piece is handed over with a part of the window
//! attached to its memory, which comes back when the last reference to that memory goes.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one file that are not acknowledged yet.
pub(super) const WINDOW_BYTES: usize = 3 << 20;
/// Bytes handed over at once.
pub(super) const PIECE_BYTES: usize = 256 << 10;
/// A piece that is sent although the window is full: one packet of HDFS.
pub(super) const PROBE_BYTES: usize = 64 << 10;
/// How long to wait for acknowledgements before a probe is sent; doubles.
const FIRST_PROBE: Duration = Duration::from_millis(250);

/// The window of one file.
#[derive(Debug)]
pub(super) struct Window {
    free: Arc<Semaphore>,
}

/// A piece that was let through.
pub(super) enum Passed {
    /// It fits.
    Piece(Bytes),
    /// The window is full: send this much anyway. hdfs-native notices that a DataNode is gone only when it is given
    /// something to send, so that waiting alone might never end.
    Probe(Bytes),
}

/// Bytes that give back their part of the window.
struct Tracked {
    bytes: Bytes,
    _part: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Tracked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Window {
    pub(super) fn new() -> Window {
        Window { free: Arc::new(Semaphore::new(WINDOW_BYTES)) }
    }

    /// Take the next piece off `rest`, when there is room for it, or a probe after `probes` of them found none.
    pub(super) async fn pass(&self, rest: &mut Bytes, probes: u32) -> Passed {
        let size = rest.len().min(PIECE_BYTES);
        let free = Arc::clone(&self.free).acquire_many_owned(size as u32);
        match tokio::time::timeout(FIRST_PROBE * (1 << probes.min(8)), free).await {
            // The semaphore is never closed.
            Ok(part) => Passed::Piece(Bytes::from_owner(Tracked { bytes: rest.split_to(size), _part: part.ok() })),
            Err(_) => Passed::Probe(rest.split_to(size.min(PROBE_BYTES))),
        }
    }

    /// Whether everything was acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.free.available_permits() == WINDOW_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_window_fills_probes_and_empties() {
        let window = Window::new();
        let mut rest = Bytes::from(vec![7; WINDOW_BYTES + 3 * PROBE_BYTES]);
        let mut held = Vec::new();
        while rest.len() > 3 * PROBE_BYTES {
            let Passed::Piece(piece) = window.pass(&mut rest, 0).await else { panic!("there is room") };
            assert!(piece.iter().all(|byte| *byte == 7));
            held.push(piece);
        }
        assert!(!window.is_empty());
        let Passed::Probe(probe) = window.pass(&mut rest, 0).await else { panic!("there is no room") };
        assert_eq!(probe.len(), PROBE_BYTES);
        // A part of a piece still counts as the whole.
        let part = held.remove(0).slice(10..20);
        held.clear();
        assert!(!window.is_empty());
        drop(part);
        assert!(window.is_empty());
        assert!(matches!(window.pass(&mut rest, 0).await, Passed::Piece(piece) if piece.len() == 2 * PROBE_BYTES));
    }
}
