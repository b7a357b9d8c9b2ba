//! Users, roles, GRANT and REVOKE, HELP and ADMIN.

use super::super::ast::{AccountStatement, GrantOn, Granted, GrantsOf, NodeConfig, Show, Statement};
use super::{bad, good, name, not_supported, properties, refused, same, syntax};
use crate::account::{AccountName, Grantee, NewPassword, Privilege};
use coffer_stdx::secret::Secret;
use std::collections::BTreeSet;

fn user(key: &str) -> AccountName {
    AccountName::from_key(key)
}

fn clear(text: &str) -> NewPassword {
    NewPassword::Clear(Secret::new(text))
}

fn roles(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn create(name: &str, if_not_exists: bool, password: Option<NewPassword>, names: &[&str]) -> Statement {
    let (name, roles) = (user(name), roles(names));
    Statement::Account(AccountStatement::CreateUser { name, if_not_exists, password, roles })
}

#[test]
fn users_are_made_changed_and_dropped() {
    same(&[
        ("CREATE USER eve", create("eve", false, None, &[])),
        ("create user 'eve'@'10.%' identified by 'pw'", create("eve@10.%", false, Some(clear("pw")), &[])),
        ("create user if not exists `eve`@\"%\" identified by ''", create("eve", true, Some(clear("")), &[])),
        ("create user eve@localhost", create("eve@localhost", false, None, &[])),
        ("create user eve@'%'", create("eve", false, None, &[])),
        ("create user 'eve'@node.example", create("eve@node.example", false, None, &[])),
        ("create user eve default role 'a', b", create("eve", false, None, &["a", "b"])),
        ("create user eve identified with caching_sha2_password by 'pw'", create("eve", false, Some(clear("pw")), &[])),
        (
            "create user eve identified by password '*0102030405060708090A0B0C0D0E0F1011121314'",
            create("eve", false, Some(NewPassword::Native(std::array::from_fn(|n| n as u8 + 1))), &[]),
        ),
        (
            "alter user if exists eve identified by 'x'",
            Statement::Account(AccountStatement::AlterUser {
                name: user("eve"),
                if_exists: true,
                password: clear("x"),
            }),
        ),
        (
            "drop user if exists 'eve'@'h'",
            Statement::Account(AccountStatement::DropUser { name: user("eve@h"), if_exists: true }),
        ),
        ("drop user eve", Statement::Account(AccountStatement::DropUser { name: user("eve"), if_exists: false })),
        (
            "create role if not exists r",
            Statement::Account(AccountStatement::CreateRole { role: "r".to_owned(), if_not_exists: true }),
        ),
        ("drop role 'r'", Statement::Account(AccountStatement::DropRole { role: "r".to_owned(), if_exists: false })),
    ]);
    refused(&[
        ("create user '1'", "Incorrect user name '1'"),
        ("create user 'a'@'b c'", "Invalid host pattern 'b c'"),
        ("create role 'a b'", "Incorrect role name 'a b'"),
        ("create user a identified by password 'x'", "Password hash should be"),
    ]);
    not_supported(&[
        "create user 'a'@('domain')",
        "create user a identified with ldap by 'x'",
        "create user a password_expire never",
        "alter user a account_unlock",
    ]);
    syntax(&[
        ("create user", "'"),
        ("alter user a", "'"),
        ("create user a identified 'x'", "'*XXX"),
        ("drop role", "'"),
    ]);
}

#[test]
fn passwords_are_set() {
    let set = |name: Option<&str>, password| {
        Statement::Account(AccountStatement::SetPassword { name: name.map(user), password })
    };
    same(&[
        ("SET PASSWORD = PASSWORD('pw')", set(None, clear("pw"))),
        ("set password = 'pw'", set(None, clear("pw"))),
        ("set password for 'eve'@'h' = password(\"\")", set(Some("eve@h"), clear(""))),
        ("set password for current_user() = 'x'", set(None, clear("x"))),
        (
            "set password for eve = '*FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF'",
            set(Some("eve"), NewPassword::Native([255; 20])),
        ),
    ]);
    for sql in ["SET PASSWORD 'hunter2'", "SET PASSWORD = PASSWORD('hunter2', 'x')", "CREATE USER a BY 'hunter2' c"] {
        let error = bad(sql);
        assert!(error.number() == 1064 && !error.message().contains("hunter2"), "{error}");
    }
    assert!(!format!("{:?}", good("SET PASSWORD = 'hunter2'")).contains("hunter2"));
}

fn granted(privileges: &[Privilege], on: GrantOn) -> Granted {
    Granted::Privileges(privileges.iter().copied().collect(), on)
}

#[test]
fn privileges_and_roles_are_granted_and_revoked() {
    use Privilege::{Admin, Alter, Create, Drop, Grant, Load, Node, Select, Usage};
    let grant = |what, to| Statement::Account(AccountStatement::Grant { what, to });
    let revoke = |what, from| Statement::Account(AccountStatement::Revoke { what, from });
    let eve = || Grantee::User(user("eve"));
    let database = |name: Option<&str>| GrantOn::Database(name.map(str::to_owned));
    same(&[
        ("GRANT SELECT_PRIV ON *.* TO eve", grant(granted(&[Select], GrantOn::Everything), eve())),
        (
            "grant select, load_priv, Alter, create, drop on db.* to 'eve'@'%'",
            grant(granted(&[Select, Load, Alter, Create, Drop], database(Some("db"))), eve()),
        ),
        (
            "grant all privileges on db.t to eve",
            grant(granted(&Privilege::OF_ALL, GrantOn::Table(name("db.t"))), eve()),
        ),
        ("grant all on internal.db.* to eve", grant(granted(&Privilege::OF_ALL, database(Some("db"))), eve())),
        (
            "grant grant_priv, node_priv, admin on *.*.* to eve",
            grant(granted(&[Grant, Node, Admin], GrantOn::Everything), eve()),
        ),
        (
            "grant select, grant option on d to eve",
            grant(granted(&[Select, Grant], GrantOn::Database(Some("d".to_owned()))), eve()),
        ),
        ("grant select on * to eve", grant(granted(&[Select], database(None)), eve())),
        (
            "grant usage_priv on resource 'r' to role \"x\"",
            grant(granted(&[Usage], GrantOn::Resource("r".to_owned())), Grantee::Role("x".to_owned())),
        ),
        ("grant 'a', b to eve", grant(Granted::Roles(roles(&["a", "b"])), eve())),
        ("revoke load on db.* from 'eve'", revoke(granted(&[Load], database(Some("db"))), eve())),
        ("revoke 'a' from eve", revoke(Granted::Roles(roles(&["a"])), eve())),
    ]);
    refused(&[
        ("grant read on *.* to eve", "Unknown privilege read; known are NODE_PRIV, ADMIN_PRIV"),
        ("grant admin on db.* to eve", "ADMIN can only be granted or revoked ON *.*"),
        ("revoke node_priv on db.t from eve", "NODE can only be"),
        ("grant select on resource r to eve", "SELECT makes no sense on a resource"),
        ("grant select to eve", "ON is missing"),
    ]);
    not_supported(&[
        "grant 'a' to role b",
        "grant select on *.* to eve with grant option",
        "grant select on hive.db.* to eve",
    ]);
    syntax(&[
        ("grant", "'"),
        ("grant select on *.* eve", "eve'"),
        ("grant select on a.b.c.d to eve", "to eve'"),
        ("revoke select on *.* to eve", "to eve'"),
    ]);
}

#[test]
fn what_is_held_is_shown() {
    for (sql, expected) in [
        ("show grants", Show::Grants(GrantsOf::Own)),
        ("show grants for current_user()", Show::Grants(GrantsOf::Own)),
        ("SHOW GRANTS FOR 'eve'@'h'", Show::Grants(GrantsOf::User(user("eve@h")))),
        ("show all grants", Show::Grants(GrantsOf::All)),
        ("show roles", Show::Roles),
        ("admin show frontend config", Show::FrontendConfig { like: None }),
        ("ADMIN SHOW FRONTEND CONFIG LIKE 'x%'", Show::FrontendConfig { like: Some("x%".to_owned()) }),
    ] {
        assert_eq!(good(sql), Statement::Show(expected), "{sql}");
    }
    not_supported(&["admin check tablet (1)"]);
}

#[test]
fn help_and_settings() {
    let help = |topic: &str| Statement::Help(topic.to_owned());
    same(&[
        ("HELP", help("")),
        ("help 'SHOW%'", help("SHOW%")),
        ("help  create   repository", help("create repository")),
        ("admin clean trash", Statement::CleanTrash(vec![])),
        ("admin clean trash on ('a:1', '7')", Statement::CleanTrash(vec!["a:1".to_owned(), "7".to_owned()])),
        ("admin set frontend config ('a' = 'b')", Statement::SetFrontendConfig(properties(&[("a", "b")]))),
    ]);
    let node = |brokers, addresses: &[&str], set: &[(&str, &str)], like: Option<&str>| {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        Statement::NodeConfig(NodeConfig { brokers, addresses, set: properties(set), like: like.map(str::to_owned) })
    };
    same(&[
        ("admin show backend config", node(false, &[], &[], None)),
        ("ADMIN SHOW BROKER CONFIG 'h:1', 'h:2' LIKE 'x%'", node(true, &["h:1", "h:2"], &[], Some("x%"))),
        ("admin set backend config ('a' = 'b')", node(false, &[], &[("a", "b")], None)),
        ("admin set broker config 'h:1' ('a' = 'b')", node(true, &["h:1"], &[("a", "b")], None)),
    ]);
    syntax(&[
        ("admin set frontend config ()", "'"),
        ("help 'a' b", "b'"),
        ("admin set backend config", "'"),
        ("admin set broker config 'h:1' ()", "'"),
    ]);
}
