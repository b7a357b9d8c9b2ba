//! Who may stand and who is voted for: each branch, and clusters on networks that are cut in one direction.

use super::canvass::{Ear, LOOK_EVERY, Next, No, Standing};
use super::types::{LogId, NodeId};
use crate::limits;
use openraft::CommittedLeaderId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(1);

fn log(term: u64, index: u64) -> Option<LogId> {
    Some(LogId::new(CommittedLeaderId::new(term, 1), index))
}

/// Awake and looking for so long.
fn listen(ear: &mut Ear, from: Instant, time: Duration) -> Instant {
    let mut now = from;
    while now < from + time {
        now = (now + LOOK_EVERY).min(from + time);
        ear.look(now);
    }
    now
}

#[test]
fn a_voter_says_yes_when_it_hears_nobody_has_voted_for_nobody_else_and_lacks_nothing() {
    let start = Instant::now();
    let mut ear = Ear::new(start);
    let lease = limits::LEADER_LEASE;
    let now = listen(&mut ear, start, lease - TICK);
    assert_eq!(ear.judge((2, log(1, 5)), log(1, 5), now), Err(No::HearsLeader));
    let now = listen(&mut ear, now, TICK);
    assert_eq!(ear.judge((2, log(1, 5)), log(1, 5), now), Ok(()));
    assert_eq!(ear.judge((2, log(2, 1)), log(1, 5), now), Ok(()));
    assert_eq!(ear.judge((2, None), None, now), Ok(()));
    assert_eq!(ear.judge((2, log(1, 4)), log(1, 5), now), Err(No::LongerLog));
    assert_eq!(ear.judge((2, None), log(1, 5), now), Err(No::LongerLog));
    ear.voted(3, now);
    assert_eq!(ear.judge((2, log(1, 5)), log(1, 5), now + lease - TICK), Err(No::Voted(3)));
    assert_eq!(ear.judge((3, log(1, 5)), log(1, 5), now), Ok(()));
    assert_eq!(ear.judge((2, log(1, 5)), log(1, 5), now + lease), Ok(()));
    ear.leader_spoke(now + lease);
    assert_eq!(ear.judge((3, log(1, 5)), log(1, 5), now + lease), Err(No::HearsLeader));
    for no in [No::HearsLeader, No::Voted(3), No::LongerLog, No::Unreached("refused".to_owned())] {
        assert!(no.to_string().starts_with("it"), "{no}");
    }
}

#[test]
fn who_was_frozen_hears_what_came_meanwhile_first() {
    let start = Instant::now();
    let mut ear = Ear::new(start);
    let woken = start + Duration::from_secs(600);
    assert!(ear.look(woken) < limits::LEADER_LEASE);
    assert_eq!(ear.judge((2, None), None, woken), Err(No::HearsLeader));
    // A clock that two threads read out of order takes nothing back.
    let silent = ear.look(woken);
    assert_eq!(ear.look(start), silent);
    let now = listen(&mut ear, woken, limits::LEADER_LEASE);
    assert!(ear.look(now) >= limits::LEADER_LEASE);
}

#[test]
fn a_frontend_stands_alone_at_once_and_among_others_asks_after_the_silence() {
    let set = |ids: &[NodeId]| ids.iter().copied().collect::<BTreeSet<_>>();
    let of = |voters: &[&[NodeId]]| Standing {
        id: 1,
        voters: voters.iter().map(|ids| set(ids)).collect(),
        ..Standing::default()
    };
    let (wait, silent) = (limits::ELECTION_WAIT.0, limits::LEADER_LEASE + limits::ELECTION_WAIT.0);
    assert_eq!(of(&[&[1]]).next(Duration::ZERO, wait), Next::Stand);
    assert_eq!(Standing { stands: true, ..of(&[&[1]]) }.next(silent, wait), Next::Rest);
    assert_eq!(Standing { leads: true, ..of(&[&[1]]) }.next(silent, wait), Next::Rest);
    assert_eq!(of(&[&[1, 2, 3]]).next(silent, wait), Next::Canvass);
    assert_eq!(of(&[&[1, 2, 3]]).next(silent - TICK, wait), Next::Rest);
    assert_eq!(Standing { stands: true, ..of(&[&[1, 2, 3]]) }.next(silent, wait), Next::Canvass);
    assert_eq!(Standing { leads: true, ..of(&[&[1, 2, 3]]) }.next(silent, wait), Next::Rest);
    // Observers, who was dropped, and a frontend that knows no members yet.
    for voters in [&[&[2, 3][..]][..], &[]] {
        assert_eq!(of(voters).next(silent, wait), Next::Rest);
    }
    assert_eq!(of(&[&[1], &[1, 2]]).next(silent, wait), Next::Canvass);
    assert_eq!(of(&[&[1, 2], &[2, 3]]).others(), set(&[2, 3]));
    assert!(of(&[&[1, 2, 3]]).carried_by(&set(&[1, 3])) && !of(&[&[1, 2, 3]]).carried_by(&set(&[1])));
    assert!(!of(&[&[1, 2]]).carried_by(&set(&[1])) && of(&[&[1, 2]]).carried_by(&set(&[1, 2])));
    let joint = of(&[&[1, 2, 3], &[1, 4, 5]]);
    assert!(!joint.carried_by(&set(&[1, 2, 3])) && !joint.carried_by(&set(&[1, 4, 5])));
    assert!(joint.carried_by(&set(&[1, 2, 4])));
}

/// A cluster in steps of one look, with heartbeats and questions that arrive at once or not at all.
struct World {
    now: Instant,
    ears: BTreeMap<NodeId, (Ear, Duration)>,
    /// Who reaches whom.
    ways: BTreeSet<(NodeId, NodeId)>,
    frozen: Option<NodeId>,
    leader: Option<NodeId>,
    elections: u64,
}

const STEPS_PER_HEARTBEAT: u64 = 4;

impl World {
    fn new(rng: &mut StdRng, frontends: u64) -> World {
        let now = Instant::now();
        let ears = (1..=frontends).map(|id| (id, (Ear::new(now), wait(rng)))).collect();
        let all = || (1..=frontends).flat_map(|a| (1..=frontends).map(move |b| (a, b)));
        World { now, ears, ways: all().filter(|(a, b)| a != b).collect(), frozen: None, leader: Some(1), elections: 0 }
    }

    fn quorum(&self) -> usize {
        self.ears.len() / 2 + 1
    }

    fn both_ways(&self, a: NodeId, b: NodeId) -> bool {
        self.ways.contains(&(a, b)) && self.ways.contains(&(b, a))
    }

    /// How many may vote for it: itself and those that reach it and that it reaches.
    fn circle(&self, id: NodeId) -> usize {
        1 + self.ears.keys().filter(|other| self.both_ways(id, **other) && self.frozen != Some(**other)).count()
    }

    fn would_vote(&mut self, voter: NodeId, asker: NodeId) -> bool {
        if self.frozen == Some(voter) || !self.both_ways(asker, voter) {
            return false;
        }
        let now = self.now;
        self.ears.get_mut(&voter).is_some_and(|(ear, _)| ear.judge((asker, None), None, now).is_ok())
    }

    fn step(&mut self, rng: &mut StdRng, number: u64) {
        self.now += LOOK_EVERY;
        let ids: Vec<NodeId> = self.ears.keys().copied().collect();
        if let Some(leader) =
            self.leader.filter(|id| self.frozen != Some(*id) && number.is_multiple_of(STEPS_PER_HEARTBEAT))
        {
            for id in &ids {
                let hears = *id == leader || self.ways.contains(&(leader, *id));
                if hears
                    && self.frozen != Some(*id)
                    && let Some((ear, _)) = self.ears.get_mut(id)
                {
                    ear.leader_spoke(self.now);
                }
            }
        }
        for id in ids.iter().copied() {
            if self.frozen == Some(id) || self.leader == Some(id) {
                continue;
            }
            let voters = vec![ids.iter().copied().collect()];
            let standing = Standing { id, voters, ..Standing::default() };
            let now = self.now;
            let Some((ear, own_wait)) = self.ears.get_mut(&id) else { continue };
            if standing.next(ear.look(now), *own_wait) != Next::Canvass {
                continue;
            }
            *own_wait = wait(rng);
            let mut yes = BTreeSet::from([id]);
            yes.extend(standing.others().into_iter().filter(|voter| self.would_vote(*voter, id)));
            if standing.carried_by(&yes) {
                assert!(self.circle(id) >= self.quorum(), "who is not reached leads");
                for voter in &yes {
                    self.ears.entry(*voter).and_modify(|(ear, _)| ear.voted(id, now));
                }
                self.leader = Some(id);
                self.elections += 1;
            }
        }
    }

    fn run(&mut self, rng: &mut StdRng, time: Duration) {
        for number in 0..(time.as_millis() / LOOK_EVERY.as_millis()) as u64 {
            self.step(rng, number);
        }
    }
}

fn wait(rng: &mut StdRng) -> Duration {
    rng.random_range(limits::ELECTION_WAIT.0..limits::ELECTION_WAIT.1)
}

#[test]
fn nobody_disturbs_a_leader_that_a_majority_hears_and_a_lost_one_is_replaced_by_one_that_is_reached() {
    let settled = limits::LEADER_LEASE + limits::ELECTION_WAIT.1 + Duration::from_secs(1);
    for seed in 0..2_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let frontends = [3, 5][rng.random_range(0..2)];
        let mut world = World::new(&mut rng, frontends);
        // Some do not hear the leader, or nobody; a majority hears it. Others freeze and wake.
        let few = rng.random_range(0..=(frontends - 1) / 2);
        let deaf: BTreeSet<NodeId> = (0..few).map(|_| rng.random_range(2..=frontends)).collect();
        let by_leader_only = rng.random_bool(0.5);
        world.ways.retain(|(from, to)| !deaf.contains(to) || by_leader_only && *from != 1);
        world.run(&mut rng, Duration::from_secs(5));
        world.frozen = Some(rng.random_range(2..=frontends)).filter(|_| deaf.len() < (frontends as usize - 1) / 2);
        world.run(&mut rng, Duration::from_secs(5));
        world.frozen = None;
        world.run(&mut rng, Duration::from_secs(5));
        assert_eq!((world.elections, world.leader), (0, Some(1)), "seed {seed}");
        // The leader is lost.
        world.frozen = Some(1);
        world.leader = None;
        let able = (2..=frontends).any(|id| world.circle(id) >= world.quorum());
        world.run(&mut rng, settled);
        assert_eq!((world.elections, world.leader.is_some()), (u64::from(able), able), "seed {seed}");
    }
}
