//! How often this machine makes a small write durable: the measure that a log is held against.

use coffer_stdx::error::Context;
use coffer_stdx::{Result, fsx};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of each write, about those of one change of the catalog.
const WRITE_BYTES: usize = 512;
/// Bytes that exist before the first write, so that only data is synced.
const FILE_BYTES: u64 = 8 << 20;

/// Writes and syncs one after the other for so long, in this directory; how many there were per second.
pub(crate) async fn per_second(dir: &Path, lasts: Duration) -> Result<f64> {
    let path = dir.join("fsync.bench");
    let measured = tokio::task::spawn_blocking(move || {
        let rate = measure(&path, lasts);
        fsx::remove(&path)?;
        rate
    });
    measured.await.map_err(|error| coffer_stdx::Error::bug(format!("the fsync measurement died: {error}")))?
}

fn measure(path: &Path, lasts: Duration) -> Result<f64> {
    let failed = || format!("measure fsync on {}", path.display());
    let file = File::create(path).context(failed)?;
    file.write_all_at(&vec![0; FILE_BYTES as usize], 0).context(failed)?;
    file.sync_all().context(failed)?;
    let bytes = [0xC0; WRITE_BYTES];
    let begun = Instant::now();
    let mut writes = 0_u64;
    while begun.elapsed() < lasts {
        let offset = (writes * WRITE_BYTES as u64) % (FILE_BYTES - WRITE_BYTES as u64);
        file.write_all_at(&bytes, offset).and_then(|()| file.sync_data()).context(failed)?;
        writes += 1;
    }
    Ok(writes as f64 / begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_measures_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(per_second(dir.path(), Duration::from_millis(20)).await.unwrap() > 0.0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
