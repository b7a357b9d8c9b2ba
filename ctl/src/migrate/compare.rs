//! Partition by partition: is the target what the snapshot was, and what came to the source after it? Pure.
//!
//! A version of a partition stands for its content. Where the source still is at the snapshot's version both sides are
//! compared by rows and checksums; where it went on, its present content has nothing to be compared with, and is listed.

use super::plan::Partitions;
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Rows and checksums are the same.
    Equal,
    /// They are not, although nothing was loaded.
    Different {
        /// What differs: `rows`, or columns.
        what: Vec<String>,
    },
    /// The source took loads after the snapshot.
    LoadedAfter,
    /// The source was emptied or replaced after the snapshot.
    ReplacedAfter,
    /// The source got it after the snapshot.
    AddedAfter,
    /// The source does not have it any more.
    Dropped,
    /// Somebody changed the target.
    TargetChanged,
    /// The target lacks it.
    Missing,
}

impl Outcome {
    /// Whether the migration did its work.
    pub(super) fn is_good(&self) -> bool {
        !matches!(self, Outcome::Different { .. } | Outcome::Missing)
    }

    /// Whether something is left to be moved or looked at.
    pub(super) fn is_later(&self) -> bool {
        !matches!(self, Outcome::Equal) && self.is_good()
    }

    /// A word for people.
    pub(super) fn word(&self) -> String {
        match self {
            Outcome::Equal => "equal".to_owned(),
            Outcome::Different { what } => format!("DIFFERENT: {}", what.join(", ")),
            Outcome::LoadedAfter => "loaded after the snapshot".to_owned(),
            Outcome::ReplacedAfter => "emptied or replaced after the snapshot".to_owned(),
            Outcome::AddedAfter => "added after the snapshot".to_owned(),
            Outcome::Dropped => "dropped at the source after the snapshot".to_owned(),
            Outcome::TargetChanged => "changed at the target after the restore".to_owned(),
            Outcome::Missing => "MISSING at the target".to_owned(),
        }
    }
}

/// A partition in the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Compared {
    /// The table.
    pub(super) table: String,
    /// The partition.
    pub(super) partition: String,
    /// Its version in the snapshot.
    pub(super) snapshot_version: Option<u64>,
    /// Its version at the source now.
    pub(super) source_version: Option<u64>,
    /// Rows at the target, where they were counted.
    pub(super) rows: Option<u64>,
    /// What became of it.
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// Every partition of a table with what versions alone tell: `Equal` stands for "to be compared".
pub(super) fn by_versions(
    table: &str,
    snapshot: &BTreeMap<String, u64>,
    source: &Partitions,
    target: &Partitions,
) -> Vec<Compared> {
    let of_snapshot = snapshot.iter().map(|(name, version)| {
        let (now, there) = (source.get(name).map(|p| p.version), target.get(name).map(|p| p.version));
        let outcome = match (now, there) {
            (_, None) => Outcome::Missing,
            (_, Some(there)) if there != *version => Outcome::TargetChanged,
            (None, _) => Outcome::Dropped,
            (Some(now), _) if now > *version => Outcome::LoadedAfter,
            (Some(now), _) if now < *version => Outcome::ReplacedAfter,
            (Some(_), _) => Outcome::Equal,
        };
        (name, Some(*version), now, outcome)
    });
    let added = source.iter().filter(|(name, _)| !snapshot.contains_key(*name));
    let added = added.map(|(name, now)| (name, None, Some(now.version), Outcome::AddedAfter));
    let all = of_snapshot.chain(added).map(|(name, snapshot_version, source_version, outcome)| Compared {
        table: table.to_owned(),
        partition: name.clone(),
        snapshot_version,
        source_version,
        rows: None,
        outcome,
    });
    all.collect()
}

/// Names and values of a comparison: `rows` first, then the checksum of each column.
pub(super) type Fingerprint = Vec<(String, String)>;

/// What is not the same in two fingerprints.
pub(super) fn differences(source: &Fingerprint, target: &Fingerprint) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (name, value) in source {
        if target.iter().find(|(known, _)| known == name).is_none_or(|(_, other)| other != value) {
            found.push(name.clone());
        }
    }
    found.extend(target.iter().map(|(name, _)| name).filter(|name| !source.iter().any(|(n, _)| n == *name)).cloned());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::plan::tests::partitions;

    #[test]
    fn versions_tell_what_can_be_compared() {
        let snapshot: BTreeMap<String, u64> =
            [("a", 3), ("b", 3), ("c", 3), ("d", 3), ("e", 3), ("f", 3)].map(|(n, v)| (n.to_owned(), v)).into();
        let source = partitions(&[("a", 3), ("b", 5), ("c", 1), ("e", 3), ("f", 3), ("g", 2)]);
        let target = partitions(&[("a", 3), ("b", 3), ("c", 3), ("d", 3), ("e", 4)]);
        let found = by_versions("t", &snapshot, &source, &target);
        let outcomes: Vec<(&str, &Outcome)> = found.iter().map(|c| (c.partition.as_str(), &c.outcome)).collect();
        assert_eq!(
            outcomes,
            [
                ("a", &Outcome::Equal),
                ("b", &Outcome::LoadedAfter),
                ("c", &Outcome::ReplacedAfter),
                ("d", &Outcome::Dropped),
                ("e", &Outcome::TargetChanged),
                ("f", &Outcome::Missing),
                ("g", &Outcome::AddedAfter),
            ]
        );
        assert_eq!((found[1].snapshot_version, found[1].source_version), (Some(3), Some(5)));
        assert!(found.iter().filter(|c| !c.outcome.is_good()).all(|c| c.partition == "f"));
        assert_eq!(found.iter().filter(|c| c.outcome.is_later()).count(), 5);
        assert!(found.iter().all(|c| !c.outcome.word().is_empty()));
    }

    #[test]
    fn differences_are_named() {
        let print = |rows: &str, sum: &str| -> Fingerprint {
            vec![("rows".to_owned(), rows.to_owned()), ("c".to_owned(), sum.to_owned())]
        };
        assert_eq!(differences(&print("1", "2"), &print("1", "2")), Vec::<String>::new());
        assert_eq!(differences(&print("1", "2"), &print("2", "3")), ["rows", "c"]);
        assert_eq!(differences(&print("1", "2")[..1].to_vec(), &print("1", "2")), ["c"]);
        assert_eq!(differences(&print("1", "2"), &print("1", "2")[..1].to_vec()), ["c"]);
    }
}
