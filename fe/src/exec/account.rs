//! CREATE, ALTER and DROP of users and roles, GRANT and REVOKE, SHOW GRANTS and ROLES.
//!
//! Each statement is one entry of the log; passwords are made into digests before they get there.

use crate::account::{AccountName, Digests, Grants, Privilege, ROOT, Scope, User, built_in_role};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::answer::{Answer, RowSet};
use crate::exec::context::Context;
use crate::exec::privilege::scope;
use crate::exec::session::Session;
use crate::meta::command::{AccountChange, Command};
use crate::meta::state::State;
use crate::sql::ast::{AccountStatement, Granted, GrantsOf};
use std::collections::BTreeSet;

const GRANTS_COLUMNS: [&str; 9] = [
    "UserIdentity",
    "Comment",
    "Password",
    "Roles",
    "GlobalPrivs",
    "CatalogPrivs",
    "DatabasePrivs",
    "TablePrivs",
    "ResourcePrivs",
];
const ROLES_COLUMNS: [&str; 8] =
    ["Name", "Comment", "Users", "GlobalPrivs", "CatalogPrivs", "DatabasePrivs", "TablePrivs", "ResourcePrivs"];
const BUILT_IN: [&str; 2] = ["admin", "operator"];

/// Any of them.
pub(super) async fn change(context: &Context, session: &Session, statement: AccountStatement) -> Result<Answer> {
    let current = session.database.as_deref();
    // The kind of a refusal that IF [NOT] EXISTS turns into a warning.
    let (change, excused) = match statement {
        AccountStatement::CreateUser { name, if_not_exists, password, roles } => {
            let digests = password.as_ref().map(Digests::of).unwrap_or_default();
            let excused = if_not_exists.then_some(ErrorKind::AlreadyExists);
            (AccountChange::CreateUser { name, digests, roles }, excused)
        }
        AccountStatement::AlterUser { name, if_exists, password } => {
            let excused = if_exists.then_some(ErrorKind::NotFound);
            (AccountChange::SetPassword { name, digests: Digests::of(&password) }, excused)
        }
        AccountStatement::DropUser { name, if_exists } => {
            (AccountChange::DropUser { name }, if_exists.then_some(ErrorKind::NotFound))
        }
        AccountStatement::SetPassword { name, password } => {
            let name = name.map_or_else(|| own(context, session), Ok)?;
            (AccountChange::SetPassword { name, digests: Digests::of(&password) }, None)
        }
        AccountStatement::CreateRole { role, if_not_exists } => {
            (AccountChange::CreateRole { role }, if_not_exists.then_some(ErrorKind::AlreadyExists))
        }
        AccountStatement::DropRole { role, if_exists } => {
            (AccountChange::DropRole { role }, if_exists.then_some(ErrorKind::NotFound))
        }
        AccountStatement::Grant { what: Granted::Privileges(privileges, on), to } => {
            (AccountChange::Grant { to, scope: scope(&on, current)?, privileges }, None)
        }
        AccountStatement::Revoke { what: Granted::Privileges(privileges, on), from } => {
            (AccountChange::Revoke { from, scope: scope(&on, current)?, privileges }, None)
        }
        AccountStatement::Grant { what: Granted::Roles(roles), to } => {
            (AccountChange::GrantRoles { to: user_of(to)?, roles }, None)
        }
        AccountStatement::Revoke { what: Granted::Roles(roles), from } => {
            (AccountChange::RevokeRoles { from: user_of(from)?, roles }, None)
        }
    };
    match context.meta.propose(Command::Account(change)).await {
        Err(error) if Some(error.kind()) == excused => {
            Ok(Answer::Done(crate::exec::Done { warnings: vec![error.message().to_owned()], ..Default::default() }))
        }
        other => other.map(|_| Answer::ok()),
    }
}

fn user_of(grantee: crate::account::Grantee) -> Result<AccountName> {
    match grantee {
        crate::account::Grantee::User(name) => Ok(name),
        crate::account::Grantee::Role(_) => Err(Error::not_supported("a role for a role is not supported")),
    }
}

/// The account of the session.
fn own(context: &Context, session: &Session) -> Result<AccountName> {
    context.meta.view(|state| own_key(state, session).map(|key| AccountName::from_key(&key)))
}

fn own_key(state: &State, session: &Session) -> Result<String> {
    let who = session.who();
    state.rights(&who)?;
    Ok(state.account(&who).map(|(key, _)| key.to_owned()).unwrap_or_default())
}

/// SHOW GRANTS.
pub(super) fn show_grants(context: &Context, session: &Session, of: &GrantsOf) -> Result<RowSet> {
    context.meta.view(|state| {
        let mut set = RowSet::new(GRANTS_COLUMNS);
        match of {
            GrantsOf::All => state.users.iter().for_each(|(key, user)| set.push(grants_row(state, key, user))),
            GrantsOf::Own => {
                let key = own_key(state, session)?;
                set.rows.extend(state.users.get(&key).map(|user| row(grants_row(state, &key, user))));
            }
            GrantsOf::User(name) => set.push(grants_row(state, &name.key(), state.known_user(name, "SHOW GRANTS")?)),
        }
        Ok(set)
    })
}

fn row(cells: Vec<String>) -> Vec<Option<String>> {
    cells.into_iter().map(Some).collect()
}

fn grants_row(state: &State, key: &str, user: &User) -> Vec<String> {
    let mut roles: Vec<&str> = user.roles.iter().map(String::as_str).collect();
    if (key == ROOT || user.admin) && !roles.contains(&"operator") {
        roles.push("operator");
    }
    let granted =
        roles.iter().filter_map(|role| built_in_role(role).or_else(|| state.roles.get(*role).map(|role| &role.grants)));
    let parts: Vec<&Grants> = std::iter::once(&user.grants).chain(granted).collect();
    let password = if user.has_password() { "Yes" } else { "No" };
    let mut cells = vec![AccountName::from_key(key).to_string(), String::new(), password.to_owned(), roles.join(", ")];
    cells.extend(privileges(&parts));
    cells
}

/// SHOW ROLES.
pub(super) fn show_roles(state: &State) -> RowSet {
    let mut set = RowSet::new(ROLES_COLUMNS);
    let built_in = BUILT_IN.iter().filter_map(|name| Some((*name, built_in_role(name)?)));
    for (name, grants) in built_in.chain(state.roles.iter().map(|(name, role)| (name.as_str(), &role.grants))) {
        let users = state.users.iter().filter(|(_, user)| user.roles.contains(name));
        let users: Vec<String> = users.map(|(key, _)| AccountName::from_key(key).to_string()).collect();
        let mut cells = vec![name.to_owned(), String::new(), users.join(", ")];
        cells.extend(privileges(&[grants]));
        set.push(cells);
    }
    set
}

/// Global, catalog, database, table and resource privileges, as text.
fn privileges(parts: &[&Grants]) -> [String; 5] {
    let mut sum = Grants::default();
    for part in parts {
        sum.add(&Scope::Global, &part.global);
        for (database, held) in &part.databases {
            sum.add(&Scope::Database(database.clone()), held);
        }
        for (database, tables) in &part.tables {
            for (table, held) in tables {
                sum.add(&Scope::Table(database.clone(), table.clone()), held);
            }
        }
        for (resource, held) in &part.resources {
            sum.add(&Scope::Resource(resource.clone()), held);
        }
    }
    let on = |(name, held): (&String, &BTreeSet<Privilege>)| format!("{name}: {}", list(held));
    let tables = sum.tables.iter().flat_map(|(database, tables)| {
        tables.iter().map(move |(table, held)| format!("{database}.{table}: {}", list(held)))
    });
    [
        list(&sum.global),
        String::new(),
        sum.databases.iter().map(on).collect::<Vec<_>>().join("; "),
        tables.collect::<Vec<_>>().join("; "),
        sum.resources.iter().map(on).collect::<Vec<_>>().join("; "),
    ]
}

fn list(held: &BTreeSet<Privilege>) -> String {
    held.iter().map(|privilege| privilege.shown()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Grantee;
    use crate::exec::sample;
    use crate::meta::apply::apply;
    use crate::meta::command::Outcome;

    #[test]
    fn grants_and_roles_are_shown_with_what_roles_add() {
        let mut state = sample::state();
        let mut run = |change| assert_eq!(apply(&mut state, &Command::Account(change)), Outcome::Done);
        let eve = AccountName::new("eve", "10.%").unwrap();
        let digests = Digests { sha1: Some([1; 20]), sha256: None };
        run(AccountChange::CreateRole { role: "loaders".to_owned() });
        run(AccountChange::CreateUser { name: eve.clone(), digests, roles: ["loaders".to_owned()].into() });
        let grant = |to, scope, privilege| AccountChange::Grant { to, scope, privileges: [privilege].into() };
        let loaders = || Grantee::Role("loaders".to_owned());
        run(grant(loaders(), Scope::Database("db".to_owned()), Privilege::Load));
        run(grant(loaders(), Scope::Resource("r".to_owned()), Privilege::Usage));
        run(grant(Grantee::User(eve.clone()), Scope::Database("db".to_owned()), Privilege::Select));
        run(grant(Grantee::User(eve.clone()), Scope::Table("x".to_owned(), "t".to_owned()), Privilege::Drop));
        let cells = grants_row(&state, "eve@10.%", &state.users["eve@10.%"]);
        assert_eq!(
            cells,
            [
                "'eve'@'10.%'",
                "",
                "Yes",
                "loaders",
                "",
                "",
                "db: Select_priv, Load_priv",
                "x.t: Drop_priv",
                "r: Usage_priv"
            ]
        );
        let root = grants_row(&state, "root", &state.users["root"]);
        assert_eq!((&root[2][..], &root[3][..], &root[4][..]), ("No", "operator", "Node_priv, Admin_priv"));
        let old = grants_row(&state, "old", &User { admin: true, ..User::default() });
        assert_eq!(old[3], "operator");
        let set = show_roles(&state);
        let names: Vec<&str> = set.rows.iter().map(|row| row[0].as_deref().unwrap()).collect();
        assert_eq!(names, ["admin", "operator", "loaders"]);
        assert_eq!(set.rows[2][2].as_deref(), Some("'eve'@'10.%'"));
        assert!(set.rows.iter().all(|row| row.len() == ROLES_COLUMNS.len()) && cells.len() == GRANTS_COLUMNS.len());
    }
}
