//! What the properties of a table say about its dynamic partitions. Pure.

use crate::error::{Error, Result};
use crate::exec::ddl::Moment;
use crate::sql::ast::StepUnit;
use arrow::array::timezone::Tz;
use coffer_table::{ColumnType, calendar};
use std::collections::BTreeMap;

const PREFIX: &str = "dynamic_partition.";
/// How [`Spec::reserved_text`] says that nothing is reserved.
const NOTHING_RESERVED: &str = "NULL";

/// What a table wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) enable: bool,
    pub(crate) unit: StepUnit,
    /// Offset of the oldest period that is kept; `None`: all are.
    pub(crate) start: Option<i64>,
    /// Offset of the last period that is made.
    pub(crate) end: i64,
    pub(crate) prefix: String,
    pub(crate) buckets: Option<u32>,
    pub(crate) replicas: Option<u32>,
    pub(crate) zone: String,
    /// 1 to 7.
    pub(crate) week_start: i32,
    /// 1 to 28.
    pub(crate) month_start: u32,
    /// Offset of the first period that is made.
    pub(crate) first: i64,
    /// Periods of which nothing is dropped, both ends inside.
    pub(crate) reserved: Vec<(Moment, Moment)>,
    pub(crate) reserved_text: String,
}

/// Whether partitions of the table are made and dropped for it.
pub(crate) fn is_on(properties: &BTreeMap<String, String>) -> bool {
    matches!(read(properties), Ok(Some(spec)) if spec.enable)
}

/// Whether a statement asks for dynamic partitions, even where it says too little about them.
pub(crate) fn is_wanted(properties: &BTreeMap<String, String>) -> bool {
    let off =
        properties.get(&format!("{PREFIX}enable")).is_some_and(|value| value.trim().eq_ignore_ascii_case("false"));
    !off && properties.keys().any(|key| key.starts_with(PREFIX))
}

/// Read the properties of a table; `None` when it has none of this kind. The form of each value was checked before.
pub(crate) fn read(properties: &BTreeMap<String, String>) -> Result<Option<Spec>> {
    let get = |name: &str| properties.get(&format!("{PREFIX}{name}")).map(|value| value.trim());
    if !properties.keys().any(|key| key.starts_with(PREFIX)) {
        return Ok(None);
    }
    let needed = |name: &str| {
        get(name).ok_or_else(|| Error::invalid(format!("Must assign dynamic_partition.{name} properties")))
    };
    let number = |name: &str| get(name).and_then(|value| value.parse::<i64>().ok());
    let small = |name: &str| number(name).and_then(|value| u32::try_from(value).ok());
    let flag = |name: &str, default: bool| get(name).map_or(default, |value| value.eq_ignore_ascii_case("true"));
    let unit = match needed("time_unit")?.to_ascii_uppercase().as_str() {
        "HOUR" => StepUnit::Hour,
        "DAY" => StepUnit::Day,
        "WEEK" => StepUnit::Week,
        "MONTH" => StepUnit::Month,
        "YEAR" => StepUnit::Year,
        other => {
            return Err(Error::invalid(format!("Unsupported time unit {other}. Expect HOUR/DAY/WEEK/MONTH/YEAR.")));
        }
    };
    needed("end")?;
    let prefix = needed("prefix")?.to_owned();
    let end = number("end").filter(|end| *end > 0);
    let end = end.ok_or_else(|| Error::invalid("Dynamic partition end must greater than 0"))?;
    let start = number("start").filter(|start| *start > i64::from(i32::MIN));
    let history = number("history_partition_num").filter(|number| *number >= 0);
    let first = match (flag("create_history_partition", false), start, history) {
        (false, _, _) => 0,
        (true, None, None) => {
            return Err(Error::invalid(
                "Provide start or history_partition_num property when creating history partition",
            ));
        }
        (true, Some(start), None) => start,
        (true, None, Some(history)) => -history,
        (true, Some(start), Some(history)) => start.max(-history),
    };
    let reserved_text = get("reserved_history_periods").unwrap_or(NOTHING_RESERVED).to_owned();
    let allocated = get("replication_allocation").and_then(|text| text.rsplit(':').next()?.trim().parse().ok());
    let spec = Spec {
        enable: flag("enable", true),
        unit,
        start,
        end,
        prefix,
        buckets: small("buckets"),
        replicas: small("replication_num").or(allocated),
        zone: get("time_zone").unwrap_or("UTC").to_owned(),
        week_start: small("start_day_of_week").map_or(1, |day| day as i32),
        month_start: small("start_day_of_month").unwrap_or(1),
        first,
        reserved: periods(&reserved_text, unit)?,
        reserved_text,
    };
    spec.local(0)?;
    Ok(Some(spec))
}

/// Whether a table with these partition columns can have what is wanted.
pub(crate) fn fits(spec: &Spec, list: bool, kinds: &[ColumnType]) -> Result<()> {
    let [kind] = kinds else {
        return Err(Error::invalid("Dynamic partition only support single-column range partition"));
    };
    if list {
        return Err(Error::invalid("Dynamic partition only support single-column range partition"));
    }
    let hours = matches!(kind, ColumnType::DateTime { .. });
    if spec.unit == StepUnit::Hour && !hours {
        return Err(Error::invalid(format!(
            "HOUR could not be applied to dynamic_partition.time_unit when the partition column is of type {kind}"
        )));
    }
    match kind {
        ColumnType::Date
        | ColumnType::DateTime { .. }
        | ColumnType::Int
        | ColumnType::BigInt
        | ColumnType::LargeInt => crate::sql::names::check_partition(&format!("{}20240101", spec.prefix)),
        _ => Err(Error::invalid(format!("a partition column of type {kind} holds no dates: it cannot be dynamic"))),
    }
}

/// `[2020-06-01,2020-06-20],[2020-10-25,2020-11-15]`, with times for HOUR.
fn periods(text: &str, unit: StepUnit) -> Result<Vec<(Moment, Moment)>> {
    if text.eq_ignore_ascii_case(NOTHING_RESERVED) {
        return Ok(Vec::new());
    }
    let wrong = || {
        let form = if unit == StepUnit::Hour { "yyyy-MM-dd HH:mm:ss" } else { "yyyy-MM-dd" };
        Error::invalid(format!(
            "Invalid \"dynamic_partition.reserved_history_periods\" value: {text}. It must be like \
             \"[{form},{form}],[...,...]\""
        ))
    };
    let inner = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(wrong)?;
    let mut found = Vec::new();
    for pair in inner.split("],") {
        let pair = pair.trim().trim_start_matches('[');
        let (from, to) = pair.split_once(',').ok_or_else(wrong)?;
        let moment = |text: &str| calendar::parse_datetime(text.trim().as_bytes(), 0).map(Moment::at);
        let (from, to) = (moment(from).ok_or_else(wrong)?, moment(to).ok_or_else(wrong)?);
        if from > to {
            return Err(Error::invalid(format!(
                "the first date of a reserved period is larger than the second: [{pair}]"
            )));
        }
        let to = if unit == StepUnit::Hour { to } else { Moment { hour: 23, ..to } };
        found.push((from, to));
    }
    Ok(found)
}

impl Spec {
    /// The time of the zone, as a whole hour.
    pub(crate) fn local(&self, now_ms: u64) -> Result<Moment> {
        let name = if self.zone.eq_ignore_ascii_case("CST") { "Asia/Shanghai" } else { &self.zone };
        let zone: Tz =
            name.parse().map_err(|_| Error::invalid(format!("Unknown or incorrect time zone: '{}'", self.zone)))?;
        let seconds = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
        let utc = chrono::DateTime::from_timestamp(seconds, 0).ok_or_else(|| Error::invalid("the clock is not set"))?;
        let local = utc.with_timezone(&zone).naive_local().and_utc().timestamp();
        Ok(Moment::at(local.saturating_mul(1_000_000)))
    }

    pub(crate) fn unit_name(&self) -> &'static str {
        match self.unit {
            StepUnit::Hour => "HOUR",
            StepUnit::Day => "DAY",
            StepUnit::Week => "WEEK",
            StepUnit::Month => "MONTH",
            StepUnit::Year => "YEAR",
        }
    }

    pub(crate) fn start_of(&self) -> String {
        const DAYS: [&str; 7] = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];
        match self.unit {
            StepUnit::Week => DAYS.get(self.week_start as usize - 1).copied().unwrap_or("MONDAY").to_owned(),
            StepUnit::Month => format!("{}th", self.month_start),
            StepUnit::Hour | StepUnit::Day | StepUnit::Year => "NULL".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect()
    }

    const LEAST: [(&str, &str); 3] = [("time_unit", "day"), ("end", "3"), ("prefix", "p")];

    #[test]
    fn the_least_that_is_needed_and_the_defaults() {
        assert_eq!(read(&BTreeMap::from([("replication_num".to_owned(), "1".to_owned())])), Ok(None));
        let spec = read(&properties(&LEAST)).unwrap().unwrap();
        assert!(spec.enable && spec.start.is_none() && spec.first == 0 && spec.reserved.is_empty());
        assert_eq!((spec.unit_name(), spec.start_of().as_str(), spec.zone.as_str()), ("DAY", "NULL", "UTC"));
        for missing in ["time_unit", "end", "prefix"] {
            let mut less = properties(&LEAST);
            less.remove(&format!("{PREFIX}{missing}"));
            let error = read(&less).unwrap_err();
            assert_eq!(error.message(), format!("Must assign dynamic_partition.{missing} properties"));
            assert!(!is_on(&less) && is_wanted(&less));
        }
        let with = |key: &str, value: &str| {
            let mut more = properties(&LEAST);
            more.insert(format!("{PREFIX}{key}"), value.to_owned());
            more
        };
        assert!(!is_wanted(&with("enable", "FALSE")) && !is_wanted(&BTreeMap::new()));
        assert!(!is_on(&with("enable", "FALSE")) && is_on(&with("enable", "True")));
        for (key, value, text) in [
            ("create_history_partition", "true", "Provide start or history_partition_num"),
            ("time_zone", "Mars/Base", "Unknown or incorrect time zone"),
            ("reserved_history_periods", "2024", "reserved_history_periods"),
            ("reserved_history_periods", "[2024-02-01,2024-01-01]", "larger than the second"),
            ("end", "0", "must greater than 0"),
        ] {
            assert!(read(&with(key, value)).unwrap_err().message().contains(text), "{key}");
        }
    }

    #[test]
    fn history_begins_with_the_later_of_two() {
        let first = |pairs: &[(&str, &str)]| {
            let all: Vec<_> =
                LEAST.iter().chain(pairs).chain(&[("create_history_partition", "true")]).copied().collect();
            read(&properties(&all)).unwrap().unwrap().first
        };
        assert_eq!(first(&[("start", "-5")]), -5);
        assert_eq!(first(&[("history_partition_num", "2")]), -2);
        assert_eq!(first(&[("start", "-5"), ("history_partition_num", "2")]), -2);
        assert_eq!(first(&[("start", "-1"), ("history_partition_num", "2")]), -1);
    }

    #[test]
    fn local_time_follows_the_zone() {
        let local = |zone: &str, now_ms| {
            let all: Vec<_> = LEAST.iter().chain(&[("time_zone", zone)]).copied().collect();
            read(&properties(&all)).unwrap().unwrap().local(now_ms).unwrap()
        };
        // 2024-02-29 20:00 UTC.
        let now = 1_709_236_800_000;
        assert_eq!(local("UTC", now).hour, 20);
        assert_eq!(local("Asia/Shanghai", now), local("+08:00", now));
        assert_eq!((local("CST", now).hour, local("CST", now).days - local("UTC", now).days), (4, 1));
    }

    #[test]
    fn the_partition_column_must_hold_dates() {
        let spec = read(&properties(&LEAST)).unwrap().unwrap();
        let hours = Spec { unit: StepUnit::Hour, ..spec.clone() };
        assert_eq!(fits(&spec, false, &[ColumnType::Date]), Ok(()));
        assert_eq!(fits(&hours, false, &[ColumnType::DateTime { scale: 0 }]), Ok(()));
        assert!(fits(&hours, false, &[ColumnType::Date]).unwrap_err().message().starts_with("HOUR could not"));
        for (list, kinds) in [(true, vec![ColumnType::Date]), (false, vec![ColumnType::Date; 2]), (false, vec![])] {
            assert!(fits(&spec, list, &kinds).unwrap_err().message().contains("single-column range"));
        }
        assert!(fits(&spec, false, &[ColumnType::TinyInt]).is_err());
        assert!(fits(&Spec { prefix: "1".to_owned(), ..spec }, false, &[ColumnType::Date]).is_err());
    }
}
