//! Which partitions a dynamic table lacks at a moment, and which it has too many of. Pure.

use super::spec::Spec;
use crate::catalog::table::Partition;
use crate::exec::ddl::{Moment, weekday};
use crate::limits;
use crate::sql::ast::StepUnit;
use coffer_proto::ids::PartitionId;
use coffer_table::{Bound, ColumnType, KeyRange, calendar};

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Names and ranges, oldest first.
    pub(crate) add: Vec<(String, KeyRange)>,
    /// Partitions that nothing keeps.
    pub(crate) drop: Vec<PartitionId>,
    /// The first thing that is in the way.
    pub(crate) conflict: Option<String>,
}

/// The beginning of the period that is `offset` periods from now.
pub(crate) fn border(spec: &Spec, now: Moment, offset: i64) -> Option<Moment> {
    let midnight = Moment { hour: 0, ..now };
    let this = match spec.unit {
        StepUnit::Hour => now,
        StepUnit::Day => midnight,
        StepUnit::Week => {
            let since = (weekday(now.days) + 1 - spec.week_start).rem_euclid(7);
            Moment { days: now.days - since, ..midnight }
        }
        StepUnit::Month => {
            let (year, month, day) = calendar::date_of(now.days);
            let start = calendar::days_of(u32::try_from(year).ok()?, month, spec.month_start)?;
            let start = Moment { days: start, ..midnight };
            if day < spec.month_start { start.plus(StepUnit::Month, -1)? } else { start }
        }
        StepUnit::Year => {
            let (year, _, _) = calendar::date_of(now.days);
            Moment { days: calendar::days_of(u32::try_from(year).ok()?, 1, 1)?, ..midnight }
        }
    };
    this.plus(spec.unit, offset)
}

/// How many partitions a look may want.
pub(crate) fn wanted(spec: &Spec) -> i64 {
    spec.end - spec.first + 1
}

/// What is to be done for a table at `now`, a moment of its time zone.
pub(crate) fn plan<'a>(
    spec: &Spec,
    kind: ColumnType,
    partitions: impl Iterator<Item = &'a Partition> + Clone,
    now: Moment,
) -> Plan {
    let mut plan = Plan::default();
    if wanted(spec) > limits::MAX_DYNAMIC_PARTITIONS {
        plan.conflict =
            Some(format!("Too many dynamic partitions: {}. Limit: {}", wanted(spec), limits::MAX_DYNAMIC_PARTITIONS));
    } else {
        for offset in spec.first..=spec.end {
            let Some((name, range)) = period(spec, kind, now, offset) else { continue };
            let has = |partition: &&Partition| partition.range.as_ref() == Some(&range);
            if partitions.clone().any(|partition| has(&partition)) {
                continue;
            }
            let in_the_way = partitions.clone().find(|partition| {
                partition.name.eq_ignore_ascii_case(&name)
                    || partition.range.as_ref().is_some_and(|other| other.overlaps(&range))
            });
            match in_the_way {
                None => plan.add.push((name, range)),
                Some(other) => {
                    let kinds = [kind];
                    plan.conflict.get_or_insert_with(|| {
                        format!(
                            "Range {} of partition {name} is intersected with partition {}",
                            range.format(&kinds),
                            other.name
                        )
                    });
                }
            }
        }
    }
    plan.drop = too_old(spec, kind, partitions, now);
    plan
}

fn period(spec: &Spec, kind: ColumnType, now: Moment, offset: i64) -> Option<(String, KeyRange)> {
    let (from, to) = (border(spec, now, offset)?, border(spec, now, offset + 1)?);
    let bound = |moment: Moment| Some(vec![Bound::Value(moment.scalar(kind)?)]);
    Some((format!("{}{}", spec.prefix, from.label(spec.unit)), KeyRange::new(bound(from)?, bound(to)?)))
}

/// Partitions that neither the window from `start` to `end` nor a reserved period touches.
fn too_old<'a>(
    spec: &Spec,
    kind: ColumnType,
    partitions: impl Iterator<Item = &'a Partition>,
    now: Moment,
) -> Vec<PartitionId> {
    let Some(start) = spec.start else { return Vec::new() };
    let bound = |moment: Moment| moment.scalar(kind).map(|scalar| vec![Bound::Value(scalar)]);
    let window =
        |from: Option<Moment>, to: Option<Moment>| Some(KeyRange::new(from.and_then(bound)?, to.and_then(bound)?));
    let after = |moment: Moment| {
        let unit = if matches!(kind, ColumnType::DateTime { .. }) { StepUnit::Hour } else { StepUnit::Day };
        moment.plus(unit, 1)
    };
    let Some(kept) = window(border(spec, now, start), border(spec, now, spec.end + 1)) else { return Vec::new() };
    let mut kept = vec![kept];
    kept.extend(spec.reserved.iter().filter_map(|(from, to)| window(Some(*from), after(*to))));
    let gone = |partition: &&Partition| {
        partition.range.as_ref().is_some_and(|range| !kept.iter().any(|kept| kept.overlaps(range)))
    };
    partitions.filter(gone).map(|partition| partition.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::dynamic::spec::read;
    use coffer_table::Scalar;
    use std::collections::BTreeMap;

    fn spec(pairs: &[(&str, &str)]) -> Spec {
        let all = [("end", "2"), ("prefix", "p"), ("time_unit", "DAY")];
        let mut properties: BTreeMap<String, String> = BTreeMap::new();
        for (key, value) in all.iter().chain(pairs) {
            properties.insert(format!("dynamic_partition.{key}"), (*value).to_owned());
        }
        read(&properties).unwrap().unwrap()
    }

    fn at(text: &str) -> Moment {
        Moment::at(calendar::parse_datetime(text.as_bytes(), 0).unwrap())
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.add.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn planned(spec: &Spec, kind: ColumnType, now: &str) -> Vec<String> {
        let plan = plan(spec, kind, std::iter::empty(), at(now));
        plan.add.iter().map(|(name, range)| format!("{name} {}", range.upper[0].format(kind))).collect()
    }

    fn partition(id: u64, name: &str, from: &str, to: &str) -> Partition {
        let bound = |text: &str| vec![Bound::Value(Scalar::parse(ColumnType::Date, text).unwrap())];
        Partition {
            id: PartitionId(id),
            name: name.to_owned(),
            range: Some(KeyRange::new(bound(from), bound(to))),
            replication_num: 1,
            visible_version: 1,
            visible_ms: 0,
            committed_version: 1,
            tablets: Vec::new(),
        }
    }

    #[test]
    fn each_unit_has_its_borders_and_names() {
        let now = "2024-02-29 13:30:00";
        let time = ColumnType::DateTime { scale: 0 };
        for (pairs, kind, expected) in [
            (&[][..], ColumnType::Date, ["p20240229 2024-03-01", "p20240301 2024-03-02", "p20240302 2024-03-03"]),
            (
                &[("time_unit", "HOUR")],
                time,
                [
                    "p2024022913 2024-02-29 14:00:00",
                    "p2024022914 2024-02-29 15:00:00",
                    "p2024022915 2024-02-29 16:00:00",
                ],
            ),
            (
                &[("time_unit", "WEEK")],
                ColumnType::Date,
                ["p2024_09 2024-03-04", "p2024_10 2024-03-11", "p2024_11 2024-03-18"],
            ),
            (
                &[("time_unit", "WEEK"), ("start_day_of_week", "5")],
                ColumnType::Date,
                ["p2024_08 2024-03-01", "p2024_09 2024-03-08", "p2024_10 2024-03-15"],
            ),
            (&[("time_unit", "MONTH")], ColumnType::Int, ["p202402 20240301", "p202403 20240401", "p202404 20240501"]),
            (
                &[("time_unit", "MONTH"), ("start_day_of_month", "28")],
                ColumnType::Date,
                ["p202402 2024-03-28", "p202403 2024-04-28", "p202404 2024-05-28"],
            ),
            (&[("time_unit", "YEAR")], ColumnType::Date, ["p2024 2025-01-01", "p2025 2026-01-01", "p2026 2027-01-01"]),
        ] {
            assert_eq!(planned(&spec(pairs), kind, now), expected, "{pairs:?}");
        }
        let month = spec(&[("time_unit", "MONTH"), ("start_day_of_month", "28")]);
        assert_eq!(planned(&month, ColumnType::Date, "2024-02-27 00:00:00")[0], "p202401 2024-02-28");
    }

    #[test]
    fn what_is_there_is_not_made_again_and_what_is_in_the_way_is_named() {
        let spec = spec(&[("create_history_partition", "true"), ("start", "-1")]);
        let there = [
            partition(1, "other", "2024-02-29", "2024-03-01"),
            partition(2, "wide", "2024-03-01", "2024-03-05"),
            partition(3, "P20240228", "2023-01-01", "2023-01-02"),
        ];
        let made = plan(&spec, ColumnType::Date, there.iter(), at("2024-02-29"));
        assert!(made.add.is_empty(), "{made:?}");
        assert!(made.conflict.unwrap().contains("of partition p20240228 is intersected with partition P20240228"));
        let made = plan(&spec, ColumnType::Date, there[..1].iter(), at("2024-02-29"));
        assert_eq!((names(&made), made.conflict.clone()), (vec!["p20240228", "p20240301", "p20240302"], None));
    }

    #[test]
    fn only_what_no_period_keeps_is_dropped() {
        let there = [
            partition(1, "a", "2024-02-26", "2024-02-27"),
            partition(2, "b", "2024-02-27", "2024-02-28"),
            partition(3, "c", "2024-02-28", "2024-02-29"),
            partition(4, "d", "2024-03-02", "2024-03-09"),
            partition(5, "e", "2024-03-03", "2024-03-04"),
        ];
        let dropped = |pairs: &[(&str, &str)]| {
            let plan = plan(&spec(pairs), ColumnType::Date, there.iter(), at("2024-02-29 10:00:00"));
            plan.drop.iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(dropped(&[]), [0; 0]);
        assert_eq!(dropped(&[("start", "-1")]), [1, 2, 5]);
        assert_eq!(dropped(&[("start", "-2")]), [1, 5]);
        assert_eq!(dropped(&[("start", "-1"), ("reserved_history_periods", "[2024-02-01,2024-02-26]")]), [2, 5]);
    }

    #[test]
    fn too_many_are_refused() {
        let many = spec(&[("create_history_partition", "true"), ("start", "-99999")]);
        let plan = plan(&many, ColumnType::Date, std::iter::empty(), at("2024-02-29"));
        assert!(plan.add.is_empty() && plan.conflict.unwrap().starts_with("Too many dynamic partitions: 100002"));
    }
}
