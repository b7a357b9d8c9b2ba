//! Replicas leave decommissioned backends, while this frontend leads; then the backends leave the cluster. Replicas that are
//! lost, because their backend was dropped or is dead for too long, are made anew elsewhere in the same way.
//!
//! In rounds ([`plan`], [`mover`]): copies are made on other backends, as repairs make them, and take the place of the
//! replicas in the catalog in one entry of the log, which passes over what was loaded into meanwhile. When that was so, the
//! round copies what is new, then lets no load into its tables begin for a moment, waits for those that are open, copies
//! once more, which now takes little, and tries again. A round that still fails is tried again later. Nothing is removed
//! from a backend that leaves: it goes with its data when neither the catalog, nor the recycle bin, nor a job refers to it.
//! What a backend that was dead, or that stays after all, has too many is removed by `backends::surplus`.
//!
//! Nothing here is durable. A crash before the entry leaves a copy that nobody reads: the next round on that backend takes
//! from it what it can use. A crash after it leaves nothing to do. A new leader begins with what the catalog says; CANCEL
//! makes the entries of rounds that are under way pass over everything, so that what moved stays where it is.

mod mover;
mod plan;

use super::Loads;
use crate::backends::{Backends, Presence};
use crate::meta::command::Command;
use crate::meta::drain::DrainChange;
use crate::meta::state::State;
use crate::raft::Leadership;
use coffer_proto::ids::BackendId;
use coffer_stdx::Result;
use coffer_stdx::shutdown::Shutdown;
use mover::{Mover, Slots};
use plan::{Key, Plan, Round};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Between looks at what there is to do.
const TICK: Duration = Duration::from_secs(2);
/// Rounds at a time.
const MAX_ROUNDS: usize = 8;
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
/// Looks between searches for lost replicas, when nothing was found.
const SEARCH_EVERY_LOOKS: u64 = 5;
/// A backend with less room on its disks takes no replicas, bytes.
const MIN_ROOM_BYTES: u64 = 1 << 30;

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
    /// Whether the last look found something to do.
    unrest: bool,
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
            unrest: true,
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
        self.looks += 1;
        let leaving: Vec<BackendId> = self.loads.shared.meta.view(leaving);
        self.free.retain(|backend, _| leaving.contains(backend));
        if leaving.is_empty() && !self.unrest && !self.looks.is_multiple_of(SEARCH_EVERY_LOOKS) {
            return;
        }
        self.spared.retain(|_, until| *until > now);
        let plan = self.plan(now);
        self.unrest = plan != Plan::default() || !self.keys.is_empty();
        self.after.retain(|_, (after, _)| self.unrest || *after > now);
        self.complain(&plan);
        for round in plan.rounds {
            if self.keys.len() >= MAX_ROUNDS {
                break;
            }
            tracing::info!(key = ?round.key, replicas = round.moves.len(), "moving replicas");
            self.keys.insert(round.key.clone());
            self.running.spawn(go(self.loads.clone(), Arc::clone(&self.slots), round));
        }
        for backend in leaving {
            if self.loads.shared.meta.view(State::clone).leftovers(backend).describe().is_some() {
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
        let (backends, config) = (&self.loads.shared.backends, &self.loads.shared.config);
        let patience = Duration::from_secs(config.tablet_repair_delay_factor_second.get());
        // Of a copy, which is cheap: a look at millions of tablets must not hold up commits.
        let state = self.loads.shared.meta.view(State::clone);
        // Asked before the look, which holds what both need.
        let takes = |backend: &&BackendId| backends.alive(**backend) && has_room(backends, **backend);
        let targets = state.backends.keys().filter(takes).filter(|backend| !self.spared.contains_key(backend));
        let targets = targets.copied().collect();
        let away = |backend: &BackendId| match backends.presence(*backend) {
            Presence::Down { since } => !patience.is_zero() && since >= patience,
            Presence::Up | Presence::Unknown => false,
        };
        let dead = state.backends.keys().copied().filter(away).collect();
        backends.look(|replica| plan::plan(&state, replica, (&targets, &dead), busy))
    }

    fn complain(&mut self, plan: &Plan) {
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

/// Whether a disk of a backend has room for replicas.
fn has_room(backends: &Backends, backend: BackendId) -> bool {
    let disks = backends.status(backend).map(|status| status.disks).unwrap_or_default();
    disks.iter().any(|disk| disk.usable && disk.available_bytes >= MIN_ROOM_BYTES)
}

async fn go(loads: Loads, slots: Arc<Slots>, round: Round) -> Ended {
    let Round { key, moves, together } = round;
    let mut mover = Mover::new(loads, slots, together);
    let result = mover.run(moves).await;
    Ended::Round { key, result, faulty: mover.faulty }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::loads;
    use crate::raft::Meta;
    use coffer_proto::ids::TableId;
    use coffer_stdx::Error;

    async fn decommission(meta: &Meta, on: bool) -> BackendId {
        let backend = meta.view(|state| *state.backends.keys().next().unwrap());
        meta.propose(Command::Drain(DrainChange::Decommission { backends: vec![backend], on })).await.unwrap();
        backend
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
