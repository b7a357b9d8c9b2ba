//! Clients that send statements as fast as they are answered, and how long each answer took.

use crate::sql::{Login, Session};
use coffer_stdx::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One statement: when it was sent and answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit {
    pub(crate) sent: Instant,
    pub(crate) answered: Instant,
}

impl Commit {
    /// From sent to answered.
    pub(crate) fn took(&self) -> Duration {
        self.answered - self.sent
    }
}

/// What all clients did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) commits: Vec<Commit>,
    pub(crate) refused: u64,
    pub(crate) first_refusal: Option<Error>,
}

/// Clients at work.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Done>>,
}

/// Start `count` clients, at the given addresses in turn. `statement` gets the number of the client and how many it sent.
pub(crate) fn start(
    addresses: &[String],
    count: usize,
    statement: impl Fn(usize, u64) -> String + Send + Sync + 'static,
) -> Clients {
    let stop = Arc::new(AtomicBool::new(false));
    let statement = Arc::new(statement);
    let tasks = (0..count).map(|client| {
        let (stop, statement) = (Arc::clone(&stop), Arc::clone(&statement));
        let login = Login::root(addresses.get(client % addresses.len().max(1)).map_or("", String::as_str));
        tokio::spawn(async move {
            let mut session = Session::new(login);
            let mut done = Done::default();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                match session.query_now(&statement(client, sent)).await {
                    Ok(_) => done.commits.push(Commit { sent: begun, answered: Instant::now() }),
                    Err(error) => {
                        done.refused += 1;
                        done.first_refusal.get_or_insert(error);
                    }
                }
                sent += 1;
            }
            done
        })
    });
    Clients { tasks: tasks.collect(), stop }
}

impl Clients {
    /// Let each finish its statement.
    pub(crate) async fn stop(self) -> Result<Done> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Done::default();
        for task in self.tasks {
            let done = task.await.map_err(|error| Error::bug(format!("a client died: {error}")))?;
            all.commits.extend(done.commits);
            all.refused += done.refused;
            all.first_refusal = all.first_refusal.or(done.first_refusal);
        }
        Ok(all)
    }
}

/// Run statements one after the other on each of `count` connections until the list is empty.
pub(crate) async fn run_all(address: &str, count: usize, statements: Vec<String>) -> Result<()> {
    let queue = Arc::new(std::sync::Mutex::new(statements.into_iter()));
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (queue, login) = (Arc::clone(&queue), Login::root(address));
            tokio::spawn(async move {
                let mut session = Session::new(login);
                let next = || queue.lock().ok().and_then(|mut queue| queue.next());
                while let Some(statement) = next() {
                    session.query_now(&statement).await?;
                }
                Ok::<(), Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|error| Error::bug(format!("a client died: {error}")))??;
    }
    Ok(())
}

/// The time within which this share of the answers came.
pub(crate) fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Milliseconds with one decimal.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let mut times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 0.5), Duration::from_millis(51));
        assert_eq!(percentile(&mut times, 1.0), Duration::from_millis(100));
        assert_eq!(percentile(&mut [], 0.5), Duration::ZERO);
        assert_eq!(ms(Duration::from_micros(1_250)), "1.2 ms");
    }
}
