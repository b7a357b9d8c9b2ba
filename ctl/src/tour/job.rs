//! Following a backup or restore job through its SHOW row until it ends.

use crate::screen;
use crate::sql::{Row, Session};
use crate::tour::progress;
use coffer_stdx::{Error, Result};
use indicatif::ProgressBar;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often the job is looked at: often at first, so that a short job is seen through all its states.
const POLL_MIN: Duration = Duration::from_millis(20);
/// How often a long job is looked at.
const POLL_MAX: Duration = Duration::from_millis(500);
/// How often a job tells of itself where there is no terminal to draw on.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long the frontend may be away (a restart) before we give up.
const AWAY_LIMIT: Duration = Duration::from_secs(60);

/// A job that ended well.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its last row.
    pub(crate) row: Row,
    /// From the first look to the end.
    pub(crate) took: Duration,
    /// The states that were seen, in order.
    pub(crate) states: Vec<String>,
}

/// Wait until the job that `show` shows is FINISHED.
pub(crate) async fn follow(session: &mut Session, show: &str, what: &str) -> Result<Ended> {
    until_end(session, show, what, &mut |_, _| {}).await
}

/// The same; without a terminal it says on standard error how the job goes on.
pub(crate) async fn follow_aloud(session: &mut Session, show: &str, what: &str) -> Result<Ended> {
    let aloud = !std::io::stderr().is_terminal();
    let mut last = Instant::now();
    let mut tell = |row: &Row, new_state: bool| {
        if aloud && (new_state || last.elapsed() >= TELL_EVERY) {
            last = Instant::now();
            screen::complain(&format!("{what}: {}", sentence(row)));
        }
    };
    until_end(session, show, what, &mut tell).await
}

/// State, bytes, rate and time left.
fn sentence(row: &Row) -> String {
    let shown = |column: &str| Some(row.get(column)).filter(|text| !matches!(*text, "" | "NULL"));
    let bytes = |column: &str| shown(column)?.parse::<u64>().ok().map(indicatif::HumanBytes);
    let mut text = row.get("State").to_owned();
    if let (Some(done), Some(total)) = (bytes("BytesDone"), bytes("BytesTotal")) {
        text.push_str(&format!(", {done} of {total}"));
    }
    for (column, behind) in [("Rate", ""), ("TimeLeft", " left")] {
        if let Some(value) = shown(column) {
            text.push_str(&format!(", {value}{behind}"));
        }
    }
    text
}

async fn until_end(
    session: &mut Session,
    show: &str,
    what: &str,
    tell: &mut (dyn FnMut(&Row, bool) + Send),
) -> Result<Ended> {
    let begun = Instant::now();
    let bar = progress::of_unknown(what);
    let mut states: Vec<String> = Vec::new();
    let mut pause = POLL_MIN;
    let mut last_seen = Instant::now();
    loop {
        match session.query(show).await {
            Ok(rows) => {
                last_seen = Instant::now();
                let row = rows.into_iter().next_back().ok_or_else(|| Error::not_found(format!("{show}: no job")))?;
                let state = row.get("State").to_owned();
                let new_state = states.last() != Some(&state);
                if new_state {
                    bar.set_message(format!("{what}: {state}"));
                    states.push(state.clone());
                }
                tell(&row, new_state);
                advance(&bar, &row);
                match state.as_str() {
                    "FINISHED" => {
                        bar.finish_and_clear();
                        return Ok(Ended { row, took: begun.elapsed(), states });
                    }
                    "CANCELLED" => {
                        bar.finish_and_clear();
                        return Err(Error::cancelled(format!("{what} was cancelled: {}", row.get("Status"))));
                    }
                    _ => {}
                }
            }
            Err(error) if last_seen.elapsed() > AWAY_LIMIT || !error.kind().is_transient() => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(POLL_MAX);
    }
}

/// Progress is bytes when the row has them, else what `[task: finished/total]` adds up to.
fn advance(bar: &ProgressBar, row: &Row) {
    let number = |column: &str| row.get(column).parse::<u64>().ok();
    match (number("BytesDone"), number("BytesTotal")) {
        (Some(done), Some(total)) if total > 0 => progress::at_bytes(bar, done, total),
        _ => match steps(row.get("Progress")) {
            (_, 0) => {}
            (done, total) => progress::at_steps(bar, done, total),
        },
    }
}

/// The sums of `finished` and `total` in `[task: finished/total], ...`.
fn steps(progress: &str) -> (u64, u64) {
    let pairs = progress.split(',').filter_map(|item| {
        let (_, fraction) = item.trim().trim_matches(['[', ']']).split_once(':')?;
        let (done, total) = fraction.trim().split_once('/')?;
        Some((done.trim().parse::<u64>().ok()?, total.trim().parse::<u64>().ok()?))
    });
    pairs.fold((0, 0), |(done, total), (more_done, more_total)| (done + more_done, total + more_total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_tells_what_is_known() {
        let row =
            Row::of(&[("State", "UPLOADING"), ("BytesDone", "1048576"), ("BytesTotal", "2097152"), ("Rate", "NULL")]);
        assert_eq!(sentence(&row), "UPLOADING, 1.00 MiB of 2.00 MiB");
        let row = Row::of(&[("State", "PENDING"), ("Rate", "3 MB/s"), ("TimeLeft", "00:01")]);
        assert_eq!(sentence(&row), "PENDING, 3 MB/s, 00:01 left");
    }

    #[test]
    fn progress_adds_up() {
        assert_eq!(steps("[10: 3/8], [11: 4/4]"), (7, 12));
        assert_eq!(steps(""), (0, 0));
        assert_eq!(steps("N/A"), (0, 0));
    }
}
