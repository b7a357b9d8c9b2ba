//! Which replicas of leaving or lost backends go where, and from where they are copied. Pure.
//!
//! The moves of one table make a round. A bucket of a colocation group is a round of its own: its tablets, of all
//! partitions and tables of the group, get the same new backend in one step, so that the group stays together.

use crate::backends::Replica;
use crate::catalog::table::{FIRST_VERSION, Tablet};
use crate::meta::drain::{Lot, ReplicaSwap};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, DbId, TableId, TabletId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Moves in a round of one table.
pub(super) const ROUND_MOVES: usize = 64;

/// What one replica is, as far as the leader knows.
pub(super) type Look<'a> = &'a dyn Fn(TabletId, BackendId) -> Replica;

/// What a round is about; of each one runs at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// A table.
    Table(TableId),
    /// A bucket of a colocation group of a database.
    Bucket(DbId, String, usize),
}

/// A replica to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) swap: ReplicaSwap,
    /// Healthy replicas, the newest first; none are needed of an empty tablet.
    pub(super) sources: Vec<BackendId>,
}

/// Moves that are made together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) key: Key,
    pub(super) moves: Vec<Move>,
    /// All in one step, or each when it is ready.
    pub(super) together: bool,
}

/// What there is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) rounds: Vec<Round>,
    /// Replicas without a healthy source.
    pub(super) sourceless: BTreeSet<TabletId>,
    /// Replicas that no backend can take.
    pub(super) homeless: BTreeSet<TabletId>,
}

/// A tablet of a bucket.
type Member<'a> = (Lot<'a>, &'a Tablet);

/// Plan moves off all leaving backends, off those of the `dead`, and off those that are not in the catalog any more, onto
/// `targets`. What `busy` says is left alone.
pub(super) fn plan(
    state: &State,
    look: Look<'_>,
    (targets, dead): (&BTreeSet<BackendId>, &BTreeSet<BackendId>),
    busy: impl Fn(&Key) -> bool,
) -> Plan {
    let mut planner = Planner::new(state, look, (targets, dead));
    let mut plan = Plan::default();
    let mut rounds: BTreeMap<Key, Round> = BTreeMap::new();
    let mut groups: BTreeMap<(DbId, &str, usize), Vec<Member<'_>>> = BTreeMap::new();
    for lot in state.lots() {
        for (bucket, tablet) in lot.partition.tablets.iter().enumerate() {
            if let (Some(db), Some(group)) = (lot.db, lot.group) {
                groups.entry((db, group, bucket)).or_default().push((lot, tablet));
            } else if !busy(&Key::Table(lot.table)) {
                planner.one((lot, tablet), &mut rounds, &mut plan);
            }
        }
    }
    for ((db, group, bucket), members) in groups {
        let key = Key::Bucket(db, group.to_owned(), bucket);
        if busy(&key) {
            continue;
        }
        match planner.bucket(&members, &mut plan) {
            Bucket::Apart => members.into_iter().for_each(|member| {
                if !busy(&Key::Table(member.0.table)) {
                    planner.one(member, &mut rounds, &mut plan);
                }
            }),
            Bucket::Moves(moves) if moves.is_empty() => {}
            Bucket::Moves(moves) => plan.rounds.push(Round { key, moves, together: true }),
        }
    }
    plan.rounds.extend(rounds.into_values());
    plan
}

/// Healthy replicas of a tablet, the newest first; `None` when it takes one and there is none. Where the catalog knows of none,
/// one that another of the `known` backends has kept is as good.
pub(super) fn sources(
    look: Look<'_>,
    tablet: &Tablet,
    version: u64,
    known: impl Iterator<Item = BackendId>,
) -> Option<Vec<BackendId>> {
    if version <= FIRST_VERSION {
        return Some(Vec::new());
    }
    let healthy = |backend: BackendId| match look(tablet.id, backend) {
        Replica::At(there) if there >= version => Some((there, backend)),
        _ => None,
    };
    let mut found: Vec<(u64, BackendId)> = tablet.replicas.iter().copied().filter_map(healthy).collect();
    if found.is_empty() {
        found = known.filter_map(healthy).collect();
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    (!found.is_empty()).then(|| found.into_iter().map(|(_, backend)| backend).collect())
}

enum Bucket {
    /// To be moved as one; nothing, when all is well or it has to wait.
    Moves(Vec<Move>),
    /// The tablets do not lie together.
    Apart,
}

struct Planner<'a> {
    look: Look<'a>,
    /// To leave, or dead for too long.
    leaving: BTreeSet<BackendId>,
    dead: &'a BTreeSet<BackendId>,
    /// Replicas that each target has or gets; leaving backends are none.
    load: BTreeMap<BackendId, usize>,
    hosts: HashMap<BackendId, &'a str>,
}

impl<'a> Planner<'a> {
    fn new(
        state: &'a State,
        look: Look<'a>,
        (targets, dead): (&BTreeSet<BackendId>, &'a BTreeSet<BackendId>),
    ) -> Planner<'a> {
        let leaving = state.backends.values().filter(|backend| backend.decommissioned).map(|backend| backend.id);
        let leaving = leaving.chain(dead.iter().copied());
        let hosts = state.backends.values().map(|backend| (backend.id, backend.host.as_str())).collect();
        let leaving: BTreeSet<BackendId> = leaving.collect();
        let mut load: BTreeMap<BackendId, usize> = targets.difference(&leaving).map(|backend| (*backend, 0)).collect();
        for replica in state.lots().flat_map(|lot| &lot.partition.tablets).flat_map(|tablet| &tablet.replicas) {
            load.entry(*replica).and_modify(|count| *count += 1);
        }
        Planner { look, leaving, dead, load, hosts }
    }

    /// Whether nothing of a backend can be counted on.
    fn is_lost(&self, backend: BackendId) -> bool {
        self.dead.contains(&backend) || !self.hosts.contains_key(&backend)
    }

    /// The first of these from which a replica has to go; what is lost before what leaves.
    fn first_to_go(&self, replicas: impl Iterator<Item = BackendId> + Clone) -> Option<BackendId> {
        let lost = replicas.clone().find(|backend| self.is_lost(*backend));
        lost.or_else(|| replicas.clone().find(|backend| self.leaving.contains(backend)))
    }

    /// The target that suits replicas which stay on `kept`: none of them, on another host than they when possible, with the
    /// fewest replicas.
    fn target(&self, kept: &BTreeSet<BackendId>) -> Option<BackendId> {
        let taken: BTreeSet<&str> = kept.iter().filter_map(|backend| self.hosts.get(backend).copied()).collect();
        let near = |backend: &BackendId| self.hosts.get(backend).is_some_and(|host| taken.contains(host));
        let free = self.load.iter().filter(|(backend, _)| !kept.contains(backend));
        free.min_by_key(|(backend, load)| (near(backend), **load, **backend)).map(|(backend, _)| *backend)
    }

    /// A tablet that goes by itself; of its replicas one at a time.
    fn one(&mut self, (lot, tablet): Member<'_>, rounds: &mut BTreeMap<Key, Round>, plan: &mut Plan) {
        let Some(from) = self.first_to_go(tablet.replicas.iter().copied()) else { return };
        let key = Key::Table(lot.table);
        if rounds.get(&key).is_some_and(|round| round.moves.len() >= ROUND_MOVES) {
            return;
        }
        let kept = tablet.replicas.iter().copied().filter(|backend| *backend != from).collect();
        let Some(to) = self.target(&kept) else {
            plan.homeless.insert(tablet.id);
            return;
        };
        let Some(found) = self.moved((lot, tablet), from, to) else {
            plan.sourceless.insert(tablet.id);
            return;
        };
        let round = rounds.entry(key.clone()).or_insert_with(|| Round { key, moves: Vec::new(), together: false });
        round.moves.push(found);
    }

    /// A move, counted, if there is something to copy from.
    fn moved(&mut self, (lot, tablet): Member<'_>, from: BackendId, to: BackendId) -> Option<Move> {
        let lost = self.is_lost(from);
        // What is committed may wait for the lost one to become visible.
        let version = if lost { lot.partition.committed_version } else { lot.partition.visible_version };
        let sources = sources(self.look, tablet, version, self.hosts.keys().copied())?;
        *self.load.entry(to).or_default() += 1;
        let (table, partition) = (lot.table, lot.partition.id);
        let swap = ReplicaSwap { table, partition, tablet: tablet.id, version, from, to, lost };
        Some(Move { swap, sources })
    }

    /// The tablets of one bucket of a group.
    fn bucket(&mut self, members: &[Member<'_>], plan: &mut Plan) -> Bucket {
        let replicas = members.iter().flat_map(|(_, tablet)| &tablet.replicas).copied();
        let Some(from) = self.first_to_go(replicas) else { return Bucket::Moves(Vec::new()) };
        let (going, gone): (Vec<Member<'_>>, Vec<Member<'_>>) =
            members.iter().copied().partition(|(_, tablet)| tablet.replicas.contains(&from));
        let Some((_, first)) = going.first() else { return Bucket::Moves(Vec::new()) };
        let place = first.replicas.iter().position(|backend| *backend == from).unwrap_or_default();
        let kept: BTreeSet<BackendId> = first.replicas.iter().copied().filter(|backend| *backend != from).collect();
        let forced = gone.first().and_then(|(_, tablet)| tablet.replicas.get(place).copied());
        // Partitions that were made since others moved lie as the group lay then.
        let mut moved = first.replicas.clone();
        moved[place] = forced.unwrap_or(from);
        let together = going.iter().all(|(_, tablet)| tablet.replicas == first.replicas)
            && gone.iter().all(|(_, tablet)| tablet.replicas == moved);
        if !together {
            return Bucket::Apart;
        }
        let target = match forced {
            Some(to) if kept.contains(&to) || self.leaving.contains(&to) || self.is_lost(to) => return Bucket::Apart,
            Some(to) => Some(to).filter(|to| self.load.contains_key(to)),
            None => self.target(&kept),
        };
        let Some(to) = target else {
            plan.homeless.extend(going.iter().map(|(_, tablet)| tablet.id));
            return Bucket::Moves(Vec::new());
        };
        let mut moves = Vec::with_capacity(going.len());
        for member in going {
            match self.moved(member, from, to) {
                Some(found) => moves.push(found),
                None => drop(plan.sourceless.insert(member.1.id)),
            }
        }
        let all = moves.len() + gone.len() == members.len();
        Bucket::Moves(if all { moves } else { Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::bin::{BinEntry, Dropped};
    use crate::catalog::cluster::Backend;
    use crate::catalog::table::{COLOCATE_WITH, Table};
    use crate::load::sample;
    use coffer_proto::ids::PartitionId;

    fn ids<const N: usize>(ids: [u64; N]) -> BTreeSet<BackendId> {
        ids.into_iter().map(BackendId).collect()
    }

    /// Four backends, two of them on one host; the first is leaving.
    fn state(table: Table) -> State {
        let mut state = sample::state(table);
        for (id, host) in [(1, "a"), (2, "b"), (3, "b"), (4, "c")] {
            let backend = Backend {
                id: BackendId(id),
                host: host.to_owned(),
                port: id as u16,
                added_ms: 0,
                decommissioned: id == 1,
            };
            state.backends.insert(backend.id, backend);
        }
        state
    }

    fn at_version(mut table: Table, version: u64) -> Table {
        for partition in table.partitions.values_mut() {
            (partition.visible_version, partition.committed_version) = (version, version);
        }
        table
    }

    fn healthy(_: TabletId, _: BackendId) -> Replica {
        Replica::At(5)
    }

    fn planned(state: &State, targets: &BTreeSet<BackendId>) -> Plan {
        plan(state, &healthy, (targets, &BTreeSet::new()), |_| false)
    }

    fn targets(plan: &Plan) -> Vec<(u64, u64)> {
        let moves = plan.rounds.iter().flat_map(|round| &round.moves);
        moves.map(|found| (found.swap.tablet.0, found.swap.to.0)).collect()
    }

    #[test]
    fn replicas_go_to_the_least_loaded_that_does_not_hold_them_and_to_another_host_if_possible() {
        let state = state(at_version(sample::table(&[(1, &[10, 11])], &[1, 2]), 5));
        let found = planned(&state, &ids([2, 3, 4]));
        assert_eq!(targets(&found), [(10, 4), (11, 4)], "3 is on the host of 2");
        assert_eq!(found.rounds[0].moves[0].sources, [BackendId(2), BackendId(1)]);
        assert_eq!((&found.rounds[0].key, found.rounds[0].together), (&Key::Table(sample::TABLE), false));
        assert_eq!(targets(&planned(&state, &ids([2, 3]))), [(10, 3), (11, 3)], "if not, on the same");
        let single = state_of_one();
        assert_eq!(targets(&planned(&single, &ids([2, 3, 4]))), [(10, 2), (11, 3), (12, 4)], "spread");
    }

    fn state_of_one() -> State {
        state(at_version(sample::table(&[(1, &[10, 11, 12])], &[1]), 5))
    }

    #[test]
    fn what_cannot_move_is_told_apart() {
        let state = state(at_version(sample::table(&[(1, &[10])], &[1, 2]), 5));
        let found = planned(&state, &ids([2]));
        assert!(found.rounds.is_empty() && found.homeless == BTreeSet::from([TabletId(10)]));
        let behind = |_: TabletId, _: BackendId| Replica::At(4);
        let found = plan(&state, &behind, (&ids([2, 4]), &BTreeSet::new()), |_| false);
        assert!(found.rounds.is_empty() && found.sourceless == BTreeSet::from([TabletId(10)]));
        let found = plan(&state, &healthy, (&ids([2, 4]), &BTreeSet::new()), |key| *key == Key::Table(sample::TABLE));
        assert_eq!(found, Plan::default(), "under way");
        let mut stays = state;
        stays.backends.values_mut().for_each(|backend| backend.decommissioned = false);
        assert_eq!(planned(&stays, &ids([2, 3, 4])), Plan::default());
    }

    #[test]
    fn an_empty_tablet_needs_no_source_and_a_round_is_bounded() {
        let tablets: Vec<u64> = (10..110).collect();
        let state = state(sample::table(&[(1, &tablets)], &[1]));
        let found = plan(&state, &|_, _| Replica::Missing, (&ids([2, 3, 4]), &BTreeSet::new()), |_| false);
        assert_eq!(found.rounds[0].moves.len(), ROUND_MOVES);
        assert!(found.rounds[0].moves.iter().all(|found| found.sources.is_empty() && found.swap.version == 1));
    }

    #[test]
    fn of_two_replicas_that_leave_one_goes_at_a_time() {
        let mut state = state(at_version(sample::table(&[(1, &[10])], &[1, 2]), 5));
        state.backends.get_mut(&BackendId(2)).unwrap().decommissioned = true;
        let found = planned(&state, &ids([3, 4]));
        assert_eq!(found.rounds[0].moves.len(), 1);
        assert_eq!(found.rounds[0].moves[0].swap.from, BackendId(1));
    }

    #[test]
    fn what_is_lost_is_made_anew_from_what_is_committed() {
        let mut table = at_version(sample::table(&[(1, &[10])], &[9, 1, 2]), 5);
        table.partitions.values_mut().for_each(|partition| partition.committed_version = 6);
        let state = state(table);
        let at = |healthy: &'static [u64]| {
            move |_: TabletId, backend: BackendId| match healthy.contains(&backend.0) {
                true => Replica::At(6),
                false => Replica::Unknown,
            }
        };
        let moved = |look: Look<'_>, dead: &BTreeSet<BackendId>| plan(&state, look, (&ids([3, 4]), dead), |_| false);
        let found = moved(&at(&[2]), &BTreeSet::new());
        let first = &found.rounds[0].moves[0];
        assert_eq!((first.swap.from.0, first.swap.to.0, first.swap.version, first.swap.lost), (9, 4, 6, true));
        assert_eq!(first.sources, [BackendId(2)], "9 is not in the catalog; 1 only leaves");
        let found = moved(&at(&[3]), &BTreeSet::new());
        assert_eq!(found.rounds[0].moves[0].sources, [BackendId(3)], "it has kept what nobody else has");
        assert_eq!(moved(&at(&[]), &BTreeSet::new()).sourceless, BTreeSet::from([TabletId(10)]));
        let mut dead = state.clone();
        for partition in dead.databases.values_mut().flat_map(|db| db.tables.values_mut()) {
            partition
                .partitions
                .values_mut()
                .for_each(|part| part.tablets[0].replicas = vec![BackendId(2), BackendId(3)]);
        }
        let found = plan(&dead, &at(&[3]), (&ids([4]), &ids([2])), |_| false);
        let first = &found.rounds[0].moves[0];
        assert_eq!((first.swap.from.0, first.swap.to.0, first.swap.lost), (2, 4, true));
        assert_eq!(plan(&dead, &at(&[3]), (&ids([4]), &BTreeSet::new()), |_| false), Plan::default(), "not for long");
    }

    #[test]
    fn what_is_in_the_recycle_bin_moves_too() {
        let mut state = state(at_version(sample::table(&[(1, &[10])], &[1]), 5));
        let database = state.databases.remove(&sample::DB).unwrap();
        state.bin.insert(1, BinEntry { what: Dropped::Database(database), dropped_ms: 0 });
        assert_eq!(targets(&planned(&state, &ids([2, 3, 4]))), [(10, 2)]);
    }

    /// A table of a group with two partitions of two buckets.
    fn grouped() -> Table {
        let mut table = at_version(sample::table(&[(1, &[10, 11]), (2, &[20, 21])], &[1, 2]), 5);
        table.properties.insert(COLOCATE_WITH.to_owned(), "g".to_owned());
        table
    }

    fn place(table: &mut Table, partition: u64, bucket: usize, replicas: [u64; 2]) {
        let partition = table.partitions.get_mut(&PartitionId(partition)).unwrap();
        partition.tablets[bucket].replicas = replicas.map(BackendId).to_vec();
    }

    #[test]
    fn a_bucket_of_a_group_moves_as_one() {
        let found = planned(&state(grouped()), &ids([2, 3, 4]));
        assert_eq!(found.rounds.len(), 2);
        assert!(found.rounds.iter().all(|round| round.together));
        assert_eq!(found.rounds[0].key, Key::Bucket(sample::DB, "g".to_owned(), 0));
        assert_eq!(targets(&found), [(10, 4), (20, 4), (11, 4), (21, 4)]);
        let bad = |tablet: TabletId, _: BackendId| if tablet.0 == 20 { Replica::Bad } else { Replica::At(5) };
        let found = plan(&state(grouped()), &bad, (&ids([2, 3, 4]), &BTreeSet::new()), |_| false);
        assert_eq!(targets(&found), [(11, 4), (21, 4)], "or not at all");
        assert_eq!(found.sourceless, BTreeSet::from([TabletId(20)]));
    }

    #[test]
    fn a_new_partition_of_a_group_follows_those_that_moved() {
        let mut table = grouped();
        place(&mut table, 1, 0, [3, 2]);
        assert_eq!(targets(&planned(&state(table.clone()), &ids([2, 3, 4]))), [(20, 3), (11, 4), (21, 4)]);
        let found = planned(&state(table.clone()), &ids([2, 4]));
        assert_eq!(found.homeless, BTreeSet::from([TabletId(20)]), "it waits for that backend");
        place(&mut table, 1, 0, [3, 4]);
        let found = planned(&state(table), &ids([2, 3, 4]));
        let apart = found.rounds.iter().find(|round| !round.together).unwrap();
        assert_eq!((&apart.key, apart.moves.len()), (&Key::Table(sample::TABLE), 1), "a group that is not together");
    }
}
