//! Before a restore downloads: is there room, and can the directories be made.

use crate::tablet::TabletStore;
use crate::task::context::TaskContext;
use crate::transfer::blocking;
use crate::transfer::limits::SPARE_BYTES;
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_stdx::{Error, Result, fsx};
use std::sync::Arc;

/// Run the task.
pub async fn run(ctx: &TaskContext, work: v1::PrepareRestore) -> Result<Output> {
    ctx.check()?;
    let store = Arc::clone(&ctx.store);
    blocking("prepare restore", move || prepare(&store, &work)).await?;
    Ok(Output::Tablets(v1::TabletsDone::default()))
}

fn prepare(store: &TabletStore, work: &v1::PrepareRestore) -> Result<()> {
    let usable: Vec<_> = store.disks().iter().filter(|disk| disk.usable()).collect();
    if usable.is_empty() {
        return Err(Error::unavailable("no data directory of this backend works"));
    }
    let have: Vec<(String, u64)> = usable
        .iter()
        .map(|disk| (disk.root().display().to_string(), disk.space().1.saturating_sub(SPARE_BYTES)))
        .collect();
    check_room(work, &have)?;
    usable.iter().try_for_each(|disk| fsx::create_dir(&disk.layout().restore_job(work.job_id)))
}

fn check_room(work: &v1::PrepareRestore, have: &[(String, u64)]) -> Result<()> {
    let total: u64 = have.iter().map(|(_, bytes)| bytes).sum();
    if work.bytes <= total {
        return Ok(());
    }
    let dirs: Vec<String> = have.iter().map(|(dir, bytes)| format!("{dir} has {bytes}")).collect();
    Err(Error::no_space(format!(
        "restore job {} needs {} bytes for {} tablets on this backend, but {} ({} bytes are kept free): free or add space",
        work.job_id,
        work.bytes,
        work.tablets,
        dirs.join(", "),
        SPARE_BYTES
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    #[test]
    fn missing_room_is_said_with_names_and_numbers() {
        let work = v1::PrepareRestore { job_id: 7, bytes: 101, tablets: 3 };
        let have = [("/d1".to_owned(), 60), ("/d2".to_owned(), 40)];
        let error = check_room(&work, &have).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        for part in ["job 7", "101 bytes", "/d1 has 60", "/d2 has 40"] {
            assert!(error.message().contains(part), "{error}");
        }
        check_room(&v1::PrepareRestore { bytes: 100, ..work }, &have).unwrap();
    }
}
