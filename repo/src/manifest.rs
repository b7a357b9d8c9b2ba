//! A manifest part: which tablets a backend uploaded, which files they have, and where each file's bytes are.
//!
//! ```text
//! header  16  magic "CFRMANI\n", u32 version, u32 zero
//! records     each: u32 length (little endian), then a protobuf message `Record` of that length:
//!             message Record { oneof kind { Head head = 1; TabletRecord tablet = 2; End end = 3; } }
//!             first Head, then tablets, last End; nothing after it
//! ```
//!
//! The file's name carries its BLAKE3, so a part is only trusted once it is read to the end; see
//! [`crate::manifest_reader`]. Written to any `io::Write` (a local file, as the name is known only at the end); memory is
//! one tablet's record.

use crate::FORMAT_VERSION;
use crate::checksum::Checksum;
use crate::layout::{ObjectKind, PackId, SnapshotId, SnapshotObject};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use prost::Message;
use std::io::Write;

/// Starts every part.
pub const MAGIC: &[u8; 8] = b"CFRMANI\n";
/// Bytes before the first record.
pub const HEADER_BYTES: usize = 16;
/// Largest record: a tablet with some 100,000 files.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// Any record.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(oneof = "RecordKind", tags = "1, 2, 3")]
    pub(crate) kind: Option<RecordKind>,
}

/// What a record is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum RecordKind {
    #[prost(message, tag = "1")]
    Head(Head),
    #[prost(message, tag = "2")]
    Tablet(TabletRecord),
    #[prost(message, tag = "3")]
    End(End),
}

/// The first record: which part of which snapshot this is.
#[derive(Clone, PartialEq, Message)]
pub struct Head {
    /// Label.
    #[prost(string, tag = "1")]
    pub label: String,
    /// Timestamp.
    #[prost(string, tag = "2")]
    pub timestamp: String,
    /// Number of the part.
    #[prost(uint32, tag = "3")]
    pub part: u32,
}

/// The last record: what was listed.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct End {
    /// Tablets.
    #[prost(uint64, tag = "1")]
    pub tablets: u64,
    /// Files.
    #[prost(uint64, tag = "2")]
    pub files: u64,
    /// Bytes of the files.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// Rows of the tablets.
    #[prost(uint64, tag = "4")]
    pub rows: u64,
}

impl End {
    pub(crate) fn add(&mut self, tablet: &TabletRecord) {
        self.tablets += 1;
        self.files += tablet.files().count() as u64;
        self.bytes += tablet.bytes();
        self.rows += tablet.rows;
    }
}

/// One tablet at the version of the snapshot. Ids are those of the cluster that made the backup.
#[derive(Clone, PartialEq, Message)]
pub struct TabletRecord {
    /// Tablet.
    #[prost(uint64, tag = "1")]
    pub tablet_id: u64,
    /// Its table.
    #[prost(uint64, tag = "2")]
    pub table_id: u64,
    /// Its partition.
    #[prost(uint64, tag = "3")]
    pub partition_id: u64,
    /// The version.
    #[prost(uint64, tag = "4")]
    pub version: u64,
    /// Rows in it.
    #[prost(uint64, tag = "5")]
    pub rows: u64,
    /// In version order; none for an empty tablet.
    #[prost(message, repeated, tag = "6")]
    pub rowsets: Vec<RowsetRecord>,
    /// DELETEs that rowsets before them are still subject to, in version order.
    #[prost(message, repeated, tag = "7")]
    pub deletes: Vec<DeleteRecord>,
}

/// A DELETE: rows of rowsets that end before its version and match are gone.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRecord {
    /// Its version.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// `coffer_table::Predicate` as JSON.
    #[prost(string, tag = "2")]
    pub predicate: String,
}

impl TabletRecord {
    /// All files.
    pub fn files(&self) -> impl Iterator<Item = &FileRecord> {
        self.rowsets.iter().flat_map(|rowset| &rowset.files)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.length).sum()
    }
}

/// An immutable set of files that covers a range of versions.
#[derive(Clone, PartialEq, Message)]
pub struct RowsetRecord {
    /// First version, inclusive.
    #[prost(uint64, tag = "1")]
    pub start_version: u64,
    /// Last version, inclusive.
    #[prost(uint64, tag = "2")]
    pub end_version: u64,
    /// Rows.
    #[prost(uint64, tag = "3")]
    pub rows: u64,
    /// In reading order.
    #[prost(message, repeated, tag = "4")]
    pub files: Vec<FileRecord>,
}

/// A file and the blob that holds its bytes.
#[derive(Clone, PartialEq, Message)]
pub struct FileRecord {
    /// Name in the tablet's directory.
    #[prost(string, tag = "1")]
    pub name: String,
    /// BLAKE3 of its bytes, 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub blake3: bytes::Bytes,
    /// Pack id, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub pack: bytes::Bytes,
    /// Of its first byte in the pack.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    /// Its size.
    #[prost(uint64, tag = "5")]
    pub length: u64,
    /// Rows in it.
    #[prost(uint64, tag = "6")]
    pub rows: u64,
}

impl FileRecord {
    /// The hash.
    pub fn checksum(&self) -> Result<Checksum> {
        Checksum::from_slice(&self.blake3).context(|| format!("file '{}' in the manifest", self.name))
    }

    /// The pack.
    pub fn pack_id(&self) -> Result<PackId> {
        PackId::from_slice(&self.pack).context(|| format!("file '{}' in the manifest", self.name))
    }
}

/// A part that is written and flushed, but not yet in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenPart {
    /// File name, with the BLAKE3.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// What it lists.
    pub counts: End,
}

/// Writes one part.
#[derive(Debug)]
pub struct ManifestWriter<W> {
    out: W,
    snapshot: SnapshotId,
    part: u32,
    hasher: blake3::Hasher,
    bytes: u64,
    counts: End,
    frame: Vec<u8>,
}

impl<W: Write> ManifestWriter<W> {
    /// Start part `part` of `snapshot`. `out` should be buffered.
    pub fn new(out: W, snapshot: &SnapshotId, part: u32) -> Result<ManifestWriter<W>> {
        let mut writer = ManifestWriter {
            out,
            snapshot: snapshot.clone(),
            part,
            hasher: blake3::Hasher::new(),
            bytes: 0,
            counts: End::default(),
            frame: Vec::new(),
        };
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        writer.write(&header)?;
        let head = Head { label: snapshot.label().to_owned(), timestamp: snapshot.timestamp().to_owned(), part };
        writer.record(RecordKind::Head(head))?;
        Ok(writer)
    }

    /// Add a tablet.
    pub fn tablet(&mut self, tablet: TabletRecord) -> Result<()> {
        self.counts.add(&tablet);
        self.record(RecordKind::Tablet(tablet))
    }

    /// End the part; `out` is flushed and given back (to be synced, or read again).
    pub fn finish(mut self) -> Result<(WrittenPart, W)> {
        let counts = self.counts;
        self.record(RecordKind::End(counts))?;
        self.out.flush().context(|| format!("write manifest part {}", self.part))?;
        let object = SnapshotObject {
            timestamp: self.snapshot.timestamp().to_owned(),
            kind: ObjectKind::Manifest(self.part),
            checksum: Checksum::finish(&self.hasher),
        };
        Ok((WrittenPart { name: object.name(), bytes: self.bytes, counts }, self.out))
    }

    fn record(&mut self, kind: RecordKind) -> Result<()> {
        let record = Record { kind: Some(kind) };
        let length = record.encoded_len();
        if length > MAX_RECORD_BYTES {
            let tablet = match record.kind {
                Some(RecordKind::Tablet(tablet)) => tablet.tablet_id,
                Some(RecordKind::Head(_) | RecordKind::End(_)) | None => 0,
            };
            return Err(Error::limit(format!(
                "tablet {tablet} needs a manifest record of {length} bytes, more than {MAX_RECORD_BYTES}: compact it first"
            )));
        }
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.extend_from_slice(&(length as u32).to_le_bytes());
        record.encode_raw(&mut frame);
        let written = self.write(&frame);
        self.frame = frame;
        written
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).context(|| format!("write manifest part {}", self.part))
    }
}
