//! Loads: transactions from begin to visible.
//!
//! Who loads (a backend on behalf of an HTTP client, INSERT in this process) begins a transaction, writes rows to backends
//! itself, and finishes. Finishing commits through Raft when a majority of replicas of every touched tablet has its rows
//! ([`majority`]); from then on the load will become visible whatever fails. The publisher of the leader tells all backends
//! ([`publisher`], [`publication`]) and makes the load visible when a majority of every tablet has its new version.
//!
//! What a crash leaves: before the commit, staged rows on backends that the deadline aborts and discards. After it, a
//! committed transaction that the next leader publishes. A backend that was away is told when it registers: staged rows
//! are published or discarded, versions it missed are published in order. A replica that never got the rows of a load does
//! not advance past it; it answers no reads of later versions until it is repaired ([`repair`]).
//!
//! A two-phase load stops after its first half: precommitted, its rows durable where a commit needs them, until the client
//! says commit or abort ([`two_phase`]) or its time is over.
//!
//! Modules, bottom to top: `majority`, `label`, `elsewhere`, `holds` | `publication`, `repair` | this file | `delete`,
//! `two_phase`, `publisher`, `drain`, `service`, `http`.

mod delete;
mod drain;
mod elsewhere;
mod holds;
pub mod http;
mod label;
mod majority;
mod publication;
mod publisher;
mod repair;
#[cfg(test)]
mod sample;
pub mod service;
mod two_phase;

use crate::account::{Privilege, Who};
use crate::audit::Audit;
use crate::backends::Backends;
use crate::catalog::table::Table;
use crate::catalog::transaction::TransactionState;
use crate::config::Config;
use crate::error::table_denied;
use crate::login::Login;
use crate::meta::command::{Command, Outcome};
use crate::meta::state::State;
use crate::raft::Meta;
use crate::sql::ast::ObjectName;
use coffer_proto::ids::{BackendId, DbId, PartitionId, TableId, TabletId, TransactionId};
use coffer_proto::v1;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, ErrorKind, Result};
use holds::Holds;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest timeout a load may name, seconds.
const MAX_TIMEOUT_S: u64 = 259_200;
/// How long a backend may take to accept a connection before the next one is tried.
const DOOR_LIMIT: Duration = Duration::from_secs(1);

/// What somebody wants to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Database, by name.
    pub database: String,
    /// Table, by name.
    pub table: String,
    /// Label.
    pub label: String,
    /// Seconds until it must have committed; 0: as configured.
    pub timeout_s: u32,
}

/// Transactions of loads; cloned freely.
#[derive(Clone)]
pub struct Loads {
    shared: Arc<Shared>,
}

struct Shared {
    meta: Meta,
    backends: Backends,
    config: Arc<Config>,
    login: Login,
    audit: Audit,
    shutdown: Shutdown,
    /// The turn of backends in redirects and INSERTs.
    turn: AtomicUsize,
    /// Tables into which no load begins just now.
    holds: Holds,
    /// How often lost replicas may have been exchanged: loads that wait to become visible wait for others then.
    moved: AtomicU64,
}

/// Start the publisher and the drain of leaving and lost backends; ends with `shutdown`.
pub fn start(
    meta: Meta,
    backends: Backends,
    config: Arc<Config>,
    (login, audit): (Login, Audit),
    shutdown: Shutdown,
) -> Loads {
    let loads = Loads::new(meta, backends, config, (login, audit), shutdown.clone());
    shutdown.spawn(publisher::run(loads.clone(), loads.shared.backends.events(), shutdown.clone()));
    shutdown.spawn(drain::run(loads.clone(), shutdown.clone()));
    loads
}

impl Loads {
    fn new(
        meta: Meta,
        backends: Backends,
        config: Arc<Config>,
        (login, audit): (Login, Audit),
        shutdown: Shutdown,
    ) -> Loads {
        let turn = AtomicUsize::new(0);
        let (holds, moved) = (Holds::default(), AtomicU64::new(0));
        Loads { shared: Arc::new(Shared { meta, backends, config, login, audit, shutdown, turn, holds, moved }) }
    }

    /// The replicated state.
    fn meta(&self) -> &Meta {
        &self.shared.meta
    }

    /// Wait until users and tables here are up to date with the cluster.
    pub async fn newest(&self) -> Result<()> {
        self.shared.meta.barrier().await
    }

    /// Who loads, checked for the right to load into a table.
    pub async fn check_login(
        &self,
        (user, password, host): (&str, &str, &str),
        (database, table): (&str, &str),
    ) -> Result<Who> {
        let who = self.shared.login.check(user, password, host).await?;
        self.shared.meta.view(|state| {
            let may = state.rights(&who)?.holds_on_table(Privilege::Load, database, table);
            if may { Ok(()) } else { Err(table_denied("LOAD", &who.name(), table)) }
        })?;
        Ok(who)
    }

    /// Open a transaction and say where its rows go.
    pub async fn begin(&self, begin: &Begin) -> Result<v1::LoadPlan> {
        label::check(&begin.label)?;
        let name = ObjectName { database: Some(begin.database.clone()), name: begin.table.clone() };
        let meta = &self.shared.meta;
        let (db, table) = meta.view(|state| {
            let (database, table) = state.table(&name, None)?;
            Ok::<_, Error>((database.id, table.id))
        })?;
        self.shared.holds.wait(table).await;
        let timeout_s = match u64::from(begin.timeout_s) {
            0 => self.shared.config.load_timeout_s.get(),
            given => given.min(MAX_TIMEOUT_S),
        };
        let now_ms = now_ms();
        let deadline_ms = now_ms + timeout_s * 1_000;
        let command = Command::BeginTransaction { label: begin.label.clone(), db, table, now_ms, deadline_ms };
        let id = match meta.propose(command).await? {
            Outcome::Created(id) => TransactionId(id),
            other => return Err(Error::bug(format!("begin of a load answered {other:?}"))),
        };
        let addresses = self.shared.backends.addresses();
        let plan = meta.view(|state| plan(state, (db, table), addresses));
        let mut plan = plan.ok_or_else(|| Error::conflict(format!("table '{}' was dropped meanwhile", begin.table)))?;
        plan.transaction_id = id.0;
        plan.timeout_s = timeout_s as u32;
        Ok(plan)
    }

    /// Commit when a majority of every touched tablet has its rows, then wait a while for the load to become visible.
    /// False: it is committed and will become visible later, or, of two phases, precommitted. An error other than a transient one ends the transaction.
    pub async fn finish(&self, request: &v1::FinishLoadRequest) -> Result<bool> {
        let id = TransactionId(request.transaction_id);
        let committed = match request.two_phase {
            true => self.precommit(id, request).await,
            false => self.commit(id, request).await,
        };
        match committed {
            Ok(()) if request.two_phase => Ok(false),
            Ok(()) => self.visible(id).await,
            Err(error) if error.kind() == ErrorKind::Timeout || error.kind() == ErrorKind::NotLeader => Err(error),
            Err(error) => {
                // Committed or aborted before: abort refuses the one and repeats the other; the first error counts.
                let _ = self.abort(id, error.message()).await;
                Err(error)
            }
        }
    }

    async fn commit(&self, id: TransactionId, request: &v1::FinishLoadRequest) -> Result<()> {
        let (partitions, tablets) = self.decide(id, request)?;
        let rows = request.rows;
        let command = Command::CommitTransaction { transaction: id, partitions, rows, tablets, now_ms: now_ms() };
        self.shared.meta.propose(command).await.map(|_| ())
    }

    /// What a commit would say.
    fn decide(&self, id: TransactionId, request: &v1::FinishLoadRequest) -> Result<(Vec<PartitionId>, Vec<TabletId>)> {
        let decided = self.shared.meta.view(|state| {
            let transaction = state.transactions.get(&id).ok_or_else(|| unknown(id))?;
            if transaction.state != TransactionState::Prepared {
                // Asked again after a lost answer; `apply` tells the rest.
                return Ok(None);
            }
            let (_, table) = state
                .table_by_id(transaction.db, transaction.table)
                .ok_or_else(|| Error::conflict(format!("the table of transaction {id} was dropped during the load")))?;
            majority::decide(table, &request.tablets).map(Some)
        })?;
        Ok(match decided {
            Some(verdict) => (verdict.partitions, verdict.tablets.into_iter().collect()),
            None => (Vec::new(), Vec::new()),
        })
    }

    async fn visible(&self, id: TransactionId) -> Result<bool> {
        let mut applied = self.shared.meta.applied();
        let wait = async {
            loop {
                applied.borrow_and_update();
                let state = self.shared.meta.view(|state| state.transactions.get(&id).map(|found| found.state.clone()));
                match state {
                    Some(TransactionState::Visible { .. }) => return Ok(true),
                    Some(TransactionState::Committed { .. }) => (),
                    Some(TransactionState::Aborted { reason, .. }) => {
                        return Err(Error::conflict(format!("transaction {id} was aborted: {reason}")));
                    }
                    Some(TransactionState::Prepared | TransactionState::Precommitted { .. }) => {
                        return Err(Error::bug(format!("transaction {id} is not committed")));
                    }
                    None => return Err(unknown(id)),
                }
                if applied.changed().await.is_err() {
                    return Ok(false);
                }
            }
        };
        let limit = Duration::from_millis(self.shared.config.publish_timeout_ms.get());
        tokio::time::timeout(limit, wait).await.unwrap_or(Ok(false))
    }

    /// Give a transaction up and have its rows discarded.
    pub async fn abort(&self, id: TransactionId, reason: &str) -> Result<()> {
        let command = Command::AbortTransaction { transaction: id, reason: reason.to_owned(), now_ms: now_ms() };
        self.shared.meta.propose(command).await?;
        let holders = self.shared.meta.view(|state| {
            let transaction = state.transactions.get(&id)?;
            let (_, table) = state.table_by_id(transaction.db, transaction.table)?;
            Some(holders(table))
        });
        for backend in holders.unwrap_or_default() {
            if self.shared.backends.alive(backend) {
                self.discard(backend, vec![id]);
            }
        }
        Ok(())
    }

    /// As [`Loads::abort`], without waiting for it; if it fails, the deadline does it.
    pub fn abort_later(&self, id: TransactionId, reason: &'static str) {
        let loads = self.clone();
        self.shared.shutdown.spawn(async move {
            if let Err(error) = loads.abort(id, reason).await {
                tracing::info!(transaction = %id, %error, "abort of an abandoned load");
            }
        });
    }

    /// Tell a backend to forget staged rows, in the background. One that is away says when it registers that it has them.
    fn discard(&self, backend: BackendId, ids: Vec<TransactionId>) {
        let Some(first) = ids.first() else { return };
        // An id of its own each time: rows may arrive after an earlier discard of the same load was done.
        let task = format!("discard/{first}/{}", self.shared.backends.unique());
        let backends = self.shared.backends.clone();
        let work = v1::DiscardLoads { transaction_ids: ids.iter().map(|id| id.0).collect() };
        self.shared.shutdown.spawn(async move {
            if let Err(error) = backends.run(backend, task, v1::task::Work::Discard(work)).await {
                tracing::info!(%backend, %error, "staged rows stay until the backend registers again");
            }
        });
    }

    /// A backend to send rows to, in turn, whose `door` (host:port) takes connections now. A backend that just died counts
    /// as alive until its heartbeat is missed; nobody is sent there. Unavailable if none is left.
    pub async fn next_backend(&self, door: fn(&v1::BackendAddress) -> &str) -> Result<v1::BackendAddress> {
        let mut addresses = self.shared.backends.addresses();
        addresses.retain(|address| self.shared.backends.alive(BackendId(address.backend_id)));
        if addresses.is_empty() {
            return Err(Error::unavailable("no backend is alive; see SHOW BACKENDS"));
        }
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
        addresses.rotate_left(turn);
        first_open(addresses, door).await
    }
}

/// The first of these whose `door` takes connections.
async fn first_open(
    addresses: Vec<v1::BackendAddress>,
    door: fn(&v1::BackendAddress) -> &str,
) -> Result<v1::BackendAddress> {
    let mut refused = Vec::new();
    for address in addresses {
        match timeout(DOOR_LIMIT, TcpStream::connect(door(&address))).await {
            Ok(Ok(_)) => return Ok(address),
            Ok(Err(error)) => refused.push(format!("{}: {error}", door(&address))),
            Err(_) => refused.push(format!("{}: no answer in {} ms", door(&address), DOOR_LIMIT.as_millis())),
        }
    }
    Err(Error::unavailable(format!("no backend takes connections ({}); see SHOW BACKENDS", refused.join("; "))))
}

fn unknown(id: TransactionId) -> Error {
    Error::not_found(format!("transaction {id} does not exist"))
}

fn holders(table: &Table) -> BTreeSet<BackendId> {
    table.tablets().flat_map(|(_, tablet)| tablet.replicas.iter().copied()).collect()
}

/// Where the rows of a table go; transaction and timeout are filled in by the caller.
fn plan(state: &State, (db, table): (DbId, TableId), addresses: Vec<v1::BackendAddress>) -> Option<v1::LoadPlan> {
    let (_, table) = state.table_by_id(db, table)?;
    let holders = holders(table);
    let tablets = table.tablets().map(|(_, tablet)| v1::TabletReplicas {
        tablet_id: tablet.id.0,
        backend_ids: tablet.replicas.iter().map(|backend| backend.0).collect(),
    });
    Some(v1::LoadPlan {
        transaction_id: 0,
        table_id: table.id.0,
        schema: serde_json::to_string(&table.schema).ok()?,
        layout: serde_json::to_string(&table.layout()).ok()?,
        tablets: tablets.collect(),
        backends: addresses.into_iter().filter(|known| holders.contains(&BackendId(known.backend_id))).collect(),
        timeout_s: 0,
    })
}

#[cfg(test)]
mod tests;
