//! What is printed: the plan before, the report after. Pure.

use super::compare::Compared;
use super::plan::{Plan, Request, size};
use super::progress::{Moved, State};
use crate::screen;
use serde::Serialize;

/// The end of a migration.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    /// `equal`, `equal_but_source_went_on` or `different`.
    pub(super) result: &'static str,
    /// What was asked for.
    pub(super) request: &'a Request,
    /// Label and timestamp of the snapshot.
    pub(super) label: &'a str,
    /// Its timestamp.
    pub(super) timestamp: &'a str,
    /// The backup.
    pub(super) backup: &'a Moved,
    /// The restore.
    pub(super) restore: &'a Moved,
    /// Every partition.
    pub(super) partitions: &'a [Compared],
    /// What has to be loaded again, or looked at.
    pub(super) later: Vec<&'a Compared>,
    /// Rows at the target that were counted.
    pub(super) rows: u64,
}

impl<'a> Report<'a> {
    /// From the state and the comparison.
    pub(super) fn new(state: &'a State, none: &'a Moved, partitions: &'a [Compared]) -> Report<'a> {
        let later: Vec<&Compared> = partitions.iter().filter(|one| one.outcome.is_later()).collect();
        let result = match (partitions.iter().all(|one| one.outcome.is_good()), later.is_empty()) {
            (false, _) => "different",
            (true, true) => "equal",
            (true, false) => "equal_but_source_went_on",
        };
        Report {
            result,
            request: &state.request,
            label: &state.label,
            timestamp: state.timestamp.as_deref().unwrap_or_default(),
            backup: state.backup.as_ref().unwrap_or(none),
            restore: state.restore.as_ref().unwrap_or(none),
            partitions,
            later,
            rows: partitions.iter().filter_map(|one| one.rows).sum(),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![
            format!("Migration of {} from {} to {}", self.request.database, self.request.from, self.request.to),
            format!("snapshot {} of {} in repository {}", self.label, self.timestamp, self.request.repository),
            moved("backup", self.backup),
            moved("restore", self.restore),
            String::new(),
        ];
        let version = |version: Option<u64>| version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        let rows = self.partitions.iter().map(|one| {
            vec![
                one.table.clone(),
                one.partition.clone(),
                version(one.snapshot_version),
                version(one.source_version),
                version(one.rows),
                one.outcome.word(),
            ]
        });
        let header = ["table", "partition", "version of snapshot", "at source now", "rows at target", ""];
        lines.push(screen::table(&header, &rows.collect::<Vec<_>>()));
        lines.push(String::new());
        if !self.later.is_empty() {
            lines.push("After the snapshot, to be loaded again at the target or moved by another run:".to_owned());
            lines.extend(self.later.iter().map(|one| {
                let (from, to) = (version(one.snapshot_version), version(one.source_version));
                format!("  {}.{}: {}, version {from} -> {to}", one.table, one.partition, one.outcome.word())
            }));
            lines.push(String::new());
        }
        let equal = self.partitions.iter().filter(|one| one.outcome == super::compare::Outcome::Equal).count();
        lines.push(format!(
            "{}: {equal} of {} partitions compared equal in rows and in the checksum of every column; {} rows at the target",
            match self.result {
                "equal" => "ALL EQUAL",
                "different" => "NOT EQUAL",
                _ => "EQUAL AS FAR AS THE SNAPSHOT GOES",
            },
            self.partitions.len(),
            self.rows
        ));
        lines.join("\n")
    }
}

fn moved(what: &str, moved: &Moved) -> String {
    let rate = if moved.seconds > 0.0 { (moved.bytes as f64 / moved.seconds) as u64 } else { 0 };
    format!("{what}: {} in {:.1} s, {}/s", size(moved.bytes), moved.seconds, size(rate))
}

/// What will happen, before anything does.
pub(super) fn plan(plan: &Plan, request: &Request, label: &str) -> String {
    let mut lines = vec![
        format!(
            "{} tables, {} partitions, about {} rows and {} (with replicas at the target {}) of {}",
            plan.tables.len(),
            plan.partitions,
            plan.rows,
            size(plan.bytes),
            size(plan.target_bytes),
            request.database
        ),
        format!("  1. at {}: BACKUP SNAPSHOT {}.{label} TO {}", request.from, request.database, request.repository),
        format!("  2. at {}: RESTORE SNAPSHOT {}.{label} FROM {}", request.to, request.database, request.to_repository),
        "  3. compare rows and checksums of every column, list what was loaded after the snapshot".to_owned(),
    ];
    lines.extend(plan.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(plan.objections.iter().map(|objection| format!("CANNOT: {objection}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::compare::Outcome;
    use crate::migrate::plan::tests::request;

    fn compared(outcome: Outcome) -> Compared {
        let (table, partition) = ("t".to_owned(), "p".to_owned());
        Compared { table, partition, snapshot_version: Some(3), source_version: Some(5), rows: Some(7), outcome }
    }

    fn report_of(partitions: &[Compared]) -> (&'static str, String, serde_json::Value) {
        let mut state = State::new(request(), "l".to_owned(), &Plan::default());
        state.timestamp = Some("2026-01-01-00-00-00".to_owned());
        state.backup = Some(Moved { bytes: 10 << 20, rows: 7, seconds: 2.0 });
        let none = Moved::default();
        let report = Report::new(&state, &none, partitions);
        (report.result, report.text(), serde_json::to_value(&report).unwrap())
    }

    #[test]
    fn the_result_is_what_the_partitions_say() {
        let (result, text, json) = report_of(&[compared(Outcome::Equal)]);
        assert_eq!(result, "equal");
        assert!(text.contains("ALL EQUAL: 1 of 1") && text.contains("10.00 MiB in 2.0 s, 5.00 MiB/s"), "{text}");
        assert_eq!((&json["partitions"][0]["outcome"], &json["rows"]), (&"equal".into(), &7.into()));

        let (result, text, json) = report_of(&[compared(Outcome::Equal), compared(Outcome::LoadedAfter)]);
        assert_eq!(result, "equal_but_source_went_on");
        assert!(text.contains("t.p: loaded after the snapshot, version 3 -> 5"), "{text}");
        assert_eq!(json["later"].as_array().unwrap().len(), 1);

        let different = Outcome::Different { what: vec!["rows".to_owned()] };
        let (result, text, _) = report_of(&[compared(different), compared(Outcome::LoadedAfter)]);
        assert_eq!(result, "different");
        assert!(text.contains("DIFFERENT: rows") && text.contains("NOT EQUAL"), "{text}");
    }

    #[test]
    fn the_plan_says_what_will_happen_and_what_forbids_it() {
        let found = Plan {
            tables: vec!["t".to_owned()],
            objections: vec!["no".to_owned()],
            notes: vec!["so".to_owned()],
            ..Plan::default()
        };
        let text = plan(&found, &request(), "l");
        for part in ["BACKUP SNAPSHOT d.l TO r", "RESTORE SNAPSHOT d.l FROM r", "note: so", "CANNOT: no", "1 tables"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
