//! Statement to executor: one exhaustive match, and a file per family.
//!
//! A statement that changes something checks what it can against a view of the state, proposes one command, and answers
//! when that is durable. Nothing of it lives outside the log, so a crash at any point leaves it done or not begun.
//!
//! Modules, bottom to top: `answer`, `session`, `processes`, `names`, `variables`, `placement`, `text` | `filter` | `context` |
//! `privilege` | `account`, `settings`, `help`, `ddl` with `dynamic`, `cluster`, `delete`, `insert`, `query`, `repository`, `backup`,
//! `restore`, `view`, `bin` | `show`, `define` | this file.

mod account;
pub mod answer;
pub mod backup;
mod bin;
mod cluster;
pub mod context;
pub mod ddl;
mod define;
mod delete;
pub mod dynamic;
pub mod filter;
pub mod help;
mod help_topics;
pub mod insert;
pub mod names;
mod node_config;
pub mod placement;
pub mod privilege;
pub mod processes;
pub mod query;
pub mod repository;
pub mod restore;
#[cfg(test)]
mod sample;
pub mod session;
mod settings;
pub mod show;
pub mod text;
pub mod variables;
mod view;

pub use answer::{Answer, Done, RowSet};
pub use context::Context;
pub use session::Session;

use crate::error::{Error, Result};
use crate::sql::ast::Statement;

/// Run one statement, if the user of the session may.
pub async fn execute(context: &Context, session: &mut Session, statement: Statement) -> Result<Answer> {
    privilege::check(context, session, &statement)?;
    match statement {
        Statement::Use(name) => use_database(context, session, name),
        Statement::Set(assignments) => {
            variables::set(session, &assignments)?;
            Ok(Answer::ok())
        }
        Statement::Transaction => Ok(Answer::ok()),
        Statement::Kill { connection, query_only } => {
            show::kill(context, session, connection, query_only)?;
            Ok(Answer::ok())
        }
        Statement::Show(what) => show::show(context, session, what).await,
        Statement::Describe(table) => show::describe(context, session, &table),
        Statement::Query(sql) => query::query(context, session, &sql).await,
        Statement::Delete(delete) => delete::delete(context, session, *delete).await,
        Statement::Insert(insert) => insert::insert(context, session, *insert).await,
        Statement::Help(topic) => Ok(Answer::Rows(help::help(&topic))),
        Statement::SetFrontendConfig(options) => settings::set(context, &options),
        Statement::NodeConfig(asked) => node_config::run(context, asked).await,
        changing => change(context, session, changing).await,
    }
}

/// Statements that change the catalog or the cluster.
async fn change(context: &Context, session: &mut Session, statement: Statement) -> Result<Answer> {
    match statement {
        Statement::CreateDatabase { name, if_not_exists } => ddl::create_database(context, &name, if_not_exists).await,
        Statement::DropDatabase { name, if_exists, force } => {
            ddl::drop_database(context, session, &name, (if_exists, force)).await
        }
        Statement::CreateTable(table) => ddl::create_table(context, session, &table).await,
        Statement::DropTable { table, if_exists, force } => {
            ddl::drop_table(context, session, &table, (if_exists, force)).await
        }
        Statement::TruncateTable { table, partitions } => {
            ddl::truncate_table(context, session, &table, &partitions).await
        }
        Statement::AlterTableSet { table, properties } => {
            ddl::alter_table_set(context, session, &table, &properties).await
        }
        Statement::Define(define) => define::change(context, session, define).await,
        Statement::AlterSystem(system) => cluster::alter_system(context, system).await,
        Statement::CleanTrash(named) => cluster::trash::clean(context, &named).await,
        Statement::CreateRepository(create) => repository::create(context, create).await,
        Statement::AlterRepository { name, properties } => repository::alter(context, &name, properties).await,
        Statement::DropRepository { name, if_exists } => repository::drop(context, &name, if_exists).await,
        Statement::Backup(backup) => backup::backup(context, session, backup).await,
        Statement::Restore(restore) => restore::restore(context, session, restore).await,
        Statement::DropSnapshot(drop) => backup::drop_snapshot(context, drop).await,
        Statement::CancelBackup(database) => backup::cancel(context, session, database.as_deref()).await,
        Statement::CancelRestore(database) => restore::cancel(context, session, database.as_deref()).await,
        Statement::Account(statement) => account::change(context, session, statement).await,
        other @ (Statement::Use(_)
        | Statement::Set(_)
        | Statement::Transaction
        | Statement::Kill { .. }
        | Statement::Show(_)
        | Statement::Describe(_)
        | Statement::Query(_)
        | Statement::Help(_)
        | Statement::SetFrontendConfig(_)
        | Statement::NodeConfig(_)
        | Statement::Delete(_)
        | Statement::Insert(_)) => Err(Error::bug(format!("{other:?} changes nothing"))),
    }
}

/// USE, also as a command of the protocol.
pub fn use_database(context: &Context, session: &mut Session, name: String) -> Result<Answer> {
    privilege::check(context, session, &Statement::Use(name.clone()))?;
    if names::is_system_database(&name) {
        session.database = Some(names::INFORMATION_SCHEMA.to_owned());
    } else {
        context.meta.view(|state| state.database(&name).map(|_| ()))?;
        session.database = Some(name);
    }
    Ok(Answer::ok())
}
