//! Databases and tables: check the statement against a view of the state, propose one command.
//!
//! Everything that needs no state is checked here; what may change between the view and the log is checked again by
//! `apply`. A crash before the command is in the log leaves nothing; backends hear of tablets only with their first rows.

pub(crate) mod colocate;
mod columns;
mod indexes;
mod inert;
mod model;
pub(in crate::exec) mod partition;
mod periods;
mod properties;
mod ranges;
#[cfg(test)]
pub(crate) mod sample;

pub(in crate::exec) use indexes::index_definitions;
pub(in crate::exec) use partition::place;
pub(crate) use periods::{Moment, weekday};
pub use properties::{COLOCATE_WITH, REPLICATION_NUM, show_allocation};

use crate::catalog::database::Database;
use crate::catalog::table::{Partitioning, Table};
use crate::error::{self, Error, ErrorKind, Result, number};
use crate::exec::answer::{Answer, Done};
use crate::exec::context::Context;
use crate::exec::dynamic;
use crate::exec::names;
use crate::exec::placement::{Places, too_few};
use crate::exec::session::Session;
use crate::limits;
use crate::meta::command::{Command, NewPartition, NewTable, Placement};
use crate::meta::definition::Definition;
use crate::meta::state::State;
use crate::sql::ast::{CreateTable, ObjectName, Properties};
use coffer_proto::ids::{BackendId, DbId, PartitionId, TableId};
use coffer_stdx::time::now_ms;
use coffer_table::{KeyRange, Schema};
use std::collections::BTreeMap;
use std::time::Duration;

/// CREATE DATABASE.
pub async fn create_database(context: &Context, name: &str, if_not_exists: bool) -> Result<Answer> {
    let created = match names::check_not_reserved(name) {
        Ok(()) => context.meta.propose(Command::CreateDatabase { name: name.to_owned() }).await,
        Err(error) => Err(error),
    };
    match created {
        Ok(_) => Ok(Answer::affected(1, "")),
        Err(error) if if_not_exists && error.kind() == ErrorKind::AlreadyExists => Ok(noted(&error)),
        Err(error) => Err(error),
    }
}

/// DROP DATABASE: into the recycle bin, or with FORCE for good.
pub async fn drop_database(
    context: &Context,
    session: &mut Session,
    name: &str,
    (if_exists, force): (bool, bool),
) -> Result<Answer> {
    if names::is_system_database(name) {
        return Err(Error::denied(format!("Access denied for user '{}' to database '{name}'", session.user))
            .numbered(number::DATABASE_DENIED));
    }
    let Some(db) = context.meta.view(|state| state.find_database(name).map(|database| database.id)) else {
        let error = error::database_not_there(name);
        return if if_exists { Ok(noted(&error)) } else { Err(error) };
    };
    let command = if force {
        Command::DropDatabase { db }
    } else {
        settled(context, (db, None), None).await;
        Command::Define(Definition::RecycleDatabase { db, now_ms: now_ms() })
    };
    context.meta.propose(command).await?;
    if session.database.as_deref() == Some(name) {
        session.database = None;
    }
    Ok(Answer::ok())
}

/// CREATE TABLE.
pub async fn create_table(context: &Context, session: &Session, statement: &CreateTable) -> Result<Answer> {
    let name = &statement.table.name;
    let current = session.database.as_deref();
    let (db, exists) = context.meta.view(|state| {
        let database = state.database_or_current(statement.table.database.as_deref(), current)?;
        Ok::<_, Error>((database.id, database.has(name)))
    })?;
    let known = error::table_exists(name);
    if exists {
        return if statement.if_not_exists { Ok(noted(&known)) } else { Err(known) };
    }
    let plan = Plan::new(statement, context.config.default_buckets.get_u32())?;
    // Counting takes a while in a large catalog; changes go on meanwhile.
    let state = context.meta.view(State::clone);
    let mut places = living(context, &state);
    let replicas = plan.replicas(context.config.default_replication_num.get_u32(), places.len())?;
    let group = colocated(&state, db, &plan, replicas)?;
    let mut partitions = Vec::with_capacity(plan.ranges.len());
    for (partition, range) in &plan.ranges {
        let own = plan.own_replicas.get(partition).copied().unwrap_or(replicas);
        let placement = match group.clone().or_else(|| shared_place(&plan, &partitions)) {
            Some(placement) => placement,
            None => places.place(plan.buckets_of(partition), own)?,
        };
        partitions.push(NewPartition {
            name: partition.clone(),
            range: range.clone(),
            replication_num: own,
            placement,
        });
    }
    let partitioning = Partitioning { list: plan.list, buckets: plan.buckets };
    let mut properties = plan.properties;
    properties.insert(REPLICATION_NUM.to_owned(), replicas.to_string());
    let new = NewTable {
        db,
        name: name.clone(),
        schema: plan.schema,
        partition_columns: plan.partition_columns,
        partitioning,
        bucket_columns: plan.bucket_columns,
        properties,
        comment: statement.comment.clone(),
        partitions,
        now_ms: now_ms(),
    };
    match context.meta.propose(Command::CreateTable(new)).await {
        Ok(_) => Ok(told(plan.note)),
        Err(error) if statement.if_not_exists && error.number() == number::TABLE_EXISTS => Ok(noted(&error)),
        Err(error) => Err(error),
    }
}

/// Where the group of a new table lies, if it has one and that has partitions.
fn colocated(state: &State, db: DbId, plan: &Plan, replicas: u32) -> Result<Option<Placement>> {
    let (Some(group), Some(database)) = (plan.properties.get(COLOCATE_WITH), state.databases.get(&db)) else {
        return Ok(None);
    };
    if plan.own_replicas.values().any(|own| *own != replicas) {
        return Err(Error::invalid(format!("Colocate tables must have same replication num: {replicas}")));
    }
    let column = |name: &String| Some((name.clone(), plan.schema.columns[plan.schema.index_of(name)?].kind));
    let columns = plan.bucket_columns.iter().filter_map(column).collect();
    colocate::check(database, group, &colocate::Shape { buckets: plan.buckets, replicas, columns })?;
    Ok(colocate::places(database, group))
}

/// The partitions of the first table of a group lie as its first partition.
fn shared_place(plan: &Plan, made: &[NewPartition]) -> Option<Placement> {
    plan.properties.contains_key(COLOCATE_WITH).then(|| made.first().map(|first| first.placement.clone())).flatten()
}

/// A CREATE TABLE that is right in itself.
pub(super) struct Plan {
    pub(super) schema: Schema,
    pub(super) partition_columns: Vec<String>,
    pub(super) bucket_columns: Vec<String>,
    pub(super) buckets: u32,
    /// LIST instead of RANGE.
    pub(super) list: bool,
    /// Replicas of partitions that say so themselves.
    pub(super) own_replicas: BTreeMap<String, u32>,
    /// Buckets of the partitions that are made ahead of time, by name.
    pub(super) own_buckets: BTreeMap<String, u32>,
    pub(super) ranges: Vec<(String, Option<KeyRange>)>,
    pub(super) replication_num: Option<u32>,
    pub(super) properties: Properties,
    /// What the client is told.
    pub(super) note: Option<String>,
}

impl Plan {
    pub(super) fn new(statement: &CreateTable, default_buckets: u32) -> Result<Plan> {
        let table = &statement.table.name;
        let schema = columns::schema(statement)?;
        let mut checked = properties::for_create(&statement.properties)?;
        properties::fit(&checked.kept, &schema)?;
        let indexes = indexes::kept(&statement.indexes, &schema)?;
        if statement.comment.len() > limits::MAX_TEXT_BYTES {
            return Err(Error::limit(format!("the comment of table '{table}' is too long")));
        }
        let mut own = Own::default();
        let (partition_columns, ranges) = match &statement.partition {
            None if dynamic::is_wanted(&checked.kept) => {
                return Err(Error::invalid("Dynamic partition only support single-column range partition"));
            }
            None => (Vec::new(), vec![(table.clone(), None)]),
            Some(by) => {
                let columns = ranges::columns(by, &schema, table)?;
                let kinds: Vec<_> =
                    columns.iter().filter_map(|name| Some(schema.columns[schema.index_of(name)?].kind)).collect();
                let mut ranges = ranges::ranges(by, &kinds)?;
                own.read(by, &ranges)?;
                if let Some(spec) = dynamic::spec::read(&checked.kept)? {
                    own.ahead(&spec, by.list, &kinds, &mut ranges)?;
                }
                (columns, ranges.into_iter().map(|(name, range)| (name, Some(range))).collect())
            }
        };
        let bucket_columns = bucket_columns(&statement.bucket_columns, &schema, table)?;
        model::check_placement(&schema, &partition_columns, &bucket_columns)?;
        let buckets = statement.buckets.unwrap_or(default_buckets);
        if buckets == 0 || buckets > limits::MAX_BUCKETS {
            return Err(Error::invalid(format!(
                "the number of buckets is 1 to {}, not {buckets}",
                limits::MAX_BUCKETS
            )));
        }
        let tablets = ranges.len() * buckets as usize;
        if tablets > limits::MAX_TABLETS_PER_STATEMENT {
            return Err(Error::limit(format!(
                "table '{table}' would have {tablets} tablets at once, {} are allowed; use fewer buckets or partitions",
                limits::MAX_TABLETS_PER_STATEMENT
            )));
        }
        let note = properties::without_effect(&checked.kept, !indexes.is_empty());
        checked.kept.extend(indexes);
        Ok(Plan {
            schema,
            partition_columns,
            bucket_columns,
            buckets,
            list: statement.partition.as_ref().is_some_and(|by| by.list),
            own_replicas: own.replicas,
            own_buckets: own.buckets,
            ranges,
            replication_num: checked.replication_num,
            properties: checked.kept,
            note,
        })
    }

    fn buckets_of(&self, partition: &str) -> u32 {
        self.own_buckets.get(partition).copied().unwrap_or(self.buckets)
    }

    /// As the statement says, else the default as far as there are backends.
    fn replicas(&self, default: u32, alive: usize) -> Result<u32> {
        let replicas =
            self.replication_num.unwrap_or_else(|| default.min(u32::try_from(alive).unwrap_or(default)).max(1));
        if replicas as usize > alive { Err(too_few(replicas, alive)) } else { Ok(replicas) }
    }
}

/// What partitions have that the table does not say.
#[derive(Default)]
struct Own {
    replicas: BTreeMap<String, u32>,
    buckets: BTreeMap<String, u32>,
}

impl Own {
    fn read(&mut self, by: &crate::sql::ast::PartitionBy, ranges: &[(String, KeyRange)]) -> Result<()> {
        for def in by.partitions.iter().filter(|def| !def.properties.is_empty()) {
            let Some(replicas) = properties::for_partition(&def.properties)? else { continue };
            // Those of FROM ... TO ... have names of their own; the properties are for all of them.
            let named = |name: &&String| def.name.is_empty() || **name == def.name;
            let names = ranges.iter().map(|(name, _)| name).filter(named);
            self.replicas.extend(names.map(|name| (name.clone(), replicas)));
        }
        Ok(())
    }

    /// The partitions that the scheduler would make at once.
    fn ahead(
        &mut self,
        spec: &dynamic::spec::Spec,
        list: bool,
        kinds: &[coffer_table::ColumnType],
        ranges: &mut Vec<(String, KeyRange)>,
    ) -> Result<()> {
        dynamic::spec::fits(spec, list, kinds)?;
        let Some(kind) = kinds.first() else { return Ok(()) };
        let made = dynamic::scheduler::first_partitions(spec, *kind, ranges)?;
        for (name, _) in &made {
            self.replicas.extend(spec.replicas.map(|replicas| (name.clone(), replicas)));
            self.buckets.extend(spec.buckets.map(|buckets| (name.clone(), buckets)));
        }
        ranges.extend(made);
        Ok(())
    }
}

fn bucket_columns(named: &[String], schema: &Schema, table: &str) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::with_capacity(named.len());
    for name in named {
        let at = schema.index_of(name).ok_or_else(|| {
            Error::invalid(format!("Distribution column({name}) doesn't exist in table '{table}'"))
                .numbered(number::KEY_COLUMN_NOT_THERE)
        })?;
        let column = &schema.columns[at];
        if !column.kind.is_hash_key() {
            return Err(Error::invalid(format!(
                "column '{}' of type {} cannot be a distribution column",
                column.name, column.kind
            )));
        }
        if found.contains(&column.name) {
            return Err(Error::invalid(format!("Duplicated distribution column: {}", column.name)));
        }
        found.push(column.name.clone());
    }
    Ok(found)
}

/// DROP TABLE: into the recycle bin, or with FORCE for good. Backends drop the files once nothing claims them.
pub async fn drop_table(
    context: &Context,
    session: &Session,
    name: &ObjectName,
    (if_exists, force): (bool, bool),
) -> Result<Answer> {
    let current = session.database.as_deref();
    let found = context
        .meta
        .view(|state| table_not_view(state, name, current).map(|(database, table)| (database.id, table.id)));
    match found {
        Ok((db, table)) => {
            let command = if force {
                Command::DropTable { db, table }
            } else {
                settled(context, (db, Some(table)), None).await;
                Command::Define(Definition::RecycleTable { db, table, now_ms: now_ms() })
            };
            context.meta.propose(command).await?;
            Ok(Answer::ok())
        }
        Err(error) if if_exists && error.number() == number::UNKNOWN_TABLE => Ok(noted(&error)),
        Err(error) => Err(error),
    }
}

/// A table by name; a view of that name is told apart.
pub(in crate::exec) fn table_not_view<'a>(
    state: &'a State,
    name: &ObjectName,
    current: Option<&str>,
) -> Result<(&'a Database, &'a Table)> {
    let found = state.table(name, current);
    if found.is_err() {
        let database = state.database_or_current(name.database.as_deref(), current)?;
        if database.view(&name.name).is_some() {
            let full = format!("{}.{}", database.name, name.name);
            return Err(Error::invalid(format!("'{full}' is not TABLE. Use 'DROP VIEW {full}'."))
                .numbered(number::NOT_OF_THAT_KIND));
        }
    }
    found
}

/// Wait a while until the loads of what is about to be dropped can be seen; what is not seen then is refused by `apply`.
pub(in crate::exec) async fn settled(
    context: &Context,
    (db, table): (DbId, Option<TableId>),
    partition: Option<PartitionId>,
) {
    const WAIT: Duration = Duration::from_secs(10);
    let is_settled = |state: &State| {
        let Some(database) = state.databases.get(&db) else { return true };
        let tables = database.tables.values().filter(|one| table.is_none_or(|table| one.id == table));
        let mut partitions = tables.flat_map(|table| table.partitions.values());
        partitions.all(|one| {
            partition.is_some_and(|partition| partition != one.id) || one.committed_version <= one.visible_version
        })
    };
    let mut applied = context.meta.applied();
    let waiting = async {
        loop {
            applied.borrow_and_update();
            if context.meta.view(is_settled) || applied.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(WAIT, waiting).await;
}

/// TRUNCATE TABLE: the partitions get new, empty tablets.
pub async fn truncate_table(
    context: &Context,
    session: &Session,
    name: &ObjectName,
    partitions: &[String],
) -> Result<Answer> {
    let command = context.meta.view(|state| {
        let (database, table) = table_not_view(state, name, session.database.as_deref())?;
        let mut places = living(context, state);
        let mut placed = BTreeMap::new();
        for partition in chosen_partitions(table, partitions)? {
            if colocate::group_of(table).is_some() {
                let same = partition.tablets.iter().map(|tablet| tablet.replicas.clone()).collect();
                placed.insert(partition.id, same);
                continue;
            }
            let buckets = u32::try_from(partition.tablets.len()).unwrap_or(u32::MAX);
            placed.insert(partition.id, places.place(buckets, partition.replication_num)?);
        }
        let partitions = placed.into_iter().collect();
        Ok::<_, Error>(Command::Truncate { db: database.id, table: table.id, partitions, now_ms: now_ms() })
    })?;
    context.meta.propose(command).await?;
    Ok(Answer::ok())
}

/// The partitions with these names; all of them without names.
pub(crate) fn chosen_partitions<'a>(
    table: &'a Table,
    names: &[String],
) -> Result<Vec<&'a crate::catalog::table::Partition>> {
    if names.is_empty() {
        return Ok(table.partitions.values().collect());
    }
    let find = |name: &String| table.partition(name).ok_or_else(|| error::unknown_partition(name, &table.name));
    names.iter().map(find).collect()
}

/// ALTER TABLE ... SET.
pub async fn alter_table_set(
    context: &Context,
    session: &Session,
    name: &ObjectName,
    properties: &Properties,
) -> Result<Answer> {
    properties::for_alter(properties)?;
    let properties = properties::stored(properties)?;
    let (db, table) = context.meta.view(|state| {
        let (database, table) = table_not_view(state, name, session.database.as_deref())?;
        check_set(database, table, &properties)?;
        Ok::<_, Error>((database.id, table.id))
    })?;
    let note = properties::without_effect(&properties, false);
    context.meta.propose(Command::SetProperties { db, table, properties }).await?;
    Ok(told(note))
}

/// Whether a table can have these properties beside those it has.
fn check_set(database: &Database, table: &Table, properties: &Properties) -> Result<()> {
    let mut merged = table.properties.clone();
    merged.extend(properties.iter().map(|(key, value)| (key.clone(), value.clone())));
    properties::fit(properties, &table.schema)?;
    if properties.keys().any(|key| key.starts_with("dynamic_partition.")) {
        let known = table.properties.keys().any(|key| key.starts_with("dynamic_partition."));
        let spec = dynamic::spec::read(&merged).map_err(|error| match known {
            true => error,
            false => Error::invalid(format!(
                "Table {} is not a dynamic partition table. Use command `HELP ALTER TABLE` to see how to change a normal \
                 table to a dynamic partition table. {}",
                table.name,
                error.message()
            )),
        })?;
        if let Some(spec) = spec {
            dynamic::spec::fits(&spec, table.partitioning.list, &table.partition_kinds())?;
        }
    }
    let Some(group) = properties.get(COLOCATE_WITH).filter(|group| !group.is_empty()) else { return Ok(()) };
    if colocate::group_of(table) == Some(group.as_str()) {
        return Ok(());
    }
    if let Some(shape) = colocate::Shape::of(table) {
        colocate::check(database, group, &shape)?;
    }
    let places = colocate::places(database, group).or_else(|| {
        let first = table.partitions.values().next()?;
        Some(first.tablets.iter().map(|tablet| tablet.replicas.clone()).collect())
    });
    match places {
        Some(places) if !colocate::lies_as(table, &places) => Err(Error::not_supported(format!(
            "table '{}' does not lie as group {group} does, and moving its replicas is not supported: create a table \
             with \"{COLOCATE_WITH}\" = \"{group}\" and INSERT INTO it SELECT from this one",
            table.name
        ))),
        _ => Ok(()),
    }
}

/// The backends that are alive and stay, with the replicas the catalog gives them.
pub(crate) fn living(context: &Context, state: &State) -> Places {
    let staying = state.backends.values().filter(|backend| !backend.decommissioned);
    let mut counts: BTreeMap<BackendId, u64> =
        staying.filter(|backend| context.backends.alive(backend.id)).map(|backend| (backend.id, 0)).collect();
    let tables = state.databases.values().flat_map(|database| database.tables.values());
    for (_, tablet) in tables.flat_map(Table::tablets) {
        for backend in &tablet.replicas {
            if let Some(count) = counts.get_mut(backend) {
                *count += 1;
            }
        }
    }
    Places::new(counts)
}

/// What IF [NOT] EXISTS makes of an error.
pub(in crate::exec) fn noted(error: &Error) -> Answer {
    Answer::Done(Done { affected: 0, warnings: vec![error.message().to_owned()], info: String::new() })
}

/// Done, with what is to be said about it.
fn told(note: Option<String>) -> Answer {
    Answer::Done(Done { warnings: note.into_iter().collect(), ..Done::default() })
}

#[cfg(test)]
mod tests {
    use super::sample::{create_table, less_than, partition_by};
    use super::*;
    use coffer_table::ColumnType;

    fn plan(change: impl FnOnce(&mut CreateTable)) -> Result<Plan> {
        let mut statement = create_table("t", &[("k", ColumnType::Int), ("f", ColumnType::Double)]);
        change(&mut statement);
        Plan::new(&statement, 10)
    }

    #[test]
    fn a_table_without_partitions_has_one_of_its_own_name() {
        let plan = plan(|t| t.bucket_columns = vec!["K".to_owned()]).unwrap();
        assert_eq!(plan.ranges, [("t".to_owned(), None)]);
        assert_eq!((plan.buckets, plan.bucket_columns), (10, vec!["k".to_owned()]));
    }

    #[test]
    fn buckets_and_their_columns_are_checked() {
        for (change, text) in [
            ((|t| t.bucket_columns = vec!["x".to_owned()]) as fn(&mut CreateTable), "Distribution column(x)"),
            (|t| t.bucket_columns = vec!["f".to_owned()], "cannot be a distribution column"),
            (|t| t.bucket_columns = vec!["k".to_owned(), "K".to_owned()], "Duplicated distribution column"),
            (|t| t.buckets = Some(0), "not 0"),
            (|t| t.buckets = Some(limits::MAX_BUCKETS + 1), "number of buckets"),
            (|t| t.comment = "x".repeat(limits::MAX_TEXT_BYTES + 1), "comment"),
            (
                |t| {
                    t.buckets = Some(limits::MAX_BUCKETS);
                    let many = (0..21).map(|n| less_than(&format!("p{n}"), &[&n.to_string()]));
                    t.partition = Some(partition_by(&["k"], many.collect()));
                },
                "210000 tablets",
            ),
        ] {
            let error = plan(change).err().unwrap();
            assert!(error.message().contains(text), "{error}");
        }
    }

    #[test]
    fn what_has_no_effect_is_kept_and_told() {
        let set = |key: &'static str, value: &'static str| {
            plan(move |t| drop(t.properties.insert(key.to_owned(), value.to_owned())))
        };
        let kept = set("storage_format", "V2").unwrap();
        assert_eq!(kept.note.as_deref(), Some("kept, and without effect here: properties storage_format"));
        assert_eq!((plan(|_| {}).unwrap().note, kept.properties["storage_format"].as_str()), (None, "V2"));
        assert_eq!(set("dynamic_partition.enable", "false").unwrap().note, None);
        for (key, value, text) in [
            ("dynamic_partition.enable", "true", "single-column range"),
            ("dynamic_partition.end", "3", "single-column range"),
            ("bloom_filter_columns", "nocol", "invalid column: nocol"),
            ("enable_unique_key_merge_on_write", "true", "only support unique key table"),
        ] {
            assert!(set(key, value).err().unwrap().message().contains(text), "{key}");
        }
        let indexed = plan(|t| t.indexes = indexes_of("i", "f")).unwrap();
        assert!(indexed.note.unwrap().contains("indexes"));
        assert_eq!(index_definitions(&indexed.properties).0, ["INDEX `i` (`f`)"]);
        assert!(plan(|t| t.indexes = indexes_of("i", "x")).is_err());
    }

    fn indexes_of(name: &str, column: &str) -> Vec<crate::sql::ast::Index> {
        let (name, columns) = (name.to_owned(), vec![column.to_owned()]);
        vec![crate::sql::ast::Index {
            name,
            columns,
            kind: None,
            properties: Properties::new(),
            comment: String::new(),
        }]
    }

    #[test]
    fn replicas_default_to_what_there_is() {
        let default = plan(|_| {}).unwrap();
        assert_eq!(default.replicas(3, 5), Ok(3));
        assert_eq!(default.replicas(3, 2), Ok(2));
        assert!(default.replicas(3, 0).unwrap_err().message().contains("available backend num is 0"));
        let two = plan(|t| drop(t.properties.insert("replication_num".to_owned(), "2".to_owned()))).unwrap();
        assert_eq!(two.replicas(3, 5), Ok(2));
        assert!(two.replicas(3, 1).unwrap_err().message().contains("replication num is 2, available backend num is 1"));
    }
}
