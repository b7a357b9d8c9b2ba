//! How fast bytes may pass: limits in bytes per second that many streams share and that change while they run.
//!
//! A [`Rate`] lets a chunk pass when the chunks before it are paid for, so that a chunk may be larger than what a second
//! allows and the average still holds. Streams pass in turn. A new limit is felt at once, also by those that wait.
//!
//! [`Limits`] knows the limits of repositories by key. They come with every request and with the messages of the leading
//! frontend; of two for one key the one with the higher version holds. Nothing is kept over a restart: the next request
//! or message brings it again.

use coffer_proto::v1::RateLimit;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Keys known at once; those that nobody uses go first.
const MAX_KEYS: usize = 4_096;
/// What may pass at once after a pause, as a part of a second.
const BURST_SECONDS: f64 = 0.1;
/// Longest sleep in one go; a limit of a few bytes per second must not overflow the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Bytes per second, shared by everything that holds it.
#[derive(Debug)]
pub struct Rate {
    limited: AtomicBool,
    meter: Mutex<Meter>,
    turn: tokio::sync::Mutex<()>,
    changed: Notify,
}

/// What a rate allows at a moment. Pure.
#[derive(Debug, Clone, Copy)]
struct Meter {
    per_second: u64,
    /// Bytes that may pass now; below zero while those that passed are not paid for.
    balance: f64,
    at: Instant,
}

impl Meter {
    fn new(now: Instant) -> Meter {
        Meter { per_second: 0, balance: 0.0, at: now }
    }

    /// Take in the time since the last look.
    fn settle(&mut self, now: Instant) {
        let rate = self.per_second as f64;
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.balance = (self.balance + earned).min(rate * BURST_SECONDS);
        self.at = now;
    }

    fn set(&mut self, now: Instant, per_second: u64) {
        self.settle(now);
        // Debt from a time without a limit there is none.
        self.balance = if self.per_second == 0 { 0.0 } else { self.balance };
        self.per_second = per_second;
    }

    /// Let `bytes` pass, or say how long they must wait.
    fn pay(&mut self, now: Instant, bytes: u64) -> Option<Duration> {
        if self.per_second == 0 {
            return None;
        }
        self.settle(now);
        if self.balance < 0.0 {
            let wait = -self.balance / self.per_second as f64;
            return Some(Duration::try_from_secs_f64(wait).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT));
        }
        self.balance -= bytes as f64;
        None
    }
}

impl Default for Rate {
    fn default() -> Rate {
        Rate {
            limited: AtomicBool::new(false),
            meter: Mutex::new(Meter::new(Instant::now())),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl Rate {
    /// Change the limit; 0 lifts it.
    pub fn set(&self, per_second: u64) {
        let mut meter = lock(&self.meter);
        if meter.per_second != per_second {
            meter.set(Instant::now(), per_second);
            self.limited.store(per_second > 0, Ordering::Relaxed);
            self.changed.notify_waiters();
        }
    }

    /// The limit; 0: none.
    pub fn per_second(&self) -> u64 {
        lock(&self.meter).per_second
    }

    /// Wait until `bytes` may pass.
    pub async fn take(&self, bytes: u64) {
        if !self.limited.load(Ordering::Relaxed) {
            return;
        }
        let _turn = self.turn.lock().await;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let Some(wait) = lock(&self.meter).pay(Instant::now(), bytes) else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => (),
                () = changed => (),
            }
        }
    }
}

/// The two directions of one limit.
#[derive(Debug, Default)]
pub struct Pair {
    /// Into the storage.
    pub upload: Rate,
    /// Out of the storage.
    pub download: Rate,
}

impl Pair {
    /// Change both; 0 lifts one.
    pub fn set(&self, upload: u64, download: u64) {
        self.upload.set(upload);
        self.download.set(download);
    }
}

/// Limits by key.
#[derive(Debug, Default)]
pub struct Limits {
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    version: u64,
    pair: Arc<Pair>,
}

impl Limits {
    /// The limits of this process: for storages that it opens without a broker.
    pub fn of_process() -> &'static Limits {
        static PROCESS: LazyLock<Limits> = LazyLock::new(Limits::default);
        &PROCESS
    }

    /// Take in what a request or a message says, unless something newer is known; what holds now.
    pub fn learn(&self, limit: &RateLimit) -> Arc<Pair> {
        let mut known = lock(&self.known);
        if known.len() >= MAX_KEYS && !known.contains_key(&limit.key) {
            known.retain(|_, entry| Arc::strong_count(&entry.pair) > 1);
        }
        let fresh = || Known { version: 0, pair: Arc::default() };
        let is_new = !known.contains_key(&limit.key);
        let entry = known.entry(limit.key.clone()).or_insert_with(fresh);
        if is_new || limit.version > entry.version {
            entry.version = limit.version;
            entry.pair.set(limit.upload_bytes_per_second, limit.download_bytes_per_second);
        }
        Arc::clone(&entry.pair)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these with a value half changed.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_average_holds_whatever_the_size_of_the_chunks() {
        for chunk in [1_u64, 700, 100_000] {
            let start = Instant::now();
            let mut meter = Meter::new(start);
            meter.set(start, 1_000);
            let (mut now, mut passed) = (start, 0);
            while passed < 500_000 {
                match meter.pay(now, chunk) {
                    None => passed += chunk,
                    Some(wait) => now += wait.max(Duration::from_nanos(1)),
                }
            }
            // The last chunk is paid for by those that come after it.
            let paid = (passed - chunk) as f64 / 1_000.0;
            let took = (now - start).as_secs_f64();
            assert!((paid - 1.0..paid + 1.0).contains(&took), "{chunk}: {took} s for {paid} s");
        }
    }

    #[test]
    fn a_pause_saves_up_a_tenth_of_a_second_and_no_more() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.set(start, 1_000);
        let later = start + 60 * SECOND;
        assert_eq!(meter.pay(later, 100), None);
        assert_eq!(meter.pay(later, 1), None);
        let wait = meter.pay(later, 1).unwrap();
        assert!(wait > Duration::ZERO && wait < SECOND / 100, "{wait:?}");
    }

    #[test]
    fn no_limit_takes_no_time_and_a_tiny_one_does_not_overflow() {
        let now = Instant::now();
        let mut meter = Meter::new(now);
        assert_eq!(meter.pay(now, u64::MAX), None);
        meter.set(now, 1);
        assert_eq!(meter.pay(now, u64::MAX), None);
        assert_eq!(meter.pay(now, 1), Some(LONGEST_WAIT));
        meter.set(now, 0);
        assert_eq!(meter.pay(now, u64::MAX), None);
    }

    #[tokio::test]
    async fn who_waits_feels_a_new_limit() {
        let rate = Arc::new(Rate::default());
        rate.take(1 << 30).await;
        rate.set(1);
        rate.take(1 << 30).await;
        let waiting = Arc::clone(&rate);
        let mut waiter = tokio::spawn(async move { waiting.take(1).await });
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiter).await.is_err());
        assert!(rate.take(1).now_or_never().is_none());
        rate.set(0);
        tokio::time::timeout(30 * SECOND, waiter).await.unwrap().unwrap();
        assert_eq!(rate.take(1).now_or_never(), Some(()));
    }

    #[test]
    fn the_higher_version_holds() {
        let limits = Limits::default();
        let limit = |version, upload| RateLimit {
            key: "c/1".to_owned(),
            version,
            upload_bytes_per_second: upload,
            download_bytes_per_second: 7,
        };
        let pair = limits.learn(&limit(0, 100));
        assert_eq!((pair.upload.per_second(), pair.download.per_second()), (100, 7));
        limits.learn(&limit(5, 200));
        limits.learn(&limit(4, 300));
        limits.learn(&limit(5, 400));
        assert_eq!(pair.upload.per_second(), 200);
        assert!(Arc::ptr_eq(&pair, &limits.learn(&limit(6, 0))));
        assert_eq!(pair.upload.per_second(), 0);
    }

    #[test]
    fn keys_that_nobody_uses_make_room() {
        let limits = Limits::default();
        let held = limits.learn(&RateLimit { key: "held".to_owned(), version: 1, ..RateLimit::default() });
        for key in 0..MAX_KEYS {
            limits.learn(&RateLimit { key: key.to_string(), ..RateLimit::default() });
        }
        assert!(lock(&limits.known).len() <= MAX_KEYS);
        assert!(Arc::ptr_eq(&held, &limits.learn(&RateLimit { key: "held".to_owned(), ..RateLimit::default() })));
    }
}
