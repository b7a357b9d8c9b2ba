//! What the log holds at a moment, as its records one after the other make it. Pure; where an entry's bytes are is the
//! caller's business (`P`).

use super::frame::{self, Kind};
use crate::limits;
use crate::raft::types::{Entry, LogId, Vote};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The entries and marks of a log.
#[derive(Debug)]
pub(in crate::raft) struct Book<P> {
    slots: BTreeMap<u64, Slot<P>>,
    pub(in crate::raft) vote: Option<Vote>,
    /// The last entry that is gone because a snapshot holds it.
    pub(in crate::raft) purged: Option<LogId>,
    /// An entry known to be committed; later ones may be as well.
    pub(in crate::raft) committed: Option<LogId>,
    /// Indexes of entries in memory, oldest first; some may be gone.
    cached: VecDeque<u64>,
    cached_bytes: usize,
}

/// One entry: in memory, at its place, or both.
#[derive(Debug, Clone)]
pub(in crate::raft) struct Slot<P> {
    pub(in crate::raft) entry: Option<Arc<Entry>>,
    /// `None`: not durable yet.
    pub(in crate::raft) place: Option<P>,
    pub(in crate::raft) bytes: usize,
}

impl<P> Default for Book<P> {
    fn default() -> Book<P> {
        Book {
            slots: BTreeMap::new(),
            vote: None,
            purged: None,
            committed: None,
            cached: VecDeque::new(),
            cached_bytes: 0,
        }
    }
}

impl<P: Clone> Book<P> {
    /// Take in a record that was read back; `place` is where its payload is.
    pub(in crate::raft) fn replay(&mut self, kind: Kind, payload: &[u8], place: P) -> Result<(), &'static str> {
        match kind {
            Kind::Entry => {
                let (index, _) = frame::numbered(payload)?;
                self.slots.insert(index, Slot { entry: None, place: Some(place), bytes: payload.len() });
            }
            Kind::Truncate => self.truncate(frame::numbered(payload)?.0),
            Kind::Vote => self.vote = Some(decoded(payload)?),
            Kind::Purge => self.purge(decoded(payload)?),
            Kind::Committed => self.committed = Some(decoded(payload)?),
        }
        Ok(())
    }

    /// What is wrong with the entries after a replay: they must be one run that begins behind what is purged.
    pub(in crate::raft) fn gap(&self) -> Option<String> {
        let first = self.purged.map_or(0, |purged| purged.index + 1);
        let (expected, index) = (first..).zip(self.slots.keys()).find(|(expected, index)| *index != expected)?;
        Some(format!("entry {expected} is missing, entry {index} is there"))
    }

    /// An entry that is on its way to the disk.
    pub(in crate::raft) fn append(&mut self, entry: Arc<Entry>, bytes: usize) {
        let index = entry.log_id.index;
        self.forget(index);
        self.slots.insert(index, Slot { entry: Some(entry), place: None, bytes });
        self.cached.push_back(index);
        self.cached_bytes += bytes;
        self.trim();
    }

    /// That entry is durable now, unless another one took its index meanwhile.
    pub(in crate::raft) fn durable(&mut self, entry: &Arc<Entry>, place: P) {
        if let Some(slot) = self.slots.get_mut(&entry.log_id.index)
            && slot.entry.as_ref().is_some_and(|now| Arc::ptr_eq(now, entry))
        {
            slot.place = Some(place);
        }
        self.trim();
    }

    /// Entries from this index on are void.
    pub(in crate::raft) fn truncate(&mut self, from: u64) {
        for slot in self.slots.split_off(&from).values() {
            self.cached_bytes -= slot.entry.as_ref().map_or(0, |_| slot.bytes);
        }
    }

    /// Entries up to this one are void.
    pub(in crate::raft) fn purge(&mut self, to: LogId) {
        let kept = self.slots.split_off(&(to.index + 1));
        for slot in std::mem::replace(&mut self.slots, kept).values() {
            self.cached_bytes -= slot.entry.as_ref().map_or(0, |_| slot.bytes);
        }
        self.purged = self.purged.max(Some(to));
    }

    /// The entries of a range that are there, and their indexes.
    pub(in crate::raft) fn range(&self, from: u64, to: u64) -> Vec<(u64, Slot<P>)> {
        self.slots.range(from..to.max(from)).map(|(index, slot)| (*index, slot.clone())).collect()
    }

    /// The end of the part of a range that takes no more than so many bytes; at least one entry.
    pub(in crate::raft) fn within(&self, from: u64, to: u64, bytes: usize) -> u64 {
        let mut left = bytes;
        for (index, slot) in self.slots.range(from..to.max(from)) {
            if slot.bytes > left && *index != from {
                return *index;
            }
            left = left.saturating_sub(slot.bytes);
        }
        to
    }

    /// The last entry.
    pub(in crate::raft) fn last(&self) -> Option<(u64, Slot<P>)> {
        self.slots.last_key_value().map(|(index, slot)| (*index, slot.clone()))
    }

    fn forget(&mut self, index: u64) {
        if let Some(old) = self.slots.remove(&index) {
            self.cached_bytes -= old.entry.as_ref().map_or(0, |_| old.bytes);
        }
    }

    /// Let the oldest entries go from memory; those not durable yet stay.
    fn trim(&mut self) {
        while self.cached_bytes > limits::LOG_CACHE_BYTES {
            let Some(index) = self.cached.front().copied() else { return };
            if let Some(slot) = self.slots.get_mut(&index) {
                if slot.place.is_none() {
                    return;
                }
                if slot.entry.take().is_some() {
                    self.cached_bytes -= slot.bytes;
                }
            }
            self.cached.pop_front();
        }
        // Indexes of entries that were purged pile up otherwise.
        while self.cached.front().is_some_and(|index| self.purged.is_some_and(|purged| *index <= purged.index)) {
            self.cached.pop_front();
        }
    }
}

fn decoded<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, &'static str> {
    serde_json::from_slice(payload).map_err(|_| "a record cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::{CommittedLeaderId, EntryPayload};

    fn id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1, 1), index)
    }

    fn entry(index: u64) -> Arc<Entry> {
        Arc::new(Entry { log_id: id(index), payload: EntryPayload::Blank })
    }

    fn indexes(book: &Book<u64>) -> Vec<u64> {
        book.range(0, u64::MAX).iter().map(|(index, _)| *index).collect()
    }

    #[test]
    fn records_make_the_book() {
        let mut book = Book::default();
        for index in 0..6_u64 {
            let payload = [&index.to_le_bytes()[..], b"{}"].concat();
            book.replay(Kind::Entry, &payload, index).unwrap();
        }
        book.replay(Kind::Truncate, &4_u64.to_le_bytes(), 0).unwrap();
        book.replay(Kind::Purge, &serde_json::to_vec(&id(1)).unwrap(), 0).unwrap();
        book.replay(Kind::Committed, &serde_json::to_vec(&id(3)).unwrap(), 0).unwrap();
        book.replay(Kind::Vote, &serde_json::to_vec(&Vote::new(3, 2)).unwrap(), 0).unwrap();
        assert_eq!((indexes(&book), book.purged, book.committed), (vec![2, 3], Some(id(1)), Some(id(3))));
        assert_eq!(book.vote, Some(Vote::new(3, 2)));
        assert_eq!(book.gap(), None);
        assert_eq!(book.last().unwrap().0, 3);
        book.replay(Kind::Entry, &[&5_u64.to_le_bytes()[..], b"{}"].concat(), 5).unwrap();
        assert_eq!(book.gap().unwrap(), "entry 4 is missing, entry 5 is there");
        assert!(book.replay(Kind::Vote, b"{", 0).is_err() && book.replay(Kind::Entry, b"123", 0).is_err());
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_durable_stays() {
        let mut book = Book::default();
        let (half, all) = (limits::LOG_CACHE_BYTES / 2 + 1, [entry(1), entry(2), entry(3)]);
        all.iter().for_each(|entry| book.append(Arc::clone(entry), half));
        let in_memory = |book: &Book<u64>| -> Vec<u64> {
            book.range(0, 9).into_iter().filter(|(_, slot)| slot.entry.is_some()).map(|(index, _)| index).collect()
        };
        assert_eq!(in_memory(&book), [1, 2, 3]);
        all[..2].iter().for_each(|entry| book.durable(entry, 0));
        assert_eq!(in_memory(&book), [3]);
        // Another entry took the index: the old one's place is not its place.
        book.truncate(3);
        book.append(entry(3), 1);
        book.durable(&all[2], 0);
        assert!(book.last().unwrap().1.place.is_none());
        assert_eq!((book.within(1, 4, 10), book.within(1, 4, usize::MAX)), (2, 4));
        assert_eq!(book.within(3, 4, 0), 4);
        book.purge(id(3));
        assert_eq!((indexes(&book), book.cached_bytes), (vec![], 0));
    }
}
