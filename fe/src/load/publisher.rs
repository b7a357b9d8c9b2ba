//! Tells backends to publish committed loads, while this frontend leads.
//!
//! Driven by the replicated state: whenever entries were applied, loads that are newly committed are queued on the lane of
//! every backend that holds replicas. A lane, one per table and backend, publishes one load at a time in commit order and
//! keeps trying while its backend is away. Answers go into the [`Tracker`]; what it calls ready is made visible.
//!
//! Nothing here is durable. A new leader finds committed loads in the state and starts again; repeating a publish that was
//! done is harmless. Visible loads that a backend missed are found when it registers: from the staged loads it names, and
//! shortly after from the versions it reports. Replicas that this does not help are copied from others ([`super::repair`]).

use super::Loads;
use super::publication::{Publication, Tracker, lagging};
use super::repair::{Ended as Repaired, Repairs};
use crate::backends::Event;
use crate::catalog::transaction::TransactionState;
use crate::meta::command::Command;
use crate::meta::state::State;
use crate::raft::Leadership;
use coffer_proto::ids::{BackendId, TableId, TabletId, TransactionId};
use coffer_proto::v1::task::Work;
use coffer_proto::v1::task_result::Output;
use coffer_proto::{status, v1};
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Publish tasks at a time.
const MAX_RUNNING: usize = 256;
/// Of those, for one backend: one that hangs must not hold up the loads of the others.
const MAX_RUNNING_PER_BACKEND: usize = 32;
/// Loads that wait for one backend and table; beyond, they are found again from what the backend reports.
const MAX_LANE: usize = 10_000;
/// A backend that has not published a load after this long gives its place to others and is asked again.
const PUBLISH_WITHIN: Duration = Duration::from_secs(120);
/// How often a load is tried on a backend that answers with errors.
const MAX_TRIES: u32 = 3;
/// Between tries.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Between looks at deadlines, at loads that wait too long, and at what registered backends report.
const TICK: Duration = Duration::from_secs(5);
/// Ticks between sweeps of old labels.
const PURGE_EVERY_TICKS: u64 = 120;
/// Ticks between new tries of loads that no majority has published.
const WAITING_EVERY_TICKS: u64 = 4;
/// Ticks between looks for replicas that need repair.
const REPAIR_EVERY_TICKS: u64 = 2;
/// Ticks from the registration of a backend to a look at its report.
const REPORT_TICKS: u64 = 2;

/// Publish while this frontend leads, until `shutdown`.
pub(super) async fn run(loads: Loads, mut events: broadcast::Receiver<Event>, shutdown: Shutdown) {
    let mut leadership = loads.shared.meta.leadership();
    loop {
        if leadership.borrow_and_update().leading {
            Publisher::new(loads.clone()).lead(&mut leadership, &mut events, &shutdown).await;
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

type LaneKey = (TableId, BackendId);

/// Loads of one table on their way to one backend, in commit order.
#[derive(Default)]
struct Lane {
    queue: VecDeque<Arc<Publication>>,
    running: bool,
    tries: u32,
    /// Not before.
    after: Option<Instant>,
}

/// A publish task that ended.
struct Ended {
    lane: LaneKey,
    publication: Arc<Publication>,
    result: Result<Option<Output>>,
}

struct Publisher {
    loads: Loads,
    tracker: Tracker,
    lanes: HashMap<LaneKey, Lane>,
    running: JoinSet<Ended>,
    /// Changes of the state under way, by the transaction they are about.
    proposals: JoinSet<TransactionId>,
    proposed: HashSet<TransactionId>,
    /// Backends whose report is looked at in a tick to come.
    registered: HashMap<BackendId, u64>,
    repairs: Repairs,
    ticks: u64,
    /// How often lost replicas were exchanged when it was last looked.
    moved: u64,
}

impl Publisher {
    fn new(loads: Loads) -> Publisher {
        Publisher {
            loads,
            tracker: Tracker::default(),
            lanes: HashMap::new(),
            running: JoinSet::new(),
            proposals: JoinSet::new(),
            proposed: HashSet::new(),
            registered: HashMap::new(),
            repairs: Repairs::default(),
            ticks: 0,
            moved: 0,
        }
    }

    /// Until this frontend stops leading or stops. What runs then is cancelled.
    async fn lead(
        mut self,
        leadership: &mut watch::Receiver<Leadership>,
        events: &mut broadcast::Receiver<Event>,
        shutdown: &Shutdown,
    ) {
        let mut applied = self.loads.shared.meta.applied();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.expect_reports_of_all();
        loop {
            applied.borrow_and_update();
            self.look();
            self.start_tasks();
            self.make_visible();
            let next_try = self.next_try();
            tokio::select! {
                changed = applied.changed() => if changed.is_err() { return },
                Some(ended) = self.running.join_next() => if let Ok(ended) = ended { self.ended(ended) },
                Some(done) = self.proposals.join_next() => if let Ok(id) = done { self.proposed.remove(&id); },
                Some(repaired) = self.repairs.next() => self.repaired(&repaired),
                event = events.recv() => self.happened(event),
                _ = tick.tick() => self.tick(),
                () = sleep_until(next_try) => (),
                changed = leadership.changed() => if changed.is_err() || !leadership.borrow().leading { return },
                () = shutdown.begun() => return,
            }
        }
    }

    /// Take up what was committed, drop what is over.
    fn look(&mut self) {
        let moved = self.loads.shared.moved.load(Ordering::Relaxed);
        if moved != std::mem::replace(&mut self.moved, moved) {
            // Other backends hold the replicas now: all that waits is begun again, which repeats what was done.
            self.tracker = Tracker::default();
        }
        let tracker = &mut self.tracker;
        let new = self.loads.shared.meta.view(|state| {
            for id in tracker.ids() {
                let waits = state.transactions.get(&id).is_some_and(|found| is_committed(&found.state));
                if !waits {
                    tracker.remove(id);
                }
            }
            tracker.forget_dropped(|table, partition| {
                let tables = || state.databases.values().filter_map(|database| database.tables.get(&table));
                tables().any(|table| table.partitions.contains_key(&partition))
            });
            let committed = state.transactions.values().filter(|found| is_committed(&found.state));
            let new = committed.filter(|found| !tracker.knows(found.id));
            let publications = new.filter_map(|found| Publication::new(state, found));
            let mut publications: Vec<Publication> = publications.collect();
            publications.sort_unstable_by_key(|publication| publication.sequence);
            self.lanes.retain(|(_, backend), _| state.backends.contains_key(backend));
            publications
        });
        for publication in new {
            let publication = Arc::new(publication);
            self.tracker.add(Arc::clone(&publication));
            for backend in publication.tasks.keys() {
                self.enqueue(*backend, &publication);
            }
        }
    }

    fn enqueue(&mut self, backend: BackendId, publication: &Arc<Publication>) {
        if !publication.tasks.contains_key(&backend) {
            return;
        }
        let lane = self.lanes.entry((publication.table, backend)).or_default();
        if let Some(queued) = lane.queue.iter_mut().find(|queued| queued.id == publication.id) {
            *queued = Arc::clone(publication);
            return;
        }
        if lane.queue.len() >= MAX_LANE {
            self.registered.insert(backend, self.ticks + REPORT_TICKS);
            return;
        }
        let later = lane.queue.iter().position(|queued| queued.sequence > publication.sequence);
        // The first of a lane that runs stays first.
        let place = later.unwrap_or(lane.queue.len()).max(usize::from(lane.running));
        lane.queue.insert(place, Arc::clone(publication));
    }

    fn start_tasks(&mut self) {
        for key in due(&self.lanes, Instant::now()) {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let Some(publication) = lane.queue.front().cloned() else { continue };
            let Some(task) = publication.tasks.get(&key.1).cloned() else { continue };
            (lane.running, lane.after) = (true, None);
            let backends = self.loads.shared.backends.clone();
            let id = format!("publish/{}/{}", publication.id, key.1);
            self.running.spawn(async move {
                let run = tokio::time::timeout(PUBLISH_WITHIN, backends.run(key.1, id, Work::Publish(task))).await;
                let late = |_| Err(Error::timeout(format!("no result within {} s", PUBLISH_WITHIN.as_secs())));
                Ended { lane: key, publication, result: run.unwrap_or_else(late) }
            });
        }
    }

    fn ended(&mut self, ended: Ended) {
        let id = ended.publication.id;
        let verdict = judge(ended.result);
        if let Verdict::Done(failed) | Verdict::Faulty(Some(failed), _) = &verdict {
            self.tracker.acked(id, ended.lane.1, failed);
        }
        let Some(lane) = self.lanes.get_mut(&ended.lane) else { return };
        lane.running = false;
        let again = match verdict {
            Verdict::Done(_) => false,
            Verdict::Faulty(_, error) => {
                lane.tries += 1;
                let last = lane.tries >= MAX_TRIES;
                tracing::warn!(transaction = %id, backend = %ended.lane.1, %error, last, "publish failed");
                !last
            }
            Verdict::Away(error) => {
                tracing::debug!(transaction = %id, backend = %ended.lane.1, %error, "publish waits");
                true
            }
        };
        if again {
            lane.after = Some(Instant::now() + RETRY_AFTER);
        } else {
            lane.tries = 0;
            lane.queue.retain(|queued| queued.id != id);
            if lane.queue.is_empty() {
                self.lanes.remove(&ended.lane);
            }
        }
    }

    fn make_visible(&mut self) {
        for id in self.tracker.ready() {
            if self.proposed.insert(id) {
                let meta = self.loads.shared.meta.clone();
                self.proposals.spawn(async move {
                    if let Err(error) = meta.propose(Command::MakeVisible { transaction: id, now_ms: now_ms() }).await {
                        tracing::warn!(transaction = %id, %error, "a load cannot be made visible yet");
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                    id
                });
            }
        }
    }

    fn happened(&mut self, event: std::result::Result<Event, broadcast::error::RecvError>) {
        match event {
            Ok(Event::Up { backend, staged }) => {
                for (_, lane) in self.lanes.iter_mut().filter(|((_, at), _)| *at == backend) {
                    lane.after = None;
                }
                self.registered.insert(backend, self.ticks + REPORT_TICKS);
                self.settle(backend, &staged);
            }
            Ok(Event::Down { .. }) | Err(broadcast::error::RecvError::Closed) => (),
            Err(broadcast::error::RecvError::Lagged(_)) => self.expect_reports_of_all(),
        }
    }

    /// Staged loads of a backend that registered: publish what is committed, discard what is not and will not be.
    fn settle(&mut self, backend: BackendId, staged: &[TransactionId]) {
        let (publish, discard) = self.loads.shared.meta.view(|state| {
            let (mut publish, mut discard) = (Vec::new(), Vec::new());
            for id in staged {
                match state.transactions.get(id).map(|found| &found.state) {
                    Some(TransactionState::Prepared | TransactionState::Precommitted { .. }) => (),
                    Some(TransactionState::Committed { .. } | TransactionState::Visible { .. }) => publish.push(*id),
                    Some(TransactionState::Aborted { .. }) | None => discard.push(*id),
                }
            }
            (self.publications(state, &publish), discard)
        });
        publish.iter().for_each(|publication| self.enqueue(backend, publication));
        self.loads.discard(backend, discard);
    }

    fn publications(&self, state: &State, ids: &[TransactionId]) -> Vec<Arc<Publication>> {
        let found = ids.iter().filter_map(|id| state.transactions.get(id));
        found.filter_map(|found| Publication::new(state, found)).map(Arc::new).collect()
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.expire();
        let due: Vec<BackendId> =
            self.registered.iter().filter(|(_, due)| **due <= self.ticks).map(|(backend, _)| *backend).collect();
        for backend in due {
            self.registered.remove(&backend);
            self.catch_up(backend);
        }
        if self.ticks.is_multiple_of(WAITING_EVERY_TICKS) {
            self.retry_waiting(None);
        }
        if self.ticks.is_multiple_of(REPAIR_EVERY_TICKS) {
            let (lanes, backends) = (&self.lanes, &self.loads.shared.backends);
            let publishing = |table, backend| lanes.contains_key(&(table, backend));
            self.loads.shared.meta.view(|state| self.repairs.look(state, backends, publishing));
        }
        if self.ticks.is_multiple_of(PURGE_EVERY_TICKS) {
            self.purge();
        }
    }

    /// Abort loads past their deadline.
    fn expire(&mut self) {
        let now_ms = now_ms();
        let late: Vec<TransactionId> = self.loads.shared.meta.view(|state| {
            let open = state.transactions.values().filter(|found| found.state.is_open());
            open.filter(|found| found.deadline_ms < now_ms).map(|found| found.id).collect()
        });
        for id in late {
            if self.proposed.insert(id) {
                let loads = self.loads.clone();
                self.proposals.spawn(async move {
                    if let Err(error) = loads.abort(id, "timeout: the load did not finish in time").await {
                        tracing::info!(transaction = %id, %error, "a load that is late cannot be aborted");
                    }
                    id
                });
            }
        }
    }

    fn purge(&mut self) {
        let before_ms = now_ms().saturating_sub(self.loads.shared.config.label_keep_s.get() * 1_000);
        let ended = |state: &TransactionState| match state {
            TransactionState::Visible { at_ms, .. } | TransactionState::Aborted { at_ms, .. } => *at_ms < before_ms,
            TransactionState::Prepared | TransactionState::Precommitted { .. } | TransactionState::Committed { .. } => {
                false
            }
        };
        let any = self.loads.shared.meta.view(|state| state.transactions.values().any(|found| ended(&found.state)));
        if any {
            let meta = self.loads.shared.meta.clone();
            self.proposals.spawn(async move {
                if let Err(error) = meta.propose(Command::PurgeTransactions { before_ms }).await {
                    tracing::info!(%error, "old labels stay for now");
                }
                TransactionId::default()
            });
        }
    }

    /// Ask again for committed loads that no majority has published: of this backend, or of all that lack them.
    fn retry_waiting(&mut self, only: Option<BackendId>) {
        let waiting = self.tracker.waiting();
        if let Some((first, lacking)) = waiting.first() {
            let loads = waiting.len();
            tracing::warn!(loads, transaction = %first.id, backends = ?lacking, "committed loads wait for backends");
        }
        for (publication, lacking) in waiting {
            let asked = lacking.iter().filter(|backend| only.is_none_or(|only| only == **backend));
            asked.for_each(|backend| self.enqueue(*backend, &publication));
        }
    }

    /// A backend that is up has reported: publish there what it missed.
    fn catch_up(&mut self, backend: BackendId) {
        let backends = &self.loads.shared.backends;
        if !backends.alive(backend) {
            return;
        }
        let reported = |tablet: TabletId| backends.tablet_stat(tablet, backend).map(|stat| stat.version);
        let missed = self.loads.shared.meta.view(|state| {
            let ids = lagging(state, backend, reported);
            self.publications(state, &ids)
        });
        missed.iter().for_each(|publication| self.enqueue(backend, publication));
        self.retry_waiting(Some(backend));
    }

    /// A replica is whole again up to some version: what came after that is told to it once more.
    fn repaired(&mut self, repaired: &Repaired) {
        if repaired.result.is_ok() {
            self.catch_up(repaired.place.1);
        }
    }

    fn expect_reports_of_all(&mut self) {
        for address in self.loads.shared.backends.addresses() {
            self.registered.insert(BackendId(address.backend_id), self.ticks + REPORT_TICKS);
        }
    }

    fn next_try(&self) -> Option<Instant> {
        self.lanes.values().filter(|lane| !lane.running).filter_map(|lane| lane.after).min()
    }
}

/// The lanes that may start their next task: as many as fit, and of one backend no more than its share.
fn due(lanes: &HashMap<LaneKey, Lane>, now: Instant) -> Vec<LaneKey> {
    let mut busy: HashMap<BackendId, usize> = HashMap::new();
    for ((_, backend), _) in lanes.iter().filter(|(_, lane)| lane.running) {
        *busy.entry(*backend).or_default() += 1;
    }
    let mut free = MAX_RUNNING.saturating_sub(busy.values().sum());
    let mut due = Vec::new();
    for (key, lane) in lanes {
        let running = busy.entry(key.1).or_default();
        let waits = lane.running || lane.queue.is_empty() || lane.after.is_some_and(|after| after > now);
        if free > 0 && !waits && *running < MAX_RUNNING_PER_BACKEND {
            (free, *running) = (free - 1, *running + 1);
            due.push(*key);
        }
    }
    due
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn is_committed(state: &TransactionState) -> bool {
    matches!(state, TransactionState::Committed { .. })
}

/// What the end of a publish task means for its lane.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Done but for these tablets, which will not do it however often they are told.
    Done(HashSet<TabletId>),
    /// Something went wrong that may pass; these tablets are not done, or none is.
    Faulty(Option<HashSet<TabletId>>, Error),
    /// The backend was not reached.
    Away(Error),
}

fn judge(result: Result<Option<Output>>) -> Verdict {
    let failures = match result {
        Ok(Some(Output::Tablets(done))) => done.failures,
        Ok(_) => Vec::new(),
        Err(error) if error.kind().is_transient() || error.kind() == ErrorKind::Cancelled => {
            return Verdict::Away(error);
        }
        Err(error) => return Verdict::Faulty(None, error),
    };
    let failed = failures.iter().map(|failure| TabletId(failure.tablet_id)).collect();
    let error = |failure: &v1::TabletFailure| failure.error.as_ref().map(status::from_wire);
    let errors: Vec<Error> = failures.iter().filter_map(error).collect();
    let lasting = |error: &&Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict);
    match errors.iter().find(|error| !lasting(error)) {
        Some(error) => Verdict::Faulty(Some(failed), error.clone()),
        None => {
            if let Some(error) = errors.first() {
                tracing::warn!(tablets = failures.len(), %error, "replicas missed a load and need repair");
            }
            Verdict::Done(failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::{begin, finish, loads, state_of};

    fn failures(errors: &[Error]) -> Result<Option<Output>> {
        let failure = |(tablet, error): (usize, &Error)| v1::TabletFailure {
            tablet_id: tablet as u64,
            error: Some(status::to_wire(error)),
        };
        let failures = errors.iter().enumerate().map(failure).collect();
        Ok(Some(Output::Tablets(v1::TabletsDone { failures, stats: Vec::new() })))
    }

    #[test]
    fn answers_are_told_apart() {
        let (away, gap, disk) = (Error::unavailable("away"), Error::conflict("gap"), Error::no_space("full"));
        let first = HashSet::from([TabletId(0)]);
        assert_eq!(judge(Ok(None)), Verdict::Done(HashSet::new()));
        assert_eq!(judge(failures(&[])), Verdict::Done(HashSet::new()));
        assert_eq!(judge(failures(std::slice::from_ref(&gap))), Verdict::Done(first));
        let both = HashSet::from([TabletId(0), TabletId(1)]);
        assert_eq!(judge(failures(&[gap, disk.clone()])), Verdict::Faulty(Some(both), disk.clone()));
        assert_eq!(judge(Err(disk.clone())), Verdict::Faulty(None, disk));
        assert_eq!(judge(Err(away.clone())), Verdict::Away(away));
    }

    #[test]
    fn a_backend_that_hangs_takes_only_its_share() {
        let state = crate::load::sample::state(crate::load::sample::table(&[(1, &[10])], &[1, 2]));
        let publication = Publication::new(&state, &crate::load::sample::committed(7, 8, &[(1, 2)])).map(Arc::new);
        let now = Instant::now();
        let (hung, well) = (BackendId(1), BackendId(2));
        let lane = || Lane { queue: publication.iter().cloned().collect(), ..Lane::default() };
        let tables = (0..1_000).map(TableId);
        let mut lanes: HashMap<LaneKey, Lane> = tables.map(|table| ((table, hung), lane())).collect();
        lanes.extend((0..20).map(|table| ((TableId(table), well), lane())));
        let count = |due: &[LaneKey], backend| due.iter().filter(|(_, at)| *at == backend).count();
        let first = due(&lanes, now);
        assert_eq!((count(&first, hung), count(&first, well)), (MAX_RUNNING_PER_BACKEND, 20));
        for key in &first {
            lanes.get_mut(key).unwrap().running = true;
        }
        assert!(due(&lanes, now).is_empty(), "its share is taken");
        for table in 0..20 {
            lanes.insert((TableId(table), well), lane());
        }
        assert_eq!(due(&lanes, now).len(), 20, "the others go on");
        lanes.insert((TableId(0), well), Lane { after: Some(now + RETRY_AFTER), ..lane() });
        lanes.insert((TableId(1), well), Lane::default());
        assert_eq!(due(&lanes, now).len(), 18, "neither before its time nor with nothing to do");
        let many = (0..1_000).map(|table| ((TableId(table), BackendId(table)), lane())).collect();
        assert_eq!(due(&many, now).len(), MAX_RUNNING);
    }

    /// Wait until a transaction is in a state, while the publisher works.
    async fn until(loads: &Loads, plan: &v1::LoadPlan, wanted: &str) {
        let shutdown = Shutdown::new();
        let mut applied = loads.shared.meta.applied();
        let task = shutdown.spawn(run(loads.clone(), loads.shared.backends.events(), shutdown.clone()));
        while state_of(&loads.shared.meta, plan) != wanted {
            applied.changed().await.unwrap();
        }
        shutdown.begin();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_load_past_its_deadline_is_aborted() {
        let (loads, meta) = loads(1).await;
        let plan = loads.begin(&begin("known")).await.unwrap();
        let (db, table) = meta.view(|state| {
            let transaction = &state.transactions[&TransactionId(plan.transaction_id)];
            (transaction.db, transaction.table)
        });
        let late = Command::BeginTransaction { label: "late".to_owned(), db, table, now_ms: 0, deadline_ms: 1 };
        let crate::meta::command::Outcome::Created(id) = meta.propose(late).await.unwrap() else { panic!("no id") };
        until(&loads, &v1::LoadPlan { transaction_id: id, ..v1::LoadPlan::default() }, "ABORTED").await;
        assert_eq!(state_of(&meta, &plan), "PREPARE");
    }

    #[tokio::test]
    async fn a_committed_load_of_a_dropped_table_does_not_wait_for_ever() {
        let (loads, meta) = loads(1).await;
        let plan = loads.begin(&begin("l")).await.unwrap();
        assert_eq!(loads.finish(&finish(&plan, 3)).await, Ok(false));
        let db = meta.view(|state| state.transactions[&TransactionId(plan.transaction_id)].db);
        meta.propose(Command::DropTable { db, table: TableId(plan.table_id) }).await.unwrap();
        until(&loads, &plan, "VISIBLE").await;
    }
}
