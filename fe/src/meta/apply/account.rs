//! Users, roles and what they hold.

use crate::account::{AccountName, Digests, Grantee, Grants, Privilege, Scope, User, built_in_role};
use crate::error::{Error, ErrorKind, Result, account_failed, number};
use crate::limits;
use crate::meta::access::unknown;
use crate::meta::command::{AccountChange, Outcome};
use crate::meta::state::State;
use std::collections::BTreeSet;

pub(super) fn change(state: &mut State, change: &AccountChange) -> Result<Outcome> {
    match change {
        AccountChange::CreateUser { name, digests, roles } => create_user(state, name, *digests, roles),
        AccountChange::SetPassword { name, digests } => {
            user(state, name, "SET PASSWORD")?.set_password(*digests);
            Ok(Outcome::Done)
        }
        AccountChange::DropUser { name } => drop_user(state, name),
        AccountChange::CreateRole { role } => create_role(state, role),
        AccountChange::DropRole { role } => drop_role(state, role),
        AccountChange::Grant { to, scope, privileges } => grant(state, to, scope, privileges),
        AccountChange::Revoke { from, scope, privileges } => revoke(state, from, scope, privileges),
        AccountChange::GrantRoles { to, roles } => {
            roles_exist(state, "GRANT", roles)?;
            user(state, to, "GRANT")?.roles.extend(roles.iter().cloned());
            Ok(Outcome::Done)
        }
        AccountChange::RevokeRoles { from, roles } => revoke_roles(state, from, roles),
    }
}

fn user<'a>(state: &'a mut State, name: &AccountName, operation: &str) -> Result<&'a mut User> {
    state.users.get_mut(&name.key()).ok_or_else(|| unknown(operation, &name.to_string()))
}

fn create_user(state: &mut State, name: &AccountName, digests: Digests, roles: &BTreeSet<String>) -> Result<Outcome> {
    if state.users.contains_key(&name.key()) {
        let kind = ErrorKind::AlreadyExists;
        return Err(account_failed(kind, "CREATE USER", &name.to_string(), "it exists already"));
    }
    if state.users.len() >= limits::MAX_USERS {
        return Err(Error::limit(format!("a cluster has at most {} users", limits::MAX_USERS)));
    }
    roles_exist(state, "CREATE USER", roles)?;
    let mut user = User { roles: roles.clone(), ..User::default() };
    user.set_password(digests);
    state.users.insert(name.key(), user);
    Ok(Outcome::Done)
}

fn drop_user(state: &mut State, name: &AccountName) -> Result<Outcome> {
    user(state, name, "DROP USER")?;
    if name.is_root() {
        return Err(account_failed(ErrorKind::Denied, "DROP USER", &name.to_string(), "this user is always there"));
    }
    state.users.remove(&name.key());
    Ok(Outcome::Done)
}

fn roles_exist(state: &State, operation: &str, roles: &BTreeSet<String>) -> Result<()> {
    match roles.iter().find(|role| !state.is_role(role)) {
        Some(role) => Err(unknown(operation, &format!("role '{role}'"))),
        None => Ok(()),
    }
}

fn create_role(state: &mut State, role: &str) -> Result<Outcome> {
    if state.is_role(role) {
        let kind = ErrorKind::AlreadyExists;
        return Err(account_failed(kind, "CREATE ROLE", &format!("'{role}'"), "it exists already"));
    }
    if state.roles.len() >= limits::MAX_ROLES {
        return Err(Error::limit(format!("a cluster has at most {} roles", limits::MAX_ROLES)));
    }
    state.roles.insert(role.to_owned(), crate::account::Role::default());
    Ok(Outcome::Done)
}

fn drop_role(state: &mut State, role: &str) -> Result<Outcome> {
    changeable(role, "DROP ROLE")?;
    if state.roles.remove(role).is_none() {
        return Err(unknown("DROP ROLE", &format!("'{role}'")));
    }
    state.users.values_mut().for_each(|user| {
        user.roles.remove(role);
    });
    Ok(Outcome::Done)
}

fn changeable(role: &str, operation: &str) -> Result<()> {
    match built_in_role(role) {
        Some(_) => Err(account_failed(ErrorKind::Denied, operation, &format!("'{role}'"), "this role is built in")),
        None => Ok(()),
    }
}

/// What somebody holds, to be changed.
fn grants<'a>(state: &'a mut State, grantee: &Grantee, operation: &str) -> Result<&'a mut Grants> {
    match grantee {
        Grantee::User(name) => user(state, name, operation).map(|user| &mut user.grants),
        Grantee::Role(role) => {
            changeable(role, operation)?;
            let found = state.roles.get_mut(role).map(|role| &mut role.grants);
            found.ok_or_else(|| unknown(operation, &format!("role '{role}'")))
        }
    }
}

fn grant(state: &mut State, to: &Grantee, scope: &Scope, privileges: &BTreeSet<Privilege>) -> Result<Outcome> {
    let held = grants(state, to, "GRANT")?;
    if held.len() >= limits::MAX_GRANTS && held.on(scope).is_none() {
        let text = format!("an account or role holds privileges on at most {} things: use a role", limits::MAX_GRANTS);
        return Err(Error::limit(text));
    }
    held.add(scope, privileges);
    Ok(Outcome::Done)
}

fn revoke(state: &mut State, from: &Grantee, scope: &Scope, privileges: &BTreeSet<Privilege>) -> Result<Outcome> {
    if grants(state, from, "REVOKE")?.remove(scope, privileges) {
        return Ok(Outcome::Done);
    }
    let names: Vec<&str> = privileges.iter().map(|privilege| privilege.name()).collect();
    let text = format!("There is no such grant defined for {from}: {} on {scope}", names.join(", "));
    Err(Error::not_found(text).numbered(number::NO_SUCH_GRANT))
}

fn revoke_roles(state: &mut State, from: &AccountName, roles: &BTreeSet<String>) -> Result<Outcome> {
    let held = &mut user(state, from, "REVOKE")?.roles;
    if let Some(role) = roles.iter().find(|role| !held.contains(*role)) {
        let text = format!("There is no such grant defined for {from}: role '{role}'");
        return Err(Error::not_found(text).numbered(number::NO_SUCH_GRANT));
    }
    held.retain(|role| !roles.contains(role));
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;
    use crate::account::Who;
    use crate::meta::command::Command;

    fn name(key: &str) -> AccountName {
        AccountName::from_key(key)
    }

    fn create(key: &str, roles: &[&str]) -> Command {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let digests = Digests { sha1: Some([7; 20]), sha256: None };
        Command::Account(AccountChange::CreateUser { name: name(key), digests, roles })
    }

    fn grant(to: Grantee, scope: Scope, privilege: Privilege) -> Command {
        Command::Account(AccountChange::Grant { to, scope, privileges: [privilege].into() })
    }

    fn revoke(from: Grantee, scope: Scope, privilege: Privilege) -> Command {
        Command::Account(AccountChange::Revoke { from, scope, privileges: [privilege].into() })
    }

    fn holds(sample: &Sample, user: &str, privilege: Privilege) -> bool {
        let who = Who { user: user.to_owned(), ..Who::default() };
        sample.state.rights(&who).unwrap().holds_on_table(privilege, "db", "t")
    }

    #[test]
    fn users_come_and_go_and_root_stays() {
        let mut sample = Sample::new();
        sample.ok(&create("eve", &["admin"]));
        sample.ok(&create("eve@10.%", &[]));
        sample.refuses(&create("eve", &[]), ErrorKind::AlreadyExists, "CREATE USER failed for 'eve'@'%'");
        sample.refuses(&create("bob", &["nurse"]), ErrorKind::NotFound, "role 'nurse'");
        assert!(holds(&sample, "eve", Privilege::Drop));
        let password = |key| {
            let digests = Digests { sha1: None, sha256: Some([1; 32]) };
            Command::Account(AccountChange::SetPassword { name: name(key), digests })
        };
        sample.ok(&password("eve"));
        assert_eq!(sample.state.users["eve"].digests().sha256, Some([1; 32]));
        assert_eq!(sample.state.users["eve@10.%"].digests().sha1, Some([7; 20]));
        sample.refuses(&password("bob"), ErrorKind::NotFound, "does not exist");
        let drop = |key| Command::Account(AccountChange::DropUser { name: name(key) });
        sample.refuses(&drop("bob"), ErrorKind::NotFound, "DROP USER failed for 'bob'@'%'");
        sample.refuses(&drop("root"), ErrorKind::Denied, "always there");
        sample.ok(&drop("eve"));
        sample.ok(&drop("admin"));
        let gone = Who { user: "eve".to_owned(), ..Who::default() };
        assert_eq!(sample.state.rights(&gone).unwrap_err().number(), 1045);
    }

    #[test]
    fn privileges_are_granted_and_revoked() {
        let mut sample = Sample::new();
        sample.ok(&create("eve", &[]));
        let eve = || Grantee::User(name("eve"));
        let table = || Scope::Table("db".to_owned(), "t".to_owned());
        sample.ok(&grant(eve(), table(), Privilege::Load));
        assert!(holds(&sample, "eve", Privilege::Load) && !holds(&sample, "eve", Privilege::Select));
        sample.refuses(&revoke(eve(), Scope::Global, Privilege::Load), ErrorKind::NotFound, "no such grant");
        sample.ok(&revoke(eve(), table(), Privilege::Load));
        assert!(!holds(&sample, "eve", Privilege::Load));
        let bob = Grantee::User(name("bob"));
        sample.refuses(&grant(bob, Scope::Global, Privilege::Load), ErrorKind::NotFound, "GRANT failed");
    }

    #[test]
    fn roles_bundle_privileges_and_two_are_built_in() {
        let mut sample = Sample::new();
        let role = |change: fn(String) -> AccountChange, role: &str| Command::Account(change(role.to_owned()));
        let make = |role: String| AccountChange::CreateRole { role };
        let drop = |role: String| AccountChange::DropRole { role };
        sample.ok(&role(make, "loaders"));
        sample.refuses(&role(make, "loaders"), ErrorKind::AlreadyExists, "exists already");
        sample.refuses(&role(make, "operator"), ErrorKind::AlreadyExists, "exists already");
        sample.refuses(&role(drop, "operator"), ErrorKind::Denied, "built in");
        sample.refuses(&role(drop, "nobody"), ErrorKind::NotFound, "does not exist");
        let loaders = || Grantee::Role("loaders".to_owned());
        sample.ok(&grant(loaders(), Scope::Database("db".to_owned()), Privilege::Load));
        let built_in = grant(Grantee::Role("admin".to_owned()), Scope::Global, Privilege::Node);
        sample.refuses(&built_in, ErrorKind::Denied, "built in");
        sample.ok(&create("eve", &[]));
        let roles = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let give = |names| Command::Account(AccountChange::GrantRoles { to: name("eve"), roles: roles(names) });
        let take = |names| Command::Account(AccountChange::RevokeRoles { from: name("eve"), roles: roles(names) });
        sample.refuses(&give(&["nobody"]), ErrorKind::NotFound, "role 'nobody'");
        sample.ok(&give(&["loaders"]));
        assert!(holds(&sample, "eve", Privilege::Load));
        sample.refuses(&take(&["loaders", "admin"]), ErrorKind::NotFound, "role 'admin'");
        sample.ok(&take(&["loaders"]));
        assert!(!holds(&sample, "eve", Privilege::Load));
        sample.ok(&give(&["loaders"]));
        sample.ok(&role(drop, "loaders"));
        assert!(sample.state.users["eve"].roles.is_empty());
    }

    #[test]
    fn counts_are_bounded() {
        let mut sample = Sample::new();
        for n in 0..limits::MAX_GRANTS {
            sample.state.users.get_mut("admin").unwrap().grants.databases.insert(format!("d{n}"), BTreeSet::new());
        }
        let admin = || Grantee::User(name("admin"));
        sample.refuses(
            &grant(admin(), Scope::Database("x".to_owned()), Privilege::Load),
            ErrorKind::Limit,
            "use a role",
        );
        sample.ok(&grant(admin(), Scope::Database("d1".to_owned()), Privilege::Load));
        for n in 0..limits::MAX_USERS {
            sample.state.users.insert(format!("u{n}"), User::default());
            sample.state.roles.insert(format!("r{n}"), crate::account::Role::default());
        }
        sample.refuses(&create("eve", &[]), ErrorKind::Limit, "at most");
        let role = Command::Account(AccountChange::CreateRole { role: "x".to_owned() });
        sample.refuses(&role, ErrorKind::Limit, "at most");
    }
}
