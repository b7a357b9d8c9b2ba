//! One frontend with a small Raft: enough of it to put entries, snapshots and crashes in every order that the real one may.

use super::disk::{Disk, Write};
use crate::meta::apply::apply;
use crate::meta::command::Command;
use crate::meta::state::State;
use crate::raft::image;
use crate::raft::types::{Entry, LogId, SnapshotMeta, Vote};
use openraft::{CommittedLeaderId, EntryPayload};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::path::Path;

/// Entries behind which a snapshot is written, and how many are kept.
const SNAPSHOT_EVERY: u64 = 8;
const KEEP: u64 = 2;
/// Chance that a write is torn by a crash.
const CRASH: f64 = 0.01;

#[derive(Clone)]
pub(super) enum Message {
    AskVote { term: u64, last: (u64, u64) },
    Vote { term: u64 },
    Append { term: u64, before: (u64, u64), entries: Vec<Entry>, commit: u64 },
    Appended { term: u64, upto: u64 },
    Refused { term: u64, last: u64 },
    Snapshot { term: u64, bytes: Vec<u8> },
}

#[derive(PartialEq, Clone, Copy)]
enum Role {
    Follower,
    Candidate,
    Leader,
}

pub(super) struct Node {
    id: u64,
    peers: u64,
    pub(super) up: bool,
    pub(super) disk: Disk,
    role: Role,
    vote: Vote,
    votes: BTreeSet<u64>,
    /// Up to where a snapshot reaches: index and term.
    base: (u64, u64),
    purged: Option<LogId>,
    log: Vec<Entry>,
    commit: u64,
    pub(super) applied: u64,
    pub(super) state: State,
    matched: Vec<u64>,
    next: Vec<u64>,
    /// Entries applied since the world last looked.
    pub(super) news: Vec<Entry>,
    pub(super) installed: u64,
    /// Whether writes may tear.
    pub(super) faults: bool,
}

type Sends = Vec<(u64, Message)>;

fn at(entry: &Entry) -> (u64, u64) {
    (entry.log_id.index, entry.log_id.leader_id.term)
}

impl Node {
    pub(super) fn new(id: u64, peers: u64) -> Node {
        Node {
            id,
            peers,
            up: true,
            disk: Disk::default(),
            role: Role::Follower,
            vote: Vote::default(),
            votes: BTreeSet::new(),
            base: (0, 0),
            purged: None,
            log: Vec::new(),
            commit: 0,
            applied: 0,
            state: State::default(),
            matched: vec![0; peers as usize],
            next: vec![1; peers as usize],
            news: Vec::new(),
            installed: 0,
            faults: true,
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.up && self.role == Role::Leader
    }

    fn term(&self) -> u64 {
        self.vote.leader_id().term
    }

    fn last(&self) -> (u64, u64) {
        self.log.last().map_or(self.base, at)
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.log.iter().find(|entry| entry.log_id.index == index).map(|entry| entry.log_id.leader_id.term)
    }

    /// Start again from the disk.
    pub(super) fn restart(&mut self) {
        let found = self.disk.read();
        let (disk, installed, faults) = (std::mem::take(&mut self.disk), self.installed, self.faults);
        *self = Node { disk, installed, faults, ..Node::new(self.id, self.peers) };
        self.vote = found.vote;
        self.purged = found.purged;
        self.base = found.meta.last_log_id.map_or((0, 0), |last| (last.index, last.leader_id.term));
        assert!(found.purged.is_none_or(|purged| purged.index <= self.base.0), "purged behind the snapshot");
        // Entries that the snapshot holds as well stay in the log for others, as long as they were not purged.
        self.log = found.log;
        if let Some(last) =
            found.meta.last_log_id.filter(|last| self.log.last().is_none_or(|l| l.log_id.index < last.index))
        {
            // A snapshot was installed and the log before it not yet purged.
            self.disk.write((self.vote, self.purged), &[Write::Purge(last)], None);
            self.purged = Some(last);
            self.log.clear();
        }
        if let Some(first) = self.log.first() {
            assert!(first.log_id.index <= self.base.0 + 1, "a gap behind the snapshot");
        }
        (self.applied, self.commit, self.state) = (self.base.0, self.base.0, found.state);
    }

    /// Durable, or crashed.
    fn persist(&mut self, writes: &[Write], rng: &mut StdRng) -> bool {
        let crash = rng.random_bool(CRASH) && self.faults;
        self.up = self.disk.write((self.vote, self.purged), writes, crash.then_some(rng));
        self.up
    }

    fn adopt(&mut self, term: u64, rng: &mut StdRng) -> bool {
        if term <= self.term() {
            return true;
        }
        self.role = Role::Follower;
        let vote = Vote::new(term, 0);
        if !self.persist(&[Write::Vote(vote)], rng) {
            return false;
        }
        self.vote = vote;
        true
    }

    /// Nothing was heard of a leader.
    pub(super) fn stand(&mut self, rng: &mut StdRng) -> Sends {
        let vote = Vote::new(self.term() + 1, self.id);
        if !self.persist(&[Write::Vote(vote)], rng) {
            return Vec::new();
        }
        (self.vote, self.role, self.votes) = (vote, Role::Candidate, BTreeSet::from([self.id]));
        self.to_all(Message::AskVote { term: self.term(), last: self.last() })
    }

    fn to_all(&self, message: Message) -> Sends {
        (1..=self.peers).filter(|peer| *peer != self.id).map(|peer| (peer, message.clone())).collect()
    }

    /// Where its log ends, and the state with the log applied up to `index`.
    pub(super) fn everything(&self, index: u64) -> (u64, State) {
        let mut state = self.state.clone();
        for entry in self.log.iter().filter(|entry| (self.applied + 1..=index).contains(&entry.log_id.index)) {
            if let EntryPayload::Normal(command) = &entry.payload {
                apply(&mut state, command);
            }
        }
        (self.last().0, state)
    }

    /// A client's change.
    pub(super) fn propose(&mut self, command: Command, rng: &mut StdRng) -> Option<u64> {
        let entry = self.entry(EntryPayload::Normal(command));
        let index = entry.log_id.index;
        self.append(entry, rng).then_some(index)
    }

    fn entry(&self, payload: EntryPayload<crate::raft::types::TypeConfig>) -> Entry {
        Entry { log_id: LogId::new(CommittedLeaderId::new(self.term(), self.id), self.last().0 + 1), payload }
    }

    fn append(&mut self, entry: Entry, rng: &mut StdRng) -> bool {
        if !self.persist(&[Write::Entry(Box::new(entry.clone()))], rng) {
            return false;
        }
        self.log.push(entry);
        true
    }

    /// A leader tells everybody what it has, from time to time.
    pub(super) fn tick(&mut self) -> Sends {
        (1..=self.peers).filter(|peer| *peer != self.id).map(|peer| (peer, self.for_peer(peer))).collect()
    }

    fn for_peer(&self, peer: u64) -> Message {
        let next = self.next[peer as usize - 1];
        let (term, commit) = (self.term(), self.commit);
        match self.term_at(next - 1) {
            Some(before) => {
                let entries = self.log.iter().filter(|entry| entry.log_id.index >= next).take(5).cloned().collect();
                Message::Append { term, before: (next - 1, before), entries, commit }
            }
            None => {
                Message::Snapshot { term, bytes: self.disk.snapshot().cloned().expect("purged without a snapshot") }
            }
        }
    }

    /// Whether this comes from a leader of this term or a later one.
    pub(super) fn hears_leader(&self, message: &Message) -> bool {
        matches!(message, Message::Append { term, .. } | Message::Snapshot { term, .. } if *term >= self.term())
    }

    pub(super) fn receive(&mut self, from: u64, message: Message, rng: &mut StdRng) -> Sends {
        let (Message::AskVote { term, .. }
        | Message::Vote { term }
        | Message::Append { term, .. }
        | Message::Appended { term, .. }
        | Message::Refused { term, .. }
        | Message::Snapshot { term, .. }) = &message;
        if !self.adopt(*term, rng) || *term < self.term() {
            return Vec::new();
        }
        match message {
            Message::AskVote { last, .. } => self.asked_for_vote(from, last, rng),
            Message::Vote { .. } => self.elected(from, rng),
            Message::Append { before, entries, commit, .. } => self.follow(from, (before, entries, commit), rng),
            Message::Appended { upto, .. } => {
                let at = from as usize - 1;
                self.matched[at] = self.matched[at].max(upto);
                self.next[at] = self.matched[at] + 1;
                self.advance(rng);
                Vec::new()
            }
            Message::Refused { last, .. } => {
                let at = from as usize - 1;
                self.next[at] = self.next[at].saturating_sub(1).min(last + 1).max(self.matched[at] + 1);
                Vec::new()
            }
            Message::Snapshot { bytes, .. } => self.install(from, bytes, rng),
        }
    }

    fn asked_for_vote(&mut self, from: u64, last: (u64, u64), rng: &mut StdRng) -> Sends {
        let voted = self.vote.leader_id().voted_for().unwrap_or(0);
        let newer = (last.1, last.0) >= (self.last().1, self.last().0);
        if !newer || (voted != 0 && voted != from) {
            return Vec::new();
        }
        let vote = Vote::new(self.term(), from);
        if !self.persist(&[Write::Vote(vote)], rng) {
            return Vec::new();
        }
        self.vote = vote;
        vec![(from, Message::Vote { term: self.term() })]
    }

    fn elected(&mut self, from: u64, rng: &mut StdRng) -> Sends {
        self.votes.insert(from);
        if self.role != Role::Candidate || self.votes.len() as u64 * 2 <= self.peers {
            return Vec::new();
        }
        self.role = Role::Leader;
        self.matched = vec![0; self.peers as usize];
        self.next = vec![self.last().0 + 1; self.peers as usize];
        let blank = self.entry(EntryPayload::Blank);
        if self.append(blank, rng) { self.tick() } else { Vec::new() }
    }

    fn follow(
        &mut self,
        from: u64,
        (before, entries, commit): ((u64, u64), Vec<Entry>, u64),
        rng: &mut StdRng,
    ) -> Sends {
        self.role = Role::Follower;
        let known = before.0 <= self.base.0 || self.term_at(before.0) == Some(before.1);
        if !known {
            return vec![(from, Message::Refused { term: self.term(), last: self.last().0.min(before.0) })];
        }
        let upto = before.0 + entries.len() as u64;
        let mut writes = Vec::new();
        let mut kept = self.log.clone();
        for entry in entries.into_iter().filter(|entry| entry.log_id.index > self.base.0) {
            match kept.iter().position(|have| have.log_id.index == entry.log_id.index) {
                Some(at) if kept[at].log_id == entry.log_id => continue,
                Some(at) => {
                    assert!(entry.log_id.index > self.applied, "an applied entry is replaced");
                    kept.truncate(at);
                    writes.push(Write::Truncate(entry.log_id.index));
                }
                None => {}
            }
            writes.push(Write::Entry(Box::new(entry.clone())));
            kept.push(entry);
        }
        if !writes.is_empty() && !self.persist(&writes, rng) {
            return Vec::new();
        }
        self.log = kept;
        self.commit = self.commit.max(commit.min(upto));
        self.apply(rng);
        if self.up { vec![(from, Message::Appended { term: self.term(), upto })] } else { Vec::new() }
    }

    fn advance(&mut self, rng: &mut StdRng) {
        let mut known: Vec<u64> = self.matched.clone();
        known[self.id as usize - 1] = self.last().0;
        known.sort_unstable();
        let majority = known[(self.peers as usize - 1) / 2];
        if majority > self.commit && self.term_at(majority) == Some(self.term()) && self.role == Role::Leader {
            self.commit = majority;
            self.apply(rng);
        }
    }

    fn apply(&mut self, rng: &mut StdRng) {
        while self.applied < self.commit {
            let entry = self.log.iter().find(|entry| entry.log_id.index == self.applied + 1).expect("a gap").clone();
            if let EntryPayload::Normal(command) = &entry.payload {
                apply(&mut self.state, command);
            }
            self.applied += 1;
            self.news.push(entry);
        }
        if self.applied >= self.base.0 + SNAPSHOT_EVERY {
            self.compact(rng);
        }
    }

    fn compact(&mut self, rng: &mut StdRng) {
        let last = self.log.iter().find(|entry| entry.log_id.index == self.applied).expect("applied").log_id;
        // The state is copied, changes go on, and the copy is what is written.
        let copy = self.state.clone();
        let meta = SnapshotMeta { last_log_id: Some(last), snapshot_id: format!("{last}"), ..SnapshotMeta::default() };
        self.disk.write_snapshot(&meta, &copy);
        self.base = (last.index, last.leader_id.term);
        let Some(purge) = self.log.iter().rev().find(|entry| entry.log_id.index + KEEP <= last.index) else { return };
        let purge = purge.log_id;
        if self.persist(&[Write::Purge(purge)], rng) {
            self.purged = Some(purge);
            self.log.retain(|entry| entry.log_id.index > purge.index);
        }
    }

    fn install(&mut self, from: u64, bytes: Vec<u8>, rng: &mut StdRng) -> Sends {
        self.role = Role::Follower;
        let (meta, state) = image::read(&bytes[..], Path::new("received")).unwrap();
        let last = meta.last_log_id.expect("a snapshot of nothing");
        let answer = vec![(from, Message::Appended { term: self.term(), upto: last.index })];
        if last.index <= self.applied {
            return answer;
        }
        // In this order, as openraft does: what contradicts the snapshot, the snapshot, what it holds as well.
        if self.log.iter().any(|entry| entry.log_id.index == last.index && entry.log_id != last) {
            if !self.persist(&[Write::Truncate(last.index)], rng) {
                return Vec::new();
            }
            self.log.retain(|entry| entry.log_id.index < last.index);
        }
        self.disk.install(bytes);
        self.installed += 1;
        (self.base, self.state) = ((last.index, last.leader_id.term), state);
        (self.applied, self.commit) = (last.index, self.commit.max(last.index));
        if !self.persist(&[Write::Purge(last)], rng) {
            return Vec::new();
        }
        self.purged = Some(last);
        self.log.retain(|entry| entry.log_id.index > last.index);
        answer
    }
}
