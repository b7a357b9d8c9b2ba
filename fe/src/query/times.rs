//! Functions of dates and times as MySQL has them, in microseconds from year 0 to 9999: `date`, `datediff`, `date_trunc`,
//! `date_add` (with `date_sub` and `+ INTERVAL`, which [`super::dialect`] turns into it), `unix_timestamp`,
//! `from_unixtime`. What lies beyond the calendar is NULL. Pure.

use super::compare::DATETIME;
use super::errors::to_engine;
use super::zone::{to_local, to_utc_seconds, zone};
use coffer_table::calendar::{DAY_US, FIRST_DAY, LAST_DAY, date_of, days_of};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// Microseconds of a second.
const SECOND_US: i64 = 1_000_000;
/// From a Monday to the first day that is counted.
const MONDAY_US: i64 = 3 * DAY_US;

/// The functions, for a session in a time zone.
pub(super) fn functions(zone: &str) -> impl Iterator<Item = ScalarUDF> {
    let all = [
        What::Date,
        What::DateDiff,
        What::DateTrunc,
        What::DateAdd,
        What::TimeAdd,
        What::UnixTimestamp,
        What::FromUnixTime,
    ];
    let zone = zone.to_owned();
    all.into_iter().map(move |what| {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::from(Time { what, zone: zone.clone(), signature })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Date,
    DateDiff,
    DateTrunc,
    /// `(time, number, unit)`, the unit a day or longer: a date stays one.
    DateAdd,
    /// With any unit: always a time.
    TimeAdd,
    UnixTimestamp,
    FromUnixTime,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Time {
    what: What,
    zone: String,
    signature: Signature,
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

impl ScalarUDFImpl for Time {
    fn name(&self) -> &'static str {
        match self.what {
            What::Date => "date",
            What::DateDiff => "datediff",
            What::DateTrunc => "date_trunc",
            What::DateAdd => "date_add",
            What::TimeAdd => "time_add",
            What::UnixTimestamp => "unix_timestamp",
            What::FromUnixTime => "from_unixtime",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match self.what {
            What::Date => DataType::Date32,
            What::DateDiff | What::UnixTimestamp => DataType::Int64,
            What::DateAdd if types.first() == Some(&DataType::Date32) => DataType::Date32,
            What::DateTrunc | What::DateAdd | What::TimeAdd | What::FromUnixTime => DATETIME,
        })
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let time = |kind: &DataType| {
            if is_text(kind) || kind.is_temporal() { Ok(DATETIME) } else { plan_err!("{name}() of {kind}: no time") }
        };
        match (self.what, types) {
            (What::Date | What::UnixTimestamp, [one]) => Ok(vec![time(one)?]),
            (What::DateDiff, [one, two]) => Ok(vec![time(one)?, time(two)?]),
            // The unit stands first; others write it last.
            (What::DateTrunc, [one, unit]) if one.is_temporal() && is_text(unit) => Ok(vec![DATETIME, DataType::Utf8]),
            (What::DateTrunc, [unit, one]) if is_text(unit) => Ok(vec![DataType::Utf8, time(one)?]),
            (What::DateAdd, [DataType::Date32, _, _]) => Ok(vec![DataType::Date32, DataType::Int64, DataType::Utf8]),
            (What::DateAdd, [one, _, _]) => Ok(vec![time(one)?, DataType::Int64, DataType::Utf8]),
            (What::TimeAdd, [one, _, _]) => Ok(vec![time(one)?, DataType::Float64, DataType::Utf8]),
            (What::FromUnixTime, [_]) => Ok(vec![DataType::Int64]),
            _ => plan_err!("{name}() does not take these {} arguments", types.len()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let zone = zone(&self.zone).map_err(to_engine)?;
        let array: ArrayRef = match (self.what, &arrays[..]) {
            (What::Date, [times]) => Arc::new(micros(times).map(|time| days(time?)).collect::<Date32Array>()),
            (What::DateDiff, [left, right]) => {
                let pairs = micros(left).zip(micros(right));
                Arc::new(
                    pairs.map(|(left, right)| Some(i64::from(days(left?)? - days(right?)?))).collect::<Int64Array>(),
                )
            }
            (What::UnixTimestamp, [times]) => {
                Arc::new(micros(times).map(|time| to_utc_seconds(time?, zone)).collect::<Int64Array>())
            }
            (What::FromUnixTime, [seconds]) => {
                let seconds = seconds.as_primitive::<Int64Type>().iter();
                let local = seconds.map(|seconds| to_local(seconds?.checked_mul(SECOND_US)?, zone));
                Arc::new(local.map(|time| valid(time?)).collect::<TimestampMicrosecondArray>())
            }
            (What::DateTrunc, [one, two]) => {
                let (units, times) = if is_text(one.data_type()) { (one, two) } else { (two, one) };
                truncated(units, times)?
            }
            (What::DateAdd | What::TimeAdd, [times, numbers, units]) => added(times, numbers, units)?,
            _ => return internal_err!("{}() with {} arguments", self.name(), arrays.len()),
        };
        shaped(&args.args, array)
    }
}

/// An answer in the shape of the arguments: of constants a constant.
pub(super) fn shaped(args: &[ColumnarValue], array: ArrayRef) -> Result<ColumnarValue> {
    if args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
        return ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
    }
    Ok(ColumnarValue::Array(array))
}

fn micros(array: &ArrayRef) -> impl Iterator<Item = Option<i64>> + '_ {
    array.as_primitive::<TimestampMicrosecondType>().iter()
}

fn truncated(units: &ArrayRef, times: &ArrayRef) -> Result<ArrayRef> {
    let units = units.as_string::<i32>().iter();
    let pairs = units.zip(micros(times)).map(|(unit, time)| match (unit, time) {
        (Some(unit), Some(time)) => Ok(Unit::of(unit)?.truncate(time)),
        _ => Ok(None),
    });
    Ok(Arc::new(pairs.collect::<Result<TimestampMicrosecondArray>>()?))
}

fn added(times: &ArrayRef, numbers: &ArrayRef, units: &ArrayRef) -> Result<ArrayRef> {
    let dates = *times.data_type() == DataType::Date32;
    let times = if dates { cast(times, &DATETIME)? } else { Arc::clone(times) };
    let numbers = cast(numbers, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>().iter();
    let rows = micros(&times).zip(numbers).zip(units.as_string::<i32>().iter());
    let sums = rows.map(|((time, number), unit)| match (time, number, unit) {
        (Some(time), Some(number), Some(unit)) => Ok(Unit::of(unit)?.add(time, number)),
        _ => Ok(None),
    });
    let sums: TimestampMicrosecondArray = sums.collect::<Result<_>>()?;
    if dates {
        return Ok(Arc::new(sums.iter().map(|time| days(time?)).collect::<Date32Array>()));
    }
    Ok(Arc::new(sums))
}

/// The day of a time within the calendar.
fn days(micros: i64) -> Option<i32> {
    i32::try_from(micros.div_euclid(DAY_US)).ok().filter(|day| (FIRST_DAY..=LAST_DAY).contains(day))
}

fn valid(micros: i64) -> Option<i64> {
    days(micros).map(|_| micros)
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Micros(i64),
    Months(i32),
}

impl Unit {
    fn of(name: &str) -> Result<Unit> {
        let lower = name.to_ascii_lowercase();
        Ok(match lower.strip_suffix('s').unwrap_or(&lower) {
            "microsecond" => Unit::Micros(1),
            "millisecond" => Unit::Micros(1_000),
            "second" => Unit::Micros(SECOND_US),
            "minute" => Unit::Micros(60 * SECOND_US),
            "hour" => Unit::Micros(3_600 * SECOND_US),
            "day" => Unit::Micros(DAY_US),
            "week" => Unit::Micros(7 * DAY_US),
            "month" => Unit::Months(1),
            "quarter" => Unit::Months(3),
            "year" => Unit::Months(12),
            _ => return exec_err!("'{name}' is not a unit of time: use year, quarter, month, week, day, hour, ..."),
        })
    }

    /// The beginning of the unit in which a time lies; weeks begin on Monday.
    fn truncate(self, micros: i64) -> Option<i64> {
        let start = match self {
            Unit::Micros(width) => {
                let since = micros.checked_add(MONDAY_US)?;
                since.div_euclid(width) * width - MONDAY_US
            }
            Unit::Months(months) => {
                let (year, month, _) = date_of(days(micros)?);
                let month = (month as i32 - 1) / months * months + 1;
                i64::from(days_of(u32::try_from(year).ok()?, month as u32, 1)?) * DAY_US
            }
        };
        valid(start)
    }

    /// Some units later; a day that the month has not becomes its last.
    fn add(self, micros: i64, number: f64) -> Option<i64> {
        let day = days(micros)?;
        let sum = match self {
            Unit::Micros(width) => {
                let whole = if width == SECOND_US { number } else { number.round() };
                // Beyond the calendar either way; what fits is exact.
                micros.checked_add((whole * width as f64).round() as i64)?
            }
            Unit::Months(months) => {
                let (year, month, day) = date_of(day);
                let number = number.round().clamp(-200_000.0, 200_000.0) as i32;
                let total = year * 12 + month as i32 - 1 + number * months;
                let (year, month) = (u32::try_from(total.div_euclid(12)).ok()?, total.rem_euclid(12) as u32 + 1);
                let there = (1..=day).rev().find_map(|day| days_of(year, month, day))?;
                i64::from(there) * DAY_US + micros.rem_euclid(DAY_US)
            }
        };
        valid(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_table::calendar::{format_datetime, parse_datetime};

    fn at(text: &str) -> i64 {
        parse_datetime(text.as_bytes(), 6).unwrap()
    }

    fn shown(micros: Option<i64>) -> String {
        micros.map_or("NULL".to_owned(), |micros| format_datetime(micros, 0))
    }

    #[test]
    fn units_begin() {
        for (unit, time, expected) in [
            ("month", "9999-12-31 23:59:59", "9999-12-01 00:00:00"),
            ("YEAR", "0001-05-06 00:00:01", "0001-01-01 00:00:00"),
            ("quarter", "2024-08-31", "2024-07-01 00:00:00"),
            ("week", "2024-03-03 12:00:00", "2024-02-26 00:00:00"),
            ("week", "1969-12-30", "1969-12-29 00:00:00"),
            ("day", "1969-12-31 23:59:59", "1969-12-31 00:00:00"),
            ("hour", "2500-01-01 05:06:07", "2500-01-01 05:00:00"),
        ] {
            assert_eq!(shown(Unit::of(unit).unwrap().truncate(at(time))), expected, "{unit} {time}");
        }
        assert!(Unit::of("fortnight").is_err());
    }

    #[test]
    fn units_are_added() {
        for (time, number, unit, expected) in [
            ("2024-01-31", 1.0, "month", "2024-02-29 00:00:00"),
            ("2024-03-31", -1.0, "month", "2024-02-29 00:00:00"),
            ("2024-02-29", 1.0, "year", "2025-02-28 00:00:00"),
            ("2024-02-29", 1.5, "second", "2024-02-29 00:00:01"),
            ("2024-02-29", -1.0, "week", "2024-02-22 00:00:00"),
            ("9999-12-31", 1.0, "day", "NULL"),
            ("9999-12-31", 1e300, "day", "NULL"),
            ("9999-12-31", 1e9, "year", "NULL"),
            ("0000-01-01", -1.0, "month", "NULL"),
        ] {
            assert_eq!(shown(Unit::of(unit).unwrap().add(at(time), number)), expected, "{time} {number} {unit}");
        }
    }
}
