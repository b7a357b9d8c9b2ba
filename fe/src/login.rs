//! Logins of every front door: the MySQL protocol and HTTP ask here who somebody is.
//!
//! Guessing is slow: each failed login of an address makes its next failure wait longer before it is answered, and no
//! address may have more than a few waiting; a login with the right password never waits. What is remembered of addresses is
//! bounded, in memory only, and forgotten after a while without failures.

use crate::account::{Digests, Who};
use crate::audit::{Audit, Record};
use crate::error::{Error, Result, login_denied, number};
use crate::metrics::Metrics;
use crate::raft::Meta;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_stdx::secret::Secret;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The first failure of an address waits so long; each further one twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// The longest wait; shorter than clients wait for an answer.
const LONGEST_DELAY: Duration = Duration::from_millis(3_200);
/// Failures are forgotten after so long without another.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Failed logins of one address that wait at a time; more are turned away unheard.
const MAX_WAITING: u32 = 16;
/// Addresses remembered.
const MAX_ADDRESSES: usize = 4_096;

/// Checks logins; cloned freely.
#[derive(Clone)]
pub struct Login {
    meta: Meta,
    metrics: Metrics,
    audit: Audit,
    failures: Arc<Mutex<Failures>>,
}

impl Login {
    /// Over the accounts of the replicated state.
    pub fn new(meta: Meta, metrics: Metrics, audit: Audit) -> Login {
        Login { meta, metrics, audit, failures: Arc::default() }
    }

    /// What is kept of the password of the account that matches; error 1129 when the address fails too much.
    pub fn digests(&self, user: &str, host: &str) -> Result<Option<Digests>> {
        if self.lock().is_blocked(host) {
            self.metrics.login("blocked");
            let text = format!("Host '{host}' is blocked because of many connection errors; try again in some seconds");
            return Err(Error::denied(text).numbered(number::TOO_MANY_FAILURES));
        }
        let who = Who { user: user.to_owned(), host: host.to_owned(), account: None };
        Ok(self.meta.view(|state| state.account(&who).map(|(_, account)| account.digests())))
    }

    /// The password was right.
    pub fn admitted(&self, user: &str, host: &str) -> Who {
        self.lock().forget(host);
        self.metrics.login("ok");
        let mut who = Who { user: user.to_owned(), host: host.to_owned(), account: None };
        who.account = self.meta.view(|state| state.account(&who).map(|(key, _)| key.to_owned()));
        who
    }

    /// It was not, or nobody has this name. Returns when the client may be told.
    pub async fn refused(&self, user: &str, host: &str) {
        self.metrics.login("denied");
        let error = login_denied(user, host, true);
        self.audit.write(&Record { kind: "login", user, host, error: Some(&error), ..Record::default() });
        let delay = self.lock().failed(host, Instant::now());
        let waiting = Waiting { login: self, host };
        tokio::time::sleep(delay).await;
        drop(waiting);
    }

    /// Check a user and a password that came over HTTP.
    pub async fn check(&self, user: &str, password: &str, host: &str) -> Result<Who> {
        if self.digests(user, host)?.is_some_and(|digests| digests.accept(password)) {
            return Ok(self.admitted(user, host));
        }
        self.refused(user, host).await;
        Err(login_denied(user, host, !password.is_empty()))
    }

    fn lock(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of a peer as accounts name it: no port, IPv4 as such.
pub fn host_of(peer: &str) -> String {
    let ip = peer.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| peer.parse::<IpAddr>());
    ip.map_or_else(|_| peer.to_owned(), |ip| ip.to_canonical().to_string())
}

/// User and password of a Basic Authorization header.
pub fn basic_credentials(headers: &HeaderMap) -> Option<(String, Secret)> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), Secret::new(password)))
}

/// One failed login waits; dropped also when the client goes away.
struct Waiting<'a> {
    login: &'a Login,
    host: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.login.lock().waited(self.host);
    }
}

/// Failed logins by address.
#[derive(Debug, Default)]
struct Failures {
    addresses: HashMap<String, Failure>,
}

#[derive(Debug)]
struct Failure {
    count: u32,
    waiting: u32,
    last: Instant,
}

impl Failures {
    fn is_blocked(&self, host: &str) -> bool {
        self.addresses.get(host).is_some_and(|failure| failure.waiting >= MAX_WAITING)
    }

    /// Count a failure; how long it waits.
    fn failed(&mut self, host: &str, now: Instant) -> Duration {
        if !self.addresses.contains_key(host) && self.addresses.len() >= MAX_ADDRESSES {
            self.make_room(now);
        }
        let fresh = || Failure { count: 0, waiting: 0, last: now };
        let failure = self.addresses.entry(host.to_owned()).or_insert_with(fresh);
        if now.saturating_duration_since(failure.last) >= FORGET_AFTER {
            failure.count = 0;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << failure.count.min(16)).min(LONGEST_DELAY);
        (failure.count, failure.waiting, failure.last) = (failure.count.saturating_add(1), failure.waiting + 1, now);
        delay
    }

    fn waited(&mut self, host: &str) {
        if let Some(failure) = self.addresses.get_mut(host) {
            failure.waiting = failure.waiting.saturating_sub(1);
        }
    }

    /// A success; those that still wait stay counted.
    fn forget(&mut self, host: &str) {
        if let Some(failure) = self.addresses.get_mut(host) {
            failure.count = 0;
            if failure.waiting == 0 {
                self.addresses.remove(host);
            }
        }
    }

    /// Forget old failures, or else the oldest.
    fn make_room(&mut self, now: Instant) {
        self.addresses.retain(|_, failure| now.saturating_duration_since(failure.last) < FORGET_AFTER);
        if self.addresses.len() >= MAX_ADDRESSES
            && let Some(oldest) =
                self.addresses.iter().min_by_key(|(_, failure)| failure.last).map(|(host, _)| host.clone())
        {
            self.addresses.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{AccountName, NewPassword};
    use crate::meta::command::{AccountChange, Command};
    use axum::http::HeaderValue;

    #[test]
    fn failures_of_an_address_wait_longer_and_longer_and_are_forgotten() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let delays: Vec<u128> = (0..8).map(|_| failures.failed("a", start).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1_600, 3_200, 3_200]);
        assert_eq!(failures.failed("b", start), FIRST_DELAY);
        assert_eq!(failures.failed("a", start + FORGET_AFTER), FIRST_DELAY);
        failures.forget("b");
        assert_eq!(failures.failed("b", start), FIRST_DELAY);
    }

    #[test]
    fn few_failures_of_an_address_wait_at_a_time() {
        let mut failures = Failures::default();
        let now = Instant::now();
        for _ in 0..MAX_WAITING {
            assert!(!failures.is_blocked("a"));
            failures.failed("a", now);
        }
        assert!(failures.is_blocked("a") && !failures.is_blocked("b"));
        failures.forget("a");
        assert!(failures.is_blocked("a"), "those that wait do");
        failures.waited("a");
        failures.waited("nobody");
        assert!(!failures.is_blocked("a"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut failures = Failures::default();
        let start = Instant::now();
        for n in 0..=MAX_ADDRESSES {
            failures.failed(&n.to_string(), start + Duration::from_micros(n as u64));
        }
        assert!(failures.addresses.len() == MAX_ADDRESSES && !failures.addresses.contains_key("0"));
        failures.failed("late", start + FORGET_AFTER * 2);
        assert_eq!(failures.addresses.len(), 1);
    }

    #[test]
    fn credentials_of_a_request_are_read() {
        let mut headers = HeaderMap::new();
        assert!(basic_credentials(&headers).is_none());
        let basic = format!("Basic {}", STANDARD.encode("root:p@ss:w/rd"));
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&basic).unwrap());
        let (user, password) = basic_credentials(&headers).unwrap();
        assert_eq!((user.as_str(), password.reveal()), ("root", "p@ss:w/rd"));
        for wrong in ["Bearer x", "Basic ???", "Basic"] {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(wrong));
            assert!(basic_credentials(&headers).is_none(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn passwords_are_checked_against_the_account_of_the_address() {
        let meta = Meta::in_memory();
        for (host, password) in [("10.%", "near"), ("%", "far")] {
            let name = AccountName::new("eve", host).unwrap();
            let digests = Digests::of(&NewPassword::Clear(Secret::new(password)));
            let change = AccountChange::CreateUser { name, digests, roles: [].into() };
            meta.propose(Command::Account(change)).await.unwrap();
        }
        let login = Login::new(meta, Metrics::new().unwrap(), Audit::off());
        assert_eq!(login.check("eve", "near", "10.0.0.1").await.unwrap().account.as_deref(), Some("eve@10.%"));
        assert_eq!(login.check("eve", "far", "11.0.0.1").await.unwrap().account.as_deref(), Some("eve"));
        for (user, password, host) in [("eve", "far", "10.0.0.1"), ("bob", "", "h"), ("root", "x", "h")] {
            assert_eq!(login.check(user, password, host).await.unwrap_err().number(), 1045);
        }
        assert_eq!(host_of("[::ffff:10.0.0.1]:77"), "10.0.0.1");
        assert_eq!((host_of("10.0.0.1"), host_of("a:b")), ("10.0.0.1".to_owned(), "a:b".to_owned()));
    }
}
