//! Reads all files now and then, slowly, and compares them with the BLAKE3 they were written with: a disk may change bytes
//! that no query reads for months. A tablet with such a file is bad from then on, is told to the leader with the next
//! report, and repaired from another replica.

use crate::config::Config;
use crate::tablet::TabletStore;
use crate::task::blocking;
use coffer_stdx::shutdown::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// From the start of the process to the first check, when the time between checks is longer.
const FIRST_AFTER: Duration = Duration::from_secs(3_600);

/// Between looks at the options.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Check everything, again and again, until the process stops.
pub async fn run(store: Arc<TabletStore>, config: Arc<Config>, shutdown: Shutdown) {
    // How often depends on options that may change meanwhile.
    let every = || Duration::from_secs(config.scrub_every_s.get().max(1));
    let (mut last, mut first) = (Instant::now(), true);
    loop {
        let due = last + if first { every().min(FIRST_AFTER) } else { every() };
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep_until(due.min(Instant::now() + LOOK_EVERY)) => {}
        }
        if Instant::now() < due || config.scrub_mib_s.get() == 0 {
            continue;
        }
        (last, first) = (Instant::now(), false);
        tokio::select! {
            () = shutdown.begun() => return,
            found = all(&store, &config) => {
                tracing::info!(bad = found, seconds = last.elapsed().as_secs(), "all files were checked");
            }
        }
    }
}

/// Check every tablet once, as fast as the option says; returns how many turned out bad.
async fn all(store: &Arc<TabletStore>, config: &Config) -> usize {
    let mut bad = 0;
    for tablet in store.tablets() {
        for file in tablet.meta().files() {
            let (store, checked, name) = (store.clone(), tablet.clone(), file.clone());
            let outcome = blocking(move || Ok(store.check_file(&checked, &name))).await;
            bad += usize::from(matches!(outcome, Ok(Err(_))));
            // Sleeping for the time that the bytes may take keeps the disk free for others, however large the files.
            let bytes_s = (config.scrub_mib_s.get() << 20).max(1 << 20);
            tokio::time::sleep(Duration::from_secs_f64(file.bytes as f64 / bytes_s as f64)).await;
        }
    }
    bad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::testing::{batch, schema};
    use crate::tablet::{LoadWriter, Publish, PublishTablet, rowset};
    use coffer_stdx::options::Live;

    #[tokio::test]
    async fn a_changed_byte_is_found_without_a_query() {
        let dir = tempfile::tempdir().unwrap();
        let store = TabletStore::open(&[dir.path().to_owned()]).unwrap();
        let mut writer = LoadWriter::begin(&store, 100).unwrap();
        let ids = [7, 8];
        for tablet in ids {
            let dir = writer.dir(tablet).unwrap();
            writer.add(tablet, rowset::write_file(&dir, &schema(), &[batch(&[1, 2])]).unwrap());
        }
        writer.finish().unwrap();
        let tablet = |tablet_id| PublishTablet { tablet_id, partition_id: 2, version: 2, rows_expected: true };
        let tablets = ids.map(tablet).to_vec();
        let publish = Publish { transaction_id: 100, table_id: 1, schema: schema(), delete: None, tablets };
        assert!(store.publish(&publish).is_empty());
        let fast = Config { scrub_mib_s: Live::new(1 << 20), ..Config::default() };
        assert_eq!(all(&store, &fast).await, 0);
        let tablet = store.tablet(7).unwrap();
        let path = tablet.file_path(&tablet.meta().files().next().unwrap().name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[10] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(all(&store, &fast).await, 1);
        assert_eq!((store.count(), store.bad_tablets()[0].0), (1, 7));
    }
}
