//! SHOW DATABASES, TABLES, COLUMNS, CREATE TABLE; DESC.

use crate::account::Rights;
use crate::catalog::database::Database;
use crate::catalog::table::Table;
use crate::error::{self, Result};
use crate::exec::answer::RowSet;
use crate::exec::ddl::index_definitions;
use crate::exec::filter::{self, like};
use crate::exec::names::{INFORMATION_SCHEMA, is_system_database};
use crate::exec::text::quoted as text;
use crate::meta::state::State;
use crate::query::system_tables;
use crate::sql::ast::{ObjectName, RowCondition, RowFilter};
use coffer_mysql::{quote, quote_identifier};
use coffer_table::{Bound, Column, ColumnType, KeyRange, ListValue};
use std::fmt::Write;

/// SHOW DATABASES.
pub(super) fn databases(state: &State, rights: &Rights<'_>, pattern: Option<&str>) -> RowSet {
    let mut names: Vec<&str> = state.databases.values().map(|database| database.name.as_str()).collect();
    names.retain(|name| rights.sees_database(name));
    names.push(INFORMATION_SCHEMA);
    names.sort_unstable();
    let mut set = RowSet::new(["Database"]);
    for name in names.into_iter().filter(|name| pattern.is_none_or(|pattern| like(pattern, name))) {
        set.push([name]);
    }
    set
}

/// The rows of SHOW FULL TABLES.
pub(super) fn tables(
    state: &State,
    rights: &Rights<'_>,
    (given, current): (Option<&str>, Option<&str>),
    pattern: Option<&str>,
) -> Result<RowSet> {
    let name = given.or(current).ok_or_else(error::no_database)?;
    let mut tables: Vec<(&str, &str)> = if is_system_database(name) {
        system_tables().into_iter().map(|table| (table, "SYSTEM VIEW")).collect()
    } else {
        let database = state.database(name)?;
        let tables = database.tables.values().map(|table| (table.name.as_str(), "BASE TABLE"));
        let views = database.views.values().map(|view| (view.name.as_str(), "VIEW"));
        tables.chain(views).filter(|(table, _)| rights.sees_table(name, table)).collect()
    };
    tables.sort_unstable();
    let mut set = RowSet::new([format!("Tables_in_{name}"), "Table_type".to_owned()]);
    for (table, kind) in tables.into_iter().filter(|(table, _)| pattern.is_none_or(|pattern| like(pattern, table))) {
        set.push([table, kind]);
    }
    Ok(set)
}

/// Those that the conditions keep; without FULL the names alone. `Tables_in` may be followed by anything.
pub(super) fn chosen(mut set: RowSet, mut conditions: Vec<RowCondition>, full: bool) -> Result<RowSet> {
    for condition in conditions.iter_mut().filter(|condition| !condition.column.eq_ignore_ascii_case("Table_type")) {
        condition.column.clone_from(&set.columns[0]);
    }
    set = filter::apply(set, &RowFilter { conditions, ..RowFilter::default() })?;
    if !full {
        set.columns.truncate(1);
        set.rows.iter_mut().for_each(|row| row.truncate(1));
    }
    Ok(set)
}

/// SHOW CREATE DATABASE.
pub(super) fn create_database(state: &State, name: &str) -> Result<RowSet> {
    let database = state.database(name)?;
    let mut set = RowSet::new(["Database", "Create Database"]);
    set.push([database.name.clone(), format!("CREATE DATABASE {}", quote_identifier(&database.name))]);
    Ok(set)
}

/// SHOW [FULL] COLUMNS and DESC.
pub(super) fn columns(
    state: &State,
    (name, current): (&ObjectName, Option<&str>),
    pattern: Option<&str>,
    full: bool,
) -> Result<RowSet> {
    let database = state.database_or_current(name.database.as_deref(), current)?;
    let (columns, schema): (&[Column], _) = match database.view(&name.name) {
        Some(view) => (&view.columns, None),
        None => state.table(name, current).map(|(_, table)| (table.schema.columns.as_slice(), Some(&table.schema)))?,
    };
    let mut set = RowSet::new(if full {
        vec!["Field", "Type", "Collation", "Null", "Key", "Default", "Extra", "Privileges", "Comment"]
    } else {
        vec!["Field", "Type", "Null", "Key", "Default", "Extra"]
    });
    let columns = columns.iter().enumerate();
    for (at, column) in columns.filter(|(_, column)| pattern.is_none_or(|p| like(p, &column.name))) {
        let aggregate = schema.and_then(|schema| schema.aggregate(at));
        let aggregate = aggregate.map_or("NONE".to_owned(), |aggregate| aggregate.to_string());
        let some = |text: &str| Some(text.to_owned());
        let mut row = vec![
            some(&column.name),
            Some(column.kind.to_string()),
            some(if column.nullable { "Yes" } else { "No" }),
            some(if column.key { "true" } else { "false" }),
            column.default.clone(),
            some(if column.key { "" } else { &aggregate }),
        ];
        if full {
            let text = column.kind.max_bytes().is_some();
            row.insert(2, text.then(|| "utf8mb4_0900_bin".to_owned()));
            row.extend([some("select,insert"), some(&column.comment)]);
        }
        set.rows.push(row);
    }
    Ok(set)
}

/// SHOW CREATE TABLE.
pub(super) fn create_table(state: &State, name: &ObjectName, current: Option<&str>) -> Result<RowSet> {
    let database = state.database_or_current(name.database.as_deref(), current)?;
    if database.view(&name.name).is_some() {
        return crate::exec::view::show_create(state, name, current);
    }
    let (_, table): (&Database, &Table) = state.table(name, current)?;
    let mut set = RowSet::new(["Table", "Create Table"]);
    set.push([table.name.clone(), statement(table)]);
    Ok(set)
}

/// A statement that makes the same table again.
fn statement(table: &Table) -> String {
    let mut out = format!("CREATE TABLE {} (\n", quote_identifier(&table.name));
    let (indexes, properties) = index_definitions(&table.properties);
    let mut lines: Vec<String> = table.schema.columns.iter().map(column_line).collect();
    lines.extend(indexes.into_iter().map(|index| format!("  {index}")));
    out.push_str(&lines.join(",\n"));
    out.push_str("\n) ENGINE=OLAP");
    let keys: Vec<&str> =
        table.schema.columns.iter().filter(|column| column.key).map(|column| column.name.as_str()).collect();
    if !keys.is_empty() {
        let _ = write!(out, "\n{} KEY({})", table.schema.model, identifiers(&keys));
    }
    if !table.comment.is_empty() {
        let _ = write!(out, "\nCOMMENT {}", quote(&table.comment));
    }
    if !table.partition_columns.is_empty() {
        out.push_str(&partitions(table));
    }
    match table.bucket_columns.as_slice() {
        [] => out.push_str("\nDISTRIBUTED BY RANDOM"),
        columns => {
            let _ = write!(out, "\nDISTRIBUTED BY HASH({})", identifiers(columns));
        }
    }
    if let Some(buckets) = table.new_buckets() {
        let _ = write!(out, " BUCKETS {buckets}");
    }
    let properties: Vec<String> =
        properties.into_iter().map(|(key, value)| format!("{} = {}", text(key), text(value))).collect();
    let _ = write!(out, "\nPROPERTIES (\n{}\n);", properties.join(",\n"));
    out
}

fn column_line(column: &Column) -> String {
    let mut line = format!("  {} {}", quote_identifier(&column.name), column.kind);
    if let Some(aggregate) = column.aggregate {
        let _ = write!(line, " {aggregate}");
    }
    line.push_str(if column.nullable { " NULL" } else { " NOT NULL" });
    if let Some(default) = &column.default {
        let shown = if column.default_is_now() { default.clone() } else { quote(default) };
        let _ = write!(line, " DEFAULT {shown}");
    }
    if !column.comment.is_empty() {
        let _ = write!(line, " COMMENT {}", quote(&column.comment));
    }
    line
}

fn partitions(table: &Table) -> String {
    let kinds: Vec<ColumnType> = table
        .partition_columns
        .iter()
        .filter_map(|name| Some(table.schema.columns[table.schema.index_of(name)?].kind))
        .collect();
    let mut parts: Vec<(&KeyRange, String)> = table
        .partitions
        .values()
        .filter_map(|partition| {
            let range = partition.range.as_ref()?;
            Some((range, format!("PARTITION {} VALUES {}", quote_identifier(&partition.name), values(range, &kinds))))
        })
        .collect();
    parts.sort_by(|(left, _), (right, _)| left.lower.cmp(&right.lower));
    let lines: Vec<String> = parts.into_iter().map(|(_, line)| line).collect();
    let kind = if table.partitioning.list { "LIST" } else { "RANGE" };
    format!("\nPARTITION BY {kind}({})\n({})", identifiers(&table.partition_columns), lines.join(",\n"))
}

/// A range from the smallest value on is written as LESS THAN, which reads back with the same lower bound: as ranges do not
/// overlap, no other one ends below it.
fn values(range: &KeyRange, kinds: &[ColumnType]) -> String {
    if !range.list.is_empty() {
        let value = |(value, kind): (&ListValue, &ColumnType)| match value {
            ListValue::Null => "NULL".to_owned(),
            value => text(&value.format(*kind)),
        };
        let keys = range.list.iter().map(|key| {
            let values: Vec<String> = key.iter().zip(kinds).map(value).collect();
            format!("({})", values.join(", "))
        });
        return format!("IN ({})", keys.collect::<Vec<_>>().join(", "));
    }
    let upper = bounds(&range.upper, kinds);
    if range.lower.iter().all(|bound| *bound == Bound::Min) {
        return format!("LESS THAN ({upper})");
    }
    format!("[({}), ({upper}))", bounds(&range.lower, kinds))
}

/// Values up to the last that is not the smallest: those left out are read back as that.
fn bounds(bounds: &[Bound], kinds: &[ColumnType]) -> String {
    let given = bounds.iter().rposition(|bound| *bound != Bound::Min).map_or(0, |last| last + 1);
    let parts: Vec<String> = bounds[..given]
        .iter()
        .zip(kinds)
        .map(|(bound, kind)| match bound {
            Bound::Max => "MAXVALUE".to_owned(),
            Bound::Min | Bound::Value(_) => text(&bound.format(*kind)),
        })
        .collect();
    parts.join(", ")
}

fn identifiers<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quote_identifier(name.as_ref())).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::ddl::Plan;
    use crate::exec::sample;
    use crate::sql::ast::{RowOperator, Statement};

    fn root() -> crate::account::Who {
        crate::account::Who { user: "root".to_owned(), ..Default::default() }
    }

    fn name(table: &str) -> ObjectName {
        ObjectName { database: None, name: table.to_owned() }
    }

    fn column(set: &RowSet, at: usize) -> Vec<&str> {
        set.rows.iter().map(|row| row[at].as_deref().unwrap_or("NULL")).collect()
    }

    #[test]
    fn databases_and_tables_are_listed_in_order() {
        let state = sample::state();
        let (all, nothing) = (state.rights(&root()).unwrap(), Rights::none());
        assert_eq!(column(&databases(&state, &nothing, None), 0), ["information_schema"]);
        assert!(tables(&state, &nothing, (Some("db"), None), None).unwrap().rows.is_empty());
        assert_eq!(column(&databases(&state, &all, None), 0), ["db", "empty", "information_schema"]);
        assert_eq!(column(&databases(&state, &all, Some("d%")), 0), ["db"]);
        let set = tables(&state, &all, (Some("db"), None), None).unwrap();
        assert_eq!(set.columns, ["Tables_in_db", "Table_type"]);
        let condition = |column: &str, operator, value: &str| RowCondition {
            column: column.to_owned(),
            operator,
            value: value.to_owned(),
        };
        for (conditions, full, expected) in [
            (vec![condition("tables_IN_DB", RowOperator::Like, "P%")], false, vec!["plain"]),
            (vec![condition("Tables_in", RowOperator::Equal, "T")], true, vec!["t"]),
            (vec![condition("table_TYPE", RowOperator::NotEqual, "view")], false, vec!["plain", "t"]),
            (vec![condition("Table_type", RowOperator::Equal, "VIEW")], true, vec![]),
            (
                vec![
                    condition("Tables_in_db", RowOperator::Like, "_"),
                    condition("Table_type", RowOperator::Like, "base%"),
                ],
                false,
                vec!["t"],
            ),
        ] {
            let found = chosen(set.clone(), conditions, full).unwrap();
            assert_eq!((column(&found, 0), found.columns.len()), (expected, 1 + usize::from(full)));
        }
        assert_eq!(column(&set, 0), ["plain", "t"]);
        assert_eq!(column(&tables(&state, &all, (None, Some("db")), Some("T")).unwrap(), 0), ["t"]);
        assert_eq!(tables(&state, &all, (None, None), None).unwrap_err().number(), 1046);
        assert_eq!(tables(&state, &all, (Some("x"), None), None).unwrap_err().number(), 1049);
        assert_eq!(tables(&state, &all, (Some("Information_schema"), None), None).unwrap().rows.len(), 13);
        assert!(create_database(&state, "db").unwrap().rows[0][1].as_deref().unwrap().contains("`db`"));
    }

    #[test]
    fn columns_are_described() {
        let state = sample::state();
        let set = columns(&state, (&name("t"), Some("db")), None, false).unwrap();
        assert_eq!(column(&set, 0), ["d", "k", "v"]);
        assert_eq!(column(&set, 1), ["date", "int", "varchar(10)"]);
        assert_eq!(column(&set, 2), ["No", "No", "Yes"]);
        assert_eq!(column(&set, 3), ["true", "true", "false"]);
        assert_eq!(column(&set, 4), ["NULL", "NULL", "x\"y"]);
        let full = columns(&state, (&name("t"), Some("db")), Some("v"), true).unwrap();
        assert_eq!(full.rows.len(), 1);
        assert_eq!(full.columns.len(), full.rows[0].len());
        assert_eq!(full.rows[0][8].as_deref(), Some("a comment"));
        assert_eq!(columns(&state, (&name("x"), Some("db")), None, false).unwrap_err().number(), 1051);
    }

    #[test]
    fn a_table_prints_as_a_statement_that_makes_it_again() {
        let state = sample::state();
        let set = create_table(&state, &name("t"), Some("db")).unwrap();
        let text = set.rows[0][1].clone().unwrap();
        assert_eq!(
            text,
            "CREATE TABLE `t` (\n  `d` date NOT NULL,\n  `k` int NOT NULL,\n  \
             `v` varchar(10) NULL DEFAULT 'x\"y' COMMENT 'a comment'\n) ENGINE=OLAP\n\
             DUPLICATE KEY(`d`, `k`)\nCOMMENT 'it''s'\nPARTITION BY RANGE(`d`)\n\
             (PARTITION `p1` VALUES LESS THAN (\"2024-01-01\"),\n\
             PARTITION `p2` VALUES [(\"2024-01-01\"), (\"2024-02-01\")),\n\
             PARTITION `p3` VALUES [(\"2024-03-01\"), (MAXVALUE)))\n\
             DISTRIBUTED BY HASH(`k`) BUCKETS 2\nPROPERTIES (\n\"replication_num\" = \"2\"\n);"
        );
        let plain = create_table(&state, &name("plain"), Some("db")).unwrap().rows[0][1].clone().unwrap();
        assert!(plain.contains("DISTRIBUTED BY RANDOM BUCKETS 1"), "{plain}");
    }

    #[test]
    fn what_show_create_table_prints_makes_the_same_table() {
        let state = sample::state();
        let tables = state.databases.values().flat_map(|database| database.tables.values());
        for table in tables {
            let text = statement(table);
            let Statement::CreateTable(read) = crate::sql::parse(&text).unwrap() else { panic!("{text}") };
            let plan = Plan::new(&read, 99).unwrap();
            let ranges: Vec<_> =
                table.partitions.values().map(|partition| (partition.name.clone(), partition.range.clone())).collect();
            assert_eq!((plan.schema.columns.len(), plan.ranges), (table.schema.columns.len(), ranges));
            assert_eq!(plan.schema.model, table.schema.model);
            for (made, column) in plan.schema.columns.iter().zip(&table.schema.columns) {
                assert!(made == column || !table.schema.columns[0].key, "{made:?} {column:?}");
            }
            assert_eq!(plan.partition_columns, table.partition_columns);
            assert_eq!(plan.bucket_columns, table.bucket_columns);
            assert_eq!(plan.buckets as usize, table.partitions.values().next().unwrap().tablets.len());
            assert_eq!(read.comment, table.comment);
            let mut properties = plan.properties;
            properties.insert(crate::exec::ddl::REPLICATION_NUM.to_owned(), plan.replication_num.unwrap().to_string());
            assert_eq!(properties, table.properties);
        }
    }
}
