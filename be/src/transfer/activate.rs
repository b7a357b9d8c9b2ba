//! Put downloaded tablets in force: move them to their place and register them.
//!
//! A crash in the middle leaves some moved (the next start finds them among the tablets) and some not; the repeated task
//! does the rest.

use crate::limits::REPORT_TABLETS;
use crate::snapshot::find_in;
use crate::tablet::{Disk, TabletStore};
use crate::task::context::TaskContext;
use crate::task::stat;
use crate::transfer::blocking;
use coffer_proto::status::to_wire;
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_stdx::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Run the task.
pub async fn run(ctx: &TaskContext, work: v1::ActivateTablets) -> Result<Output> {
    ctx.check()?;
    let store = Arc::clone(&ctx.store);
    let done = blocking("activate tablets", move || {
        let failures = activate(&store, &work)?;
        let active = work.tablet_ids.iter().filter_map(|tablet| store.tablet(*tablet));
        let stats = active.take(REPORT_TABLETS).map(|tablet| stat(&tablet)).collect();
        Ok(v1::TabletsDone { failures, stats })
    });
    Ok(Output::Tablets(done.await?))
}

fn activate(store: &TabletStore, work: &v1::ActivateTablets) -> Result<Vec<v1::TabletFailure>> {
    let mut failures = Vec::new();
    let mut dirs: BTreeMap<PathBuf, (Arc<Disk>, Vec<PathBuf>)> = BTreeMap::new();
    for &tablet in &work.tablet_ids {
        match find_in(store, |layout| layout.restore_tablet(work.job_id, tablet)) {
            Ok(Some((disk, dir))) => {
                dirs.entry(disk.root().to_owned()).or_insert_with(|| (disk, Vec::new())).1.push(dir);
            }
            Ok(None) if store.tablet(tablet).is_some() => {}
            Ok(None) => {
                let text =
                    format!("restore job {} has no tablet {tablet} on this backend: download it again", work.job_id);
                let error = Some(to_wire(&Error::not_found(text)));
                failures.push(v1::TabletFailure { tablet_id: tablet, error });
            }
            Err(error) => failures.push(v1::TabletFailure { tablet_id: tablet, error: Some(to_wire(&error)) }),
        }
    }
    for (disk, dirs) in dirs.values() {
        store.adopt(disk, dirs)?;
    }
    Ok(failures)
}
