//! Rows that a load leaves out: how many, and for the first ones why. The lists of the last loads are kept in memory
//! for `/api/_load_error_log?file=<name>`.

use crate::limits::{KEPT_ERROR_LOGS, KEPT_REASONS};
use crate::sync;
use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use coffer_table::Schema;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Bytes of a source line shown in a reason.
const SHOWN_BYTES: usize = 256;

/// Counts rows left out and keeps the first reasons.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rejects {
    count: u64,
    reasons: Vec<String>,
}

impl Rejects {
    /// One more row is left out; `reason` is only made when it is kept.
    pub fn add(&mut self, reason: impl FnOnce() -> String) {
        self.count += 1;
        if self.reasons.len() < KEPT_REASONS {
            self.reasons.push(reason());
        }
    }

    /// Take over what another part of the load counted.
    pub fn merge(&mut self, other: Rejects) {
        self.count += other.count;
        let room = KEPT_REASONS - self.reasons.len();
        self.reasons.extend(other.reasons.into_iter().take(room));
    }

    /// Rows left out.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first reason.
    pub fn first(&self) -> Option<&str> {
        self.reasons.first().map(String::as_str)
    }

    /// The kept reasons as text, one per line.
    pub fn text(&self) -> String {
        let mut text = self.reasons.join("\n");
        text.push('\n');
        let more = self.count - self.reasons.len() as u64;
        if more > 0 {
            text.push_str(&format!("... and {more} more rows\n"));
        }
        text
    }
}

/// A reason with the line it is about.
pub fn with_line(reason: &str, line: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]);
    let dots = if line.len() > SHOWN_BYTES { "..." } else { "" };
    format!("Reason: {reason}. src line [{shown}{dots}];")
}

/// `(name=value, ...)` of some columns of a row.
pub fn describe_key(batch: &RecordBatch, schema: &Schema, columns: &[usize], row: usize) -> String {
    let value = |column: &usize| {
        let array = batch.column(*column);
        let text = if array.is_null(row) { Ok("NULL".to_owned()) } else { array_value_to_string(array, row) };
        format!("{}={}", schema.columns[*column].name, text.unwrap_or_default())
    };
    format!("({})", columns.iter().map(value).collect::<Vec<_>>().join(", "))
}

/// Name and text.
type ErrorLog = (String, Arc<str>);

/// The reasons of the last loads, by name.
#[derive(Debug, Clone, Default)]
pub struct ErrorLogs {
    logs: Arc<Mutex<VecDeque<ErrorLog>>>,
}

impl ErrorLogs {
    /// Keep a text and return its name.
    pub fn keep(&self, text: String) -> String {
        let name = format!("error_log_{}", uuid::Uuid::new_v4().simple());
        let mut logs = sync::lock(&self.logs);
        if logs.len() >= KEPT_ERROR_LOGS {
            logs.pop_front();
        }
        logs.push_back((name.clone(), text.into()));
        name
    }

    /// The text with this name, while it is kept.
    pub fn get(&self, name: &str) -> Option<Arc<str>> {
        sync::lock(&self.logs).iter().find(|(known, _)| known == name).map(|(_, text)| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_on_when_reasons_are_enough() {
        let mut rejects = Rejects::default();
        (0..KEPT_REASONS + 5).for_each(|number| rejects.add(|| format!("r{number}")));
        assert_eq!((rejects.count(), rejects.first()), (KEPT_REASONS as u64 + 5, Some("r0")));
        assert!(rejects.text().ends_with("... and 5 more rows\n"));
        let mut other = Rejects::default();
        other.add(|| "first".to_owned());
        other.merge(rejects);
        assert_eq!((other.count(), other.first()), (KEPT_REASONS as u64 + 6, Some("first")));
    }

    #[test]
    fn old_logs_make_room() {
        let logs = ErrorLogs::default();
        let first = logs.keep("one".to_owned());
        assert_eq!(logs.get(&first).as_deref(), Some("one"));
        (0..KEPT_ERROR_LOGS).for_each(|_| drop(logs.keep("more".to_owned())));
        assert_eq!(logs.get(&first), None);
    }
}
