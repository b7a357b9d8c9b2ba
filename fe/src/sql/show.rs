//! SHOW.

use super::ast::{RowFilter, RowOperator, Show, Statement};
use super::cursor::Cursor;
use super::rows::{conditions, exactly, filter, optional_like};
use super::table::optional_partitions;
use super::{known, show_empty, show_more};
use crate::error::{Error, Result};

const BACKUP_WHERE: &str =
    "Where clause should like: SnapshotName = \"your_snapshot_name\",  or SnapshotName LIKE \"matcher\"";
const RESTORE_WHERE: &str = "Where clause should like: LABEL = \"your_label_name\",  or LABEL LIKE \"matcher\"";
const SNAPSHOT_WHERE: &str = "Where clause should looks like: SNAPSHOT = 'your_snapshot_name' \
                              [AND TIMESTAMP = '2018-04-18-19-19-10'] [AND SNAPSHOTTYPE = 'remote']";

/// A SHOW statement.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.need("SHOW")?;
    if let Some(show) = show_more::parse(cursor)? {
        return Ok(Statement::Show(show));
    }
    let shown = match objects(cursor)? {
        Some(show) => Some(show),
        None => match jobs(cursor)? {
            Some(show) => Some(show),
            None => server(cursor)?,
        },
    };
    if let Some(show) = shown {
        return Ok(Statement::Show(show));
    }
    match show_empty::parse(cursor)? {
        Some(show) => Ok(Statement::Show(show)),
        None => Err(known::refuse_after("SHOW", cursor)),
    }
}

/// Databases, tables and what is in them.
fn objects(cursor: &mut Cursor<'_>) -> Result<Option<Show>> {
    let full_at = usize::from(cursor.is("FULL"));
    Ok(Some(if cursor.eat_one_of(&["DATABASES", "SCHEMAS"]) {
        Show::Databases { like: like_or_where(cursor, &["Database", "SchemaName", "schema_name"])? }
    } else if cursor.is_nth(full_at, "TABLES") {
        return tables(cursor, full_at == 1).map(Some);
    } else if cursor.eat_all(&["CREATE", "TABLE"]) {
        Show::CreateTable(cursor.object_name("a table name")?)
    } else if cursor.eat_all(&["CREATE", "DATABASE"]) || cursor.eat_all(&["CREATE", "SCHEMA"]) {
        cursor.if_not_exists();
        Show::CreateDatabase(cursor.name("a database name")?)
    } else if cursor.eat_all(&["CREATE", "REPOSITORY"]) {
        cursor.need("FOR")?;
        Show::CreateRepository(cursor.name("a repository name")?)
    } else if cursor.is_nth(full_at, "COLUMNS") || cursor.is_nth(full_at, "FIELDS") {
        return columns(cursor, full_at == 1).map(Some);
    } else if cursor.eat("PARTITIONS") {
        cursor.need("FROM")?;
        Show::Partitions { table: cursor.object_name("a table name")?, filter: filter(cursor)? }
    } else if cursor.eat("TABLETS") {
        cursor.need("FROM")?;
        let table = cursor.object_name("a table name")?;
        Show::Tablets { table, partitions: optional_partitions(cursor)?, filter: filter(cursor)? }
    } else if cursor.eat("TABLET") {
        Show::Tablet(cursor.number("a tablet id")?)
    } else {
        return Ok(None);
    }))
}

/// `[FULL] TABLES [FROM db] [LIKE 'x' | WHERE ...]`.
fn tables(cursor: &mut Cursor<'_>, full: bool) -> Result<Show> {
    cursor.eat("FULL");
    cursor.need("TABLES")?;
    let database = cursor.optional_from("a database name")?;
    if !cursor.eat("WHERE") {
        return Ok(Show::Tables { like: optional_like(cursor)?, database, full, conditions: Vec::new() });
    }
    let place = cursor.expected("a condition on Tables_in_... or Table_type");
    let conditions = conditions(cursor)?;
    let known =
        |column: &str| column.eq_ignore_ascii_case("Table_type") || starts_with_ignoring_case(column, "Tables_in");
    if conditions.iter().all(|condition| known(&condition.column)) {
        Ok(Show::Tables { database, like: None, full, conditions })
    } else {
        Err(place)
    }
}

/// `[FULL] COLUMNS {FROM | IN} t [{FROM | IN} db] [LIKE 'x']`.
fn columns(cursor: &mut Cursor<'_>, full: bool) -> Result<Show> {
    cursor.eat("FULL");
    cursor.skip();
    cursor.need_one_of(&["FROM", "IN"])?;
    let mut table = cursor.object_name("a table name")?;
    if let Some(database) = cursor.optional_from("a database name")? {
        table.database = Some(database);
    }
    Ok(Show::Columns { table, full, like: like_or_where(cursor, &["Field"])? })
}

/// Backups, restores, repositories and snapshots.
fn jobs(cursor: &mut Cursor<'_>) -> Result<Option<Show>> {
    Ok(Some(if cursor.eat("REPOSITORIES") {
        Show::Repositories
    } else if cursor.eat("BACKUP") {
        let database = cursor.optional_from("a database name")?;
        Show::Backup { database, filter: label_filter(cursor, "SnapshotName", BACKUP_WHERE)? }
    } else if cursor.is("RESTORE") || (cursor.is("BRIEF") && cursor.is_nth(1, "RESTORE")) {
        let brief = cursor.eat("BRIEF");
        cursor.need("RESTORE")?;
        let database = cursor.optional_from("a database name")?;
        Show::Restore { database, brief, filter: label_filter(cursor, "Label", RESTORE_WHERE)? }
    } else if cursor.eat("SNAPSHOT") {
        return snapshot(cursor).map(Some);
    } else {
        return Ok(None);
    }))
}

/// `[WHERE column {= | LIKE} "x"]`, nothing else.
fn label_filter(cursor: &mut Cursor<'_>, column: &str, shape: &str) -> Result<RowFilter> {
    if !cursor.eat("WHERE") {
        return Ok(RowFilter::default());
    }
    let conditions = conditions(cursor).map_err(|_| Error::invalid(shape))?;
    let good = match &conditions[..] {
        [one] => {
            one.column.eq_ignore_ascii_case(column)
                && matches!(one.operator, RowOperator::Equal | RowOperator::Like)
                && !one.value.is_empty()
        }
        _ => false,
    };
    if good && cursor.at_end() {
        return Ok(RowFilter { conditions, ..RowFilter::default() });
    }
    Err(Error::invalid(shape))
}

/// `ON repo [WHERE SNAPSHOT = "x" [AND TIMESTAMP = "ts"] [AND SNAPSHOTTYPE = "remote"]]`.
fn snapshot(cursor: &mut Cursor<'_>) -> Result<Show> {
    cursor.need("ON")?;
    let repository = cursor.name("a repository name")?;
    let (mut label, mut timestamp, mut kind) = (None, None, None);
    if cursor.eat("WHERE") {
        let shape = || Error::invalid(SNAPSHOT_WHERE);
        for condition in conditions(cursor).map_err(|_| shape())? {
            let slot = match condition.column.to_ascii_uppercase().as_str() {
                "SNAPSHOT" => &mut label,
                "TIMESTAMP" => &mut timestamp,
                "SNAPSHOTTYPE" => &mut kind,
                _ => return Err(shape()),
            };
            let again = slot.replace(condition.value).is_some();
            if again || condition.operator != RowOperator::Equal {
                return Err(shape());
            }
        }
        if label.is_none() || !cursor.at_end() {
            return Err(shape());
        }
    }
    match kind {
        Some(kind) if !kind.eq_ignore_ascii_case("remote") => {
            Err(Error::not_supported(format!("snapshot type '{kind}' is not supported: snapshots are remote")))
        }
        _ => Ok(Show::Snapshot { repository, label, timestamp }),
    }
}

/// The cluster, variables, and what drivers ask.
fn server(cursor: &mut Cursor<'_>) -> Result<Option<Show>> {
    let scoped = cursor.is_nth(1, "VARIABLES") || cursor.is_nth(1, "STATUS");
    if scoped && cursor.is_one_of(&["GLOBAL", "SESSION", "LOCAL"]) {
        cursor.skip();
    }
    let plain = [
        ("FRONTENDS", Show::Frontends),
        ("BACKENDS", Show::Backends),
        ("BROKER", Show::Brokers),
        ("BROKERS", Show::Brokers),
        ("ENGINES", Show::Engines),
        ("COLLATION", Show::Collation),
        ("CHARSET", Show::CharacterSet),
    ];
    let full = cursor.eat_all(&["FULL", "PROCESSLIST"]);
    if full || cursor.eat("PROCESSLIST") {
        return Ok(Some(Show::ProcessList { full }));
    }
    if cursor.is("STORAGE") && cursor.is_nth(1, "ENGINES") {
        cursor.skip();
    }
    for (word, show) in plain {
        if cursor.eat(word) {
            return Ok(Some(without_filter(cursor, show)));
        }
    }
    if let Some(show) = super::account::show(cursor)? {
        return Ok(Some(show));
    }
    Ok(Some(if cursor.eat_all(&["CHARACTER", "SET"]) {
        without_filter(cursor, Show::CharacterSet)
    } else if cursor.eat("VARIABLES") {
        Show::Variables { like: variable_pattern(cursor)? }
    } else if cursor.eat("STATUS") {
        Show::Status { like: variable_pattern(cursor)? }
    } else if cursor.eat("WARNINGS") {
        filter(cursor)?;
        Show::Warnings
    } else if cursor.eat("ERRORS") {
        filter(cursor)?;
        Show::Errors
    } else {
        return Ok(None);
    }))
}

/// The few rows of these are shown whole, whatever is asked of them.
fn without_filter(cursor: &mut Cursor<'_>, show: Show) -> Show {
    if matches!(show, Show::Engines | Show::Collation | Show::CharacterSet) && cursor.is_one_of(&["LIKE", "WHERE"]) {
        cursor.skip_rest();
    }
    show
}

/// `[LIKE 'x' | WHERE column {= | LIKE} 'x']`, the column being one of these.
fn like_or_where(cursor: &mut Cursor<'_>, columns: &[&str]) -> Result<Option<String>> {
    if !cursor.eat("WHERE") {
        return optional_like(cursor);
    }
    let place = cursor.expected(&format!("{} = or LIKE a quoted name", columns[0]));
    let conditions = conditions(cursor)?;
    let [condition] = &conditions[..] else { return Err(place) };
    let known = columns.iter().any(|column| starts_with_ignoring_case(&condition.column, column));
    match condition.operator {
        RowOperator::Like if known => Ok(Some(condition.value.clone())),
        RowOperator::Equal if known => Ok(Some(exactly(&condition.value))),
        _ => Err(place),
    }
}

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// As above for Variable_name. Drivers ask for several names joined by OR, or with IN: they get all.
fn variable_pattern(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    if !cursor.eat("WHERE") {
        return optional_like(cursor);
    }
    let pattern = match conditions(cursor) {
        Ok(conditions) => match &conditions[..] {
            [one] if cursor.at_end() && one.column.eq_ignore_ascii_case("variable_name") => match one.operator {
                RowOperator::Equal => Some(exactly(&one.value)),
                RowOperator::Like => Some(one.value.clone()),
                _ => None,
            },
            _ => None,
        },
        Err(_) => None,
    };
    cursor.skip_rest();
    Ok(pattern)
}
