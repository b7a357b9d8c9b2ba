//! HELP and the files it is made of.

use super::*;
use crate::sql;
use crate::sql::ast::{AccountStatement, AlterSystem, GrantsOf, Show, Statement};
use crate::sql::define_ast::{Define, ShowMore};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn names(set: &RowSet) -> Vec<&str> {
    let column = set.columns.iter().position(|column| column == "name").unwrap();
    set.rows.iter().map(|row| row[column].as_deref().unwrap()).collect()
}

#[test]
fn answers_have_the_shapes_that_clients_know() {
    let one = help("backup");
    assert_eq!((one.columns.len(), one.rows.len(), one.columns[1].as_str()), (3, 1, "description"));
    assert!(one.rows[0][1].as_deref().unwrap().contains("BACKUP SNAPSHOT"));
    assert!(one.rows[0][2].as_deref().unwrap().contains("BACKUP SNAPSHOT shop."));
    assert_eq!(help("create repository;").rows[0][0].as_deref(), Some("CREATE REPOSITORY"));
    let shows = help("show%");
    assert_eq!(shows.columns, ["name", "is_it_category"]);
    assert!(names(&shows).contains(&"SHOW BACKUP") && names(&shows).len() > 15);
    let about = help("repository");
    assert!(names(&about).contains(&"DROP REPOSITORY") && names(&about).len() > 1);
    for contents in [help(""), help("contents")] {
        assert_eq!(contents.columns[0], "source_category_name");
        assert!(contents.rows.iter().all(|row| row[2].as_deref() == Some("Y")));
    }
    let category = help("Backup and restore");
    assert!(names(&category).contains(&"RESTORE"));
    assert!(help("no such thing").rows.is_empty());
}

#[test]
fn every_category_has_several_topics() {
    // A client takes three columns and one row for a topic.
    for category in categories() {
        assert!(category_rows(category).rows.len() > 1, "{category}");
    }
}

#[test]
fn every_file_of_the_reference_is_built_in_and_complete() {
    // Asked at run time: a cached test may run in another checkout than it was built in.
    let dir = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../docs/sql");
    let index = std::fs::read_to_string(dir.join("../README.md")).unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = path.display();
        assert!(FILES.contains(&text.as_str()), "{shown} is not in help_topics.rs");
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(text.starts_with(&format!("# {}\n", name.replace('-', " ").to_uppercase())), "{shown}: heading");
        for part in ["\nCategory: ", "\n## Syntax\n", "\n## Privileges\n", "\n## Example\n"] {
            assert!(text.contains(part), "{shown}: {part:?} is missing");
        }
        assert!(index.contains(&format!("(sql/{name}.md)")), "docs/README.md does not name {name}.md");
        files += 1;
    }
    assert_eq!((files, TOPICS.len()), (FILES.len(), FILES.len()));
}

/// Statements in the SQL examples of a file, with what follows `sql` on the fence.
fn examples(text: &str) -> Vec<(String, String)> {
    let Some((_, section)) = text.split_once("\n## Example\n") else { return Vec::new() };
    let blocks = section.split("```sql").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    let statements = blocks.flat_map(|block| {
        let (mark, body) = block.split_once('\n').unwrap_or_default();
        let mark = mark.trim().to_owned();
        coffer_mysql::split::statements(body)
            .into_iter()
            .map(move |sql| (mark.clone(), sql.to_owned()))
            .collect::<Vec<_>>()
    });
    statements.collect()
}

#[test]
fn examples_are_statements_of_their_topic() {
    let mut shown = BTreeSet::new();
    for text in FILES {
        let topic = read(text);
        let mut own = topic.name == "STREAM LOAD";
        for (_, sql) in examples(text) {
            let statement = sql::parse(&sql).unwrap_or_else(|error| panic!("{}: {sql}: {error}", topic.name));
            own |= topic_of(&statement) == topic.name || sql.to_uppercase().starts_with(topic.name);
            shown.insert(topic_of(&statement));
        }
        assert!(own, "{}: no example shows it", topic.name);
    }
    for topic in shown {
        assert!(TOPICS.contains_key(topic), "{topic}");
    }
}

/// The topic that tells about a statement. No statement is without one.
fn topic_of(statement: &Statement) -> &'static str {
    match statement {
        Statement::Use(_) => "USE",
        Statement::CreateDatabase { .. } => "CREATE DATABASE",
        Statement::DropDatabase { .. } => "DROP DATABASE",
        Statement::CreateTable(_) => "CREATE TABLE",
        Statement::DropTable { .. } => "DROP TABLE",
        Statement::TruncateTable { .. } => "TRUNCATE TABLE",
        Statement::AlterTableSet { .. } | Statement::Define(Define::AlterTable { .. }) => "ALTER TABLE",
        Statement::Define(Define::RenameDatabase { .. }) => "ALTER DATABASE",
        Statement::Define(Define::CreateView(_)) => "CREATE VIEW",
        Statement::Define(Define::DropView { .. }) => "DROP VIEW",
        Statement::Define(Define::Recover(_)) => "RECOVER",
        Statement::Define(Define::EraseBin { .. }) => "DROP CATALOG RECYCLE BIN",
        Statement::Delete(_) => "DELETE",
        Statement::Insert(_) => "INSERT",
        Statement::Query(_) => "SELECT",
        Statement::Set(_) => "SET",
        Statement::Transaction => "BEGIN",
        Statement::Kill { .. } => "KILL",
        Statement::Show(show) => topic_of_show(show),
        Statement::Describe(_) => "DESCRIBE",
        Statement::AlterSystem(AlterSystem::AddBackend(_)) => "ALTER SYSTEM ADD BACKEND",
        Statement::AlterSystem(AlterSystem::DropBackend(_) | AlterSystem::ForceDropBackend(_)) => {
            "ALTER SYSTEM DROP BACKEND"
        }
        Statement::AlterSystem(AlterSystem::DecommissionBackend(_)) => "ALTER SYSTEM DECOMMISSION BACKEND",
        Statement::AlterSystem(AlterSystem::CancelDecommission(_)) => "CANCEL DECOMMISSION BACKEND",
        Statement::AlterSystem(AlterSystem::AddBroker { .. }) => "ALTER SYSTEM ADD BROKER",
        Statement::AlterSystem(AlterSystem::DropBroker { .. } | AlterSystem::DropAllBroker(_)) => {
            "ALTER SYSTEM DROP BROKER"
        }
        Statement::AlterSystem(AlterSystem::AddFollower(_) | AlterSystem::AddObserver(_)) => {
            "ALTER SYSTEM ADD FOLLOWER"
        }
        Statement::AlterSystem(AlterSystem::DropFollower(_) | AlterSystem::DropObserver(_)) => {
            "ALTER SYSTEM DROP FOLLOWER"
        }
        Statement::AlterSystem(AlterSystem::ModifyBroker { .. }) => "ALTER SYSTEM MODIFY BROKER",
        Statement::AlterRepository { .. } => "ALTER REPOSITORY",
        Statement::CreateRepository(_) => "CREATE REPOSITORY",
        Statement::DropRepository { .. } => "DROP REPOSITORY",
        Statement::Backup(_) => "BACKUP",
        Statement::Restore(_) => "RESTORE",
        Statement::CancelBackup(_) => "CANCEL BACKUP",
        Statement::CancelRestore(_) => "CANCEL RESTORE",
        Statement::DropSnapshot(_) => "DROP SNAPSHOT",
        Statement::Account(account) => topic_of_account(account),
        Statement::CleanTrash(_) => "ADMIN CLEAN TRASH",
        Statement::SetFrontendConfig(_) => "ADMIN SET FRONTEND CONFIG",
        Statement::NodeConfig(asked) => match (asked.set.is_empty(), asked.brokers) {
            (true, false) => "ADMIN SHOW BACKEND CONFIG",
            (true, true) => "ADMIN SHOW BROKER CONFIG",
            (false, false) => "ADMIN SET BACKEND CONFIG",
            (false, true) => "ADMIN SET BROKER CONFIG",
        },
        Statement::Help(_) => "HELP",
    }
}

fn topic_of_account(statement: &AccountStatement) -> &'static str {
    match statement {
        AccountStatement::CreateUser { .. } => "CREATE USER",
        AccountStatement::AlterUser { .. } => "ALTER USER",
        AccountStatement::DropUser { .. } => "DROP USER",
        AccountStatement::SetPassword { .. } => "SET PASSWORD",
        AccountStatement::CreateRole { .. } => "CREATE ROLE",
        AccountStatement::DropRole { .. } => "DROP ROLE",
        AccountStatement::Grant { .. } => "GRANT",
        AccountStatement::Revoke { .. } => "REVOKE",
    }
}

fn topic_of_show(show: &Show) -> &'static str {
    match show {
        Show::Databases { .. } => "SHOW DATABASES",
        Show::Tables { .. } => "SHOW TABLES",
        Show::CreateTable(_) => "SHOW CREATE TABLE",
        Show::CreateDatabase(_) => "SHOW CREATE DATABASE",
        Show::Columns { .. } => "SHOW COLUMNS",
        Show::Partitions { .. } => "SHOW PARTITIONS",
        Show::Tablets { .. } => "SHOW TABLETS",
        Show::Tablet(_) => "SHOW TABLET",
        Show::Frontends => "SHOW FRONTENDS",
        Show::Backends => "SHOW BACKENDS",
        Show::Brokers => "SHOW BROKER",
        Show::Repositories => "SHOW REPOSITORIES",
        Show::CreateRepository(_) => "SHOW CREATE REPOSITORY",
        Show::Backup { .. } => "SHOW BACKUP",
        Show::Restore { .. } => "SHOW RESTORE",
        Show::Snapshot { .. } => "SHOW SNAPSHOT",
        Show::Variables { .. } => "SHOW VARIABLES",
        Show::Status { .. } => "SHOW STATUS",
        Show::Warnings => "SHOW WARNINGS",
        Show::Errors => "SHOW ERRORS",
        Show::ProcessList { .. } => "SHOW PROCESSLIST",
        Show::Grants(GrantsOf::All) => "SHOW ALL GRANTS",
        Show::Grants(GrantsOf::Own | GrantsOf::User(_)) => "SHOW GRANTS",
        Show::Roles => "SHOW ROLES",
        Show::FrontendConfig { .. } => "ADMIN SHOW FRONTEND CONFIG",
        Show::Engines => "SHOW ENGINES",
        Show::Collation => "SHOW COLLATION",
        Show::CharacterSet => "SHOW CHARACTER SET",
        Show::More(more) => topic_of_more(more),
        Show::Empty { .. } => "SHOW INDEX",
    }
}

fn topic_of_more(more: &ShowMore) -> &'static str {
    match more {
        ShowMore::RecycleBin(_) => "SHOW CATALOG RECYCLE BIN",
        ShowMore::DynamicPartitions(_) => "SHOW DYNAMIC PARTITION TABLES",
        ShowMore::CreateView(_) => "SHOW CREATE VIEW",
        ShowMore::ViewsOf(_) | ShowMore::Views { .. } => "SHOW VIEW",
        ShowMore::Data { .. } => "SHOW DATA",
        ShowMore::TableStatus { .. } => "SHOW TABLE STATUS",
        ShowMore::Proc(_) => "SHOW PROC",
        ShowMore::Transactions { .. } => "SHOW TRANSACTION",
        ShowMore::ReplicaStatus { .. } | ShowMore::ReplicaDistribution { .. } => "ADMIN SHOW REPLICA",
    }
}
