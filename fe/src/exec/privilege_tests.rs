//! The table of privileges: every statement as somebody without anything, and what each privilege opens.

use super::*;
use crate::exec::sample;
use crate::meta::apply::apply;
use crate::meta::command::{AccountChange, Command, Outcome};
use crate::sql;

fn name(key: &str) -> AccountName {
    AccountName::from_key(key)
}

fn change(state: &mut State, change: AccountChange) {
    assert_eq!(apply(state, &Command::Account(change)), Outcome::Done);
}

/// The sample with a user `eve` who holds this.
fn with(grants: &[(Privilege, Scope)]) -> State {
    let mut state = sample::state();
    let create =
        |key| AccountChange::CreateUser { name: name(key), digests: Default::default(), roles: BTreeSet::new() };
    change(&mut state, create("eve"));
    change(&mut state, create("bob"));
    for (privilege, scope) in grants {
        let privileges = [*privilege].into();
        change(&mut state, AccountChange::Grant { to: Grantee::User(name("eve")), scope: scope.clone(), privileges });
    }
    state
}

fn global(privilege: Privilege) -> State {
    with(&[(privilege, Scope::Global)])
}

fn on_database(privilege: Privilege) -> State {
    with(&[(privilege, Scope::Database("db".to_owned()))])
}

fn on_table(privilege: Privilege) -> State {
    with(&[(privilege, Scope::Table("db".to_owned(), "t".to_owned()))])
}

/// 0 when the statement is let through, else the number of the error.
fn ask(state: &State, user: &str, current: Option<&str>, statement: &str) -> u16 {
    let who = Who { user: user.to_owned(), host: "h".to_owned(), account: None };
    let statement = sql::parse(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    decide(state, &who, current, &statement).map_or_else(|error| error.number(), |()| 0)
}

fn eve(state: &State, statement: &str) -> u16 {
    ask(state, "eve", None, statement)
}

const OF_EVERYBODY: [&str; 17] = [
    "SET x = 1",
    "BEGIN",
    "HELP",
    "KILL 1",
    "SELECT * FROM db.t",
    "USE information_schema",
    "SHOW DATABASES",
    "SHOW PROCESSLIST",
    "SHOW GRANTS",
    "SHOW VARIABLES",
    "SHOW STATUS",
    "SHOW WARNINGS",
    "SHOW ERRORS",
    "SHOW ENGINES",
    "SHOW COLLATION",
    "SHOW CHARACTER SET",
    "SET PASSWORD = PASSWORD('x')",
];
const OF_ADMINS: [&str; 20] = [
    "CREATE REPOSITORY r WITH S3 ON LOCATION 's3://b/p'",
    "CREATE READ ONLY REPOSITORY r WITH BROKER b ON LOCATION 's3://b/p'",
    "ALTER REPOSITORY r PROPERTIES (\"a\" = \"b\")",
    "DROP REPOSITORY r",
    "SHOW REPOSITORIES",
    "SHOW CREATE REPOSITORY FOR r",
    "BACKUP SNAPSHOT db.l TO r",
    "RESTORE SNAPSHOT db.l FROM r PROPERTIES ('backup_timestamp' = 'x')",
    "CANCEL BACKUP FROM db",
    "DROP SNAPSHOT l ON r",
    "CANCEL RESTORE FROM db",
    "SHOW BACKUP FROM db",
    "SHOW RESTORE FROM db",
    "SHOW BRIEF RESTORE FROM db",
    "SHOW SNAPSHOT ON r",
    "SHOW TABLET 1",
    "ADMIN SHOW FRONTEND CONFIG",
    "ADMIN SET FRONTEND CONFIG ('default_buckets' = '2')",
    "ADMIN CLEAN TRASH",
    "DROP USER bob",
];

#[test]
fn statements_of_everybody_need_a_login_only() {
    let state = with(&[]);
    for statement in OF_EVERYBODY {
        assert_eq!(eve(&state, statement), 0, "{statement}");
        assert_eq!(ask(&state, "stranger", None, statement), 1045, "{statement}");
    }
    assert_eq!(eve(&state, "SHOW INDEX FROM t"), 0);
}

#[test]
fn backups_and_their_kin_need_admin() {
    let everything_else = with(&[
        (Privilege::Load, Scope::Global),
        (Privilege::Select, Scope::Global),
        (Privilege::Node, Scope::Global),
        (Privilege::Create, Scope::Global),
    ]);
    for statement in OF_ADMINS {
        assert_eq!(eve(&with(&[]), statement), 1227, "{statement}");
        assert_eq!(eve(&everything_else, statement), 1227, "{statement}");
        assert_eq!(eve(&global(Privilege::Admin), statement), 0, "{statement}");
        assert_eq!(ask(&with(&[]), "admin", None, statement), 0, "{statement}");
    }
    let who = Who { user: "eve".to_owned(), ..Who::default() };
    let error = decide(&with(&[]), &who, None, &sql::parse("BACKUP SNAPSHOT db.l TO r").unwrap()).unwrap_err();
    let text = "Access denied; you need (at least one of) the (ADMIN) privilege(s) for this operation";
    assert_eq!(error.message(), text);
}

#[test]
fn machines_need_node() {
    for statement in [
        "ALTER SYSTEM ADD BACKEND 'h:1'",
        "ALTER SYSTEM DECOMMISSION BACKEND 'h:1'",
        "CANCEL DECOMMISSION BACKEND 'h:1'",
    ] {
        assert_eq!((eve(&global(Privilege::Admin), statement), eve(&global(Privilege::Node), statement)), (1227, 0));
        assert_eq!((ask(&with(&[]), "admin", None, statement), ask(&with(&[]), "root", None, statement)), (1227, 0));
    }
    for statement in ["SHOW BACKENDS", "SHOW FRONTENDS", "SHOW BROKER"] {
        assert_eq!(eve(&with(&[]), statement), 1227, "{statement}");
        assert_eq!(eve(&global(Privilege::Node), statement), 0, "{statement}");
        assert_eq!(eve(&global(Privilege::Admin), statement), 0, "{statement}");
    }
}

#[test]
fn databases_need_create_and_drop_on_them() {
    for (statement, privilege) in [
        ("CREATE DATABASE db", Privilege::Create),
        ("CREATE DATABASE IF NOT EXISTS db", Privilege::Create),
        ("DROP DATABASE db", Privilege::Drop),
    ] {
        assert_eq!(eve(&with(&[]), statement), 1044, "{statement}");
        assert_eq!(eve(&on_database(Privilege::Select), statement), 1044, "{statement}");
        assert_eq!(eve(&on_table(privilege), statement), 1044, "{statement}");
        assert_eq!(eve(&on_database(privilege), statement), 0, "{statement}");
        assert_eq!(eve(&global(privilege), statement), 0, "{statement}");
        assert_eq!(eve(&global(Privilege::Admin), statement), 0, "{statement}");
    }
    assert_eq!(eve(&on_database(Privilege::Drop), "DROP DATABASE other"), 1044);
}

#[test]
fn tables_need_the_privilege_of_the_deed() {
    for (statement, privilege) in [
        ("CREATE TABLE db.t (a INT) DISTRIBUTED BY HASH(a) BUCKETS 1", Privilege::Create),
        ("DROP TABLE db.t", Privilege::Drop),
        ("TRUNCATE TABLE db.t", Privilege::Load),
        ("ALTER TABLE db.t SET ('a' = 'b')", Privilege::Alter),
        ("INSERT INTO db.t VALUES (1)", Privilege::Load),
    ] {
        assert_eq!(eve(&with(&[]), statement), 1142, "{statement}");
        assert_eq!(eve(&global(Privilege::Select), statement), 1142, "{statement}");
        assert_eq!(eve(&on_table(privilege), statement), 0, "{statement}");
        assert_eq!(eve(&on_database(privilege), statement), 0, "{statement}");
        assert_eq!(eve(&global(privilege), statement), 0, "{statement}");
        let short = statement.replace("db.t", "t");
        assert_eq!(ask(&with(&[]), "eve", Some("db"), &short), 1142, "{short}");
        assert_eq!(ask(&on_table(privilege), "eve", Some("db"), &short), 0, "{short}");
        assert_eq!(eve(&with(&[]), &short), 0, "no database is another error");
    }
}

#[test]
fn what_is_looked_at_must_be_seen() {
    for statement in [
        "DESC db.t",
        "SHOW COLUMNS FROM db.t",
        "SHOW CREATE TABLE db.t",
        "SHOW PARTITIONS FROM db.t",
        "SHOW TABLETS FROM db.t",
    ] {
        assert_eq!(eve(&with(&[]), statement), 1142, "{statement}");
        assert_eq!(eve(&global(Privilege::Node), statement), 1142, "{statement}");
        assert_eq!(eve(&on_table(Privilege::Select), statement), 0, "{statement}");
        assert_eq!(eve(&on_table(Privilege::Select), &statement.replace("db.t", "db.plain")), 1142, "{statement}");
    }
    for statement in ["USE db", "SHOW TABLES FROM db", "SHOW CREATE DATABASE db"] {
        assert_eq!(eve(&with(&[]), statement), 1044, "{statement}");
        assert_eq!(eve(&on_table(Privilege::Alter), statement), 0, "{statement}");
        assert_eq!(eve(&on_database(Privilege::Load), statement), 0, "{statement}");
        assert_eq!(eve(&on_database(Privilege::Load), &statement.replace("db", "empty")), 1044, "{statement}");
        // Whether it exists is told to those who may see everything.
        assert_eq!(eve(&with(&[]), &statement.replace("db", "nowhere")), 1044, "{statement}");
        assert_eq!(eve(&global(Privilege::Select), &statement.replace("db", "nowhere")), 0, "{statement}");
    }
    assert_eq!((eve(&with(&[]), "SHOW TABLES"), ask(&with(&[]), "eve", Some("db"), "SHOW TABLES")), (0, 1044));
    assert_eq!(eve(&with(&[]), "DESC information_schema.tables"), 0);
}

#[test]
fn users_and_roles_are_made_with_grant_and_changed_with_admin() {
    for statement in ["CREATE USER carol", "CREATE ROLE r", "SHOW ROLES", "SHOW ALL GRANTS", "SHOW GRANTS FOR bob"] {
        assert_eq!(eve(&with(&[]), statement), 1227, "{statement}");
        assert_eq!(eve(&on_database(Privilege::Grant), statement), 1227, "{statement}");
        assert_eq!(eve(&global(Privilege::Grant), statement), 0, "{statement}");
        assert_eq!(eve(&global(Privilege::Admin), statement), 0, "{statement}");
    }
    assert_eq!(eve(&global(Privilege::Grant), "CREATE USER carol DEFAULT ROLE admin"), 1227);
    assert_eq!(eve(&global(Privilege::Admin), "CREATE USER carol DEFAULT ROLE admin"), 0);
    assert_eq!(eve(&global(Privilege::Admin), "CREATE USER carol DEFAULT ROLE operator"), 1227);
    for statement in ["ALTER USER bob IDENTIFIED BY 'x'", "SET PASSWORD FOR bob = 'x'", "DROP USER bob", "DROP ROLE r"]
    {
        assert_eq!(eve(&global(Privilege::Grant), statement), 1227, "{statement}");
        assert_eq!(eve(&global(Privilege::Admin), statement), 0, "{statement}");
    }
    for statement in ["ALTER USER root IDENTIFIED BY 'x'", "SET PASSWORD FOR root = 'x'", "DROP USER root"] {
        assert_eq!(eve(&global(Privilege::Admin), statement), 1227, "{statement}: root holds NODE");
        assert_eq!(ask(&with(&[]), "root", None, statement), 0, "{statement}");
    }
    for statement in ["ALTER USER eve IDENTIFIED BY 'x'", "SET PASSWORD FOR 'eve'@'%' = 'x'"] {
        assert_eq!(eve(&with(&[]), statement), 0, "{statement}: one's own");
        assert_eq!(ask(&with(&[]), "bob", None, statement), 1227, "{statement}");
    }
}

#[test]
fn nobody_passes_on_what_they_do_not_hold() {
    let granting = |privilege, scope: Scope| with(&[(Privilege::Grant, scope.clone()), (privilege, scope)]);
    let database = || Scope::Database("db".to_owned());
    for verb in ["GRANT {} TO bob", "REVOKE {} FROM bob"] {
        let say = |what: &str| verb.replace("{}", what);
        assert_eq!(eve(&on_database(Privilege::Select), &say("SELECT ON db.*")), 1227, "GRANT is missing");
        assert_eq!(eve(&granting(Privilege::Select, database()), &say("SELECT ON db.*")), 0);
        assert_eq!(eve(&granting(Privilege::Select, database()), &say("SELECT_PRIV, GRANT_PRIV ON db.t")), 0);
        assert_eq!(eve(&granting(Privilege::Select, database()), &say("LOAD ON db.*")), 1227);
        assert_eq!(eve(&granting(Privilege::Select, database()), &say("SELECT ON other.*")), 1227);
        assert_eq!(eve(&granting(Privilege::Select, database()), &say("SELECT ON *.*")), 1227);
        assert_eq!(eve(&granting(Privilege::Select, database()), &say("USAGE ON db.*")), 0);
        assert_eq!(eve(&global(Privilege::Admin), &say("ADMIN, GRANT ON *.*")), 0);
        assert_eq!(eve(&global(Privilege::Admin), &say("NODE ON *.*")), 1227);
        assert_eq!(eve(&granting(Privilege::Node, Scope::Global), &say("NODE_PRIV ON *.*")), 0);
        assert_eq!(eve(&global(Privilege::Admin), &say("USAGE_PRIV ON RESOURCE 'r'")), 0);
        assert_eq!(eve(&global(Privilege::Grant), &say("'admin'")), 1227);
        assert_eq!(eve(&global(Privilege::Admin), &say("'admin'")), 0);
        assert_eq!(eve(&global(Privilege::Admin), &say("'operator'")), 1227);
        assert_eq!(ask(&with(&[]), "root", None, &say("'operator'")), 0);
        assert_eq!(ask(&global(Privilege::Admin), "eve", None, &say("SELECT ON *")), 1046);
        assert_eq!(ask(&global(Privilege::Admin), "eve", None, &say("SELECT ON db")), 0, "one name is a database");
        assert_eq!(ask(&global(Privilege::Admin), "eve", Some("db"), &say("SELECT ON *")), 0);
    }
    assert_eq!(eve(&global(Privilege::Admin), "REVOKE SELECT ON *.* FROM root"), 1227);
}

#[test]
fn rights_are_those_of_the_account_that_logged_in() {
    let mut state = global(Privilege::Admin);
    let near = AccountChange::CreateUser { name: name("eve@h"), digests: Default::default(), roles: BTreeSet::new() };
    change(&mut state, near);
    let mut who = Who { user: "eve".to_owned(), host: "h".to_owned(), account: Some("eve".to_owned()) };
    let statement = sql::parse("SHOW REPOSITORIES").unwrap();
    assert!(decide(&state, &who, None, &statement).is_ok(), "the session began before the closer account was made");
    who.account = None;
    assert_eq!(decide(&state, &who, None, &statement).unwrap_err().number(), 1227);
    change(&mut state, AccountChange::DropUser { name: name("eve") });
    who.account = Some("eve".to_owned());
    assert_eq!(decide(&state, &who, None, &statement).unwrap_err().number(), 1045, "dropped while connected");
}

#[test]
fn definitions_need_the_privilege_of_the_deed() {
    let nothing = with(&[]);
    for (privilege, statement, number) in [
        (Privilege::Alter, "ALTER TABLE db.t DROP PARTITION p1", 1142),
        (Privilege::Alter, "ALTER DATABASE db RENAME e", 1044),
        (Privilege::Create, "CREATE VIEW db.v AS SELECT 1", 1142),
        (Privilege::Drop, "DROP VIEW db.v", 1142),
        (Privilege::Create, "RECOVER DATABASE db", 1044),
        (Privilege::Create, "RECOVER TABLE db.t", 1044),
        (Privilege::Create, "RECOVER PARTITION p1 FROM db.t", 1142),
    ] {
        assert_eq!(eve(&nothing, statement), number, "{statement}");
        assert_eq!(eve(&on_database(privilege), statement), 0, "{statement}");
    }
    for statement in [
        "DROP CATALOG RECYCLE BIN WHERE 'DbId' = 1",
        "SHOW CATALOG RECYCLE BIN",
        "SHOW PROC '/dbs'",
        "ADMIN SHOW REPLICA STATUS FROM db.t",
        "ADMIN SHOW REPLICA DISTRIBUTION FROM db.t",
    ] {
        assert_eq!(eve(&on_database(Privilege::Alter), statement), 1227, "{statement}");
        assert_eq!(eve(&global(Privilege::Admin), statement), 0, "{statement}");
    }
    for (statement, number) in [
        ("SHOW DYNAMIC PARTITION TABLES FROM db", 1044),
        ("SHOW VIEWS FROM db", 1044),
        ("SHOW TRANSACTION FROM db WHERE id = 7", 1044),
        ("SHOW TABLE STATUS FROM db", 1044),
        ("SHOW CREATE VIEW db.v", 1142),
        ("SHOW VIEW FROM db.t", 1142),
        ("SHOW DATA FROM db.t", 1142),
    ] {
        assert_eq!(eve(&nothing, statement), number, "{statement}");
        assert_eq!(eve(&on_database(Privilege::Select), statement), 0, "{statement}");
    }
}
