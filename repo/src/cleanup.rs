//! Removing what a failed or cancelled backup job left.
//!
//! The info goes first, so that a crash in the middle never leaves a snapshot that looks complete; then packs; then the
//! parts and the meta. Repeating it is harmless. Objects of other jobs are never touched: packs lie in a folder of the
//! job's own, and what a foreign info under the same label and second names stays.

use crate::layout::{ObjectKind, PackPrefix, SnapshotId};
use crate::repository::Repository;
use coffer_stdx::Result;
use coffer_stdx::error::Context;
use std::collections::HashSet;

impl Repository {
    /// Remove everything of one job: its info if it got that far, all its packs (also those of backends that died before
    /// they could report them), manifest parts and meta. No task of the job may be running any more; what one writes
    /// later stays until the repository is swept.
    pub async fn delete_leftovers(&self, snapshot: &SnapshotId, packs: &PackPrefix) -> Result<()> {
        let folder = self.folder(snapshot.label()).await?;
        let mut kept = HashSet::new();
        for (object, _) in &folder {
            if object.kind != ObjectKind::Info || object.timestamp != snapshot.timestamp() {
                continue;
            }
            let info = self.read_info_object(snapshot, object).await?;
            if info.belongs_to(packs) {
                self.delete_object(snapshot, &object.name()).await?;
            } else {
                kept.extend(info.manifests.into_iter().map(|part| part.name));
                kept.extend([info.meta.name, object.name()]);
            }
        }
        let path = self.layout.job_packs(packs);
        self.store.delete(&path, true).await.context(|| format!("delete packs below '{path}'"))?;
        for (object, _) in folder {
            let name = object.name();
            let kind = matches!(object.kind, ObjectKind::Manifest(_) | ObjectKind::Meta);
            let ours = object.timestamp == snapshot.timestamp() && kind;
            if ours && !kept.contains(&name) {
                self.delete_object(snapshot, &name).await?;
            }
        }
        Ok(())
    }

    async fn delete_object(&self, snapshot: &SnapshotId, name: &str) -> Result<()> {
        let path = self.layout.snapshot_object(snapshot.label(), name);
        self.store.delete(&path, false).await.context(|| format!("delete '{path}'"))
    }
}
