//! DELETE FROM: checked here against the schema, done as a transaction by `load::delete`.

use crate::error::{Error, Result};
use crate::exec::answer::Answer;
use crate::exec::context::Context;
use crate::exec::ddl::chosen_partitions;
use crate::exec::session::Session;
use crate::load::Begin;
use crate::sql::ast::Delete;

/// DELETE.
pub(super) async fn delete(context: &Context, session: &Session, delete: Delete) -> Result<Answer> {
    let (database, table, partitions) = context.meta.view(|state| {
        let (database, table) = state.table(&delete.table, session.database.as_deref())?;
        delete.predicate.compile(&table.schema)?;
        let partitions = chosen_partitions(table, &delete.partitions)?.into_iter().map(|partition| partition.id);
        Ok::<_, Error>((database.name.clone(), table.name.clone(), partitions.collect::<Vec<_>>()))
    })?;
    let label = format!("delete_{}", uuid::Uuid::new_v4().simple());
    let begin = Begin { database, table, label: label.clone(), timeout_s: 0 };
    let (id, visible) = context.loads.delete(&begin, &partitions, delete.predicate).await?;
    let status = if visible { "VISIBLE" } else { "COMMITTED" };
    Ok(Answer::affected(0, format!("{{'label':'{label}', 'status':'{status}', 'txnId':'{id}'}}")))
}
