//! SHOW and DESC: everything but repositories, jobs and snapshots, which their own files show.

mod frontends;
mod health;
mod more;
mod nodes;
mod proc;
mod server;
mod sizes;
mod tables;
mod tablets;
mod transactions;

pub use server::kill;

use crate::error::{Error, Result};
use crate::exec::answer::{Answer, RowSet};
use crate::exec::context::Context;
use crate::exec::session::Session;
use crate::exec::{account, backup, filter, repository, restore, settings};
use crate::sql::ast::{ObjectName, Show};

/// DESC table.
pub fn describe(context: &Context, session: &Session, table: &ObjectName) -> Result<Answer> {
    let current = session.database.as_deref();
    context.meta.view(|state| tables::columns(state, (table, current), None, false)).map(Answer::Rows)
}

/// SHOW.
pub async fn show(context: &Context, session: &Session, show: Show) -> Result<Answer> {
    match show {
        Show::Repositories => Ok(repository::show(context)),
        Show::CreateRepository(name) => repository::show_create(context, session, &name),
        Show::Backup { database, filter } => backup::show(context, session, database.as_deref(), &filter),
        Show::Restore { database, brief, filter } => {
            restore::show(context, session, database.as_deref(), (brief, &filter))
        }
        Show::Snapshot { repository, label, timestamp } => {
            backup::show_snapshot(context, session, &repository, (label.as_deref(), timestamp.as_deref())).await
        }
        Show::Frontends => Ok(Answer::Rows(frontends::show(context).await)),
        other => rows(context, session, other).map(Answer::Rows),
    }
}

fn rows(context: &Context, session: &Session, show: Show) -> Result<RowSet> {
    let current = session.database.as_deref();
    let meta = &context.meta;
    Ok(match show {
        Show::Databases { like } => meta
            .view(|state| Ok::<_, Error>(tables::databases(state, &state.rights(&session.who())?, like.as_deref())))?,
        Show::Tables { database, like, full, conditions } => {
            let name = (database.as_deref(), current);
            let all =
                meta.view(|state| tables::tables(state, &state.rights(&session.who())?, name, like.as_deref()))?;
            tables::chosen(all, conditions, full)?
        }
        Show::CreateTable(table) => meta.view(|state| tables::create_table(state, &table, current))?,
        Show::CreateDatabase(name) => meta.view(|state| tables::create_database(state, &name))?,
        Show::Columns { table, full, like } => {
            meta.view(|state| tables::columns(state, (&table, current), like.as_deref(), full))?
        }
        Show::Partitions { table, filter } => {
            let all = meta.view(|state| tablets::partitions(state, &context.backends, &table, current))?;
            filter::apply(all, &filter)?
        }
        Show::Tablets { table, partitions, filter } => {
            let all = meta.view(|state| tablets::tablets(state, &context.backends, (&table, current), &partitions))?;
            filter::apply(all, &filter)?
        }
        Show::Tablet(id) => meta.view(|state| tablets::tablet(state, id)),
        Show::Backends => nodes::backends(context),
        Show::Brokers => nodes::brokers(context),
        Show::Variables { like } => server::variables(context, session, like.as_deref()),
        Show::Status { like } => server::status(context, like.as_deref()),
        Show::Warnings => server::warnings(session),
        Show::Errors => server::errors(session),
        Show::ProcessList { full } => server::processes(context, session, full)?,
        Show::Grants(of) => account::show_grants(context, session, &of)?,
        Show::Roles => meta.view(account::show_roles),
        Show::FrontendConfig { like } => settings::show(context, like.as_deref())?,
        Show::Engines => server::engines(),
        Show::Collation => server::collations(),
        Show::CharacterSet => server::charsets(),
        Show::More(what) => more::rows(context, session, &what)?,
        Show::Empty { columns } => RowSet::new(columns),
        other @ (Show::Repositories
        | Show::CreateRepository(_)
        | Show::Backup { .. }
        | Show::Restore { .. }
        | Show::Frontends
        | Show::Snapshot { .. }) => {
            return Err(Error::bug(format!("{other:?} is shown elsewhere")));
        }
    })
}
