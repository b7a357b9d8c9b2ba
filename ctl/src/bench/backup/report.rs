//! What was measured, as tables: times, the ratios that count, peaks of memory.

use crate::bench::{mebibytes, median, seconds};
use crate::screen;
use std::time::Duration;

/// What a process may use at most during a job, whatever its size, and for each blob of the job.
const MEMORY_BYTES: u64 = 256 << 20;
const MEMORY_PER_BLOB: u64 = 64;

/// The bound of a ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    AtMost(f64),
    AtLeast(f64),
}

impl Wanted {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Wanted::AtMost(bound) => ratio <= bound,
            Wanted::AtLeast(bound) => ratio >= bound,
        }
    }

    fn shown(self) -> String {
        match self {
            Wanted::AtMost(bound) => format!("at most {bound}"),
            Wanted::AtLeast(bound) => format!("at least {bound}"),
        }
    }
}

/// Everything that is printed at the end.
#[derive(Debug, Default)]
pub(super) struct Report {
    times: Vec<Vec<String>>,
    ratios: Vec<Vec<String>>,
    memory: Vec<Vec<String>>,
}

impl Report {
    /// How long something took, once per round, and how many bytes and files it was about.
    pub(super) fn time(&mut self, what: &str, times: &[Duration], (bytes, files): (u64, u64)) {
        let rate = bytes as f64 / 1e6 / median(times).as_secs_f64().max(1e-9);
        let size = format!("{files} files, {:.1} MB", bytes as f64 / 1e6);
        self.times.push(vec![what.to_owned(), size, seconds(times), format!("{rate:.1} MB/s")]);
    }

    /// The median of one over the median of another.
    pub(super) fn ratio(&mut self, what: &str, (one, other): (&[Duration], &[Duration]), wanted: Wanted) {
        let ratio = median(one).as_secs_f64() / median(other).as_secs_f64().max(1e-9);
        let verdict = if wanted.holds(ratio) { "ok" } else { "MISSED" };
        self.ratios.push(vec![what.to_owned(), format!("{ratio:.2}"), wanted.shown(), verdict.to_owned()]);
    }

    /// The most memory a process had during a job of so many blobs.
    pub(super) fn memory(&mut self, process: &str, during: &str, peak: u64, blobs: u64) {
        let limit = MEMORY_BYTES + blobs * MEMORY_PER_BLOB;
        let verdict = if peak <= limit { "ok" } else { "MISSED" };
        let cells = [process, during, &mebibytes(peak), &format!("at most {}", mebibytes(limit)), verdict];
        self.memory.push(cells.map(str::to_owned).to_vec());
    }

    /// All of it.
    pub(super) fn print(&self) {
        screen::line(&format!("\n{}", screen::table(&["what", "size", "seconds", "median rate"], &self.times)));
        screen::line(&format!("\n{}", screen::table(&["ratio of times", "is", "wanted", ""], &self.ratios)));
        screen::line(&format!("\n{}", screen::table(&["process", "during", "peak", "wanted", ""], &self.memory)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_is_said() {
        let mut report = Report::default();
        let [two, three] = [2, 3].map(|seconds| vec![Duration::from_secs(seconds)]);
        report.ratio("a", (&three, &two), Wanted::AtMost(1.5));
        report.ratio("b", (&three, &two), Wanted::AtLeast(1.6));
        report.memory("fe-1", "x", 257 << 20, 0);
        report.memory("fe-1", "x", 257 << 20, 1 << 14);
        let last = |rows: &[Vec<String>]| rows.iter().filter_map(|row| row.last().cloned()).collect::<Vec<_>>();
        assert_eq!(
            (last(&report.ratios), last(&report.memory)),
            (vec!["ok".to_owned(), "MISSED".to_owned()], vec!["MISSED".to_owned(), "ok".to_owned()])
        );
        assert_eq!(report.ratios[1][1..3], ["1.50", "at least 1.6"]);
    }
}
