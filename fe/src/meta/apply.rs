//! The one function that changes the state: `apply(state, command) -> outcome`. Pure: no clock, no I/O, no randomness, so
//! that every frontend that applies the same log has the same state.
//!
//! Each change checks everything first and changes only then: a refusal leaves the state as it was.

mod account;
mod bin;
mod catalog;
mod cluster;
mod drain;
mod frontends;
mod job;
mod partition;
mod repository;
mod restore;
#[cfg(test)]
mod sample;
mod transaction;
mod view;

use crate::error::Result;
use crate::meta::command::{Command, Outcome};
use crate::meta::definition::Definition;
use crate::meta::state::State;

/// Apply one command.
pub fn apply(state: &mut State, command: &Command) -> Outcome {
    change(state, command).unwrap_or_else(Outcome::from)
}

/// Do it, unless this request was done before: then its answer is given again.
fn once(state: &mut State, request: &str, now_ms: u64, command: &Command) -> Outcome {
    if let Some(known) = state.requests.answer(request) {
        return known.clone();
    }
    let outcome = match command {
        Command::Once { .. } => Outcome::from(crate::error::Error::bug("a request inside a request")),
        command => apply(state, command),
    };
    state.requests.remember(request, now_ms, outcome.clone());
    outcome
}

fn change(state: &mut State, command: &Command) -> Result<Outcome> {
    match command {
        Command::Bootstrap { cluster_id } => cluster::bootstrap(state, cluster_id),
        Command::CreateDatabase { name } => catalog::create_database(state, name),
        Command::DropDatabase { db } => catalog::drop_database(state, *db),
        Command::CreateTable(new) => catalog::create_table(state, new),
        Command::DropTable { db, table } => catalog::drop_table(state, *db, *table),
        Command::Truncate { db, table, partitions, now_ms } => {
            catalog::truncate(state, (*db, *table), partitions, *now_ms)
        }
        Command::SetProperties { db, table, properties } => catalog::set_properties(state, (*db, *table), properties),
        Command::AddBackends { addresses, now_ms } => cluster::add_backends(state, addresses, *now_ms),
        Command::DropBackends { backends } => cluster::drop_backends(state, backends),
        Command::Drain(change) => drain::change(state, change),
        Command::AddBrokers { name, addresses } => cluster::add_brokers(state, name, addresses),
        Command::DropBrokers { name, addresses } => {
            let outcome = cluster::drop_brokers(state, name, addresses)?;
            repository::forget_limits(state, name);
            Ok(outcome)
        }
        Command::AdoptFrontend { id, host, port, now_ms } => frontends::adopt(state, *id, (host, *port), *now_ms),
        Command::AddFrontends { addresses, observer, now_ms } => frontends::add(state, addresses, *observer, *now_ms),
        Command::JoinFrontend { id, token } => frontends::join(state, *id, token),
        Command::DropFrontends { ids } => frontends::drop(state, ids),
        Command::Once { request, now_ms, command } => Ok(once(state, request, *now_ms, command)),
        Command::CreateRepository(new) => cluster::create_repository(state, new),
        Command::AlterRepository(change) => repository::alter(state, change),
        Command::AlterBrokers { name, addresses, limits } => repository::alter_brokers(state, name, addresses, *limits),
        Command::DropRepository { repository } => cluster::drop_repository(state, *repository),
        Command::Account(change) => account::change(state, change),
        Command::SetUser { name, user } => cluster::set_user(state, name, user),
        Command::BeginTransaction { label, db, table, now_ms, deadline_ms } => {
            transaction::begin(state, label, (*db, *table), (*now_ms, *deadline_ms))
        }
        Command::CommitTransaction { transaction, partitions, rows, tablets, now_ms } => {
            transaction::commit(state, *transaction, (partitions, tablets), (*rows, *now_ms))
        }
        Command::PrecommitTransaction { transaction, partitions, rows, tablets, now_ms, deadline_ms } => {
            transaction::precommit(state, *transaction, (partitions, tablets), *rows, (*now_ms, *deadline_ms))
        }
        Command::CommitDelete { transaction, partitions, predicate, now_ms } => {
            transaction::commit_delete(state, *transaction, (partitions, predicate), *now_ms)
        }
        Command::MakeVisible { transaction, now_ms } => transaction::make_visible(state, *transaction, *now_ms),
        Command::AbortTransaction { transaction, reason, now_ms } => {
            transaction::abort(state, *transaction, reason, *now_ms)
        }
        Command::PurgeTransactions { before_ms } => transaction::purge(state, *before_ms),
        Command::CreateBackup(new) => job::create_backup(state, new),
        Command::AdvanceBackup { job, from, to, counts, now_ms, passed_over } => {
            let outcome = job::advance_backup(state, *job, (from, to), *counts, *now_ms)?;
            job::warn_backup(state, *job, passed_over);
            Ok(outcome)
        }
        Command::UploadDone { job, part, manifest } => job::upload_done(state, *job, *part, manifest),
        Command::CreateRestore(new) => restore::create(state, new),
        Command::AdvanceRestore { job, from, to, now_ms } => restore::advance(state, *job, (from, *to), *now_ms),
        Command::DownloadDone { job, parts } => restore::download_done(state, *job, parts),
        Command::MoveReplicas { job, from, to } => restore::move_replicas(state, *job, *from, to),
        Command::CancelJob { job, error, now_ms } => job::cancel(state, *job, error, *now_ms),
        Command::JobCleaned { job } => job::cleaned(state, *job),
        Command::Define(definition) => define(state, definition),
        Command::Group(commands) => Ok(Outcome::Group(commands.iter().map(|command| apply(state, command)).collect())),
    }
}

fn define(state: &mut State, definition: &Definition) -> Result<Outcome> {
    match definition {
        Definition::AddPartitions { db, table, partitions, now_ms } => {
            partition::add(state, (*db, *table), partitions, *now_ms)
        }
        Definition::DropPartition { db, table, partition, recycle_ms } => {
            partition::drop(state, (*db, *table), *partition, *recycle_ms)
        }
        Definition::RenameTable { db, table, name } => partition::rename_table(state, (*db, *table), name),
        Definition::RenamePartition { db, table, partition, name } => {
            partition::rename(state, (*db, *table), *partition, name)
        }
        Definition::RenameDatabase { db, name } => partition::rename_database(state, *db, name),
        Definition::RecycleTable { db, table, now_ms } => bin::recycle_table(state, (*db, *table), *now_ms),
        Definition::RecycleDatabase { db, now_ms } => bin::recycle_database(state, *db, *now_ms),
        Definition::Recover { entry, name } => bin::recover(state, *entry, name.as_deref()),
        Definition::Erase { entries, upto_ms } => bin::erase(state, entries, *upto_ms),
        Definition::CreateView(new) => view::create(state, new),
        Definition::DropView { db, view } => view::drop(state, *db, *view),
    }
}
