//! Hours, days, weeks, months and years as partitions: where they begin and what they are called. Pure.

use crate::error::{Error, Result};
use crate::limits;
use crate::sql::ast::StepUnit;
use coffer_table::calendar::{self, DAY_US};
use coffer_table::list::number_of_day;
use coffer_table::{Bound, ColumnType, KeyRange, Scalar};

const HOUR_US: i64 = 3_600_000_000;
/// The name of a partition of FROM ... TO ... begins so.
const STEP_PREFIX: &str = "p_";

/// A whole hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// Days since 1970-01-01.
    pub(crate) days: i32,
    /// Hour of the day.
    pub(crate) hour: u32,
}

impl Moment {
    /// The hour that this belongs to, microseconds since 1970.
    pub(crate) fn at(micros: i64) -> Moment {
        let hour = micros.rem_euclid(DAY_US) / HOUR_US;
        Moment { days: micros.div_euclid(DAY_US) as i32, hour: hour as u32 }
    }

    /// Later by so many units, or earlier; the day of the month stays where the month has it.
    pub(crate) fn plus(self, unit: StepUnit, count: i64) -> Option<Moment> {
        let moved = match unit {
            StepUnit::Hour => {
                let hours = i64::from(self.days) * 24 + i64::from(self.hour) + count;
                Moment { days: i32::try_from(hours.div_euclid(24)).ok()?, hour: hours.rem_euclid(24) as u32 }
            }
            StepUnit::Day => self.plus_days(count)?,
            StepUnit::Week => self.plus_days(count.checked_mul(7)?)?,
            StepUnit::Month => self.plus_months(count)?,
            StepUnit::Year => self.plus_months(count.checked_mul(12)?)?,
        };
        (calendar::FIRST_DAY..=calendar::LAST_DAY).contains(&moved.days).then_some(moved)
    }

    fn plus_days(self, count: i64) -> Option<Moment> {
        Some(Moment { days: i32::try_from(i64::from(self.days).checked_add(count)?).ok()?, ..self })
    }

    fn plus_months(self, count: i64) -> Option<Moment> {
        let (year, month, day) = calendar::date_of(self.days);
        let months = (i64::from(year) * 12 + i64::from(month) - 1).checked_add(count)?;
        let (year, month) = (u32::try_from(months.div_euclid(12)).ok()?, months.rem_euclid(12) as u32 + 1);
        let days = (1..=day).rev().find_map(|day| calendar::days_of(year, month, day))?;
        Some(Moment { days, ..self })
    }

    /// As a value of a partition column; `None` for types that hold no time.
    pub(crate) fn scalar(self, kind: ColumnType) -> Option<Scalar> {
        match kind {
            ColumnType::Date => Some(Scalar::Date(self.days)),
            ColumnType::DateTime { .. } => {
                Some(Scalar::DateTime(i64::from(self.days) * DAY_US + i64::from(self.hour) * HOUR_US))
            }
            kind if kind.is_range_key() => Some(Scalar::Int(number_of_day(self.days))),
            _ => None,
        }
    }

    /// `2024022913`, `20240229`, `2024_09`, `202402`, `2024`.
    pub(crate) fn label(self, unit: StepUnit) -> String {
        let (year, month, day) = calendar::date_of(self.days);
        match unit {
            StepUnit::Hour => format!("{year:04}{month:02}{day:02}{:02}", self.hour),
            StepUnit::Day => format!("{year:04}{month:02}{day:02}"),
            StepUnit::Week => format!("{year:04}_{:02}", self.week()),
            StepUnit::Month => format!("{year:04}{month:02}"),
            StepUnit::Year => format!("{year:04}"),
        }
    }

    /// Week of the year; the first is that of January 1, each begins on Monday.
    fn week(self) -> i32 {
        let (year, _, _) = calendar::date_of(self.days);
        let first = u32::try_from(year).ok().and_then(|year| calendar::days_of(year, 1, 1)).unwrap_or(self.days);
        (self.days - first + weekday(first)) / 7 + 1
    }
}

/// 0 for Monday.
pub(crate) fn weekday(days: i32) -> i32 {
    // 1970-01-01 was a Thursday.
    (days + 3).rem_euclid(7)
}

/// FROM ... TO ... INTERVAL, in order; the last one ends at TO.
pub(super) fn steps(
    (from, to): (&str, &str),
    (every, unit): (u32, Option<StepUnit>),
    kind: ColumnType,
) -> Result<Vec<(String, KeyRange)>> {
    if every == 0 {
        return Err(Error::invalid("the INTERVAL of partitions is at least 1"));
    }
    let (from, to) = (Scalar::parse(kind, from)?, Scalar::parse(kind, to)?);
    if from >= to {
        return Err(Error::invalid(format!(
            "partitions FROM {} TO {} end before they start",
            from.format(kind),
            to.format(kind)
        )));
    }
    let start = match (from, unit) {
        (Scalar::Int(_), None) => None,
        (Scalar::Int(_), Some(_)) => {
            return Err(Error::invalid("the INTERVAL of whole numbers is a number without a unit"));
        }
        (Scalar::Date(_), Some(StepUnit::Hour)) => {
            return Err(Error::invalid("partitions of a DATE column cannot be shorter than a day"));
        }
        (Scalar::Date(days), Some(unit)) => Some((Moment { days, hour: 0 }, unit)),
        (Scalar::DateTime(micros), Some(unit)) => Some((Moment::at(micros), unit)),
        (Scalar::Date(_) | Scalar::DateTime(_), None) => {
            return Err(Error::invalid("the INTERVAL of dates has a unit: HOUR, DAY, WEEK, MONTH or YEAR"));
        }
    };
    let mut made = Vec::new();
    let mut lower = from;
    while lower < to {
        if made.len() >= limits::MAX_PARTITIONS_PER_TABLE {
            let most = limits::MAX_PARTITIONS_PER_TABLE;
            return Err(Error::limit(format!("a table has at most {most} partitions; use a longer INTERVAL")));
        }
        // Counted from the start, so that the 31st comes back after February.
        let passed = i64::try_from(made.len()).unwrap_or(i64::MAX).saturating_mul(i64::from(every));
        let (label, next) = match start {
            None => {
                let Scalar::Int(number) = lower else { return Err(Error::bug("a step between numbers is none")) };
                (number.to_string().replace('-', "_"), Some(Scalar::Int(number.saturating_add(i128::from(every)))))
            }
            Some((start, unit)) => {
                let at = start.plus(unit, passed).unwrap_or(start);
                (at.label(unit), start.plus(unit, passed + i64::from(every)).and_then(|next| next.scalar(kind)))
            }
        };
        let upper = next.filter(|next| *next < to).unwrap_or(to);
        made.push((
            format!("{STEP_PREFIX}{label}"),
            KeyRange::new(vec![Bound::Value(lower)], vec![Bound::Value(upper)]),
        ));
        lower = upper;
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(from: &str, to: &str, every: u32, unit: Option<StepUnit>, kind: ColumnType) -> Vec<String> {
        let made = steps((from, to), (every, unit), kind).unwrap();
        let bound = |bound: &[Bound]| bound[0].format(kind);
        made.iter().map(|(name, range)| format!("{name} {}..{}", bound(&range.lower), bound(&range.upper))).collect()
    }

    #[test]
    fn steps_follow_the_calendar_and_end_where_they_should() {
        let date = ColumnType::Date;
        assert_eq!(
            shown("2024-01-31", "2024-04-02", 1, Some(StepUnit::Month), date),
            ["p_202401 2024-01-31..2024-02-29", "p_202402 2024-02-29..2024-03-31", "p_202403 2024-03-31..2024-04-02"]
        );
        assert_eq!(
            shown("2023-12-25", "2024-01-08", 1, Some(StepUnit::Week), date),
            ["p_2023_53 2023-12-25..2024-01-01", "p_2024_01 2024-01-01..2024-01-08"]
        );
        assert_eq!(shown("2024-01-01", "2027-01-01", 2, Some(StepUnit::Year), date).len(), 2);
        assert_eq!(shown("2024-02-28", "2024-03-02", 1, Some(StepUnit::Day), date).len(), 3);
        let time = ColumnType::DateTime { scale: 0 };
        assert_eq!(
            shown("2024-01-01 22:00:00", "2024-01-02 00:30:00", 2, Some(StepUnit::Hour), time),
            [
                "p_2024010122 2024-01-01 22:00:00..2024-01-02 00:00:00",
                "p_2024010200 2024-01-02 00:00:00..2024-01-02 00:30:00"
            ]
        );
        assert_eq!(shown("-10", "15", 10, None, ColumnType::Int), ["p__10 -10..0", "p_0 0..10", "p_10 10..15"]);
    }

    #[test]
    fn impossible_steps_are_named() {
        for (from, to, every, unit, kind, text) in [
            ("2", "1", 1, None, ColumnType::Int, "end before they start"),
            ("1", "2", 0, None, ColumnType::Int, "at least 1"),
            ("1", "2", 1, Some(StepUnit::Day), ColumnType::Int, "without a unit"),
            ("1", "99999", 1, None, ColumnType::Int, "longer INTERVAL"),
            ("2024-01-01", "2024-01-02", 1, Some(StepUnit::Hour), ColumnType::Date, "shorter than a day"),
            ("2024-01-01", "2024-01-02", 1, None, ColumnType::Date, "has a unit"),
            ("x", "2", 1, None, ColumnType::Int, "'x' is not a value"),
        ] {
            let error = steps((from, to), (every, unit), kind).unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
    }

    #[test]
    fn moments_move_and_are_called_by_their_period() {
        let day = |year, month, day| calendar::days_of(year, month, day).unwrap();
        let moment = Moment { days: day(2024, 2, 29), hour: 23 };
        assert_eq!(moment.plus(StepUnit::Hour, 1), Some(Moment { days: day(2024, 3, 1), hour: 0 }));
        assert_eq!(moment.plus(StepUnit::Year, 1), Some(Moment { days: day(2025, 2, 28), hour: 23 }));
        assert_eq!(moment.plus(StepUnit::Week, -1), Some(Moment { days: day(2024, 2, 22), hour: 23 }));
        assert_eq!(moment.plus(StepUnit::Year, 8_000), None);
        assert_eq!(moment.plus(StepUnit::Day, i64::MAX), None);
        assert_eq!(Moment::at(-1), Moment { days: -1, hour: 23 });
        assert_eq!((moment.label(StepUnit::Hour).as_str(), weekday(0)), ("2024022923", 3));
        assert_eq!(moment.scalar(ColumnType::Int), Some(Scalar::Int(20_240_229)));
        assert_eq!(moment.scalar(ColumnType::String), None);
    }
}
