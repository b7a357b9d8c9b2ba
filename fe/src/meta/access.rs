//! Questions about accounts asked of the state.

use crate::account::{AccountName, Grantee, ROOT, Rights, User, Who, best_match, built_in_role};
use crate::error::{Error, ErrorKind, Result, account_failed, login_denied};
use crate::meta::state::State;

impl State {
    /// The account that somebody logged in as; without one in `who`, the best match.
    pub fn account<'a>(&'a self, who: &Who) -> Option<(&'a str, &'a User)> {
        match &who.account {
            Some(key) => self.users.get_key_value(key).map(|(key, user)| (key.as_str(), user)),
            None => best_match(&self.users, &who.user, &who.host),
        }
    }

    /// Everything that somebody holds now; an account that was dropped meanwhile is refused.
    pub fn rights(&self, who: &Who) -> Result<Rights<'_>> {
        let (key, user) = self.account(who).ok_or_else(|| login_denied(&who.user, &who.host, true))?;
        Ok(Rights::of(user, key == ROOT, &self.roles))
    }

    /// Everything that an account or a role holds, or error 1396.
    pub fn rights_of(&self, grantee: &Grantee, operation: &str) -> Result<Rights<'_>> {
        match grantee {
            Grantee::User(name) => Ok(Rights::of(self.known_user(name, operation)?, name.is_root(), &self.roles)),
            Grantee::Role(role) => {
                Rights::of_role(role, &self.roles).ok_or_else(|| unknown(operation, &format!("role '{role}'")))
            }
        }
    }

    /// The account of this name, or error 1396.
    pub fn known_user(&self, name: &AccountName, operation: &str) -> Result<&User> {
        self.users.get(&name.key()).ok_or_else(|| unknown(operation, &name.to_string()))
    }

    /// Whether there is a role of this name.
    pub fn is_role(&self, role: &str) -> bool {
        built_in_role(role).is_some() || self.roles.contains_key(role)
    }
}

pub(in crate::meta) fn unknown(operation: &str, name: &str) -> Error {
    account_failed(ErrorKind::NotFound, operation, name, "it does not exist")
}
