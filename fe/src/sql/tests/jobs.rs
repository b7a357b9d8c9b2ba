//! BACKUP, RESTORE, CANCEL.

use super::super::ast::{Backup, DropSnapshot, Objects, Restore, Statement, TableRef};
use super::{name, names, not_supported, properties, refused, same, syntax};

fn table(name: &str, partitions: &[&str], alias: Option<&str>) -> TableRef {
    TableRef { table: name.to_owned(), partitions: names(partitions), alias: alias.map(str::to_owned) }
}

fn backup(label: &str, objects: Objects, pairs: &[(&str, &str)]) -> Statement {
    let (label, repository) = (name(label), "repo".to_owned());
    Statement::Backup(Backup { label, repository, objects, properties: properties(pairs) })
}

fn restore(label: &str, objects: Objects, pairs: &[(&str, &str)]) -> Statement {
    let (label, repository) = (name(label), "repo".to_owned());
    Statement::Restore(Restore { label, repository, objects, properties: properties(pairs) })
}

#[test]
fn backups() {
    let listed = || vec![table("t1", &["p1", "p2"], None), table("t2", &[], None)];
    same(&[
        ("BACKUP SNAPSHOT example_db.label1 TO repo", backup("example_db.label1", Objects::All, &[])),
        (
            "BACKUP SNAPSHOT label1 TO `repo` ON (t1 PARTITION (p1,p2), `t2`) PROPERTIES (\"type\" = \"full\")",
            backup("label1", Objects::On(listed()), &[("type", "full")]),
        ),
        (
            "backup snapshot l to repo exclude (t1 partition (p1, p2), t2);",
            backup("l", Objects::Exclude(listed()), &[]),
        ),
        ("backup snapshot `d`.`2024-01-01:x` to repo", backup("d.2024-01-01:x", Objects::All, &[])),
        (
            "backup snapshot l to repo on (t1 partition p1)",
            backup("l", Objects::On(vec![table("t1", &["p1"], None)]), &[]),
        ),
        (
            "backup snapshot l to repo on (table t1 partition p1)",
            backup("l", Objects::On(vec![table("t1", &["p1"], None)]), &[]),
        ),
        ("backup snapshot l to repo\n properties ('timeout'=3600)", backup("l", Objects::All, &[("timeout", "3600")])),
    ]);
    refused(&[
        ("backup snapshot `a b` to repo", "Label format error. regex: ^[-_A-Za-z0-9:]{1,128}$, label: a b"),
        (
            "backup snapshot l to repo on (d.t)",
            "Cannot specify database name on backup objects: d.t. Specify database name before label",
        ),
        ("backup snapshot l to repo on (t, t)", "Duplicated table: t"),
        ("backup snapshot l to repo on (t partition (p, P))", "Duplicated partition: P"),
        ("backup snapshot l to repo on (t as u)", "Can not set alias for table in Backup Command: t"),
    ]);
    not_supported(&[
        "backup database d snapshot l to repo",
        "backup global snapshot l to repo",
        "restore external catalog c snapshot l from repo",
        "restore snapshot l from repo database d as e",
    ]);
    syntax(&[
        ("backup", "'"),
        ("backup x", "x'"),
        ("backup snapshot to repo", "to repo'"),
        ("backup snapshot l from repo", "from repo'"),
        ("backup snapshot l too repo", "too repo'"),
        ("backup snapshot l to repo on ()", ")'"),
        ("backup snapshot l to repo on t", "t'"),
        ("backup snapshot l to repo on (t partition ())", "))'"),
        ("backup snapshot l to repo on (t) exclude (u)", "exclude (u)'"),
        ("backup snapshot l to repo properties ('a'='b'", "'"),
        ("backup snapshot l to repo where", "where'"),
    ]);
    not_supported(&["backup snapshot l to repo on (t temporary partition (p))", "backup snapshot a.b.c to repo"]);
}

#[test]
fn drops_of_snapshots() {
    let drop = |timestamp: Option<&str>| {
        let (label, repository) = ("l-1:x".to_owned(), "repo".to_owned());
        Statement::DropSnapshot(DropSnapshot { label, repository, timestamp: timestamp.map(str::to_owned) })
    };
    same(&[
        ("DROP SNAPSHOT `l-1:x` ON repo", drop(None)),
        ("drop snapshot `l-1:x` from `repo`;", drop(None)),
        ("DROP SNAPSHOT `l-1:x` ON repo WHERE TIMESTAMP = \"2018-04-18-19-19-10\"", drop(Some("2018-04-18-19-19-10"))),
    ]);
    refused(&[
        ("drop snapshot `a b` on repo", "Label format error"),
        ("drop snapshot d.l on repo", "Cannot specify database name in DROP SNAPSHOT: d.l"),
    ]);
    syntax(&[
        ("drop snapshot l", "'"),
        ("drop snapshot l to repo", "to repo'"),
        ("drop snapshot l on repo where snapshot = 'x'", "snapshot = 'x'"),
        ("drop snapshot l on repo where timestamp > 'x'", "> 'x'"),
        ("drop snapshot l on repo where timestamp = 'x' and y = 'z'", "and y = 'z'"),
    ]);
}

#[test]
fn restores() {
    same(&[
        (
            "RESTORE SNAPSHOT db.l FROM repo PROPERTIES (\"backup_timestamp\"=\"2018-05-04-16-45-08\")",
            restore("db.l", Objects::All, &[("backup_timestamp", "2018-05-04-16-45-08")]),
        ),
        (
            "restore snapshot l from repo on (a partition (p) as b, c as `d`)",
            restore("l", Objects::On(vec![table("a", &["p"], Some("b")), table("c", &[], Some("d"))]), &[]),
        ),
        ("restore snapshot l from repo exclude (a)", restore("l", Objects::Exclude(vec![table("a", &[], None)]), &[])),
    ]);
    refused(&[
        ("restore snapshot l from repo exclude (a as b)", "The table alias in exclude clause does not make sense"),
        ("restore snapshot l from repo on (a as x, b as x)", "Duplicated alias name: x"),
        ("restore snapshot l from repo on (a as b, b)", "Duplicated alias name: b"),
        ("restore snapshot l from repo on (a as `x y`)", "Incorrect table name 'x y'"),
        ("restore snapshot l from repo on (a, a)", "Duplicated table: a"),
        ("restore snapshot `l.x` from repo", "Label format error"),
    ]);
    syntax(&[
        ("restore snapshot l to repo", "to repo'"),
        ("restore snapshot l from repo on (a as)", ")'"),
        ("restore snapshot l from repo properties ('a')", ")'"),
    ]);
}

#[test]
fn cancels() {
    same(&[
        ("CANCEL BACKUP", Statement::CancelBackup(None)),
        ("cancel backup from d", Statement::CancelBackup(Some("d".to_owned()))),
        ("cancel restore in `d`;", Statement::CancelRestore(Some("d".to_owned()))),
    ]);
    syntax(&[
        ("cancel backup d", "d'"),
        ("cancel backup from", "'"),
        ("cancel backup from d where label = 'x'", "where label"),
    ]);
    not_supported(&["cancel load where label = 'x'"]);
}
