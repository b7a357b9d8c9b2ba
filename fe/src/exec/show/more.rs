//! SHOW of views, the recycle bin, dynamic partitions, sizes and paths: which file answers.

use super::{proc, sizes, transactions};
use crate::error::Result;
use crate::exec::answer::RowSet;
use crate::exec::context::Context;
use crate::exec::session::Session;
use crate::exec::{bin, dynamic, view};
use crate::meta::state::State;
use crate::sql::define_ast::ShowMore;

/// The rows.
pub(super) fn rows(context: &Context, session: &Session, more: &ShowMore) -> Result<RowSet> {
    let current = session.database.as_deref();
    let backends = &context.backends;
    // A copy costs little, and the sums need not hold up changes.
    let state = context.meta.view(State::clone);
    let who = session.who();
    let rights = state.rights(&who)?;
    match more {
        ShowMore::RecycleBin(filter) => bin::show(&state, backends, filter),
        ShowMore::DynamicPartitions(given) => {
            let sees = |database: &str, table: &str| rights.sees_table(database, table);
            dynamic::show(&state, &context.dynamics, (given.as_deref(), current), sees)
        }
        ShowMore::CreateView(name) => view::show_create(&state, name, current),
        ShowMore::ViewsOf(table) => view::show_of(&state, &rights, table, current),
        ShowMore::Views { database, like } => {
            view::show_all(&state, &rights, (database.as_deref(), current), like.as_deref())
        }
        ShowMore::Data { table, filter } => sizes::data(&state, backends, (&rights, current), (table.as_ref(), filter)),
        ShowMore::TableStatus { database, like, conditions } => {
            let wanted = (database.as_deref(), like.as_deref(), conditions.as_slice());
            sizes::table_status(&state, backends, (&rights, current), wanted)
        }
        ShowMore::Transactions { database, filter } => {
            transactions::show(&state, (&rights, current), (database.as_deref(), filter))
        }
        ShowMore::Proc(path) => proc::show(&state, backends, path),
        ShowMore::ReplicaStatus { table, partitions, filter } => {
            sizes::replica_status(&state, backends, (table, current), (partitions, filter))
        }
        ShowMore::ReplicaDistribution { table, partitions } => {
            sizes::replica_distribution(&state, backends, (table, current), partitions)
        }
    }
}
