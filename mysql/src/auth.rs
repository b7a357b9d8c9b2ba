//! Passwords without passwords: what is kept of an account's password, and checking a client's answer against it.
//!
//! `mysql_native_password` keeps SHA1(SHA1(password)), `caching_sha2_password` SHA256(SHA256(password)). Because the
//! latter digest is always at hand, every login takes that plugin's fast path and no password ever crosses the wire.
//! Digests are secrets of the account: they do not print.

use rand::Rng;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::fmt;

/// A way to prove knowledge of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// `mysql_native_password`: every client can.
    Native,
    /// `caching_sha2_password`: MySQL clients from 8.0 on; those from 9.0 on know no other.
    CachingSha2,
}

impl Plugin {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Plugin::Native => "mysql_native_password",
            Plugin::CachingSha2 => "caching_sha2_password",
        }
    }

    /// The plugin with this name.
    pub(crate) fn from_name(name: &str) -> Option<Plugin> {
        [Plugin::Native, Plugin::CachingSha2].into_iter().find(|plugin| plugin.name() == name)
    }
}

/// SHA1(SHA1(password)).
pub fn native_digest(password: &[u8]) -> [u8; 20] {
    Sha1::digest(Sha1::digest(password)).into()
}

/// SHA256(SHA256(password)).
pub fn sha2_digest(password: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(password)).into()
}

/// What an account's password left behind. An account without digests has no password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    native: Option<[u8; 20]>,
    sha2: Option<[u8; 32]>,
}

impl Credentials {
    /// No password.
    pub const EMPTY: Credentials = Credentials { native: None, sha2: None };

    /// Those of `password`; the empty one means no password.
    pub fn of_password(password: &str) -> Credentials {
        match password.as_bytes() {
            [] => Credentials::EMPTY,
            bytes => Credentials { native: Some(native_digest(bytes)), sha2: Some(sha2_digest(bytes)) },
        }
    }

    /// Those kept as [`native_digest`] and [`sha2_digest`]; an account may have one of them only.
    pub fn from_digests(native: Option<[u8; 20]>, sha2: Option<[u8; 32]>) -> Credentials {
        Credentials { native, sha2 }
    }

    /// The digest for `mysql_native_password`.
    pub fn native(&self) -> Option<[u8; 20]> {
        self.native
    }

    /// The digest for `caching_sha2_password`.
    pub fn sha2(&self) -> Option<[u8; 32]> {
        self.sha2
    }

    /// Those of nobody, so that an unknown user is refused after the same exchange as a known one.
    pub(crate) fn decoy() -> Credentials {
        let mut random = rand::rng();
        Credentials { native: Some(random.random()), sha2: Some(random.random()) }
    }

    /// Whether the account has no password.
    pub(crate) fn is_empty(&self) -> bool {
        self.native.is_none() && self.sha2.is_none()
    }

    /// The plugin to use with a client that would like `wished`.
    pub(crate) fn plugin(&self, wished: Option<Plugin>) -> Plugin {
        match (wished, self.native, self.sha2) {
            (Some(wished), None, None) => wished,
            (Some(Plugin::CachingSha2), _, Some(_)) | (_, None, Some(_)) => Plugin::CachingSha2,
            _ => Plugin::Native,
        }
    }

    /// Whether `answer`, given to `nonce` by way of `plugin`, proves the password.
    pub(crate) fn accept(&self, plugin: Plugin, nonce: &Nonce, answer: &[u8]) -> bool {
        if self.is_empty() {
            return matches!(answer, [] | [0]);
        }
        match plugin {
            Plugin::Native => self.native.is_some_and(|digest| native_accepts(&digest, nonce, answer)),
            Plugin::CachingSha2 => self.sha2.is_some_and(|digest| sha2_accepts(&digest, nonce, answer)),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Credentials(none)" } else { "Credentials(*XXX)" })
    }
}

/// The answer is SHA1(password) XOR SHA1(nonce + digest).
fn native_accepts(digest: &[u8; 20], nonce: &Nonce, answer: &[u8]) -> bool {
    let Ok(answer) = <[u8; 20]>::try_from(answer) else { return false };
    let mask: [u8; 20] = Sha1::new().chain_update(nonce.0).chain_update(digest).finalize().into();
    let found: [u8; 20] = Sha1::digest(xor(answer, mask)).into();
    same(&found, digest)
}

/// The answer is SHA256(password) XOR SHA256(digest + nonce).
fn sha2_accepts(digest: &[u8; 32], nonce: &Nonce, answer: &[u8]) -> bool {
    let Ok(answer) = <[u8; 32]>::try_from(answer) else { return false };
    let mask: [u8; 32] = Sha256::new().chain_update(digest).chain_update(nonce.0).finalize().into();
    let found: [u8; 32] = Sha256::digest(xor(answer, mask)).into();
    same(&found, digest)
}

fn xor<const N: usize>(left: [u8; N], right: [u8; N]) -> [u8; N] {
    std::array::from_fn(|at| left[at] ^ right[at])
}

/// Equality in a time that does not depend on where the first difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

/// 20 random bytes that a client mixes into its answer, so that an answer is good once.
#[derive(Clone, Copy)]
pub(crate) struct Nonce(pub(crate) [u8; 20]);

impl Nonce {
    /// A fresh one: seven bits per byte, neither NUL (ends a string) nor `$` (separates in MySQL's own tables).
    pub(crate) fn random() -> Nonce {
        let mut random = rand::rng();
        Nonce(std::array::from_fn(|_| match random.random_range(1..=126_u8) {
            b'$' => 127,
            byte => byte,
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a client answers.
    pub(crate) fn answer(plugin: Plugin, password: &str, nonce: &Nonce) -> Vec<u8> {
        match plugin {
            _ if password.is_empty() => Vec::new(),
            Plugin::Native => {
                let mask =
                    Sha1::new().chain_update(nonce.0).chain_update(native_digest(password.as_bytes())).finalize();
                xor::<20>(Sha1::digest(password).into(), mask.into()).to_vec()
            }
            Plugin::CachingSha2 => {
                let mask =
                    Sha256::new().chain_update(sha2_digest(password.as_bytes())).chain_update(nonce.0).finalize();
                xor::<32>(Sha256::digest(password).into(), mask.into()).to_vec()
            }
        }
    }

    #[test]
    fn the_digest_is_that_of_mysql() {
        let hex: String = native_digest(b"password").iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(hex, "2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19");
    }

    #[test]
    fn right_passwords_pass_and_others_do_not() {
        let nonce = Nonce::random();
        let account = Credentials::of_password("sesam");
        for plugin in [Plugin::Native, Plugin::CachingSha2] {
            assert!(account.accept(plugin, &nonce, &answer(plugin, "sesam", &nonce)));
            assert!(!account.accept(plugin, &nonce, &answer(plugin, "sesan", &nonce)));
            assert!(!account.accept(plugin, &Nonce::random(), &answer(plugin, "sesam", &nonce)));
            assert!(!account.accept(plugin, &nonce, &[]));
            assert!(!account.accept(plugin, &nonce, &[0]));
            assert!(!Credentials::decoy().accept(plugin, &nonce, &answer(plugin, "sesam", &nonce)));
            assert!(!Credentials::EMPTY.accept(plugin, &nonce, &answer(plugin, "sesam", &nonce)));
            assert!(Credentials::EMPTY.accept(plugin, &nonce, &[]));
        }
        assert_eq!(format!("{account:?}"), "Credentials(*XXX)");
    }

    #[test]
    fn the_plugin_is_the_wished_one_where_the_account_has_its_digest() {
        let both = Credentials::of_password("x");
        let native = Credentials::from_digests(both.native(), None);
        let sha2 = Credentials::from_digests(None, both.sha2());
        for (account, wished, expected) in [
            (both, Some(Plugin::CachingSha2), Plugin::CachingSha2),
            (both, Some(Plugin::Native), Plugin::Native),
            (both, None, Plugin::Native),
            (native, Some(Plugin::CachingSha2), Plugin::Native),
            (sha2, Some(Plugin::Native), Plugin::CachingSha2),
            (sha2, None, Plugin::CachingSha2),
            (Credentials::EMPTY, Some(Plugin::CachingSha2), Plugin::CachingSha2),
            (Credentials::EMPTY, None, Plugin::Native),
        ] {
            assert_eq!(account.plugin(wished), expected, "{wished:?}");
        }
    }

    #[test]
    fn nonces_avoid_two_bytes() {
        for _ in 0..200 {
            assert!(Nonce::random().0.iter().all(|byte| (1..=127).contains(byte) && *byte != b'$'));
        }
    }
}
