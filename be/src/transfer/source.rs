//! Snapshots of a job as upload tasks see them: which files, where on disk, and what the manifest will say of each.

use crate::snapshot::find_in;
use crate::tablet::layout::meta_file;
use crate::tablet::{DataFile, Deletion, Rowset, TabletMeta, TabletStore};
use bytes::Bytes;
use coffer_repo::{Checksum, DeleteRecord, FileRecord, PackFile, PackId, RowsetRecord, TabletRecord};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use std::path::PathBuf;

/// One tablet's snapshot.
#[derive(Debug)]
pub(super) struct Source {
    /// Where its files are.
    dir: PathBuf,
    /// What the manifest says; where the blobs are is filled in while they are uploaded.
    pub(super) record: TabletRecord,
}

/// A file in a list of sources.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileAt {
    tablet: u32,
    rowset: u32,
    file: u32,
}

impl Source {
    /// Read the meta of a snapshot.
    pub(super) fn load(store: &TabletStore, job: u64, tablet: u64) -> Result<Source> {
        let found = find_in(store, |layout| layout.snapshot_tablet(job, tablet))?;
        let (_, dir) = found.ok_or_else(|| {
            Error::not_found(format!("job {job} has no snapshot of tablet {tablet} on this backend: make it again"))
        })?;
        let meta = TabletMeta::load(&meta_file(&dir))?;
        if meta.tablet_id != tablet {
            return Err(Error::corrupt(format!("{} is of tablet {}, not {tablet}", dir.display(), meta.tablet_id)));
        }
        let record = TabletRecord {
            tablet_id: meta.tablet_id,
            table_id: meta.table_id,
            partition_id: meta.partition_id,
            version: meta.version,
            rows: meta.rows(),
            rowsets: meta.rowsets.iter().map(rowset_record).collect::<Result<_>>()?,
            deletes: meta.deletes.iter().map(delete_record).collect::<Result<_>>()?,
        };
        Ok(Source { dir, record })
    }
}

fn delete_record(delete: &Deletion) -> Result<DeleteRecord> {
    let predicate = serde_json::to_string(&delete.predicate);
    let predicate = predicate.map_err(|error| Error::bug(format!("conditions of DELETE: {error}")))?;
    Ok(DeleteRecord { version: delete.version, predicate })
}

fn rowset_record(rowset: &Rowset) -> Result<RowsetRecord> {
    let file = |file: &DataFile| -> Result<FileRecord> {
        let checksum: Checksum = file.blake3.parse().context(|| format!("file {}", file.name))?;
        Ok(FileRecord {
            name: file.name.clone(),
            blake3: Bytes::copy_from_slice(checksum.as_bytes()),
            pack: Bytes::new(),
            offset: 0,
            length: file.bytes,
            rows: file.rows,
        })
    };
    Ok(RowsetRecord {
        start_version: rowset.from,
        end_version: rowset.to,
        rows: rowset.rows,
        files: rowset.files.iter().map(file).collect::<Result<_>>()?,
    })
}

/// All files of all sources, in order.
pub(super) fn files(sources: &[Source]) -> Vec<FileAt> {
    let mut files = Vec::new();
    for (tablet, source) in sources.iter().enumerate() {
        for (rowset, record) in source.record.rowsets.iter().enumerate() {
            let at = |file| FileAt { tablet: tablet as u32, rowset: rowset as u32, file: file as u32 };
            files.extend((0..record.files.len()).map(at));
        }
    }
    files
}

/// The record of a file.
pub(super) fn record(sources: &[Source], at: FileAt) -> &FileRecord {
    &sources[at.tablet as usize].record.rowsets[at.rowset as usize].files[at.file as usize]
}

/// The tablet and the name of a file.
pub(super) fn name(sources: &[Source], at: FileAt) -> (u64, String) {
    (sources[at.tablet as usize].record.tablet_id, record(sources, at).name.clone())
}

/// What the packer must know of a file.
pub(super) fn pack_file(sources: &[Source], at: FileAt) -> Result<PackFile> {
    let record = record(sources, at);
    let path = sources[at.tablet as usize].dir.join(&record.name);
    Ok(PackFile { path, bytes: record.length, checksum: record.checksum()? })
}

/// Note where a file's bytes went.
pub(super) fn place(sources: &mut [Source], at: FileAt, pack: &PackId, offset: u64) {
    let record = &mut sources[at.tablet as usize].record.rowsets[at.rowset as usize].files[at.file as usize];
    record.pack = Bytes::copy_from_slice(pack.as_bytes());
    record.offset = offset;
}
