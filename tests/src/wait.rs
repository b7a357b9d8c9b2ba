//! Waiting with a deadline and a reason.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(30);

/// Look again and again until `look` gives a value. After `limit`, an error that says what was awaited and what the
/// last look saw.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let seen = match look().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            anyhow::bail!("{what}: not within {} s; last: {seen:#}", limit.as_secs_f32());
        }
        tokio::time::sleep(POLL).await;
    }
}
