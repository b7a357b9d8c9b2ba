//! Which tables and partitions of a snapshot a RESTORE takes, and under which names. Pure.

use crate::error::{Error, Result};
use crate::sql::ast::{Objects, TableRef};
use coffer_repo::{SnapshotMeta, TableMeta, ViewMeta};

/// A table of the snapshot with the partitions to restore, and the name it gets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selected {
    /// As in the snapshot, with only the partitions to restore.
    pub(super) table: TableMeta,
    /// Its name here.
    pub(super) name: String,
    /// The snapshot has no rows.
    pub(super) without_rows: bool,
}

/// A view of the snapshot and the name it gets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SelectedView {
    /// As in the snapshot.
    pub(super) view: ViewMeta,
    /// Its name here.
    pub(super) name: String,
}

/// What `objects` names in a snapshot.
pub(super) fn select(meta: SnapshotMeta, objects: &Objects, label: &str) -> Result<(Vec<Selected>, Vec<SelectedView>)> {
    let same = |view: ViewMeta| SelectedView { name: view.name.clone(), view };
    let (tables, views): (Vec<Selected>, Vec<SelectedView>) = match objects {
        Objects::All => (meta.tables.into_iter().map(whole).collect(), meta.views.into_iter().map(same).collect()),
        Objects::On(named) => {
            let (mut tables, mut views) = (Vec::new(), Vec::new());
            for named in named {
                match meta.view(&named.table) {
                    Some(view) => views.push(on_view(view, named)?),
                    None => tables.push(on(&meta, named, label)?),
                }
            }
            (tables, views)
        }
        Objects::Exclude(named) => {
            let kept = |view: &ViewMeta| !named.iter().any(|named| named.table == view.name);
            (
                meta.tables.into_iter().filter_map(|table| without(table, named)).collect(),
                meta.views.into_iter().filter(kept).map(same).collect(),
            )
        }
    };
    if tables.is_empty() && views.is_empty() {
        return Err(Error::invalid(format!("nothing of snapshot {label} is left to restore")));
    }
    Ok((tables, views))
}

fn on_view(view: &ViewMeta, named: &TableRef) -> Result<SelectedView> {
    if !named.partitions.is_empty() {
        return Err(Error::invalid(format!("'{}' is a view: it has no partitions", view.name)));
    }
    Ok(SelectedView { name: named.alias.clone().unwrap_or_else(|| view.name.clone()), view: view.clone() })
}

/// What is to be said about names of EXCLUDE that name nothing.
pub(super) fn nothing_excluded(meta: &SnapshotMeta, objects: &Objects, label: &str) -> Vec<String> {
    let Objects::Exclude(named) = objects else { return Vec::new() };
    let mut warnings = Vec::new();
    for named in named {
        if meta.view(&named.table).is_some() {
            continue;
        }
        let Some(table) = meta.table(&named.table) else {
            warnings.push(format!("EXCLUDE: there is no table '{}' in snapshot {label}", named.table));
            continue;
        };
        let there = |name: &&String| table.partitions.iter().any(|other| other.name.eq_ignore_ascii_case(name));
        for name in named.partitions.iter().filter(|name| !there(name)) {
            warnings.push(format!("EXCLUDE: there is no partition '{name}' in table '{}' of the snapshot", table.name));
        }
    }
    warnings
}

fn whole(table: TableMeta) -> Selected {
    Selected { name: table.name.clone(), table, without_rows: false }
}

fn on(meta: &SnapshotMeta, named: &TableRef, label: &str) -> Result<Selected> {
    let missing = || Error::not_found(format!("Table {} does not exist in snapshot {label}", named.table));
    let mut table = meta.table(&named.table).ok_or_else(missing)?.clone();
    let unknown = |name: &&String| !table.partitions.iter().any(|other| other.name.eq_ignore_ascii_case(name));
    if let Some(name) = named.partitions.iter().find(unknown) {
        return Err(Error::not_found(format!(
            "Partition {name} of table {} does not exist in snapshot {label}",
            table.name
        )));
    }
    if !named.partitions.is_empty() {
        table.partitions.retain(|partition| is_named(&named.partitions, &partition.name));
    }
    let name = named.alias.clone().unwrap_or_else(|| table.name.clone());
    Ok(Selected { name, ..whole(table) })
}

/// What EXCLUDE leaves of a table; names that do not exist exclude nothing.
fn without(mut table: TableMeta, excluded: &[TableRef]) -> Option<Selected> {
    if let Some(named) = excluded.iter().find(|named| named.table == table.name) {
        if named.partitions.is_empty() {
            return None;
        }
        table.partitions.retain(|partition| !is_named(&named.partitions, &partition.name));
        if table.partitions.is_empty() {
            return None;
        }
    }
    Some(whole(table))
}

fn is_named(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::restore::sample::meta;

    fn named(table: &str, partitions: &[&str], alias: Option<&str>) -> TableRef {
        let partitions = partitions.iter().map(|name| (*name).to_owned()).collect();
        TableRef { table: table.to_owned(), partitions, alias: alias.map(str::to_owned) }
    }

    fn choice(objects: Objects) -> Result<String, String> {
        let (selected, _) = select(meta(), &objects, "s").map_err(|error| error.message().to_owned())?;
        let text = selected.into_iter().map(|one| {
            let partitions: Vec<String> = one.table.partitions.into_iter().map(|partition| partition.name).collect();
            format!("{}={}({})", one.name, one.table.name, partitions.join(","))
        });
        Ok(text.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn all_some_or_all_but_some() {
        assert_eq!(choice(Objects::All), Ok("a=a(a) b=b(p1,p2)".to_owned()));
        let on = vec![named("b", &["P2"], Some("copy")), named("a", &[], None)];
        assert_eq!(choice(Objects::On(on)), Ok("copy=b(p2) a=a(a)".to_owned()));
        let but = vec![named("a", &[], None), named("b", &["p1"], None), named("x", &[], None)];
        assert_eq!(choice(Objects::Exclude(but)), Ok("b=b(p2)".to_owned()));
        let but = vec![named("b", &["p1", "p9"], None), named("x", &[], None)];
        let warnings = nothing_excluded(&meta(), &Objects::Exclude(but), "s");
        assert_eq!(
            warnings,
            [
                "EXCLUDE: there is no partition 'p9' in table 'b' of the snapshot",
                "EXCLUDE: there is no table 'x' in snapshot s"
            ]
        );
        assert!(nothing_excluded(&meta(), &Objects::All, "s").is_empty());
        let error = choice(Objects::Exclude(vec![named("a", &[], None), named("b", &["p1", "p2"], None)])).unwrap_err();
        assert_eq!(error, "nothing of snapshot s is left to restore");
    }

    #[test]
    fn views_are_chosen_like_tables() {
        let with_view = || {
            let mut meta = meta();
            meta.views.push(ViewMeta {
                id: 9,
                name: "v".to_owned(),
                columns: Vec::new(),
                query: "SELECT 1".to_owned(),
                comment: String::new(),
            });
            meta
        };
        let names = |objects: Objects| {
            let (tables, views) = select(with_view(), &objects, "s").unwrap();
            let views: Vec<String> = views.into_iter().map(|one| one.name).collect();
            (tables.len(), views)
        };
        let v = || vec!["v".to_owned()];
        assert_eq!(names(Objects::All), (2, v()));
        assert_eq!(names(Objects::On(vec![named("v", &[], Some("w"))])), (0, vec!["w".to_owned()]));
        assert_eq!(names(Objects::Exclude(vec![named("v", &[], None)])), (2, Vec::new()));
        assert_eq!(names(Objects::Exclude(vec![named("a", &[], None)])), (1, v()));
        let parts = Objects::On(vec![named("v", &["p"], None)]);
        assert!(select(with_view(), &parts, "s").unwrap_err().message().contains("has no partitions"));
        assert!(nothing_excluded(&with_view(), &Objects::Exclude(vec![named("v", &[], None)]), "s").is_empty());
    }

    #[test]
    fn what_the_snapshot_does_not_have_is_named() {
        let error = |table, partitions| choice(Objects::On(vec![named(table, partitions, None)])).unwrap_err();
        assert_eq!(error("x", &[]), "Table x does not exist in snapshot s");
        assert_eq!(error("b", &["p9"]), "Partition p9 of table b does not exist in snapshot s");
    }
}
