//! The frontends, the network between them, a client, and what must be true throughout.

use super::catalog;
use super::node::{Message, Node};
use crate::meta::apply::apply;
use crate::meta::command::Command;
use crate::meta::state::State;
use crate::raft::types::Entry;
use openraft::EntryPayload;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

/// Steps with faults, and steps without until everything has settled.
const STEPS: u64 = 600;
const SETTLE: u64 = 4_000;

pub(super) struct World {
    rng: StdRng,
    now: u64,
    nodes: Vec<Node>,
    /// By time of arrival and number: receiver, sender, message.
    network: BTreeMap<(u64, u64), (u64, u64, Message)>,
    sent: u64,
    /// When each stands for election, if it hears nothing.
    patience: Vec<u64>,
    faults: bool,
    /// What was applied at each index, and the state after it.
    truth: Vec<(Entry, State)>,
    proposed: BTreeMap<u64, Command>,
    done: Done,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) acknowledged: u64,
    pub(super) crashes: u64,
    pub(super) installed: u64,
    applied: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = if rng.random_bool(0.3) { 5 } else { 3 };
        World {
            nodes: (1..=count).map(|id| Node::new(id, count)).collect(),
            patience: (0..count).map(|_| rng.random_range(10..40)).collect(),
            rng,
            now: 0,
            network: BTreeMap::new(),
            sent: 0,
            faults: true,
            truth: Vec::new(),
            proposed: BTreeMap::new(),
            done: Done::default(),
        }
    }

    pub(super) fn run(mut self) -> Done {
        for _ in 0..STEPS {
            self.step();
        }
        self.faults = false;
        self.nodes.iter_mut().for_each(|node| node.faults = false);
        let mut left = SETTLE;
        while !self.settled() {
            assert!(left > 0, "it does not settle");
            left -= 1;
            self.step();
        }
        self.check_end();
        self.done.installed = self.nodes.iter().map(|node| node.installed).sum();
        self.done.applied = self.truth.len();
        self.done
    }

    fn step(&mut self) {
        self.now += 1;
        if self.faults {
            self.trouble();
        } else {
            self.wake_all();
        }
        while let Some(first) = self.network.first_entry().filter(|first| first.key().0 <= self.now) {
            let (to, from, message) = first.remove();
            let at = to as usize - 1;
            if !self.nodes[at].up {
                continue;
            }
            // An old leader's word does not count: who listened to it would ignore it and never stand either.
            if self.nodes[at].hears_leader(&message) {
                self.patience[at] = self.now + self.rng.random_range(15..45);
            }
            let sends = self.nodes[at].receive(from, message, &mut self.rng);
            self.after(at, sends);
        }
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            if node.leads() {
                let sends = if self.now.is_multiple_of(3) { node.tick() } else { Vec::new() };
                self.after(at, sends);
            } else if node.up && self.now >= self.patience[at] {
                self.patience[at] = self.now + self.rng.random_range(15..45);
                let sends = node.stand(&mut self.rng);
                self.after(at, sends);
            }
        }
        if self.faults && self.rng.random_bool(0.15) {
            self.client();
        }
    }

    fn trouble(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].up && self.rng.random_bool(0.002) {
                self.nodes[at].up = false;
                self.done.crashes += 1;
            } else if !self.nodes[at].up && self.rng.random_bool(0.05) {
                self.start(at);
            }
        }
    }

    fn wake_all(&mut self) {
        for at in 0..self.nodes.len() {
            if !self.nodes[at].up {
                self.start(at);
            }
        }
    }

    fn start(&mut self, at: usize) {
        self.nodes[at].restart();
        self.patience[at] = self.now + self.rng.random_range(15..45);
        let (applied, state) = (self.nodes[at].applied as usize, &self.nodes[at].state);
        // What comes out of a snapshot is what was applied up to there.
        assert!(applied == 0 || self.truth[applied - 1].1 == *state, "snapshot of {applied}");
    }

    fn client(&mut self) {
        let leaders: Vec<usize> = (0..self.nodes.len()).filter(|at| self.nodes[*at].leads()).collect();
        if leaders.is_empty() {
            return;
        }
        let at = leaders[self.rng.random_range(0..leaders.len())];
        let command = catalog::any(&self.nodes[at].state, &mut self.rng);
        if let Some(index) = self.nodes[at].propose(command.clone(), &mut self.rng) {
            self.proposed.insert(index, command);
        }
        self.after(at, Vec::new());
    }

    fn after(&mut self, at: usize, sends: Vec<(u64, Message)>) {
        if !self.nodes[at].up {
            self.done.crashes += 1;
        }
        let news = std::mem::take(&mut self.nodes[at].news);
        let known = news.len() as u64;
        for (entry, back) in news.into_iter().zip((0..known).rev()) {
            self.applied(at, entry, back == 0);
        }
        let from = at as u64 + 1;
        for (to, message) in sends {
            let copies = match (self.faults, self.rng.random_range(0..20)) {
                (true, 0 | 1) => 0,
                (true, 2) => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let delay = if self.faults { self.rng.random_range(1..12) } else { 1 };
                self.sent += 1;
                self.network.insert((self.now + delay, self.sent), (to, from, message.clone()));
            }
        }
    }

    /// A frontend applied an entry; the state is as of `last` of a run of them.
    fn applied(&mut self, at: usize, entry: Entry, last: bool) {
        let index = entry.log_id.index as usize;
        if self.nodes[at].leads()
            && self
                .proposed
                .get(&entry.log_id.index)
                .is_some_and(|command| matches!(&entry.payload, EntryPayload::Normal(applied) if applied == command))
        {
            self.done.acknowledged += 1;
        }
        if self.truth.len() < index {
            assert_eq!(self.truth.len() + 1, index, "an entry was skipped");
            let mut state = self.truth.last().map_or_else(State::default, |(_, state)| state.clone());
            if let EntryPayload::Normal(command) = &entry.payload {
                apply(&mut state, command);
            }
            catalog::check(&state);
            self.truth.push((entry, state));
        } else {
            assert_eq!(self.truth[index - 1].0, entry, "two entries at one index");
        }
        if last {
            assert!(self.truth[index - 1].1 == self.nodes[at].state, "equal prefixes, other states, at {index}");
        }
    }

    fn settled(&self) -> bool {
        let applied: BTreeSet<u64> = self.nodes.iter().map(|node| node.applied).collect();
        let one_leads = self.nodes.iter().filter(|node| node.leads()).count() == 1;
        self.nodes.iter().all(|node| node.up)
            && one_leads
            && applied.len() == 1
            && applied.contains(&(self.truth.len() as u64))
    }

    /// Everybody has everything, also after one more start from the disk.
    fn check_end(&mut self) {
        let Some((_, state)) = self.truth.last().cloned() else { return };
        for at in 0..self.nodes.len() {
            assert!(self.nodes[at].state == state);
            self.start(at);
            // Entries that nobody applied yet may stand behind.
            let (last, everything) = self.nodes[at].everything(self.truth.len() as u64);
            assert!(last >= self.truth.len() as u64 && everything == state);
        }
    }
}
