//! A disk: files of the log as bytes, a snapshot, and crashes that tear the write at hand.

use crate::meta::state::State;
use crate::raft::image;
use crate::raft::log::{Batch, Book, HEAD_BYTES, Head, Kind, acknowledgement, head, numbered, read_head, scan};
use crate::raft::types::{Entry, LogId, SnapshotMeta, Vote};
use rand::Rng;
use rand::rngs::StdRng;
use std::path::Path;

/// A file is closed when it is longer.
const FILE_BYTES: usize = 3_000;

#[derive(Default)]
pub(super) struct Disk {
    /// Oldest first: its bytes and the last entry in it.
    files: Vec<(Vec<u8>, u64)>,
    next: u64,
    fresh: bool,
    snapshot: Option<Vec<u8>>,
}

/// One thing to make durable.
pub(super) enum Write {
    Entry(Box<Entry>),
    Vote(Vote),
    Truncate(u64),
    Purge(LogId),
}

/// What a start finds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) vote: Vote,
    pub(super) purged: Option<LogId>,
    pub(super) log: Vec<Entry>,
    pub(super) meta: SnapshotMeta,
    pub(super) state: State,
}

impl Disk {
    /// Write a batch. With `crash` the write tears somewhere, and false comes back.
    pub(super) fn write(
        &mut self,
        (vote, purged): (Vote, Option<LogId>),
        writes: &[Write],
        crash: Option<&mut StdRng>,
    ) -> bool {
        if self.files.last().is_none_or(|(bytes, _)| bytes.len() > FILE_BYTES) {
            self.next = self.next.max(1);
            self.files.push((head(Head { salt: self.next * 77, first: self.next }).to_vec(), 0));
            self.fresh = true;
        }
        let mut batch = Batch::default();
        if self.fresh {
            mark(&mut batch, Kind::Vote, &vote);
            purged.inspect(|purged| mark(&mut batch, Kind::Purge, purged));
        }
        let mut last = 0;
        for write in writes {
            match write {
                Write::Entry(entry) => {
                    let json = serde_json::to_vec(entry).unwrap();
                    batch.add(Kind::Entry, (&entry.log_id.index.to_le_bytes(), &json));
                    last = last.max(entry.log_id.index);
                }
                Write::Vote(vote) => mark(&mut batch, Kind::Vote, vote),
                Write::Truncate(from) => drop(batch.add(Kind::Truncate, (&from.to_le_bytes(), b""))),
                Write::Purge(to) => mark(&mut batch, Kind::Purge, to),
            }
        }
        let file = self.files.last_mut().unwrap();
        let salt = read_head(&file.0, "f").unwrap().salt;
        let bytes = batch.seal(salt, self.next);
        if let Some(rng) = crash {
            tear(&mut file.0, bytes, rng);
            return false;
        }
        file.0.extend(bytes);
        file.0.extend(acknowledgement(salt, self.next));
        file.1 = file.1.max(last);
        (self.next, self.fresh) = (self.next + 1, false);
        let purged = writes.iter().rev().find_map(|write| match write {
            Write::Purge(to) => Some(to.index),
            _ => None,
        });
        while self.files.len() > 1 && purged.is_some_and(|purged| self.files[0].1 <= purged) {
            self.files.remove(0);
        }
        true
    }

    pub(super) fn write_snapshot(&mut self, meta: &SnapshotMeta, state: &State) {
        let mut bytes = Vec::new();
        image::write(&mut bytes, meta, state).unwrap();
        self.snapshot = Some(bytes);
    }

    pub(super) fn install(&mut self, bytes: Vec<u8>) {
        self.snapshot = Some(bytes);
    }

    pub(super) fn snapshot(&self) -> Option<&Vec<u8>> {
        self.snapshot.as_ref()
    }

    /// Start from what is there: torn tails are cut, anything else that is wrong is a failure of the test.
    pub(super) fn read(&mut self) -> Found {
        let mut found = Found::default();
        if let Some(snapshot) = &self.snapshot {
            (found.meta, found.state) = image::read(&snapshot[..], Path::new("snapshot")).unwrap();
        }
        let mut book: Book<Vec<u8>> = Book::default();
        let count = self.files.len();
        for (at, (bytes, last)) in self.files.iter_mut().enumerate() {
            let head = read_head(bytes, "f").unwrap();
            assert!(at == 0 || head.first == self.next, "a file is missing");
            let scanned = scan(bytes, head, at + 1 == count).unwrap();
            *last = 0;
            for record in &scanned.records {
                if record.kind == Kind::Entry {
                    *last = (*last).max(numbered(record.payload).unwrap().0);
                }
                book.replay(record.kind, record.payload, record.payload.to_vec()).unwrap();
            }
            (self.next, self.fresh) = (scanned.next, scanned.records.is_empty());
            let end = scanned.end as usize;
            bytes.truncate(end.max(HEAD_BYTES));
        }
        // Entries begin at 1 here, so before the first purge there is none at 0.
        assert!(book.purged.is_none() || book.gap().is_none(), "{:?}", book.gap());
        found.vote = book.vote.unwrap_or_default();
        found.purged = book.purged;
        for (_, slot) in book.range(0, u64::MAX) {
            found.log.push(serde_json::from_slice(numbered(&slot.place.unwrap()).unwrap().1).unwrap());
        }
        found
    }
}

fn mark<T: serde::Serialize>(batch: &mut Batch, kind: Kind, value: &T) {
    batch.add(kind, (&serde_json::to_vec(value).unwrap(), b""));
}

/// A part of the bytes is there, another is zeros, the rest is not.
fn tear(file: &mut Vec<u8>, mut bytes: Vec<u8>, rng: &mut StdRng) {
    bytes.truncate(rng.random_range(0..=bytes.len()));
    if !bytes.is_empty() && rng.random_bool(0.3) {
        let from = rng.random_range(0..bytes.len());
        let to = rng.random_range(from..bytes.len());
        bytes[from..to].fill(0);
    }
    file.extend(bytes);
    file.extend(vec![0; rng.random_range(0..40)]);
}
