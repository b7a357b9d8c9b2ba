//! Backends keep nothing that nobody claims: the leader compares what they report with the state.
//!
//! After each full tablet report, and soon after the claimed set may have shrunk (DROP, TRUNCATE, the end of a job), the
//! tablets without a claim are dropped. When a backend registers, jobs that are over or forgotten are released there; so
//! a backend that was away while a job ended is cleaned when it comes back. Both are safe to repeat and to lose. Replicas of
//! claimed tablets that lie on too many backends are looked for from time to time ([`super::surplus`]).

use super::claims::{Claims, fingerprint, stale_jobs};
use super::hub::Hub;
use super::keeping::Place;
use super::surplus::Surplus;
use super::{Backends, Presence};
use crate::meta::state::State;
use crate::raft::Meta;
use coffer_proto::ids::{BackendId, JobId, TabletId};
use coffer_proto::v1;
use coffer_proto::v1::task::Work;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Tablets in one DropTablets task.
const DROP_BATCH: usize = 10_000;
/// A backend that takes longer to drop tablets is asked again after its next report.
const DROP_WITHIN: Duration = Duration::from_secs(60);
/// The state changes often; looking for what it no longer claims at most this often is soon enough.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between looks for replicas that lie on too many backends.
const SURPLUS_EVERY: Duration = Duration::from_secs(10);

/// Follow reports and the state until shutdown.
pub(super) async fn follow(meta: Meta, hub: Arc<Hub>, shutdown: Shutdown) {
    let token = shutdown.token();
    token.run_until_cancelled(run(meta, hub)).await;
}

async fn run(meta: Meta, hub: Arc<Hub>) {
    let mut applied = meta.applied();
    let leadership = meta.leadership();
    let backends = Backends { hub: Arc::clone(&hub), connected: true };
    let mut last = 0;
    let mut surplus = Surplus::default();
    let mut next = Instant::now() + SURPLUS_EVERY;
    loop {
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = hub.registry.report_arrived() => (),
            () = tokio::time::sleep_until(next) => (),
        }
        // A leader that was frozen must not drop what it does not know of: the barrier ends when it leads no more, and
        // passes only when a majority agrees that it does.
        if leadership.borrow().leading && meta.barrier().await.is_ok() && leadership.borrow().leading {
            let now = meta.view(fingerprint);
            let reported = hub.registry.take_reported();
            let due = if now == last { reported.into_iter().collect() } else { hub.registry.ids() };
            last = now;
            release(&meta, &backends).await;
            drop_garbage(&meta, &backends, &due).await;
            if Instant::now() >= next {
                let due = surplus.look(&meta.view(State::clone), &hub.registry);
                futures::future::join_all(due.into_iter().map(|place| drop_one_too_many(&backends, place))).await;
            }
        } else {
            surplus = Surplus::default();
        }
        if Instant::now() >= next {
            next = Instant::now() + SURPLUS_EVERY;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Drop what nobody claims on these backends, all at a time. What fails is found again with the next report.
async fn drop_garbage(meta: &Meta, backends: &Backends, due: &[BackendId]) {
    if due.is_empty() {
        return;
    }
    let held: Vec<(BackendId, Vec<TabletId>)> =
        due.iter().map(|backend| (*backend, backends.hub.registry.tablets(*backend))).collect();
    if held.iter().all(|(_, tablets)| tablets.is_empty()) {
        return;
    }
    let claims = meta.view(Claims::of);
    let drops = held.into_iter().flat_map(|(backend, tablets)| {
        let garbage = claims.garbage(tablets);
        let batches = garbage.chunks(DROP_BATCH).map(<[TabletId]>::to_vec);
        let drop = |batch| drop_tablets(backends, backend, format!("drop/0/{}", backends.unique()), batch);
        batches.map(drop).collect::<Vec<_>>()
    });
    futures::future::join_all(drops).await;
}

async fn drop_one_too_many(backends: &Backends, place @ (tablet, backend): Place) {
    let keeping = &backends.hub.keeping;
    if keeping.drop_begins(place) {
        // The id tells the backend what ends before a copy begins.
        drop_tablets(backends, backend, format!("surplus/{tablet}/{}", backends.unique()), vec![tablet]).await;
        keeping.dropped(place);
    }
}

/// Have tablets go to the trash of a backend.
async fn drop_tablets(backends: &Backends, backend: BackendId, id: String, tablets: Vec<TabletId>) {
    let work = Work::Drop(v1::DropTablets { tablet_ids: tablets.iter().map(|tablet| tablet.0).collect() });
    match within(backends.run(backend, id, work)).await {
        Ok(_) => {
            tracing::info!(%backend, tablets = tablets.len(), "dropped tablets that nobody needs");
            backends.hub.registry.forget_tablets(backend, &tablets);
        }
        Err(error) => tracing::warn!(%backend, %error, "could not drop tablets; the next report tries again"),
    }
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::timeout(format!("no result within {} s", DROP_WITHIN.as_secs()));
    tokio::time::timeout(DROP_WITHIN, work).await.map_err(late)?
}

/// Release jobs that backends held when they registered and that are over.
async fn release(meta: &Meta, backends: &Backends) {
    let held = backends.hub.registry.take_jobs_held();
    let stale = meta
        .view(|state| held.into_iter().map(|(backend, jobs)| (backend, stale_jobs(state, &jobs))).collect::<Vec<_>>());
    let releases = stale.into_iter().flat_map(|(backend, jobs)| jobs.into_iter().map(move |job| (backend, job)));
    futures::future::join_all(releases.map(|(backend, job)| release_one(backends, backend, job))).await;
}

async fn release_one(backends: &Backends, backend: BackendId, job: JobId) {
    let work = Work::Release(v1::ReleaseJob { job_id: job.0 });
    match within(backends.run(backend, format!("release/{job}/{}", backends.unique()), work)).await {
        Ok(_) => tracing::info!(%backend, %job, "released a job that is over"),
        // It says so again when it registers the next time.
        Err(error) if backends.presence(backend) != Presence::Up => {
            tracing::debug!(%backend, %job, %error, "a backend left before a job was released");
        }
        Err(error) => tracing::warn!(%backend, %job, %error, "could not release a job"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::database::Database;
    use crate::catalog::map::Map;
    use crate::catalog::table::{Partition, Table, Tablet};
    use coffer_proto::ids::{DbId, PartitionId, TableId};
    use std::collections::BTreeMap;

    fn table(tablet: u64) -> Table {
        let partition = Partition {
            id: PartitionId(3),
            name: "t".to_owned(),
            range: None,
            replication_num: 1,
            visible_version: 1,
            visible_ms: 0,
            committed_version: 1,
            tablets: vec![Tablet { id: TabletId(tablet), replicas: vec![BackendId(1)] }],
        };
        Table {
            id: TableId(2),
            name: "t".to_owned(),
            schema: coffer_table::Schema { columns: Vec::new(), model: coffer_table::Model::Duplicate },
            partition_columns: Vec::new(),
            partitioning: Default::default(),
            bucket_columns: Vec::new(),
            properties: BTreeMap::new(),
            comment: String::new(),
            created_ms: 0,
            had_deletes: false,
            partitions: Map::from([(PartitionId(3), partition)]),
        }
    }

    fn state(tablet: u64) -> State {
        let db = Database { tables: Map::from([(TableId(2), table(tablet))]), ..Database::new(DbId(1), "d") };
        State { next_id: 100, databases: Map::from([(DbId(1), db)]), ..State::default() }
    }

    #[test]
    fn only_what_was_given_out_and_nobody_claims_is_garbage() {
        let claims = Claims::of(&state(4));
        let held = [4, 5, 99, 100, 1_000].map(TabletId);
        assert_eq!(claims.garbage(held), [TabletId(5), TabletId(99)]);
    }

    #[test]
    fn new_tablets_and_dropped_tables_change_the_fingerprint() {
        let before = fingerprint(&state(4));
        assert_ne!(before, fingerprint(&state(5)));
        assert_ne!(before, fingerprint(&State::default()));
        assert_eq!(before, fingerprint(&state(4)));
    }

    #[test]
    fn forgotten_jobs_are_stale_and_those_of_the_future_are_not() {
        assert_eq!(stale_jobs(&state(4), &[JobId(7), JobId(200)]), [JobId(7)]);
    }
}
