//! The bytes of the log: what is written, how it is read back, and what a crash may have left of it. Pure.
//!
//! ```text
//! file     head, then batch, acknowledgement, batch, acknowledgement ... then zeros
//! head     "COFFERLG" | version (4) | salt (8) | number of the first batch (8) | CRC32C of these (4)
//! mark     "BTCH" or "ACKN" | number (8) | body length (4) | CRC32C of the body (4) | CRC32C of salt and these (4)
//! batch    a mark and its body: records back to back
//! record   kind (1) | length (4) | CRC32C of kind and payload (4) | payload
//! ```
//! All numbers are little-endian. A batch is what one fsync made durable. The acknowledgement of a batch is written after
//! its fsync, and before anybody is told; so whatever follows a batch proves that the batch was durable. That tells a torn
//! tail from damage: bytes that make no sense are a torn tail only when nothing behind them proves that they were durable.
//! The salt keeps a file's marks from being taken for those of another.

use crate::error::{Error, Result};

pub(in crate::raft) const VERSION: u32 = 1;
pub(in crate::raft) const HEAD_BYTES: usize = 32;
pub(in crate::raft) const MARK_BYTES: usize = 24;
pub(in crate::raft) const RECORD_HEAD_BYTES: usize = 9;
/// Bytes of one record.
const MAX_RECORD_BYTES: usize = 1 << 30;
const MAGIC: &[u8; 8] = b"COFFERLG";
const BATCH: &[u8; 4] = b"BTCH";
const ACKNOWLEDGED: &[u8; 4] = b"ACKN";

/// What a file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) struct Head {
    pub(in crate::raft) salt: u64,
    /// The number of the first batch.
    pub(in crate::raft) first: u64,
}

/// What a record is. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::raft) enum Kind {
    /// Index of an entry (8 bytes), then its JSON.
    Entry = 1,
    /// The vote, JSON.
    Vote = 2,
    /// Entries from this index (8 bytes) on are void.
    Truncate = 3,
    /// JSON of the id of the last entry that is void because a snapshot holds it.
    Purge = 4,
    /// JSON of the id of an entry known to be committed.
    Committed = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        [Kind::Entry, Kind::Vote, Kind::Truncate, Kind::Purge, Kind::Committed].into_iter().find(|k| *k as u8 == byte)
    }
}

/// A record and where it is in its file.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::raft) struct Record<'a> {
    pub(in crate::raft) kind: Kind,
    pub(in crate::raft) offset: u64,
    pub(in crate::raft) payload: &'a [u8],
}

/// What a file holds.
#[derive(Debug)]
pub(in crate::raft) struct Scanned<'a> {
    pub(in crate::raft) records: Vec<Record<'a>>,
    /// Where the next batch goes.
    pub(in crate::raft) end: u64,
    /// The number of the next batch.
    pub(in crate::raft) next: u64,
    /// Bytes behind the end are of a batch that was never acknowledged.
    pub(in crate::raft) torn: bool,
}

/// A place in a file that is not what was written.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::raft) struct Damage {
    pub(in crate::raft) offset: u64,
    pub(in crate::raft) why: &'static str,
}

/// The first bytes of a file.
pub(in crate::raft) fn head(head: Head) -> [u8; HEAD_BYTES] {
    let mut out = [0; HEAD_BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..20].copy_from_slice(&head.salt.to_le_bytes());
    out[20..28].copy_from_slice(&head.first.to_le_bytes());
    let sum = crc32c::crc32c(&out[..28]);
    out[28..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Read the first bytes of a file.
pub(in crate::raft) fn read_head(bytes: &[u8], name: &str) -> Result<Head> {
    let broken = |why: &str| Error::corrupt(format!("metadata log {name} is damaged at byte 0: {why}"));
    let head = bytes.get(..HEAD_BYTES).ok_or_else(|| broken("it is shorter than its head"))?;
    if &head[..8] != MAGIC {
        return Err(broken("it does not start as a log does"));
    }
    if crc32c::crc32c(&head[..28]) != u32_at(head, 28) {
        return Err(broken("its head does not match its checksum"));
    }
    let version = u32_at(head, 8);
    if version != VERSION {
        return Err(Error::not_supported(format!(
            "metadata log {name} has format {version}, this program reads {VERSION}"
        )));
    }
    Ok(Head { salt: u64_at(head, 12), first: u64_at(head, 20) })
}

/// Records that one fsync makes durable.
#[derive(Debug, Default)]
pub(in crate::raft) struct Batch {
    /// A mark's room, then records.
    bytes: Vec<u8>,
}

impl Batch {
    /// Add a record made of two parts; returns where in the batch it begins.
    pub(in crate::raft) fn add(&mut self, kind: Kind, payload: (&[u8], &[u8])) -> usize {
        if self.bytes.is_empty() {
            self.bytes.resize(MARK_BYTES, 0);
        }
        let offset = self.bytes.len();
        let length = payload.0.len() + payload.1.len();
        let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&[kind as u8]), payload.0), payload.1);
        self.bytes.push(kind as u8);
        self.bytes.extend_from_slice(&(length as u32).to_le_bytes());
        self.bytes.extend_from_slice(&sum.to_le_bytes());
        self.bytes.extend_from_slice(payload.0);
        self.bytes.extend_from_slice(payload.1);
        offset
    }

    pub(in crate::raft) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes to write.
    pub(in crate::raft) fn seal(mut self, salt: u64, number: u64) -> Vec<u8> {
        let body = self.bytes.get(MARK_BYTES..).unwrap_or_default();
        let mark = mark(BATCH, salt, (number, body));
        self.bytes.splice(..MARK_BYTES.min(self.bytes.len()), mark);
        self.bytes
    }
}

/// What is written once a batch is durable.
pub(in crate::raft) fn acknowledgement(salt: u64, number: u64) -> [u8; MARK_BYTES] {
    mark(ACKNOWLEDGED, salt, (number, &[]))
}

fn mark(magic: &[u8; 4], salt: u64, (number, body): (u64, &[u8])) -> [u8; MARK_BYTES] {
    let mut out = [0; MARK_BYTES];
    out[..4].copy_from_slice(magic);
    out[4..12].copy_from_slice(&number.to_le_bytes());
    out[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    out[16..20].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &out[..20]);
    out[20..].copy_from_slice(&sum.to_le_bytes());
    out
}

struct Mark {
    acknowledges: bool,
    number: u64,
    length: usize,
    sum: u32,
}

fn read_mark(bytes: &[u8], salt: u64) -> Option<Mark> {
    let mark = bytes.get(..MARK_BYTES)?;
    let acknowledges = &mark[..4] == ACKNOWLEDGED;
    if !acknowledges && &mark[..4] != BATCH {
        return None;
    }
    let sum = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &mark[..20]);
    (sum == u32_at(mark, 20)).then(|| Mark {
        acknowledges,
        number: u64_at(mark, 4),
        length: u32_at(mark, 12) as usize,
        sum: u32_at(mark, 16),
    })
}

/// Read a whole file. `last`: whether it is the newest, the only one that may end in a torn batch.
pub(in crate::raft) fn scan(bytes: &[u8], head: Head, last: bool) -> std::result::Result<Scanned<'_>, Damage> {
    let mut scanned = Scanned { records: Vec::new(), end: HEAD_BYTES as u64, next: head.first, torn: false };
    let mut at = HEAD_BYTES;
    // Whether the batch before has its acknowledgement.
    let mut acknowledged = true;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match read_mark(rest, head.salt) {
            Some(mark) if mark.acknowledges && !acknowledged && mark.number + 1 == scanned.next => {
                acknowledged = true;
                at += MARK_BYTES;
                scanned.end = at as u64;
                continue;
            }
            Some(mark) if !mark.acknowledges && mark.number == scanned.next => {
                let body = rest.get(MARK_BYTES..MARK_BYTES + mark.length);
                if let Some(body) = body.filter(|body| crc32c::crc32c(body) == mark.sum) {
                    records(body, at + MARK_BYTES, &mut scanned.records)?;
                    (acknowledged, scanned.next) = (false, scanned.next + 1);
                    at += MARK_BYTES + mark.length;
                    scanned.end = at as u64;
                    continue;
                }
            }
            _ => {}
        }
        let empty = rest.iter().all(|byte| *byte == 0);
        if !empty && proven_durable(rest, head.salt, scanned.next) {
            return Err(Damage { offset: at as u64, why: "what is there was durable and does not match its checksum" });
        }
        // The last batch of an older file may lack its acknowledgement: a crash came between the two, the next start found
        // the batch whole, and began another file. That nothing is missing here is what the name of that file tells.
        if !(last || empty) {
            return Err(Damage { offset: at as u64, why: "it ends there, and a later file goes on" });
        }
        scanned.torn = !empty;
        return Ok(scanned);
    }
}

/// Whether anything behind a place that makes no sense proves that batch `expected`, which should be there, was durable.
fn proven_durable(rest: &[u8], salt: u64, expected: u64) -> bool {
    let starts = (0..rest.len().saturating_sub(MARK_BYTES - 1)).filter(|at| matches!(rest[*at], b'A' | b'B'));
    starts
        .filter_map(|at| read_mark(&rest[at..], salt))
        .any(|mark| if mark.acknowledges { mark.number >= expected } else { mark.number > expected })
}

fn records<'a>(body: &'a [u8], base: usize, out: &mut Vec<Record<'a>>) -> std::result::Result<(), Damage> {
    let mut at = 0;
    while at < body.len() {
        let offset = (base + at) as u64;
        let (kind, payload) = read_record(&body[at..]).map_err(|why| Damage { offset, why })?;
        at += RECORD_HEAD_BYTES + payload.len();
        out.push(Record { kind, offset, payload });
    }
    Ok(())
}

/// The record at the start of these bytes.
pub(in crate::raft) fn read_record(bytes: &[u8]) -> std::result::Result<(Kind, &[u8]), &'static str> {
    let head = bytes.get(..RECORD_HEAD_BYTES).ok_or("a record is cut off")?;
    let length = u32_at(head, 1) as usize;
    if length > MAX_RECORD_BYTES {
        return Err("a record is too long");
    }
    let payload = bytes.get(RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + length).ok_or("a record is cut off")?;
    if crc32c::crc32c_append(crc32c::crc32c(&head[..1]), payload) != u32_at(head, 5) {
        return Err("a record does not match its checksum");
    }
    Ok((Kind::of(head[0]).ok_or("a record is of an unknown kind")?, payload))
}

/// The number in the first 8 bytes of a payload, and what follows.
pub(in crate::raft) fn numbered(payload: &[u8]) -> std::result::Result<(u64, &[u8]), &'static str> {
    let (number, rest) = payload.split_first_chunk::<8>().ok_or("a record is too short")?;
    Ok((u64::from_le_bytes(*number), rest))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod frame_tests;
