//! One round: copies are made, and take the place of replicas in the catalog.
//!
//! A replica that is lost for good is waited for by nobody: its copy is made of the committed version, which may wait for
//! that very replica to become visible. Whoever publishes is told that replicas were exchanged ([`Shared::moved`]).

use super::plan::{self, Move};
use crate::backends::{Kept, Replica};
use crate::load::Loads;
use crate::meta::command::Command;
use crate::meta::drain::{DrainChange, ReplicaSwap};
use crate::meta::state::State;
use coffer_proto::ids::{BackendId, TableId, TabletId};
use coffer_proto::v1;
use coffer_proto::v1::task::Work;
use coffer_stdx::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Copies at a time onto and from one backend, of all rounds together.
const MAX_COPIES_PER_BACKEND: usize = 4;
/// A copy that takes longer has failed.
const COPY_WITHIN: Duration = Duration::from_secs(3_600);
/// How long loads into a table are held at most while its last copies are made.
const HOLD_WITHIN: Duration = Duration::from_secs(10);
/// Of that, how long it is waited for committed loads to become visible, when a lost replica may be what they wait for.
const VISIBLE_WITHIN: Duration = Duration::from_secs(4);

/// Copies at a time, by backend.
#[derive(Debug, Default)]
pub(super) struct Slots {
    backends: Mutex<HashMap<BackendId, Arc<Semaphore>>>,
}

impl Slots {
    fn of(&self, backend: BackendId) -> Arc<Semaphore> {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(backends.entry(backend).or_insert_with(|| Arc::new(Semaphore::new(MAX_COPIES_PER_BACKEND))))
    }

    /// Run when both backends have room; asked for in the same order by all, so that nobody waits in a circle.
    async fn run<T>(&self, pair: (BackendId, BackendId), work: impl Future<Output = T>) -> T {
        let (first, second) = (self.of(pair.0.min(pair.1)), self.of(pair.0.max(pair.1)));
        // A semaphore that nobody closes.
        let _first = first.acquire().await;
        let _second = if pair.0 == pair.1 { None } else { second.acquire().await.ok() };
        work.await
    }
}

/// One round.
pub(super) struct Mover {
    loads: Loads,
    slots: Arc<Slots>,
    together: bool,
    hold_within: Duration,
    visible_within: Duration,
    /// Backends onto which something could not be copied.
    pub(super) faulty: BTreeSet<BackendId>,
    /// Copies that nobody may drop before they are in the catalog, or given up.
    kept: Mutex<Vec<Kept>>,
}

impl Mover {
    pub(super) fn new(loads: Loads, slots: Arc<Slots>, together: bool) -> Mover {
        Mover {
            loads,
            slots,
            together,
            hold_within: HOLD_WITHIN,
            visible_within: VISIBLE_WITHIN,
            faulty: BTreeSet::new(),
            kept: Mutex::default(),
        }
    }

    pub(super) async fn run(&mut self, moves: Vec<Move>) -> Result<()> {
        let wanted: Vec<ReplicaSwap> = moves.iter().map(|found| found.swap).collect();
        let failed = self.copy_and_swap(moves).await?;
        if self.together
            && let Some(error) = failed.values().next()
        {
            return Err(error.clone());
        }
        // What was loaded into meanwhile: first what is new, then the rest while nothing is loaded.
        let late = self.outdated(&wanted, &failed);
        if !late.is_empty() {
            self.copy(&late).await;
            let held = tokio::time::timeout(self.hold_within, self.move_held(late)).await;
            held.unwrap_or_else(|_| Err(Error::timeout("loads did not end while new ones were held")))?;
        }
        match failed.into_values().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// While no load begins.
    async fn move_held(&mut self, moves: Vec<Move>) -> Result<()> {
        let tables: BTreeSet<TableId> = moves.iter().map(|found| found.swap.table).collect();
        let wanted: Vec<ReplicaSwap> = moves.iter().map(|found| found.swap).collect();
        let _hold = self.loads.shared.holds.hold(tables.iter().copied().collect());
        if wanted.iter().all(|swap| swap.lost) {
            // Those that are committed may wait for what is lost.
            let _ = tokio::time::timeout(self.visible_within, self.settled(&tables, false)).await;
            self.settled(&tables, true).await?;
        } else {
            self.settled(&tables, false).await?;
        }
        let moves = self.outdated(&wanted, &BTreeMap::new());
        let failed = self.copy_and_swap(moves).await?;
        if let Some(error) = failed.into_values().next() {
            return Err(error);
        }
        if self.outdated(&wanted, &BTreeMap::new()).is_empty() {
            return Ok(());
        }
        Err(Error::conflict("the tables changed while their replicas were moved"))
    }

    /// Wait until no load into these is open, nor, unless they do not count, waits to become visible.
    async fn settled(&self, tables: &BTreeSet<TableId>, only_open: bool) -> Result<()> {
        let meta = &self.loads.shared.meta;
        let mut applied = meta.applied();
        loop {
            applied.borrow_and_update();
            let open = meta.view(|state| {
                let counts = |state: &crate::catalog::transaction::TransactionState| {
                    if only_open { state.is_open() } else { !state.is_over() }
                };
                let mut open = state.transactions.values().filter(|transaction| counts(&transaction.state));
                open.any(|transaction| tables.contains(&transaction.table))
            });
            if !open {
                return Ok(());
            }
            applied.changed().await.map_err(|_| Error::unavailable("this frontend stops"))?;
        }
    }

    /// Copy, and put what was copied in force; what could not be copied, and why.
    async fn copy_and_swap(&mut self, moves: Vec<Move>) -> Result<BTreeMap<TabletId, Error>> {
        let failed = self.copy(&moves).await;
        let copied = moves.into_iter().map(|found| found.swap).filter(|swap| !failed.contains_key(&swap.tablet));
        let swaps: Vec<ReplicaSwap> = copied.collect();
        if !swaps.is_empty() && (failed.is_empty() || !self.together) {
            let lost = swaps.iter().any(|swap| swap.lost);
            let change = DrainChange::Swap { swaps, together: self.together };
            let done = self.loads.shared.meta.propose(Command::Drain(change)).await;
            if lost {
                // Also when it failed: it may be in the log.
                self.loads.shared.moved.fetch_add(1, Ordering::Relaxed);
            }
            done?;
        }
        Ok(failed)
    }

    async fn copy(&mut self, moves: &[Move]) -> BTreeMap<TabletId, Error> {
        let copies = futures::future::join_all(moves.iter().map(|found| self.copy_one(found))).await;
        let mut failed = BTreeMap::new();
        for (found, result) in moves.iter().zip(copies) {
            if let Err(error) = result {
                self.faulty.insert(found.swap.to);
                failed.insert(found.swap.tablet, error);
            }
        }
        failed
    }

    async fn copy_one(&self, found: &Move) -> Result<()> {
        let swap = &found.swap;
        // An empty tablet is nowhere.
        let Some(source) = found.sources.first() else { return Ok(()) };
        let shared = &self.loads.shared;
        let kept = shared.backends.keep(swap.tablet, swap.to).ok_or_else(|| {
            Error::conflict(format!(
                "an old replica of tablet {} is being removed from backend {}",
                swap.tablet, swap.to
            ))
        })?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        let address = |state: &State, backend: &BackendId| state.backends.get(backend).map(|known| known.address());
        let sources =
            shared.meta.view(|state| found.sources.iter().filter_map(|backend| address(state, backend)).collect());
        let work = Work::Clone(v1::CloneTablet {
            tablet_id: swap.tablet.0,
            table_id: swap.table.0,
            partition_id: swap.partition.0,
            version: swap.version,
            sources,
        });
        // An id of its own each time: the same replica may be copied again.
        let id = format!("clone/{}/{}", swap.tablet, shared.backends.unique());
        let copy = tokio::time::timeout(COPY_WITHIN, shared.backends.run(swap.to, id, work));
        match self.slots.run((swap.to, *source), copy).await {
            Ok(done) => done.map(|_| ()),
            Err(_) => Err(Error::timeout(format!("not copied within {} s", COPY_WITHIN.as_secs()))),
        }
    }

    /// Of these, what is still to be moved, as it is now; without what `failed`. What vanished, moved, or has to stay
    /// because of CANCEL, is not.
    fn outdated(&self, wanted: &[ReplicaSwap], failed: &BTreeMap<TabletId, Error>) -> Vec<Move> {
        let shared = &self.loads.shared;
        shared.meta.view(|state| {
            let wanted: HashMap<TabletId, &ReplicaSwap> = wanted
                .iter()
                .filter(|swap| !failed.contains_key(&swap.tablet))
                .map(|swap| (swap.tablet, swap))
                .collect();
            shared.backends.look(|replica| still_to_move(state, replica, &wanted))
        })
    }
}

/// See [`Mover::outdated`].
fn still_to_move(
    state: &State,
    look: &dyn Fn(TabletId, BackendId) -> Replica,
    wanted: &HashMap<TabletId, &ReplicaSwap>,
) -> Vec<Move> {
    let mut moves = Vec::new();
    for lot in state.lots() {
        for tablet in &lot.partition.tablets {
            let Some(swap) = wanted.get(&tablet.id) else { continue };
            let leaves = swap.lost || state.backends.get(&swap.from).is_some_and(|backend| backend.decommissioned);
            if !leaves || !tablet.replicas.contains(&swap.from) || tablet.replicas.contains(&swap.to) {
                continue;
            }
            let version = if swap.lost { lot.partition.committed_version } else { lot.partition.visible_version };
            // Without a source in reach the copy fails and says so.
            let sources = plan::sources(look, tablet, version, state.backends.keys().copied());
            let sources = sources.unwrap_or_else(|| vec![swap.from]);
            moves.push(Move { swap: ReplicaSwap { version, ..**swap }, sources });
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::{begin, finish, loads};
    use crate::raft::Meta;

    async fn decommission(meta: &Meta, on: bool) -> BackendId {
        let backend = meta.view(|state| *state.backends.keys().next().unwrap());
        meta.propose(Command::Drain(DrainChange::Decommission { backends: vec![backend], on })).await.unwrap();
        backend
    }

    /// A fourth backend, and the moves of the table onto it, when so many replicas are healthy.
    async fn moves(meta: &Meta, from: BackendId) -> Vec<Move> {
        meta.propose(Command::AddBackends { addresses: vec![("c".to_owned(), 1)], now_ms: 0 }).await.unwrap();
        meta.view(|state| {
            let to = *state.backends.keys().next_back().unwrap();
            let targets = (&BTreeSet::from([to]), &BTreeSet::new());
            let plan = plan::plan(state, &|_, _| Replica::Unknown, targets, |_| false);
            let moves = plan.rounds.into_iter().flat_map(|round| round.moves).collect::<Vec<_>>();
            assert!(moves.iter().all(|found| found.swap.from == from && found.sources.is_empty()));
            moves
        })
    }

    fn mover(loads: &Loads) -> Mover {
        Mover::new(loads.clone(), Arc::default(), false)
    }

    #[tokio::test]
    async fn a_round_waits_for_open_loads_and_new_ones_wait_for_it() {
        let (loads, meta) = loads(1).await;
        let backend = decommission(&meta, true).await;
        let moves = moves(&meta, backend).await;
        let plan = loads.begin(&begin("open")).await.unwrap();
        let round = tokio::spawn({
            let (mut mover, moves) = (mover(&loads), moves.clone());
            async move { mover.run(moves).await }
        });
        while !loads.shared.holds.holds_any() {
            tokio::task::yield_now().await;
        }
        assert_eq!(meta.view(|state| state.leftovers(backend).replicas), 2, "a load is open");
        let later = tokio::spawn({
            let loads = loads.clone();
            async move { loads.begin(&begin("later")).await }
        });
        loads.abort(coffer_proto::ids::TransactionId(plan.transaction_id), "enough").await.unwrap();
        round.await.unwrap().unwrap();
        assert_eq!(meta.view(|state| state.leftovers(backend).replicas), 0);
        let later = later.await.unwrap().unwrap();
        assert!(
            later.tablets.iter().all(|tablet| !tablet.backend_ids.contains(&backend.0)),
            "it goes to the new places"
        );
    }

    #[tokio::test]
    async fn a_load_that_stays_open_is_not_waited_for_for_ever_and_cancel_ends_a_round() {
        let (loads, meta) = loads(1).await;
        let backend = decommission(&meta, true).await;
        let moves = moves(&meta, backend).await;
        let open = loads.begin(&begin("open")).await.unwrap();
        let mut hasty = Mover { hold_within: Duration::from_millis(1), ..mover(&loads) };
        let error = hasty.run(moves.clone()).await.unwrap_err();
        assert_eq!(error.kind(), coffer_stdx::ErrorKind::Timeout, "{error}");
        assert!(!loads.shared.holds.holds_any());
        decommission(&meta, false).await;
        mover(&loads).run(moves.clone()).await.unwrap();
        assert_eq!(meta.view(|state| state.leftovers(backend).replicas), 2, "it stays");
        decommission(&meta, true).await;
        assert_eq!(loads.finish(&finish(&open, 3)).await, Ok(false));
        let id = coffer_proto::ids::TransactionId(open.transaction_id);
        meta.propose(Command::MakeVisible { transaction: id, now_ms: 1 }).await.unwrap();
        // The tablets have rows now, and no backend is there to copy them.
        let mut mover = mover(&loads);
        let error = mover.run(moves).await.unwrap_err();
        assert_eq!(error.kind(), coffer_stdx::ErrorKind::Unavailable, "{error}");
        assert_eq!(meta.view(|state| state.leftovers(backend).replicas), 2);
        assert_eq!(mover.faulty.len(), 1);
    }

    #[tokio::test]
    async fn what_is_committed_does_not_hold_up_the_replacement_of_what_is_lost() {
        let (loads, meta) = loads(1).await;
        let backend = meta.view(|state| *state.backends.keys().next().unwrap());
        meta.propose(Command::DropBackends { backends: vec![backend] }).await.unwrap();
        let moves = moves(&meta, backend).await;
        assert!(moves.len() == 2 && moves.iter().all(|found| found.swap.lost));
        let open = loads.begin(&begin("open")).await.unwrap();
        let mut hasty = Mover { hold_within: Duration::from_millis(1), ..mover(&loads) };
        assert!(hasty.run(moves.clone()).await.is_err(), "rows are on their way");
        assert_eq!(loads.finish(&finish(&open, 2)).await, Ok(false));
        let mut mover = Mover { visible_within: Duration::from_millis(1), ..mover(&loads) };
        // Committed and not visible: the copy of the committed version fails, since there is no backend to make it.
        let error = mover.run(moves).await.unwrap_err();
        assert_eq!(error.kind(), coffer_stdx::ErrorKind::Unavailable, "{error}");
        assert_eq!(loads.shared.moved.load(Ordering::Relaxed), 2, "the publisher looks again");
    }
}
