//! Removing a complete snapshot.
//!
//! 1. A note, `__drop_`, says which packs the snapshot's job wrote. 2. The info goes: from here on there is no snapshot.
//! 3. Packs go that nothing else refers to. 4. Manifest parts, meta, and last the note.
//!
//! A crash leaves a note with whatever is left, and dropping the snapshot again goes on from there: what is shared is
//! found again, as the parts are removed after the packs. Nothing of another snapshot is ever removed: packs that another
//! info or its manifests name stay, and when another snapshot cannot be read, nothing is removed at all.

use crate::FORMAT_VERSION;
use crate::checksum::Checksum;
use crate::info::{SnapshotInfo, parse_json, to_json};
use crate::layout::{ObjectKind, PackId, PackPrefix, SnapshotId, SnapshotObject};
use crate::repository::Repository;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_store::{PutOptions, from_bytes, read_all};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What an unfinished job left may be dropped after so long: no job runs that long.
const ABANDONED_MS: u64 = 7 * 86_400_000;
/// Largest note.
const MAX_NOTE_BYTES: u64 = 1 << 20;
/// Reads of other snapshots, and deletes, at a time.
const PARALLEL: usize = 16;

/// What a removal did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Packs that stay because other snapshots refer to them.
    pub shared_packs: usize,
}

/// `__drop_`: what must be known to go on after a crash.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    format: u32,
    label: String,
    timestamp: String,
    /// Of the jobs that wrote the snapshot; one, unless two clusters were at it.
    pack_prefixes: Vec<String>,
}

/// What is to be removed.
#[derive(Debug, Default)]
struct Plan {
    /// Objects in the folder of the label, the note apart.
    infos: Vec<SnapshotObject>,
    others: Vec<SnapshotObject>,
    note: Option<SnapshotObject>,
    /// Jobs whose packs all belong to the snapshot.
    own: BTreeSet<PackPrefix>,
    /// Packs of other jobs that it names.
    foreign: BTreeSet<PackId>,
    /// Packs that stay.
    shared: BTreeSet<PackId>,
}

impl Repository {
    /// Remove a snapshot with everything that only it refers to. `in_use` is asked once the info is gone; when it
    /// refuses, the info is put back and nothing is lost. Repeating it after a failure goes on.
    pub async fn remove_snapshot(
        &self,
        snapshot: &SnapshotId,
        now_ms: u64,
        in_use: &(dyn Fn() -> Result<()> + Send + Sync),
    ) -> Result<Removed> {
        let mut plan = self.plan_removal(snapshot, now_ms).await?;
        self.find_shared(snapshot, &mut plan).await?;
        let note = self.write_note(snapshot, &plan).await?;
        self.remove_infos(snapshot, &plan, &note, in_use).await?;
        self.remove_packs(&plan).await?;
        let parts = plan.others.iter().map(|object| self.layout.snapshot_object(snapshot.label(), &object.name()));
        self.delete_all(parts.collect()).await?;
        self.delete_all(vec![self.layout.snapshot_object(snapshot.label(), &note.name())]).await?;
        Ok(Removed { shared_packs: plan.shared.len() })
    }

    async fn plan_removal(&self, snapshot: &SnapshotId, now_ms: u64) -> Result<Plan> {
        let mut plan = Plan::default();
        for (object, _) in self.folder(snapshot.label()).await? {
            if object.timestamp != snapshot.timestamp() {
                continue;
            }
            match object.kind {
                ObjectKind::Info => plan.infos.push(object),
                ObjectKind::Drop => plan.note = Some(object),
                ObjectKind::Manifest(_) | ObjectKind::Meta => plan.others.push(object),
            }
        }
        check_droppable(snapshot, &plan, now_ms)?;
        for object in &plan.infos {
            match self.read_info_object(snapshot, object).await {
                Ok(info) => drop(plan.own.insert(info.pack_prefix.parse()?)),
                // A damaged info cannot be restored, but it can be dropped: its parts say which packs it had.
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(object) = &plan.note {
            let path = self.layout.snapshot_object(snapshot.label(), &object.name());
            let bytes = read_all(&*self.store, &path, MAX_NOTE_BYTES).await.context(|| format!("read '{path}'"))?;
            let note: Note = parse_json(&bytes, &path, FORMAT_VERSION)?;
            for prefix in &note.pack_prefixes {
                plan.own.insert(prefix.parse()?);
            }
        }
        let names: Vec<String> =
            plan.others.iter().filter(|object| is_part(object)).map(SnapshotObject::name).collect();
        let mut packs = BTreeSet::new();
        for name in &names {
            match self.packs_of_part(snapshot, name, None).await {
                Ok(found) => packs.extend(found),
                // What a damaged part named is found below the prefix of its job.
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        if plan.own.is_empty() {
            // The info was damaged, or never written: a job writes its packs under one prefix.
            plan.own = packs.iter().map(PackId::prefix).collect();
        }
        plan.foreign = packs.into_iter().filter(|pack| !plan.own.contains(&pack.prefix())).collect();
        Ok(plan)
    }

    /// What other snapshots name of the packs in question.
    async fn find_shared(&self, snapshot: &SnapshotId, plan: &mut Plan) -> Result<()> {
        let mut prefixes: BTreeSet<PackPrefix> = plan.foreign.iter().map(PackId::prefix).collect();
        prefixes.extend(&plan.own);
        if prefixes.is_empty() {
            return Ok(());
        }
        let others = self.infos_but(snapshot).await?;
        let mut reads: Vec<BoxFuture<'_, Result<Vec<PackId>>>> = Vec::with_capacity(others.len());
        for (id, object) in &others {
            reads.push(Box::pin(self.shared_with(id, object, &prefixes)));
        }
        let mut reads = stream::iter(reads).buffer_unordered(PARALLEL);
        while let Some(shared) = reads.try_next().await? {
            plan.shared.extend(shared);
        }
        Ok(())
    }

    /// Every info of the repository but those of `snapshot`. One listing.
    async fn infos_but(&self, snapshot: &SnapshotId) -> Result<Vec<(SnapshotId, SnapshotObject)>> {
        let root = self.layout.root();
        let mut objects = self.store.list(root).await.context(|| format!("list '{root}'"))?;
        let mut found = Vec::new();
        while let Some(object) = objects.try_next().await.context(|| format!("list '{root}'"))? {
            let Some((label, parsed)) = self.layout.parse_snapshot_object(&object.path) else { continue };
            let id = SnapshotId::new(label, &parsed.timestamp)?;
            if parsed.kind == ObjectKind::Info && id != *snapshot {
                found.push((id, parsed));
            }
        }
        Ok(found)
    }

    /// The packs below `prefixes` that the manifests of a snapshot name.
    async fn shared_with(
        &self,
        id: &SnapshotId,
        object: &SnapshotObject,
        prefixes: &BTreeSet<PackPrefix>,
    ) -> Result<Vec<PackId>> {
        let doubt = || format!("what snapshot {id} refers to cannot be told, so nothing is removed");
        let info = self.read_info_object(id, object).await.context(doubt)?;
        if !may_share(&info, prefixes)? {
            return Ok(Vec::new());
        }
        let mut shared = BTreeSet::new();
        for part in &info.manifests {
            let found = self.packs_of_part(id, &part.name, Some(prefixes)).await;
            shared.extend(found.context(doubt)?);
        }
        Ok(shared.into_iter().collect())
    }

    async fn packs_of_part(
        &self,
        snapshot: &SnapshotId,
        name: &str,
        below: Option<&BTreeSet<PackPrefix>>,
    ) -> Result<BTreeSet<PackId>> {
        let mut reader = self.manifest(snapshot, name).await?;
        let mut packs = BTreeSet::new();
        while let Some(tablet) = reader.next().await? {
            for file in tablet.files() {
                let pack = file.pack_id()?;
                if below.is_none_or(|prefixes| prefixes.contains(&pack.prefix())) {
                    packs.insert(pack);
                }
            }
        }
        Ok(packs)
    }

    async fn write_note(&self, snapshot: &SnapshotId, plan: &Plan) -> Result<SnapshotObject> {
        if let Some(note) = &plan.note {
            return Ok(note.clone());
        }
        let note = Note {
            format: FORMAT_VERSION,
            label: snapshot.label().to_owned(),
            timestamp: snapshot.timestamp().to_owned(),
            pack_prefixes: plan.own.iter().map(PackPrefix::to_string).collect(),
        };
        let bytes = to_json(&note)?;
        let (timestamp, checksum) = (snapshot.timestamp().to_owned(), Checksum::of(&bytes));
        let object = SnapshotObject { timestamp, kind: ObjectKind::Drop, checksum };
        let path = self.layout.snapshot_object(snapshot.label(), &object.name());
        let put = self.store.put(&path, from_bytes(bytes), PutOptions::default()).await;
        put.context(|| format!("write '{path}'"))?;
        Ok(object)
    }

    async fn remove_infos(
        &self,
        snapshot: &SnapshotId,
        plan: &Plan,
        note: &SnapshotObject,
        in_use: &(dyn Fn() -> Result<()> + Send + Sync),
    ) -> Result<()> {
        let path = |object: &SnapshotObject| self.layout.snapshot_object(snapshot.label(), &object.name());
        let mut kept = Vec::new();
        for object in &plan.infos {
            let path = path(object);
            let bytes = read_all(&*self.store, &path, crate::info::MAX_INFO_BYTES).await;
            kept.push((path.clone(), bytes.context(|| format!("read '{path}'"))?));
            self.store.delete(&path, false).await.context(|| format!("delete '{path}'"))?;
        }
        let Err(refusal) = in_use() else { return Ok(()) };
        for (path, bytes) in kept {
            let put = self.store.put(&path, from_bytes(bytes), PutOptions::default()).await;
            put.context(|| format!("put '{path}' back"))?;
        }
        self.delete_all(vec![path(note)]).await?;
        Err(refusal)
    }

    async fn remove_packs(&self, plan: &Plan) -> Result<()> {
        let mut kept: BTreeMap<PackPrefix, BTreeSet<PackId>> = BTreeMap::new();
        for pack in &plan.shared {
            kept.entry(pack.prefix()).or_default().insert(*pack);
        }
        for prefix in &plan.own {
            let folder = self.layout.job_packs(prefix);
            let Some(kept) = kept.get(prefix) else {
                self.store.delete(&folder, true).await.context(|| format!("delete packs below '{folder}'"))?;
                continue;
            };
            let mut unwanted = Vec::new();
            let mut listed = self.store.list(&folder).await.context(|| format!("list '{folder}'"))?;
            while let Some(object) = listed.try_next().await.context(|| format!("list '{folder}'"))? {
                if self.layout.parse_pack(&object.path).is_none_or(|pack| !kept.contains(&pack)) {
                    unwanted.push(object.path);
                }
            }
            self.delete_all(unwanted).await?;
        }
        let foreign = plan.foreign.iter().filter(|pack| !plan.shared.contains(pack));
        self.delete_all(foreign.map(|pack| self.layout.pack(pack)).collect()).await
    }

    async fn delete_all(&self, paths: Vec<String>) -> Result<()> {
        let mut deletes: Vec<BoxFuture<'_, Result<()>>> = Vec::with_capacity(paths.len());
        for path in paths {
            deletes.push(Box::pin(async move {
                self.store.delete(&path, false).await.context(|| format!("delete '{path}'"))
            }));
        }
        stream::iter(deletes).buffer_unordered(PARALLEL).try_collect().await
    }
}

fn is_part(object: &SnapshotObject) -> bool {
    matches!(object.kind, ObjectKind::Manifest(_))
}

/// Without info or note it may be a backup that another cluster is taking just now.
fn check_droppable(snapshot: &SnapshotId, plan: &Plan, now_ms: u64) -> Result<()> {
    if !plan.infos.is_empty() || plan.note.is_some() {
        return Ok(());
    }
    if plan.others.is_empty() {
        return Err(Error::not_found(format!("snapshot {snapshot} does not exist")));
    }
    let long_ago = crate::layout::timestamp_text(now_ms.saturating_sub(ABANDONED_MS));
    if snapshot.timestamp() < long_ago.as_str() {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "snapshot {snapshot} is not complete: a backup of this or another cluster may be writing it; wait for it or cancel \
         it. What nobody completes can be dropped {} days later",
        ABANDONED_MS / 86_400_000
    )))
}

/// Whether a snapshot may name packs of these jobs.
fn may_share(info: &SnapshotInfo, prefixes: &BTreeSet<PackPrefix>) -> Result<bool> {
    if prefixes.contains(&info.pack_prefix.parse::<PackPrefix>()?) {
        return Ok(true);
    }
    let Some(shared) = &info.shared_prefixes else { return Ok(true) };
    Ok(shared.iter().any(|prefix| prefixes.iter().any(|wanted| wanted.to_string() == *prefix)))
}
