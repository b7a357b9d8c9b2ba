//! What a tablet is: ids, schema, version, and the rowsets that make up its rows.
//!
//! Versions: a tablet begins empty at version 1; the load that makes version v adds one rowset `[v, v]`, or widens the
//! empty rowset at the end when it brought no rows here. Rowsets cover 2 to `version` without a gap, in order.
//!
//! At rest: 8 bytes magic, format number, length and CRC32C of what follows (each 4 bytes little endian), then JSON.
//! A file that does not check out is Corrupt; one of a newer format is refused by name. The file is only ever replaced
//! as a whole, so a crash leaves the old content or the new.

use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_table::{Predicate, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const MAGIC: &[u8; 8] = b"COFFERTM";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 20;

/// The version of a tablet that nothing was loaded into.
pub const FIRST_VERSION: u64 = 1;

/// A tablet's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TabletMeta {
    /// This tablet.
    pub tablet_id: u64,
    /// Its table.
    pub table_id: u64,
    /// Its partition.
    pub partition_id: u64,
    /// Columns of its rows.
    pub schema: Schema,
    /// Everything up to this version is here.
    pub version: u64,
    /// Rows, by version; no gap from 2 to `version`.
    pub rowsets: Vec<Rowset>,
    /// Which rows of older rowsets are gone, by version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletes: Vec<Deletion>,
}

/// A DELETE: rows of rowsets that end before its version and match are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The version it made.
    pub version: u64,
    /// Which rows.
    pub predicate: Predicate,
}

/// The rows of a run of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rowset {
    /// First version.
    pub from: u64,
    /// Last version.
    pub to: u64,
    /// Rows in all files.
    pub rows: u64,
    /// Files, each sorted by the key columns; none for versions without rows.
    pub files: Vec<DataFile>,
    /// Without files, but there were rows: DELETEs among its versions took them all. Only its last version is empty for
    /// certain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emptied: bool,
}

impl Rowset {
    /// Whether none of its versions added a row, so that it can be cut at any of them.
    fn is_vacant(&self) -> bool {
        self.files.is_empty() && !self.emptied
    }
}

/// One immutable Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Name in the tablet's directory.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// BLAKE3 of the bytes, hexadecimal; computed while they were written.
    pub blake3: String,
}

impl TabletMeta {
    /// An empty tablet at version 1.
    pub fn empty(tablet_id: u64, table_id: u64, partition_id: u64, schema: Schema) -> TabletMeta {
        TabletMeta {
            tablet_id,
            table_id,
            partition_id,
            schema,
            version: FIRST_VERSION,
            rowsets: Vec::new(),
            deletes: Vec::new(),
        }
    }

    /// Rows in all rowsets.
    pub fn rows(&self) -> u64 {
        self.rowsets.iter().map(|rowset| rowset.rows).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.bytes).sum()
    }

    /// All files, oldest first.
    pub fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.rowsets.iter().flat_map(|rowset| &rowset.files)
    }

    /// The tablet one version later, with these files.
    pub fn next(&self, files: Vec<DataFile>) -> TabletMeta {
        let mut next = self.clone();
        next.version += 1;
        match next.rowsets.last_mut() {
            Some(last) if files.is_empty() && last.is_vacant() => last.to = next.version,
            _ => {
                let rows = files.iter().map(|file| file.rows).sum();
                next.rowsets.push(Rowset { from: next.version, to: next.version, rows, files, emptied: false });
            }
        }
        next
    }

    /// The tablet one version later, without the rows that match.
    pub fn without(&self, predicate: Predicate) -> TabletMeta {
        let mut next = self.next(Vec::new());
        next.deletes.push(Deletion { version: next.version, predicate });
        next
    }

    /// Whether a rowset has rows that a DELETE may have taken.
    pub fn is_reduced(&self, rowset: &Rowset) -> bool {
        !rowset.files.is_empty() && self.deletes.iter().any(|delete| delete.version > rowset.to)
    }

    /// The tablet as it was at exactly `version`.
    pub fn at(&self, version: u64) -> Result<TabletMeta> {
        self.at_with(version, &[], |_| true)
    }

    /// The same, also from rowsets that those in force replaced, and only from rowsets that `may` accepts; those without
    /// files are always accepted. Of several ways the one with the fewest rowsets.
    pub fn at_with(&self, version: u64, replaced: &[Rowset], may: impl Fn(&Rowset) -> bool) -> Result<TabletMeta> {
        if version > self.version {
            return Err(Error::conflict(format!(
                "tablet {} is at version {}, behind {version}",
                self.tablet_id, self.version
            )));
        }
        let end = |rowset: &Rowset| if rowset.is_vacant() { rowset.to.min(version) } else { rowset.to };
        let fits = |rowset: &&Rowset| {
            rowset.from <= version && end(rowset) <= version && (rowset.files.is_empty() || may(rowset))
        };
        let mut usable: Vec<&Rowset> = self.rowsets.iter().chain(replaced).filter(fits).collect();
        usable.sort_by_key(|rowset| rowset.from);
        // For each version that all before it lead to: in how many rowsets, and which is the last.
        let mut ways: BTreeMap<u64, (usize, Option<&Rowset>)> = BTreeMap::from([(FIRST_VERSION, (0, None))]);
        for rowset in usable {
            let Some((count, _)) = ways.get(&(rowset.from - 1)).copied() else { continue };
            let way = ways.entry(end(rowset)).or_insert((usize::MAX, None));
            if count + 1 < way.0 {
                *way = (count + 1, Some(rowset));
            }
        }
        let mut meta = TabletMeta { version, rowsets: Vec::new(), ..self.clone() };
        meta.deletes.retain(|delete| delete.version <= version);
        let mut at = version;
        while at > FIRST_VERSION {
            let Some((_, Some(last))) = ways.get(&at) else { return Err(self.merged_away(version)) };
            meta.rowsets.push(Rowset { to: at, ..(*last).clone() });
            at = last.from - 1;
        }
        meta.rowsets.reverse();
        Ok(meta)
    }

    fn merged_away(&self, version: u64) -> Error {
        let over = self.rowsets.iter().find(|rowset| rowset.from <= version && version < rowset.to);
        let which =
            over.map_or_else(String::new, |over| format!(": versions {} to {} were merged", over.from, over.to));
        Error::conflict(format!("tablet {} has no version {version} of this form any more{which}", self.tablet_id))
    }

    /// Refuse a description that contradicts itself.
    pub fn check(&self) -> Result<()> {
        let mut next = FIRST_VERSION + 1;
        for rowset in &self.rowsets {
            let rows: u64 = rowset.files.iter().map(|file| file.rows).sum();
            if rowset.from != next || rowset.to < rowset.from || rows != rowset.rows {
                return Err(Error::corrupt(format!(
                    "tablet {}: rowset {}-{} does not follow version {} or does not count its rows",
                    self.tablet_id,
                    rowset.from,
                    rowset.to,
                    next - 1
                )));
            }
            next = rowset.to + 1;
        }
        if self.version + 1 != next {
            return Err(Error::corrupt(format!(
                "tablet {}: version {} but rowsets up to {}",
                self.tablet_id,
                self.version,
                next - 1
            )));
        }
        Ok(())
    }

    /// The bytes of a meta file.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode(self)
    }

    /// Read the bytes of a meta file.
    pub fn decode(bytes: &[u8]) -> Result<TabletMeta> {
        let meta: TabletMeta = decode(bytes)?;
        meta.check()?;
        Ok(meta)
    }

    /// Read a meta file.
    pub fn load(path: &Path) -> Result<TabletMeta> {
        let read = || -> Result<TabletMeta> { TabletMeta::decode(&std::fs::read(path)?) };
        read().context(|| format!("tablet meta {}", path.display()))
    }
}

/// Any description in the checksummed form of a meta file.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(value).map_err(|error| Error::bug(format!("encode meta: {error}")))?;
    let length = u32::try_from(body.len()).map_err(|_| Error::limit("a meta file of 4 GiB or more"))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Read what [`encode`] made.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let word = |from: usize| bytes.get(from..from + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
    let (Some(format), Some(length), Some(sum)) = (word(8), word(12), word(16)) else {
        return Err(Error::corrupt(format!("{} bytes, too short", bytes.len())));
    };
    if bytes[..8] != *MAGIC {
        return Err(Error::corrupt("not a meta file of Coffer"));
    }
    if format > FORMAT {
        return Err(Error::not_supported(format!("format {format} is newer than this program, which reads {FORMAT}")));
    }
    let body = &bytes[HEADER_BYTES..];
    if body.len() != length as usize || crc32c::crc32c(body) != sum {
        return Err(Error::corrupt("length or checksum does not match"));
    }
    serde_json::from_slice(body)
        .map_err(|error| Error::corrupt(format!("checksum matches but content does not: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;
    use coffer_table::{Column, ColumnType};
    use proptest::prelude::*;

    fn file(rows: u64) -> DataFile {
        DataFile { name: format!("{rows}.parquet"), bytes: rows * 10, rows, blake3: "00".repeat(32) }
    }

    fn tablet() -> TabletMeta {
        let column = Column {
            name: "id".to_owned(),
            kind: ColumnType::Int,
            nullable: false,
            default: None,
            key: true,
            comment: String::new(),
            aggregate: None,
        };
        TabletMeta::empty(7, 5, 6, Schema { columns: vec![column], model: coffer_table::Model::Duplicate })
    }

    #[test]
    fn versions_without_rows_share_one_rowset() {
        let meta = tablet().next(vec![]).next(vec![]).next(vec![file(3)]).next(vec![]);
        let spans: Vec<(u64, u64, u64)> = meta.rowsets.iter().map(|r| (r.from, r.to, r.rows)).collect();
        assert_eq!(spans, [(2, 3, 0), (4, 4, 3), (5, 5, 0)]);
        assert_eq!((meta.version, meta.rows(), meta.bytes()), (5, 3, 30));
        meta.check().unwrap();
    }

    #[test]
    fn an_earlier_version_is_exact_or_refused() {
        let meta = tablet().next(vec![file(1)]).next(vec![]).next(vec![]).next(vec![file(2)]);
        for (version, rows) in [(1, 0), (2, 1), (3, 1), (4, 1), (5, 3)] {
            let then = meta.at(version).unwrap();
            then.check().unwrap();
            assert_eq!((then.version, then.rows()), (version, rows));
        }
        assert_eq!(meta.at(6).unwrap_err().kind(), ErrorKind::Conflict);
        let mut merged = meta.clone();
        merged.rowsets = vec![Rowset { from: 2, to: 5, rows: 3, files: vec![file(3)], emptied: false }];
        merged.check().unwrap();
        assert_eq!(merged.at(4).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(merged.at(5).unwrap(), merged);
        // As long as what was merged is kept, earlier versions and other forms of the same version can be had.
        let spans = |found: Result<TabletMeta>| -> Vec<(u64, u64)> {
            found.unwrap().rowsets.iter().map(|rowset| (rowset.from, rowset.to)).collect()
        };
        assert_eq!(spans(merged.at_with(4, &meta.rowsets, |_| true)), [(2, 2), (3, 4)]);
        assert_eq!(spans(merged.at_with(5, &meta.rowsets, |_| true)), [(2, 5)]);
        assert_eq!(
            spans(merged.at_with(5, &meta.rowsets, |rowset| rowset.to <= 4 || rowset.from > 4)),
            [(2, 2), (3, 4), (5, 5)]
        );
        assert!(merged.at_with(5, &meta.rowsets[..2], |rowset| rowset.to < 5).is_err());
    }

    #[test]
    fn what_deletes_and_a_merge_emptied_had_rows_before() {
        let meta = tablet().next(vec![file(1)]).next(vec![file(2)]).next(vec![]);
        let mut emptied = meta.clone();
        emptied.rowsets = vec![Rowset { from: 2, to: 4, rows: 0, files: Vec::new(), emptied: true }];
        assert_eq!(emptied.at(4).unwrap().rows(), 0);
        assert_eq!(emptied.at(2).unwrap_err().kind(), ErrorKind::Conflict, "never read as empty");
        assert_eq!(emptied.at_with(2, &meta.rowsets, |_| true).unwrap().rows(), 1);
        let later = emptied.next(vec![]);
        assert_eq!((later.at(4).unwrap().rows(), later.at(5).unwrap().rows()), (0, 0));
        assert_eq!(TabletMeta::decode(&later.encode().unwrap()).unwrap(), later);
    }

    #[test]
    fn contradictions_are_found() {
        let good = tablet().next(vec![file(1)]);
        let mut gap = good.clone();
        gap.rowsets[0].from = 3;
        let mut short = good.clone();
        short.version = 3;
        let mut count = good;
        count.rowsets[0].rows = 2;
        for meta in [gap, short, count] {
            assert_eq!(TabletMeta::decode(&meta.encode().unwrap()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut bytes = tablet().encode().unwrap();
        bytes[8] = 2;
        let error = TabletMeta::decode(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.message().contains("format 2"), "{error}");
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_noticed(at in 0_usize..200, flip in 1_u8..) {
            let meta = tablet().next(vec![file(1)]);
            let mut bytes = meta.encode().unwrap();
            prop_assert_eq!(&TabletMeta::decode(&bytes).unwrap(), &meta);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!((8..12).contains(&at) || TabletMeta::decode(&bytes).is_err());
            bytes.truncate(at);
            prop_assert!(TabletMeta::decode(&bytes).is_err());
        }
    }
}
