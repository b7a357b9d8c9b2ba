//! Replicas leave decommissioned backends, while this frontend leads; then the backends leave the cluster.
//!
//! In rounds ([`plan`]): copies are made on other backends, as repairs make them, and take the place of the replicas in the
//! catalog in one entry of the log, which passes over what was loaded into meanwhile. When that was so, the round copies
//! what is new, then lets no load into its tables begin for a moment ([`HOLD_WITHIN`]), waits for those that are open,
//! copies once more, which now takes little, and tries again. A round that still fails is tried again later. Nothing is
//! removed from a backend that leaves: it goes with its data when neither the catalog, nor the recycle bin, nor a job
//! refers to it.
//!
//! Nothing here is durable. A crash before the entry leaves a copy that nobody reads: the next round on that backend takes
//! from it what it can use. A crash after it leaves nothing to do. A new leader begins with what the catalog says; CANCEL
//! makes the entries of rounds that are under way pass over everything, so that what moved stays where it is.

mod plan;

use super::Loads;
use crate::backends::Replica;
use crate::meta::command::Command;
use crate::meta::drain::{DrainChange, ReplicaSwap};
use crate::meta::state::State;
use crate::raft::Leadership;
use coffer_proto::ids::{BackendId, TableId, TabletId};
use coffer_proto::v1;
use coffer_proto::v1::task::Work;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result};
use plan::{Key, Move, Plan, Round};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Between looks at what there is to do.
const TICK: Duration = Duration::from_secs(2);
/// Rounds at a time.
const MAX_ROUNDS: usize = 8;
/// Copies at a time onto and from one backend, of all rounds together.
const MAX_COPIES_PER_BACKEND: usize = 4;
/// A copy that takes longer has failed.
const COPY_WITHIN: Duration = Duration::from_secs(3_600);
/// How long loads into a table are held at most while its last copies are made.
const HOLD_WITHIN: Duration = Duration::from_secs(10);
/// After a round that failed; doubled each time, up to 32 times as long.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often that is doubled.
const MAX_DOUBLINGS: u32 = 5;
/// A backend on which a copy failed gets no others for so long.
const SPARE_FOR: Duration = Duration::from_secs(60);
/// For so long nothing must have referred to a backend before it is dropped: a statement that chose its places before the
/// backend was to leave has its entry by then.
const FREE_FOR: Duration = Duration::from_secs(5);
/// Looks between complaints about what cannot move.
const COMPLAIN_EVERY_LOOKS: u64 = 30;

/// Drain while this frontend leads, until `shutdown`.
pub(super) async fn run(loads: Loads, shutdown: Shutdown) {
    let mut leadership = loads.shared.meta.leadership();
    loop {
        if leadership.borrow_and_update().leading {
            Drain::new(loads.clone()).lead(&mut leadership, &shutdown).await;
        }
        if shutdown.is_begun() {
            return;
        }
        if !leadership.borrow().leading {
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = shutdown.begun() => return,
            }
        }
    }
}

/// What runs at a time.
enum Ended {
    Round {
        key: Key,
        result: Result<()>,
        /// Backends onto which something could not be copied.
        faulty: BTreeSet<BackendId>,
    },
    Removed {
        backend: BackendId,
        result: Result<()>,
    },
}

struct Drain {
    loads: Loads,
    slots: Arc<Slots>,
    running: JoinSet<Ended>,
    keys: HashSet<Key>,
    removing: HashSet<BackendId>,
    /// Since when nothing has referred to a backend.
    free: HashMap<BackendId, Instant>,
    /// Not before, and how often it failed.
    after: HashMap<Key, (Instant, u32)>,
    spared: HashMap<BackendId, Instant>,
    looks: u64,
}

impl Drain {
    fn new(loads: Loads) -> Drain {
        Drain {
            loads,
            slots: Arc::default(),
            running: JoinSet::new(),
            keys: HashSet::new(),
            removing: HashSet::new(),
            free: HashMap::new(),
            after: HashMap::new(),
            spared: HashMap::new(),
            looks: 0,
        }
    }

    /// Until this frontend stops leading or stops. What runs then is cancelled.
    async fn lead(mut self, leadership: &mut watch::Receiver<Leadership>, shutdown: &Shutdown) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(ended) = self.running.join_next() => match ended {
                    Ok(ended) => self.ended(ended, Instant::now()),
                    // Its key stays taken until the leader changes.
                    Err(error) => tracing::error!(%error, "a round of a drain panicked"),
                },
                _ = tick.tick() => (),
                changed = leadership.changed() => if changed.is_err() || !leadership.borrow().leading { return },
                () = shutdown.begun() => return,
            }
            self.look(Instant::now());
        }
    }

    /// Begin what there is to do.
    fn look(&mut self, now: Instant) {
        let leaving: Vec<BackendId> = self.loads.shared.meta.view(leaving);
        self.free.retain(|backend, _| leaving.contains(backend));
        if leaving.is_empty() {
            self.after.clear();
            return;
        }
        self.spared.retain(|_, until| *until > now);
        let plan = self.plan(now);
        self.complain(&plan);
        for round in plan.rounds {
            if self.keys.len() >= MAX_ROUNDS {
                break;
            }
            tracing::info!(key = ?round.key, replicas = round.moves.len(), "moving replicas off leaving backends");
            self.keys.insert(round.key.clone());
            self.running.spawn(go(self.loads.clone(), Arc::clone(&self.slots), round));
        }
        for backend in leaving {
            if self.loads.shared.meta.view(|state| state.leftovers(backend).describe().is_some()) {
                self.free.remove(&backend);
                continue;
            }
            let since = *self.free.entry(backend).or_insert(now);
            if now >= since + FREE_FOR && self.removing.insert(backend) {
                let meta = self.loads.shared.meta.clone();
                let command = Command::Drain(DrainChange::Remove { backend });
                self.running
                    .spawn(async move { Ended::Removed { backend, result: meta.propose(command).await.map(|_| ()) } });
            }
        }
    }

    fn plan(&self, now: Instant) -> Plan {
        let (keys, after) = (&self.keys, &self.after);
        let busy = |key: &Key| keys.contains(key) || after.get(key).is_some_and(|(after, _)| *after > now);
        let backends = &self.loads.shared.backends;
        self.loads.shared.meta.view(|state| {
            // Asked before the look, which holds what both need.
            let alive = state.backends.keys().filter(|backend| backends.alive(**backend));
            let targets = alive.filter(|backend| !self.spared.contains_key(backend)).copied().collect();
            backends.look(|replica| plan::plan(state, replica, &targets, busy))
        })
    }

    fn complain(&mut self, plan: &Plan) {
        self.looks += 1;
        if !self.looks.is_multiple_of(COMPLAIN_EVERY_LOOKS) {
            return;
        }
        if let Some(tablet) = plan.homeless.first() {
            tracing::warn!(tablets = plan.homeless.len(), %tablet, "no other living backend can take replicas");
        }
        if let Some(tablet) = plan.sourceless.first() {
            tracing::warn!(tablets = plan.sourceless.len(), %tablet, "no healthy replica to copy is in reach");
        }
    }

    fn ended(&mut self, ended: Ended, now: Instant) {
        match ended {
            Ended::Round { key, result, faulty } => {
                self.keys.remove(&key);
                self.spared.extend(faulty.into_iter().map(|backend| (backend, now + SPARE_FOR)));
                match result {
                    Ok(()) => drop(self.after.remove(&key)),
                    Err(error) => {
                        let failed = self.after.get(&key).map_or(0, |(_, failed)| *failed);
                        let wait = RETRY_AFTER * 2u32.pow(failed.min(MAX_DOUBLINGS));
                        tracing::warn!(?key, %error, wait_s = wait.as_secs(), "replicas could not all be moved yet");
                        self.after.insert(key, (now + wait, failed + 1));
                    }
                }
            }
            Ended::Removed { backend, result } => {
                self.removing.remove(&backend);
                match result {
                    Ok(()) => tracing::info!(%backend, "a backend left: nothing refers to it"),
                    Err(error) => tracing::info!(%backend, %error, "a backend cannot leave yet"),
                }
            }
        }
    }
}

/// The backends that are to leave.
fn leaving(state: &State) -> Vec<BackendId> {
    state.backends.values().filter(|backend| backend.decommissioned).map(|backend| backend.id).collect()
}

/// Copies at a time, by backend.
#[derive(Debug, Default)]
struct Slots {
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
        let _second = second.acquire().await;
        work.await
    }
}

async fn go(loads: Loads, slots: Arc<Slots>, round: Round) -> Ended {
    let Round { key, moves, together } = round;
    let mut mover = Mover { loads, slots, together, hold_within: HOLD_WITHIN, faulty: BTreeSet::new() };
    let result = mover.run(moves).await;
    Ended::Round { key, result, faulty: mover.faulty }
}

/// One round.
struct Mover {
    loads: Loads,
    slots: Arc<Slots>,
    together: bool,
    hold_within: Duration,
    faulty: BTreeSet<BackendId>,
}

impl Mover {
    async fn run(&mut self, moves: Vec<Move>) -> Result<()> {
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
        self.settled(&tables).await?;
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

    /// Wait until no load into these is open or waits to become visible.
    async fn settled(&self, tables: &BTreeSet<TableId>) -> Result<()> {
        let meta = &self.loads.shared.meta;
        let mut applied = meta.applied();
        loop {
            applied.borrow_and_update();
            let open = meta.view(|state| {
                let mut open = state.transactions.values().filter(|transaction| !transaction.state.is_over());
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
            let change = DrainChange::Swap { swaps, together: self.together };
            self.loads.shared.meta.propose(Command::Drain(change)).await?;
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
            let leaves = state.backends.get(&swap.from).is_some_and(|backend| backend.decommissioned);
            if !leaves || !tablet.replicas.contains(&swap.from) || tablet.replicas.contains(&swap.to) {
                continue;
            }
            let version = lot.partition.visible_version;
            // Without a source in reach the copy fails and says so.
            let sources = plan::sources(look, tablet, version).unwrap_or_else(|| vec![swap.from]);
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

    /// A fourth backend, and the moves of the empty table onto it.
    async fn moves(meta: &Meta, from: BackendId) -> Vec<Move> {
        meta.propose(Command::AddBackends { addresses: vec![("c".to_owned(), 1)], now_ms: 0 }).await.unwrap();
        meta.view(|state| {
            let to = *state.backends.keys().next_back().unwrap();
            let plan = plan::plan(state, &|_, _| Replica::Unknown, &BTreeSet::from([to]), |_| false);
            let moves = plan.rounds.into_iter().flat_map(|round| round.moves).collect::<Vec<_>>();
            assert!(moves.iter().all(|found| found.swap.from == from && found.sources.is_empty()));
            moves
        })
    }

    fn mover(loads: &Loads) -> Mover {
        Mover {
            loads: loads.clone(),
            slots: Arc::default(),
            together: false,
            hold_within: HOLD_WITHIN,
            faulty: BTreeSet::new(),
        }
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
    async fn failures_make_a_round_wait_longer_and_a_backend_that_nothing_refers_to_leaves() {
        let (loads, meta) = loads(1).await;
        let (mut drain, now) = (Drain::new(loads), Instant::now());
        let key = Key::Table(TableId(1));
        for wait in [1, 2, 4, 8, 16, 32, 32] {
            let result = Err(Error::unavailable("no"));
            drain.ended(Ended::Round { key: key.clone(), result, faulty: BTreeSet::from([BackendId(1)]) }, now);
            assert_eq!(drain.after[&key].0, now + RETRY_AFTER * wait);
        }
        assert_eq!(drain.spared[&BackendId(1)], now + SPARE_FOR);
        drain.ended(Ended::Round { key, result: Ok(()), faulty: BTreeSet::new() }, now);
        assert!(drain.after.is_empty());
        let backend = decommission(&meta, true).await;
        drain.look(now);
        assert!(drain.running.is_empty(), "no backend is alive, and the table is in the way");
        let (db, table) = meta.view(|state| {
            let database = state.databases.values().next().unwrap();
            (database.id, database.tables.values().next().unwrap().id)
        });
        meta.propose(Command::DropTable { db, table }).await.unwrap();
        drain.look(now);
        assert!(drain.running.is_empty(), "a table may just be on its way to it");
        drain.look(now + FREE_FOR);
        drain.look(now + FREE_FOR);
        assert_eq!(drain.running.len(), 1);
        let ended = drain.running.join_next().await.unwrap().unwrap();
        drain.ended(ended, now);
        assert!(meta.view(|state| !state.backends.contains_key(&backend)) && drain.removing.is_empty());
    }
}
