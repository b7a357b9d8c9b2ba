//! Which tables and partitions a BACKUP takes. Pure.

use crate::catalog::database::Database;
use crate::catalog::table::Table;
use crate::error::{self, Error, Result};
use crate::sql::ast::{Objects, TableRef};

/// Table names, each with partition names (empty: all of them); an empty list means every table.
pub(super) type Chosen = Vec<(String, Vec<String>)>;

/// What `objects` names in a database, and what is to be said about names that name nothing.
pub(super) fn choose(database: &Database, objects: &Objects) -> Result<(Chosen, Vec<String>)> {
    let mut warnings = Vec::new();
    let chosen = match objects {
        Objects::All => return Ok((Vec::new(), warnings)),
        Objects::On(tables) => tables.iter().map(|named| on(database, named)).collect::<Result<Chosen>>()?,
        Objects::Exclude(tables) => {
            warnings = tables.iter().flat_map(|named| nothing_excluded(database, named)).collect();
            let mut all: Vec<&Table> = database.tables.values().collect();
            all.sort_by(|left, right| left.name.cmp(&right.name));
            let mut chosen: Chosen = all.into_iter().filter_map(|table| without(table, tables)).collect();
            let kept = database.views.values().filter(|view| !tables.iter().any(|named| named.table == view.name));
            let mut views: Vec<(String, Vec<String>)> = kept.map(|view| (view.name.clone(), Vec::new())).collect();
            views.sort();
            chosen.extend(views);
            chosen
        }
    };
    if chosen.is_empty() {
        return Err(Error::invalid(format!("nothing of database '{}' is left to back up", database.name)));
    }
    Ok((chosen, warnings))
}

fn nothing_excluded(database: &Database, named: &TableRef) -> Vec<String> {
    if database.view(&named.table).is_some() {
        return Vec::new();
    }
    let Some(table) = database.table(&named.table) else {
        return vec![format!("EXCLUDE: there is no table '{}' in database '{}'", named.table, database.name)];
    };
    let unknown = named.partitions.iter().filter(|name| table.partition(name).is_none());
    unknown.map(|name| format!("EXCLUDE: there is no partition '{name}' in table '{}'", table.name)).collect()
}

fn on(database: &Database, named: &TableRef) -> Result<(String, Vec<String>)> {
    if let Some(view) = database.view(&named.table) {
        if !named.partitions.is_empty() {
            return Err(Error::invalid(format!("'{}' is a view: it has no partitions", view.name)));
        }
        return Ok((view.name.clone(), Vec::new()));
    }
    let table = database.table(&named.table).ok_or_else(|| error::unknown_table(&named.table))?;
    let partitions = named.partitions.iter().map(|name| {
        let partition = table.partition(name).ok_or_else(|| error::unknown_partition(name, &table.name))?;
        Ok(partition.name.clone())
    });
    Ok((table.name.clone(), partitions.collect::<Result<_>>()?))
}

/// What EXCLUDE leaves of a table; names that do not exist exclude nothing.
fn without(table: &Table, excluded: &[TableRef]) -> Option<(String, Vec<String>)> {
    let Some(named) = excluded.iter().find(|named| named.table == table.name) else {
        return Some((table.name.clone(), Vec::new()));
    };
    if named.partitions.is_empty() {
        return None;
    }
    let excluded = |name: &str| named.partitions.iter().any(|other| other.eq_ignore_ascii_case(name));
    let left = table.partitions.values().filter(|partition| !excluded(&partition.name));
    let left: Vec<String> = left.map(|partition| partition.name.clone()).collect();
    (!left.is_empty()).then(|| (table.name.clone(), left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::backup::sample::{database, table};

    fn named(table: &str, partitions: &[&str]) -> TableRef {
        let partitions = partitions.iter().map(|name| (*name).to_owned()).collect();
        TableRef { table: table.to_owned(), partitions, alias: None }
    }

    fn choice(objects: Objects) -> Result<String, String> {
        let database = database(vec![table("b", &["p1", "p2"]), table("a", &["q"])]);
        let (chosen, _) = choose(&database, &objects).map_err(|error| error.message().to_owned())?;
        Ok(chosen.into_iter().map(|(table, partitions)| format!("{table}{partitions:?}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn everything_is_an_empty_list() {
        assert_eq!(choice(Objects::All), Ok(String::new()));
    }

    #[test]
    fn named_tables_and_partitions_must_exist() {
        assert_eq!(choice(Objects::On(vec![named("a", &[]), named("b", &["P2"])])), Ok("a[] b[\"p2\"]".to_owned()));
        assert_eq!(choice(Objects::On(vec![named("x", &[])])), Err("Unknown table 'x'".to_owned()));
        assert!(choice(Objects::On(vec![named("b", &["p9"])])).unwrap_err().contains("Unknown partition p9"));
    }

    #[test]
    fn names_that_exclude_nothing_are_told() {
        let database = database(vec![table("b", &["p1", "p2"]), table("a", &["q"])]);
        let excluded = Objects::Exclude(vec![named("x", &[]), named("b", &["p1", "p9"])]);
        let (_, warnings) = choose(&database, &excluded).unwrap();
        assert_eq!(
            warnings,
            ["EXCLUDE: there is no table 'x' in database 'd'", "EXCLUDE: there is no partition 'p9' in table 'b'"]
        );
    }

    #[test]
    fn excluded_names_are_left_out_and_unknown_ones_ignored() {
        assert_eq!(choice(Objects::Exclude(vec![named("a", &[]), named("x", &[])])), Ok("b[]".to_owned()));
        assert_eq!(choice(Objects::Exclude(vec![named("b", &["P1"])])), Ok("a[] b[\"p2\"]".to_owned()));
        assert_eq!(choice(Objects::Exclude(vec![named("b", &["p1", "p2"])])), Ok("a[]".to_owned()));
        let error = choice(Objects::Exclude(vec![named("a", &[]), named("b", &[])])).unwrap_err();
        assert!(error.contains("nothing of database 'd'"), "{error}");
    }
}
