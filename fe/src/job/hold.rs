//! Holds jobs at a state for rehearsals: while a file named after the state (`UPLOADING`) lies in the directory of the option
//! `job_hold_dir`, a driver does nothing for jobs in that state; with `UPLOADING.begun` it begins the tasks of the state and
//! then takes no notice of them. So one can see what becomes of a job whose leader is lost just there.

use crate::meta::state::State;
use coffer_proto::ids::JobId;
use std::path::Path;
use std::time::Duration;

/// Between looks at the file.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Hold before anything of the state is done.
pub(super) const BEFORE: &str = "";
/// Hold when the tasks of the state have begun.
pub(super) const BEGUN: &str = ".begun";

/// Wait while the job's state is held.
pub(super) async fn wait(dir: &Path, when: &str, state: impl Fn() -> Option<&'static str>) {
    while !dir.as_os_str().is_empty()
        && let Some(name) = state()
        && tokio::fs::try_exists(dir.join(format!("{name}{when}"))).await.unwrap_or(false)
    {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The name of the state of a job, as SHOW shows it.
pub(super) fn name_of(state: &State, job: JobId) -> Option<&'static str> {
    let backup = state.backups.get(&job).map(|job| job.state.name());
    backup.or_else(|| state.restores.get(&job).map(|job| job.state.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_holds_its_state_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("UPLOADING"), "").unwrap();
        wait(Path::new(""), BEFORE, || Some("UPLOADING")).await;
        wait(dir.path(), BEFORE, || Some("PENDING")).await;
        wait(dir.path(), BEGUN, || Some("UPLOADING")).await;
        wait(dir.path(), BEFORE, || None).await;
        let held = tokio::time::timeout(LOOK_EVERY, wait(dir.path(), BEFORE, || Some("UPLOADING"))).await;
        assert!(held.is_err());
        std::fs::remove_file(dir.path().join("UPLOADING")).unwrap();
        wait(dir.path(), BEFORE, || Some("UPLOADING")).await;
    }
}
