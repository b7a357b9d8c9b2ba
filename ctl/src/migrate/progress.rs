//! Where a migration stands, in a file, and what comes next.
//!
//! A step is noted before its statement is sent, so that whatever dies between the two, the next run looks for the job
//! before it sends the statement again: a label is taken by a complete backup only, and a restore that a cluster does not
//! know did not begin. The file is replaced as a whole.

use super::plan::{Plan, Request};
use coffer_stdx::{Error, Result, fsx};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the file's shape.
const FORMAT: u32 = 1;

/// How far a migration got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// BACKUP was or is about to be sent.
    BackingUp,
    /// The snapshot is complete.
    BackedUp,
    /// RESTORE was or is about to be sent.
    Restoring,
    /// The target has the tables.
    Restored,
}

/// What a job moved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Moved {
    /// Bytes.
    pub(super) bytes: u64,
    /// Rows; backups only.
    pub(super) rows: u64,
    /// Seconds from its creation to its end.
    pub(super) seconds: f64,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    /// What was asked for.
    pub(super) request: Request,
    /// Label of the backup.
    pub(super) label: String,
    /// The tables that move.
    pub(super) tables: Vec<String>,
    /// How far it got.
    pub(super) step: Step,
    /// Timestamp of the snapshot.
    #[serde(default)]
    pub(super) timestamp: Option<String>,
    /// The backup.
    #[serde(default)]
    pub(super) backup: Option<Moved>,
    /// The restore.
    #[serde(default)]
    pub(super) restore: Option<Moved>,
    /// Versions of the snapshot, by table and partition.
    #[serde(default)]
    pub(super) versions: BTreeMap<String, BTreeMap<String, u64>>,
}

impl State {
    /// A migration that begins.
    pub(super) fn new(request: Request, label: String, plan: &Plan) -> State {
        State {
            format: FORMAT,
            request,
            label,
            tables: plan.tables.clone(),
            step: Step::BackingUp,
            timestamp: None,
            backup: None,
            restore: None,
            versions: BTreeMap::new(),
        }
    }

    /// What an earlier run left, when there is anything.
    pub(super) fn load(path: &Path) -> Result<Option<State>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::invalid(format!("read {}: {error}", path.display()))),
        };
        let state: State = serde_json::from_str(&text)
            .map_err(|error| Error::corrupt(format!("{} is no state of a migration: {error}", path.display())))?;
        if state.format > FORMAT {
            return Err(Error::not_supported(format!("{} was written by a newer cofferctl", path.display())));
        }
        Ok(Some(state))
    }

    /// Whether it is the same migration.
    pub(super) fn must_be(&self, request: &Request, label: Option<&str>, path: &Path) -> Result<()> {
        if self.request == *request && label.is_none_or(|label| label == self.label) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{} is of another migration ({}.{} from {} to {}, tables {}): name another directory with --dir",
            path.display(),
            self.request.database,
            self.label,
            self.request.from,
            self.request.to,
            self.tables.join(", ")
        )))
    }

    /// Write it.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::bug(format!("state: {error}")))?;
        fsx::write_durably(path, text.as_bytes())
    }
}

/// What a cluster says of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It knows none under the label.
    Nothing,
    /// It runs.
    Running,
    /// It finished.
    Finished,
    /// It was cancelled or failed.
    Cancelled,
}

/// What to do about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Send the statement.
    Send,
    /// Wait for the job.
    Follow,
    /// It is done.
    GoOn,
    /// Tables are at the target that no restore of this migration put there.
    Refuse,
}

/// BACKUP: a snapshot under the label counts even when the job's record is gone.
pub(super) fn next_of_backup(seen: Seen, snapshot: bool) -> Next {
    match seen {
        Seen::Running => Next::Follow,
        Seen::Finished => Next::GoOn,
        Seen::Nothing | Seen::Cancelled if snapshot => Next::GoOn,
        Seen::Nothing | Seen::Cancelled => Next::Send,
    }
}

/// RESTORE: it must not replace tables that it did not make.
pub(super) fn next_of_restore(seen: Seen, tables_there: bool) -> Next {
    match seen {
        Seen::Running => Next::Follow,
        Seen::Finished => Next::GoOn,
        Seen::Nothing | Seen::Cancelled if tables_there => Next::Refuse,
        Seen::Nothing | Seen::Cancelled => Next::Send,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::plan::tests::request;

    #[test]
    fn what_is_known_decides_what_is_next() {
        assert_eq!(next_of_backup(Seen::Nothing, false), Next::Send);
        assert_eq!(next_of_backup(Seen::Cancelled, false), Next::Send);
        assert_eq!(next_of_backup(Seen::Nothing, true), Next::GoOn);
        assert_eq!(next_of_backup(Seen::Running, false), Next::Follow);
        assert_eq!(next_of_backup(Seen::Finished, true), Next::GoOn);
        assert_eq!(next_of_restore(Seen::Nothing, false), Next::Send);
        assert_eq!(next_of_restore(Seen::Cancelled, false), Next::Send);
        assert_eq!(next_of_restore(Seen::Nothing, true), Next::Refuse);
        assert_eq!(next_of_restore(Seen::Cancelled, true), Next::Refuse);
        assert_eq!(next_of_restore(Seen::Running, false), Next::Follow);
        assert_eq!(next_of_restore(Seen::Finished, true), Next::GoOn);
    }

    #[test]
    fn a_state_survives_its_file_and_is_of_one_migration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        assert_eq!(State::load(&path).unwrap(), None);
        let plan = Plan { tables: vec!["t".to_owned()], ..Plan::default() };
        let mut state = State::new(request(), "l".to_owned(), &plan);
        state.versions.insert("t".to_owned(), BTreeMap::from([("p".to_owned(), 7)]));
        state.save(&path).unwrap();
        let read = State::load(&path).unwrap().unwrap();
        assert_eq!(read, state);
        read.must_be(&request(), None, &path).unwrap();
        read.must_be(&request(), Some("l"), &path).unwrap();
        assert!(read.must_be(&request(), Some("other"), &path).is_err());
        let other = Request { database: "e".to_owned(), ..request() };
        assert!(read.must_be(&other, None, &path).unwrap_err().message().contains("another migration"));
        std::fs::write(&path, "{").unwrap();
        assert!(State::load(&path).is_err());
        let newer = serde_json::to_string(&state).unwrap().replace("\"format\":1", "\"format\":9");
        std::fs::write(&path, newer).unwrap();
        assert!(State::load(&path).unwrap_err().message().contains("newer"));
    }
}
