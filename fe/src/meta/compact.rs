//! How the targets of a restore are written in the log: a few bytes per tablet, instead of a JSON object each.
//!
//! A restore of 300,000 tablets is one entry. Before they have ids, tablets differ in two things only: where their
//! replicas go, and which tablet of the snapshot they come from. Places repeat, so each is written once and named by its
//! number; sources follow one another, so they are written as runs. Targets that are not of this kind, and entries of
//! older logs, have the plain form; both are read.

use crate::catalog::job::RestoreTarget;
use crate::catalog::table::{Partition, Table, Tablet};
use coffer_proto::ids::{BackendId, TableId, TabletId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::collections::HashMap;

#[derive(Serialize, Deserialize)]
struct Written {
    table: Table,
    into: Option<TableId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<(TabletId, TabletId)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<TableId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packed: Option<Packed>,
}

#[derive(Default, Serialize, Deserialize)]
struct Packed {
    /// Buckets of each partition, in their order.
    buckets: Vec<usize>,
    /// Places that occur.
    places: Vec<Vec<BackendId>>,
    /// Per tablet, which of them.
    at: Vec<usize>,
    /// First source and how many follow it, itself included.
    runs: Vec<(u64, u64)>,
}

/// For `#[serde(with)]`.
pub(super) fn serialize<S: Serializer>(targets: &[RestoreTarget], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(targets.iter().map(write))
}

/// For `#[serde(with)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RestoreTarget>, D::Error> {
    let written = Vec::<Written>::deserialize(deserializer)?;
    written
        .into_iter()
        .map(|one| read(one).ok_or_else(|| D::Error::custom("tablets of a restore do not add up")))
        .collect()
}

/// Whether tablets and sources are numbered from 0 in order.
fn is_plan(target: &RestoreTarget) -> bool {
    let tablets = target.table.tablets().map(|(_, tablet)| tablet.id.0);
    tablets.eq(0..target.sources.len() as u64)
        && target.sources.iter().map(|(at, _)| at.0).eq(0..target.sources.len() as u64)
}

fn write(target: &RestoreTarget) -> Written {
    let RestoreTarget { table, into, sources, replaces } = target;
    if !is_plan(target) {
        let (table, sources) = (table.clone(), sources.clone());
        return Written { table, into: *into, sources, replaces: *replaces, packed: None };
    }
    let mut packed = Packed::default();
    let mut known: HashMap<&[BackendId], usize> = HashMap::new();
    for (_, tablet) in table.tablets() {
        let next = known.len();
        let at = *known.entry(&tablet.replicas).or_insert(next);
        if at == next {
            packed.places.push(tablet.replicas.clone());
        }
        packed.at.push(at);
    }
    for (_, source) in sources {
        match packed.runs.last_mut() {
            Some((first, count)) if *first + *count == source.0 => *count += 1,
            _ => packed.runs.push((source.0, 1)),
        }
    }
    packed.buckets = table.partitions.values().map(|partition| partition.tablets.len()).collect();
    let bare = |partition: &Partition| Partition {
        name: partition.name.clone(),
        range: partition.range.clone(),
        tablets: Vec::new(),
        ..*partition
    };
    let table = Table {
        name: table.name.clone(),
        schema: table.schema.clone(),
        partition_columns: table.partition_columns.clone(),
        partitioning: table.partitioning,
        bucket_columns: table.bucket_columns.clone(),
        properties: table.properties.clone(),
        comment: table.comment.clone(),
        partitions: table.partitions.iter().map(|(id, partition)| (*id, bare(partition))).collect(),
        ..*table
    };
    Written { table, into: *into, sources: Vec::new(), replaces: *replaces, packed: Some(packed) }
}

/// `None` when it does not add up.
fn read(written: Written) -> Option<RestoreTarget> {
    let Written { mut table, into, mut sources, replaces, packed } = written;
    if let Some(packed) = packed {
        let count = packed.runs.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(*count))?;
        if count != packed.at.len() as u64 || packed.buckets.len() != table.partitions.len() {
            return None;
        }
        let mut at = packed.at.iter();
        let mut next = 0;
        for (partition, buckets) in table.partitions.values_mut().zip(packed.buckets) {
            for _ in 0..buckets {
                let replicas = packed.places.get(*at.next()?)?.clone();
                partition.tablets.push(Tablet { id: TabletId(next), replicas });
                next += 1;
            }
        }
        at.next().is_none().then_some(())?;
        let all = packed.runs.iter().flat_map(|(first, count)| *first..first.saturating_add(*count));
        sources = (0..).map(TabletId).zip(all.map(TabletId)).collect();
    }
    Some(RestoreTarget { table, into, sources, replaces })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::backup::sample::table;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped {
        #[serde(with = "super::super::compact")]
        targets: Vec<RestoreTarget>,
    }

    /// As RESTORE plans it.
    fn planned() -> RestoreTarget {
        let mut table = table("b", &["p1", "p2", "p3"]);
        let mut sources = Vec::new();
        for partition in table.partitions.values_mut() {
            for tablet in &mut partition.tablets {
                let at = sources.len() as u64;
                sources.push((TabletId(at), TabletId(if at < 4 { 700 + at } else { 90 - at })));
                *tablet = Tablet { id: TabletId(at), replicas: vec![BackendId(1 + at % 2), BackendId(3)] };
            }
        }
        RestoreTarget { table, into: Some(TableId(7)), sources, replaces: None }
    }

    #[test]
    fn what_is_written_is_read_whatever_its_form() {
        let plan = planned();
        let mut other = plan.clone();
        other.sources.swap(0, 1);
        let targets = vec![plan, RestoreTarget { into: None, replaces: Some(TableId(9)), ..other }];
        let text = serde_json::to_string(&Wrapped { targets: targets.clone() }).unwrap();
        assert_eq!(text.matches("\"packed\"").count(), 1);
        assert_eq!(serde_json::from_str::<Wrapped>(&text).unwrap().targets, targets);
        // As before there was another form.
        let old = format!("{{\"targets\":{}}}", serde_json::to_string(&targets).unwrap());
        assert_eq!(serde_json::from_str::<Wrapped>(&old).unwrap().targets, targets);
    }

    #[test]
    fn numbers_that_do_not_add_up_are_refused() {
        let text = serde_json::to_string(&Wrapped { targets: vec![planned()] }).unwrap();
        for (good, bad) in [
            ("\"runs\":[[700,4]", "\"runs\":[[700,5]"),
            ("\"runs\":[[700,4]", "\"runs\":[[700,18446744073709551615]"),
            ("\"buckets\":[2,2,2]", "\"buckets\":[2,2,1]"),
            ("\"buckets\":[2,2,2]", "\"buckets\":[2,2]"),
            ("\"at\":[0,1", "\"at\":[0,9"),
        ] {
            assert!(text.contains(good), "{text}");
            assert!(serde_json::from_str::<Wrapped>(&text.replace(good, bad)).is_err(), "{bad}");
        }
    }
}
