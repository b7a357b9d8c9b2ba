//! Read-only questions asked of the state, answered with the errors that clients know.

use crate::catalog::cluster::{Backend, BrokerGroup, Frontend, Repository};
use crate::catalog::database::Database;
use crate::catalog::table::{Partition, Table, Tablet};
use crate::catalog::transaction::{Transaction, TransactionState};
use crate::error::{self, Error, Result};
use crate::meta::state::State;
use crate::sql::ast::ObjectName;
use coffer_proto::ids::{DbId, JobId, RepositoryId, TableId, TabletId};
use std::collections::BTreeSet;

/// A job that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningJob {
    /// Its id.
    pub id: JobId,
    /// Its label.
    pub label: String,
    /// BACKUP or RESTORE.
    pub kind: JobKind,
}

/// Which statement made a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// BACKUP.
    Backup,
    /// RESTORE.
    Restore,
}

/// Where a tablet belongs.
#[derive(Debug, Clone, Copy)]
pub struct TabletPlace<'a> {
    /// Database.
    pub database: &'a Database,
    /// Table.
    pub table: &'a Table,
    /// Partition.
    pub partition: &'a Partition,
    /// The tablet.
    pub tablet: &'a Tablet,
    /// Its bucket number.
    pub bucket: usize,
}

impl State {
    /// The database with this name.
    pub fn find_database(&self, name: &str) -> Option<&Database> {
        self.databases.values().find(|database| database.name == name)
    }

    /// The database with this name, or error 1049.
    pub fn database(&self, name: &str) -> Result<&Database> {
        self.find_database(name).ok_or_else(|| error::unknown_database(name))
    }

    /// The database given in a statement, else the session's; errors 1049 and 1046.
    pub fn database_or_current(&self, given: Option<&str>, current: Option<&str>) -> Result<&Database> {
        self.database(given.or(current).ok_or_else(error::no_database)?)
    }

    /// A table by name; errors 1049, 1046 and 1051.
    pub fn table(&self, name: &ObjectName, current: Option<&str>) -> Result<(&Database, &Table)> {
        let database = self.database_or_current(name.database.as_deref(), current)?;
        let table = database.table(&name.name).ok_or_else(|| error::unknown_table(&name.name))?;
        Ok((database, table))
    }

    /// A table by ids.
    pub fn table_by_id(&self, db: DbId, table: TableId) -> Option<(&Database, &Table)> {
        let database = self.databases.get(&db)?;
        Some((database, database.tables.get(&table)?))
    }

    /// The repository with this name.
    pub fn find_repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.values().find(|repository| repository.name == name)
    }

    /// The repository with this name, or the known error.
    pub fn repository(&self, name: &str) -> Result<&Repository> {
        self.find_repository(name).ok_or_else(|| error::unknown_repository(name))
    }

    /// The frontend at an address.
    pub fn frontend_at(&self, host: &str, port: u16) -> Option<&Frontend> {
        self.frontends.values().find(|frontend| frontend.host == host && frontend.port == port)
    }

    /// Whether this id belonged to a frontend that was dropped. An id not given yet was not.
    pub fn was_dropped(&self, frontend: u64) -> bool {
        (1..self.next_frontend).contains(&frontend) && !self.frontends.contains_key(&frontend)
    }

    /// The backend added under this address.
    pub fn backend_at(&self, host: &str, port: u16) -> Option<&Backend> {
        self.backends.values().find(|backend| backend.host == host && backend.port == port)
    }

    /// The brokers of a name that a repository uses; an empty group is as good as none.
    pub fn broker_group(&self, name: &str) -> Result<&BrokerGroup> {
        let group = self.brokers.get(name).filter(|group| !group.addresses.is_empty());
        group.ok_or_else(|| error::unknown_broker(name))
    }

    /// The job that runs in a database; there is at most one.
    pub fn running_job(&self, db: DbId) -> Option<RunningJob> {
        self.running_jobs().find(|(at, _, _)| *at == db).map(|(_, _, job)| job)
    }

    /// A job that uses a repository.
    pub fn running_job_on(&self, repository: RepositoryId) -> Option<RunningJob> {
        self.running_jobs().find(|(_, on, _)| *on == repository).map(|(_, _, job)| job)
    }

    fn running_jobs(&self) -> impl Iterator<Item = (DbId, RepositoryId, RunningJob)> {
        let backups = self.backups.values().filter(|job| !job.state.is_over()).map(|job| {
            (job.db, job.repository, RunningJob { id: job.id, label: job.label.clone(), kind: JobKind::Backup })
        });
        let restores = self.restores.values().filter(|job| !job.state.is_over()).map(|job| {
            (job.db, job.repository, RunningJob { id: job.id, label: job.label.clone(), kind: JobKind::Restore })
        });
        backups.chain(restores)
    }

    /// The restore that will change this table, if one runs.
    pub fn restore_into(&self, table: TableId) -> Option<&crate::catalog::job::RestoreJob> {
        self.restores
            .values()
            .find(|job| !job.state.is_over() && job.targets.iter().any(|target| target.changes(table)))
    }

    /// The restore that keeps loads out of a partition: it will be overwritten or dropped, and loads were not allowed.
    pub fn restore_over(&self, table: TableId, partition: &Partition) -> Option<&crate::catalog::job::RestoreJob> {
        let job = self.restore_into(table).filter(|job| !job.options.allow_load)?;
        let target = job.targets.iter().find(|target| target.into == Some(table))?;
        let mut named = target.table.partitions.values();
        let overwritten = named.any(|restored| restored.name.eq_ignore_ascii_case(&partition.name));
        (overwritten || job.options.clean_partitions).then_some(job)
    }

    /// The restore that will create a table of this name, if one runs.
    pub fn restore_creating(&self, db: DbId, name: &str) -> Option<&crate::catalog::job::RestoreJob> {
        self.restores.values().find(|job| {
            job.db == db
                && !job.state.is_over()
                && (job.targets.iter().any(|target| target.is_new() && target.table.name == name)
                    || job.views.iter().any(|target| target.view.name == name))
        })
    }

    /// The transaction that holds a label of a database: aborted ones have given it back.
    pub fn transaction_by_label(&self, db: DbId, label: &str) -> Option<&Transaction> {
        self.transactions.values().rev().find(|transaction| {
            transaction.db == db
                && transaction.label == label
                && !matches!(transaction.state, TransactionState::Aborted { .. })
        })
    }

    /// Where a tablet belongs.
    pub fn tablet(&self, id: TabletId) -> Option<TabletPlace<'_>> {
        for database in self.databases.values() {
            for table in database.tables.values() {
                for partition in table.partitions.values() {
                    let mut tablets = partition.tablets.iter().enumerate();
                    if let Some((bucket, tablet)) = tablets.find(|(_, tablet)| tablet.id == id) {
                        return Some(TabletPlace { database, table, partition, tablet, bucket });
                    }
                }
            }
        }
        None
    }

    /// Every tablet that the catalog or a job that is not cleaned up needs; any other may be dropped by backends.
    pub fn claimed_tablets(&self) -> BTreeSet<TabletId> {
        let catalog = self.databases.values().flat_map(|database| database.tables.values());
        let backups = self.backups.values().filter(|job| !job.cleaned).flat_map(|job| job.tables.iter());
        let restores = self
            .restores
            .values()
            .filter(|job| !job.state.is_over())
            .flat_map(|job| job.targets.iter().map(|target| &target.table));
        let dropped = self.bin.values().flat_map(|entry| entry.what.tablets());
        let claimed =
            catalog.chain(backups).chain(restores).flat_map(|table| table.tablets().map(|(_, tablet)| tablet.id));
        claimed.chain(dropped.map(|tablet| tablet.id)).collect()
    }
}

/// What to say when a job is in the way of another.
pub fn job_in_the_way(job: &RunningJob, label: &str) -> Error {
    Error::conflict(format!(
        "Can only run one backup or restore job of a database at same time, current running: label = {} jobId = {}, \
         to run label = {label}",
        job.label, job.id
    ))
}
