//! SHOW of the recycle bin, dynamic partitions, views, sizes, and the paths of SHOW PROC.

use super::ast::{Show, Statement};
use super::cursor::Cursor;
use super::define_ast::ShowMore;
use super::rows::{conditions, filter, optional_like};
use super::table::optional_partitions;
use crate::error::Result;

/// Behind SHOW; `None` when something else stands here.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Show>> {
    let more = if cursor.eat_all(&["CATALOG", "RECYCLE", "BIN"]) {
        ShowMore::RecycleBin(filter(cursor)?)
    } else if cursor.eat_all(&["DYNAMIC", "PARTITION", "TABLES"]) {
        ShowMore::DynamicPartitions(cursor.optional_from("a database name")?)
    } else if cursor.eat_all(&["CREATE", "VIEW"]) {
        ShowMore::CreateView(cursor.object_name("a view name")?)
    } else if cursor.eat("VIEWS") {
        let database = cursor.optional_from("a database name")?;
        ShowMore::Views { database, like: optional_like(cursor)? }
    } else if cursor.is("VIEW") && (cursor.is_nth(1, "FROM") || cursor.is_nth(1, "IN")) {
        cursor.skip();
        cursor.skip();
        let mut table = cursor.object_name("a table name")?;
        if let Some(database) = cursor.optional_from("a database name")? {
            table.database = Some(database);
        }
        ShowMore::ViewsOf(table)
    } else if cursor.is("DATA") && !cursor.is_nth(1, "SKEW") && !cursor.is_nth(1, "TYPES") {
        cursor.skip();
        let table = if cursor.eat_one_of(&["FROM", "IN"]) { Some(cursor.object_name("a table name")?) } else { None };
        ShowMore::Data { table, filter: filter(cursor)? }
    } else if cursor.eat_all(&["TABLE", "STATUS"]) {
        let database = cursor.optional_from("a database name")?;
        let like = optional_like(cursor)?;
        let conditions = if cursor.eat("WHERE") { conditions(cursor)? } else { Vec::new() };
        ShowMore::TableStatus { database, like, conditions }
    } else if cursor.eat("TRANSACTION") {
        let database = cursor.optional_from("a database name")?;
        ShowMore::Transactions { database, filter: filter(cursor)? }
    } else if cursor.eat("PROC") {
        return proc_path(cursor).map(Some);
    } else {
        return Ok(None);
    };
    Ok(Some(Show::More(more)))
}

/// The virtual directory of the classic system. Some paths mirror other statements.
fn proc_path(cursor: &mut Cursor<'_>) -> Result<Show> {
    let path = cursor.string("a quoted path")?;
    Ok(match path.trim_matches('/').to_ascii_lowercase().as_str() {
        "backends" => Show::Backends,
        "frontends" => Show::Frontends,
        "brokers" => Show::Brokers,
        _ => Show::More(ShowMore::Proc(path)),
    })
}

/// Behind ADMIN SHOW REPLICA.
pub(super) fn replicas(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let status = cursor.need_one_of(&["STATUS", "DISTRIBUTION"])? == "STATUS";
    cursor.need("FROM")?;
    let table = cursor.object_name("a table name")?;
    let partitions = optional_partitions(cursor)?;
    let more = if status {
        ShowMore::ReplicaStatus { table, partitions, filter: filter(cursor)? }
    } else {
        ShowMore::ReplicaDistribution { table, partitions }
    };
    Ok(Statement::Show(Show::More(more)))
}
