//! What somebody may do: the sum of an account's grants and those of its roles, and the questions asked of it.
//!
//! A privilege on `*.*` holds everywhere, one on a database for its tables. ADMIN stands for every privilege but NODE.

use super::grants::{Grants, Role, Scope, User};
use super::privilege::Privilege;
use std::collections::BTreeMap;
use std::sync::LazyLock;

static OPERATOR: LazyLock<Grants> = LazyLock::new(|| Grants::global(&[Privilege::Node, Privilege::Admin]));
static ADMIN: LazyLock<Grants> = LazyLock::new(|| Grants::global(&[Privilege::Admin]));

/// The roles that every cluster has and nobody can change: `operator` (NODE and ADMIN) and `admin` (ADMIN).
pub fn built_in_role(name: &str) -> Option<&'static Grants> {
    match name {
        "operator" => Some(&OPERATOR),
        "admin" => Some(&ADMIN),
        _ => None,
    }
}

/// Everything that somebody holds.
#[derive(Debug, Clone)]
pub struct Rights<'a> {
    parts: Vec<&'a Grants>,
}

impl<'a> Rights<'a> {
    /// Of an account. `root` is the one that always holds everything.
    pub fn of(user: &'a User, is_root: bool, roles: &'a BTreeMap<String, Role>) -> Rights<'a> {
        let mut parts = vec![&user.grants];
        if is_root || user.admin {
            parts.push(&OPERATOR);
        }
        let role = |name: &String| built_in_role(name).or_else(|| roles.get(name).map(|role| &role.grants));
        parts.extend(user.roles.iter().filter_map(role));
        Rights { parts }
    }

    /// Of a role alone.
    pub fn of_role(name: &str, roles: &'a BTreeMap<String, Role>) -> Option<Rights<'a>> {
        let grants = built_in_role(name).or_else(|| roles.get(name).map(|role| &role.grants))?;
        Some(Rights { parts: vec![grants] })
    }

    /// Of an account that holds nothing.
    pub fn none() -> Rights<'static> {
        Rights { parts: Vec::new() }
    }

    /// The grants it is made of.
    pub fn parts(&self) -> &[&'a Grants] {
        &self.parts
    }

    /// On everything.
    pub fn holds(&self, privilege: Privilege) -> bool {
        let on_all = |wanted: Privilege| self.parts.iter().any(|grants| grants.global.contains(&wanted));
        on_all(privilege) || (privilege != Privilege::Node && on_all(Privilege::Admin))
    }

    /// On a database as a whole.
    pub fn holds_on_database(&self, privilege: Privilege, database: &str) -> bool {
        let here = |grants: &&Grants| grants.databases.get(database).is_some_and(|held| held.contains(&privilege));
        self.holds(privilege) || self.parts.iter().any(here)
    }

    /// On a table.
    pub fn holds_on_table(&self, privilege: Privilege, database: &str, table: &str) -> bool {
        let here = |grants: &&Grants| {
            let held = grants.tables.get(database).and_then(|tables| tables.get(table));
            held.is_some_and(|held| held.contains(&privilege))
        };
        self.holds_on_database(privilege, database) || self.parts.iter().any(here)
    }

    /// On a scope, whatever it is.
    pub fn holds_on(&self, privilege: Privilege, scope: &Scope) -> bool {
        match scope {
            Scope::Global => self.holds(privilege),
            Scope::Database(database) => self.holds_on_database(privilege, database),
            Scope::Table(database, table) => self.holds_on_table(privilege, database, table),
            Scope::Resource(resource) => {
                let here =
                    |grants: &&Grants| grants.resources.get(resource).is_some_and(|held| held.contains(&privilege));
                self.holds(privilege) || self.parts.iter().any(here)
            }
        }
    }

    /// Whether the database is shown: something is held on it or on a table of it.
    pub fn sees_database(&self, database: &str) -> bool {
        let here = |grants: &&Grants| {
            grants.databases.get(database).is_some_and(|held| held.iter().any(shows))
                || grants.tables.get(database).is_some_and(|tables| tables.values().flatten().any(shows))
        };
        self.sees_everything() || self.parts.iter().any(here)
    }

    /// Whether the table is shown: something is held on it or on its database.
    pub fn sees_table(&self, database: &str, table: &str) -> bool {
        let here = |grants: &&Grants| {
            let on_table = grants.tables.get(database).and_then(|tables| tables.get(table));
            let held = grants.databases.get(database).into_iter().chain(on_table).flatten();
            held.into_iter().any(shows)
        };
        self.sees_everything() || self.parts.iter().any(here)
    }

    /// Whether every database and table is shown.
    pub fn sees_everything(&self) -> bool {
        self.parts.iter().any(|grants| grants.global.iter().any(shows))
    }
}

/// NODE is about machines and USAGE about nothing: neither shows data.
fn shows(privilege: &Privilege) -> bool {
    !matches!(privilege, Privilege::Node | Privilege::Usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(scope: &Scope, privileges: &[Privilege]) -> User {
        let mut user = User::default();
        user.grants.add(scope, &privileges.iter().copied().collect());
        user
    }

    fn with(user: &User, check: impl Fn(&Rights<'_>) -> bool) -> bool {
        check(&Rights::of(user, false, &BTreeMap::new()))
    }

    #[test]
    fn nothing_granted_is_nothing_held() {
        let rights = Rights::none();
        for privilege in Privilege::ALL {
            assert!(!rights.holds(privilege) && !rights.holds_on_table(privilege, "d", "t"));
        }
        assert!(!rights.sees_everything() && !rights.sees_database("d") && !rights.sees_table("d", "t"));
        assert!(rights.parts().is_empty());
    }

    #[test]
    fn a_global_privilege_holds_everywhere_and_no_other_does() {
        let user = user(&Scope::Global, &[Privilege::Select]);
        assert!(with(&user, |rights| rights.holds(Privilege::Select)
            && rights.holds_on_database(Privilege::Select, "d")
            && rights.holds_on_table(Privilege::Select, "d", "t")
            && rights.holds_on(Privilege::Select, &Scope::Resource("r".to_owned()))
            && rights.sees_everything()
            && rights.sees_table("x", "y")));
        assert!(!with(&user, |rights| rights.holds_on_table(Privilege::Load, "d", "t")));
    }

    #[test]
    fn a_privilege_on_a_database_holds_for_its_tables_only() {
        let user = user(&Scope::Database("d".to_owned()), &[Privilege::Load]);
        assert!(with(&user, |rights| rights.holds_on_table(Privilege::Load, "d", "t")
            && rights.holds_on(Privilege::Load, &Scope::Database("d".to_owned()))
            && rights.sees_database("d")
            && rights.sees_table("d", "any")));
        assert!(!with(&user, |rights| rights.holds(Privilege::Load)
            || rights.holds_on_database(Privilege::Load, "e")
            || rights.sees_database("e")
            || rights.sees_table("e", "t")
            || rights.sees_everything()));
    }

    #[test]
    fn a_privilege_on_a_table_holds_for_it_only() {
        let scope = Scope::Table("d".to_owned(), "t".to_owned());
        let user = user(&scope, &[Privilege::Select]);
        assert!(with(&user, |rights| rights.holds_on(Privilege::Select, &scope)
            && rights.sees_table("d", "t")
            && rights.sees_database("d")));
        assert!(!with(&user, |rights| rights.holds_on_table(Privilege::Select, "d", "u")
            || rights.holds_on_database(Privilege::Select, "d")
            || rights.sees_table("d", "u")));
    }

    #[test]
    fn resources_are_apart_and_usage_shows_nothing() {
        let scope = Scope::Resource("r".to_owned());
        let one = user(&scope, &[Privilege::Usage]);
        assert!(with(&one, |rights| rights.holds_on(Privilege::Usage, &scope)));
        assert!(!with(&one, |rights| rights.holds_on(Privilege::Usage, &Scope::Resource("s".to_owned()))));
        let idle = user(&Scope::Global, &[Privilege::Usage, Privilege::Node]);
        assert!(!with(&idle, |rights| rights.sees_everything() || rights.sees_database("d")));
        let idle = user(&Scope::Database("d".to_owned()), &[Privilege::Usage]);
        assert!(!with(&idle, |rights| rights.sees_database("d") || rights.sees_table("d", "t")));
    }

    #[test]
    fn admin_is_everything_but_node() {
        let user = user(&Scope::Global, &[Privilege::Admin]);
        for privilege in Privilege::ALL {
            assert_eq!(with(&user, |rights| rights.holds(privilege)), privilege != Privilege::Node, "{privilege:?}");
        }
    }

    #[test]
    fn roles_add_what_they_hold_and_root_holds_everything() {
        let mut roles = BTreeMap::from([("readers".to_owned(), Role { grants: Grants::global(&[Privilege::Select]) })]);
        let mut user = User { roles: ["readers".to_owned(), "gone".to_owned()].into(), ..User::default() };
        assert!(Rights::of(&user, false, &roles).holds(Privilege::Select));
        assert!(Rights::of_role("readers", &roles).unwrap().holds(Privilege::Select));
        assert!(Rights::of_role("gone", &roles).is_none() && Rights::of_role("admin", &roles).is_some());
        roles.clear();
        assert!(!Rights::of(&user, false, &roles).holds(Privilege::Select));
        assert!(Rights::of(&user, true, &roles).holds(Privilege::Node));
        user.roles.insert("operator".to_owned());
        assert!(Rights::of(&user, false, &roles).holds(Privilege::Node));
        let old = User { admin: true, ..User::default() };
        assert!(Rights::of(&old, false, &roles).holds(Privilege::Node), "as before there were privileges");
    }
}
