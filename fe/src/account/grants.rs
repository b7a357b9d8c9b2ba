//! What an account or a role holds, as it is kept in the replicated state. Objects are named, not numbered: a grant may
//! come before its table, and stays when the table is dropped and made again, as in MySQL.

use super::Digests;
use super::privilege::Privilege;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Privileges.
type Privileges = BTreeSet<Privilege>;

/// On what a privilege is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// `*.*`
    Global,
    /// `db.*`
    Database(String),
    /// `db.table`
    Table(String, String),
    /// `RESOURCE name`
    Resource(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Global => f.write_str("*.*"),
            Scope::Database(database) => write!(f, "{database}.*"),
            Scope::Table(database, table) => write!(f, "{database}.{table}"),
            Scope::Resource(resource) => write!(f, "resource {resource}"),
        }
    }
}

/// Privileges by scope; no set in it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grants {
    /// On `*.*`.
    pub global: Privileges,
    /// On databases, by name.
    pub databases: BTreeMap<String, Privileges>,
    /// On tables, by the names of database and table.
    pub tables: BTreeMap<String, BTreeMap<String, Privileges>>,
    /// On resources, by name.
    pub resources: BTreeMap<String, Privileges>,
}

impl Grants {
    /// These on `*.*`.
    pub fn global(privileges: &[Privilege]) -> Grants {
        Grants { global: privileges.iter().copied().collect(), ..Grants::default() }
    }

    /// Scopes with something granted.
    pub fn len(&self) -> usize {
        let tables: usize = self.tables.values().map(BTreeMap::len).sum();
        usize::from(!self.global.is_empty()) + self.databases.len() + tables + self.resources.len()
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is granted on exactly this scope.
    pub fn on(&self, scope: &Scope) -> Option<&Privileges> {
        match scope {
            Scope::Global => Some(&self.global),
            Scope::Database(database) => self.databases.get(database),
            Scope::Table(database, table) => self.tables.get(database).and_then(|tables| tables.get(table)),
            Scope::Resource(resource) => self.resources.get(resource),
        }
    }

    /// Add.
    pub fn add(&mut self, scope: &Scope, privileges: &Privileges) {
        let held = match scope {
            Scope::Global => &mut self.global,
            Scope::Database(database) => self.databases.entry(database.clone()).or_default(),
            Scope::Table(database, table) => {
                self.tables.entry(database.clone()).or_default().entry(table.clone()).or_default()
            }
            Scope::Resource(resource) => self.resources.entry(resource.clone()).or_default(),
        };
        held.extend(privileges);
    }

    /// Take away. False when none of them was held on exactly this scope; then nothing changed.
    pub fn remove(&mut self, scope: &Scope, privileges: &Privileges) -> bool {
        if self.on(scope).is_none_or(|held| held.is_disjoint(privileges)) {
            return false;
        }
        let left = |held: &mut Privileges| {
            held.retain(|privilege| !privileges.contains(privilege));
            !held.is_empty()
        };
        match scope {
            Scope::Global => {
                left(&mut self.global);
            }
            Scope::Database(_) => self.databases.retain(|name, held| !is(scope, name, None) || left(held)),
            Scope::Table(_, _) => self.tables.retain(|database, tables| {
                tables.retain(|table, held| !is(scope, database, Some(table)) || left(held));
                !tables.is_empty()
            }),
            Scope::Resource(_) => self.resources.retain(|name, held| !is(scope, name, None) || left(held)),
        }
        true
    }
}

fn is(scope: &Scope, name: &str, table: Option<&str>) -> bool {
    match scope {
        Scope::Global => false,
        Scope::Database(known) | Scope::Resource(known) => known == name,
        Scope::Table(database, known) => database == name && Some(known.as_str()) == table,
    }
}

/// A role that was made with CREATE ROLE.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// What it holds.
    #[serde(default)]
    pub grants: Grants,
}

/// A user; digests only, never the password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// SHA1(SHA1(password)); `None` for the empty password.
    pub sha1: Option<[u8; 20]>,
    /// SHA256(SHA256(password)); `None` for the empty password.
    pub sha256: Option<[u8; 32]>,
    /// Written by versions without privileges: this user could do everything, and still can.
    #[serde(default)]
    pub admin: bool,
    /// What it holds itself.
    #[serde(default)]
    pub grants: Grants,
    /// Roles it has, by name.
    #[serde(default)]
    pub roles: BTreeSet<String>,
}

impl User {
    /// What is kept of the password.
    pub fn digests(&self) -> Digests {
        Digests { sha1: self.sha1, sha256: self.sha256 }
    }

    /// Whether there is a password.
    pub fn has_password(&self) -> bool {
        self.digests() != Digests::default()
    }

    /// Another password.
    pub fn set_password(&mut self, digests: Digests) {
        (self.sha1, self.sha256) = (digests.sha1, digests.sha256);
    }
}

/// Digests stay out.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("grants", &self.grants).field("roles", &self.roles).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_added_and_taken_away_by_scope() {
        let set = |privileges: &[Privilege]| privileges.iter().copied().collect::<Privileges>();
        let table = |name: &str| Scope::Table("d".to_owned(), name.to_owned());
        let scopes = [Scope::Global, Scope::Database("d".to_owned()), table("t"), Scope::Resource("r".to_owned())];
        let mut grants = Grants::default();
        assert!(grants.is_empty());
        for scope in &scopes {
            grants.add(scope, &set(&[Privilege::Select, Privilege::Load]));
            assert_eq!(grants.on(scope).map(BTreeSet::len), Some(2));
        }
        grants.add(&table("u"), &set(&[Privilege::Drop]));
        assert_eq!(grants.len(), 5);
        for scope in &scopes {
            assert!(!grants.remove(scope, &set(&[Privilege::Alter])), "{scope}");
            assert!(grants.remove(scope, &set(&[Privilege::Select, Privilege::Alter])), "{scope}");
            assert!(grants.remove(scope, &set(&[Privilege::Load])), "{scope}");
            assert!(!grants.remove(scope, &set(&[Privilege::Load])), "{scope}");
        }
        assert_eq!((grants.len(), grants.on(&table("u")).is_some()), (1, true));
    }

    #[test]
    fn users_of_older_versions_are_read() {
        let user: User = serde_json::from_str("{\"sha1\":null,\"sha256\":null,\"admin\":true}").unwrap();
        assert!(user.admin && user.grants.is_empty() && user.roles.is_empty() && !user.has_password());
        assert!(!format!("{user:?}").contains("sha"));
    }
}
