//! Accounts: who may log in from where, what they hold, and what that lets them do. Pure data and pure decisions.
//!
//! An account is a user name and a host pattern, `'eve'@'10.%'`; one person may have several, and the one that matches the
//! client's address best is used. What an account holds comes from its own grants and from its roles. Nothing here reads a
//! clock or a socket: the same questions give the same answers on every frontend.
//!
//! Modules, bottom to top: `pattern`, `privilege` | `grants` | `rights` | this file.

mod grants;
pub mod pattern;
mod privilege;
mod rights;

pub use grants::{Grants, Role, Scope, User};
pub use privilege::Privilege;
pub use rights::{Rights, built_in_role};

use crate::error::{Error, Result};
use coffer_stdx::secret::Secret;
use pattern::host_rank;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The host pattern that matches every address.
pub const ANY_HOST: &str = "%";
/// The account that can neither be dropped nor lose what it holds.
pub const ROOT: &str = "root";
/// What a user's or role's name may look like.
pub const NAME_PATTERN: &str = "^[a-zA-Z][a-zA-Z0-9._-]{0,63}$";
/// Longest host pattern, bytes.
const MAX_HOST_BYTES: usize = 255;

/// `'user'@'host'`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountName {
    /// The user.
    pub user: String,
    /// A pattern of addresses: `%` and `_` as in LIKE, or `localhost`.
    pub host: String,
}

impl AccountName {
    /// An account, with names checked.
    pub fn new(user: &str, host: &str) -> Result<AccountName> {
        check_name("user", user)?;
        let printable = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:%_-".contains(&byte));
        if host.is_empty() || host.len() > MAX_HOST_BYTES || !printable {
            let text = format!("Invalid host pattern '{host}': an address, a name, or either with % and _ is expected");
            return Err(Error::invalid(text));
        }
        Ok(AccountName { user: user.to_owned(), host: host.to_owned() })
    }

    /// The key in the replicated state: the name alone where the host is any.
    pub fn key(&self) -> String {
        if self.host == ANY_HOST { self.user.clone() } else { format!("{}@{}", self.user, self.host) }
    }

    /// From a key.
    pub fn from_key(key: &str) -> AccountName {
        let (user, host) = key.split_once('@').unwrap_or((key, ANY_HOST));
        AccountName { user: user.to_owned(), host: host.to_owned() }
    }

    /// Whether this is the account that is always there.
    pub fn is_root(&self) -> bool {
        self.user == ROOT && self.host == ANY_HOST
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'@'{}'", self.user, self.host)
    }
}

/// Names of users and roles.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= 64 && name.bytes().all(rest) {
        return Ok(());
    }
    Err(Error::invalid(format!("Incorrect {what} name '{name}'. The name must match '{NAME_PATTERN}'")))
}

/// Who gets or loses a privilege.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grantee {
    /// An account.
    User(AccountName),
    /// A role.
    Role(String),
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grantee::User(name) => name.fmt(f),
            Grantee::Role(role) => write!(f, "role '{role}'"),
        }
    }
}

/// What is kept of a password; both absent for the empty one. Does not print.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// SHA1(SHA1(password)), for `mysql_native_password`.
    pub sha1: Option<[u8; 20]>,
    /// SHA256(SHA256(password)), for `caching_sha2_password`.
    pub sha256: Option<[u8; 32]>,
}

impl Digests {
    /// Those of a password.
    pub fn of(password: &NewPassword) -> Digests {
        match password {
            NewPassword::Clear(text) if text.reveal().is_empty() => Digests::default(),
            NewPassword::Clear(text) => {
                let bytes = text.reveal().as_bytes();
                Digests {
                    sha1: Some(coffer_mysql::native_digest(bytes)),
                    sha256: Some(coffer_mysql::sha2_digest(bytes)),
                }
            }
            NewPassword::Native(digest) => Digests { sha1: Some(*digest), sha256: None },
        }
    }

    /// Whether this is the password.
    pub fn accept(&self, password: &str) -> bool {
        match (self.sha256, self.sha1) {
            (Some(digest), _) => coffer_mysql::sha2_digest(password.as_bytes()) == digest,
            (None, Some(digest)) => coffer_mysql::native_digest(password.as_bytes()) == digest,
            (None, None) => password.is_empty(),
        }
    }
}

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(coffer_stdx::secret::MASK)
    }
}

/// A password as a statement gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewPassword {
    /// The password itself.
    Clear(Secret),
    /// `*` and 40 hexadecimal digits: SHA1(SHA1(password)), as old tools hand it around.
    Native([u8; 20]),
}

impl NewPassword {
    /// A text where a digest is meant: `*` and 40 hexadecimal digits.
    pub fn from_digest(text: &str) -> Option<NewPassword> {
        let digits = text.strip_prefix('*').filter(|digits| digits.len() == 40 && digits.is_ascii())?;
        let mut digest = [0; 20];
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(NewPassword::Native(digest))
    }
}

/// Whom a question is about: a session, or a request over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// The user, as authenticated.
    pub user: String,
    /// The address of the client, without its port.
    pub host: String,
    /// The key of the account that the password was checked against; without it the best match counts.
    pub account: Option<String>,
}

impl Who {
    /// `'user'@'host'` as errors name somebody.
    pub fn name(&self) -> String {
        format!("'{}'@'{}'", self.user, self.host)
    }
}

/// The account of `user` that matches a client's address best: an exact address first, then the longest literal beginning.
pub fn best_match<'a>(users: &'a BTreeMap<String, User>, user: &str, host: &str) -> Option<(&'a str, &'a User)> {
    if user.contains('@') {
        return None;
    }
    // '@' sorts right before 'A', so this range holds every account of the user with a host of its own.
    let with_host = users.range(format!("{user}@")..format!("{user}A"));
    let ranked = with_host.filter_map(|(key, account)| {
        let rank = host_rank(&key[user.len() + 1..], host)?;
        Some((rank, key.as_str(), account))
    });
    let best = ranked.max_by_key(|(rank, _, _)| *rank).map(|(_, key, account)| (key, account));
    best.or_else(|| users.get_key_value(user).map(|(key, account)| (key.as_str(), account)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_keys_and_names() {
        let any = AccountName::new("eve", "%").unwrap();
        assert_eq!((any.key().as_str(), any.to_string().as_str()), ("eve", "'eve'@'%'"));
        let near = AccountName::new("eve", "10.0.%").unwrap();
        assert_eq!(near.key(), "eve@10.0.%");
        assert_eq!((AccountName::from_key("eve"), AccountName::from_key("eve@10.0.%")), (any.clone(), near));
        assert!(
            !any.is_root() && AccountName::from_key("root").is_root() && !AccountName::from_key("root@h").is_root()
        );
        for (user, host) in [("", "%"), ("1a", "%"), ("a@b", "%"), ("a b", "%"), ("a", ""), ("a", "x y"), ("a", "'")] {
            assert!(AccountName::new(user, host).is_err(), "{user} {host}");
        }
        assert!(check_name("role", &"a".repeat(65)).is_err() && check_name("role", "a.b-c_d").is_ok());
    }

    #[test]
    fn the_best_account_of_an_address_is_found() {
        let keys =
            ["eve", "eve-x", "eve.x", "eve@10.%", "eve@10.0.%", "eve@10.0.0.7", "eve@localhost", "evea", "bob@h"];
        let users: BTreeMap<String, User> = keys.iter().map(|key| ((*key).to_owned(), User::default())).collect();
        for (user, host, found) in [
            ("eve", "10.0.0.7", Some("eve@10.0.0.7")),
            ("eve", "10.0.0.8", Some("eve@10.0.%")),
            ("eve", "10.9.0.8", Some("eve@10.%")),
            ("eve", "127.0.0.1", Some("eve@localhost")),
            ("eve", "192.168.0.1", Some("eve")),
            ("bob", "h", Some("bob@h")),
            ("bob", "i", None),
            ("eve@10.%", "10.0.0.1", None),
            ("nobody", "h", None),
        ] {
            assert_eq!(best_match(&users, user, host).map(|(key, _)| key), found, "{user} {host}");
        }
    }

    #[test]
    fn passwords_become_digests_that_do_not_print() {
        let clear = Digests::of(&NewPassword::Clear(Secret::new("sesam")));
        assert!(clear.accept("sesam") && !clear.accept("") && !clear.accept("Sesam"));
        assert_eq!(format!("{clear:?}"), "*XXX");
        let empty = Digests::of(&NewPassword::Clear(Secret::new("")));
        assert!(empty == Digests::default() && empty.accept("") && !empty.accept("x"));
        let hex: String = clear.sha1.unwrap().iter().map(|byte| format!("{byte:02X}")).collect();
        let native = Digests::of(&NewPassword::from_digest(&format!("*{hex}")).unwrap());
        assert!(native.accept("sesam") && native.sha256.is_none());
        for wrong in ["", "*12", "x", &format!("*{}", "G".repeat(40)), &format!("*{}", "é".repeat(20))] {
            assert!(NewPassword::from_digest(wrong).is_none(), "{wrong}");
        }
    }
}
