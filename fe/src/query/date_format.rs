//! `date_format(time, format)` with MySQL's letters. The engine's own function of that name wants other ones. Pure.
//!
//! A time outside the years 0000 to 9999 is NULL; a letter that means nothing stands for itself.

use coffer_table::calendar::{DAY_US, FIRST_DAY, LAST_DAY, date_of, days_of};
use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::fmt::Write;
use std::sync::Arc;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From Monday on.
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateFormat {
    signature: Signature,
}

impl DateFormat {
    pub(super) fn new() -> DateFormat {
        DateFormat { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DateFormat {
    fn name(&self) -> &'static str {
        "date_format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [time, _] = types else { return plan_err!("date_format() takes two arguments, {} given", types.len()) };
        let text = matches!(time, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
        if !text && !time.is_temporal() {
            return plan_err!("date_format() takes a date or time first, not {time}");
        }
        Ok(vec![DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Utf8])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [times, formats] = &arrays[..] else {
            return internal_err!("date_format() with {} arguments", arrays.len());
        };
        let (times, formats) = (times.as_primitive::<TimestampMicrosecondType>(), formats.as_string::<i32>());
        let pairs = times.iter().zip(formats.iter());
        let texts: StringArray = pairs.map(|(time, format)| Some(Moment::of(time?)?.format(format?))).collect();
        Ok(ColumnarValue::Array(Arc::new(texts)))
    }
}

/// A moment in the parts that letters show.
#[derive(Debug, Clone, Copy)]
struct Moment {
    days: i32,
    year: i32,
    month: u32,
    day: u32,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
}

impl Moment {
    fn of(micros: i64) -> Option<Moment> {
        let days =
            i32::try_from(micros.div_euclid(DAY_US)).ok().filter(|days| (FIRST_DAY..=LAST_DAY).contains(days))?;
        let (year, month, day) = date_of(days);
        let within = micros.rem_euclid(DAY_US);
        let seconds = within / 1_000_000;
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        Some(Moment { days, year, month, day, hour, minute, second, micros: within % 1_000_000 })
    }

    fn format(&self, format: &str) -> String {
        let mut out = String::with_capacity(format.len() * 2);
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter == '%' {
                self.letter(letters.next().unwrap_or('%'), &mut out);
            } else {
                out.push(letter);
            }
        }
        out
    }

    fn letter(&self, letter: char, out: &mut String) {
        let Moment { year, month, day, hour, minute, second, micros, .. } = *self;
        let twelve = (hour + 11) % 12 + 1;
        let half = if hour < 12 { "AM" } else { "PM" };
        // Writing to a String cannot fail.
        let _ = match letter {
            'a' => write!(out, "{}", &self.name_of_day()[..3]),
            'b' => write!(out, "{}", &self.name_of_month()[..3]),
            'c' => write!(out, "{month}"),
            'D' => write!(out, "{day}{}", ending(day)),
            'd' => write!(out, "{day:02}"),
            'e' => write!(out, "{day}"),
            'f' => write!(out, "{micros:06}"),
            'H' => write!(out, "{hour:02}"),
            'h' | 'I' => write!(out, "{twelve:02}"),
            'i' => write!(out, "{minute:02}"),
            'j' => write!(out, "{:03}", self.days - first_day(year) + 1),
            'k' => write!(out, "{hour}"),
            'l' => write!(out, "{twelve}"),
            'M' => write!(out, "{}", self.name_of_month()),
            'm' => write!(out, "{month:02}"),
            'p' => write!(out, "{half}"),
            'r' => write!(out, "{twelve:02}:{minute:02}:{second:02} {half}"),
            'S' | 's' => write!(out, "{second:02}"),
            'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            'U' => write!(out, "{:02}", self.week(Weeks { monday_first: false, of_year: false }).1),
            'u' => write!(out, "{:02}", self.week(Weeks { monday_first: true, of_year: false }).1),
            'V' => write!(out, "{:02}", self.week(Weeks { monday_first: false, of_year: true }).1),
            'v' => write!(out, "{:02}", self.week(Weeks { monday_first: true, of_year: true }).1),
            'W' => write!(out, "{}", self.name_of_day()),
            'w' => write!(out, "{}", (weekday(self.days) + 1) % 7),
            'X' => write!(out, "{:04}", self.week(Weeks { monday_first: false, of_year: true }).0),
            'x' => write!(out, "{:04}", self.week(Weeks { monday_first: true, of_year: true }).0),
            'Y' => write!(out, "{year:04}"),
            'y' => write!(out, "{:02}", year % 100),
            other => write!(out, "{other}"),
        };
    }

    fn name_of_day(&self) -> &'static str {
        DAYS[weekday(self.days) as usize]
    }

    fn name_of_month(&self) -> &'static str {
        MONTHS[(self.month as usize - 1) % 12]
    }

    /// Year and number of the week.
    fn week(&self, weeks: Weeks) -> (i32, i32) {
        let start = weeks.start(self.year);
        if self.days < start {
            if !weeks.of_year {
                return (self.year, 0);
            }
            return (self.year - 1, (self.days - weeks.start(self.year - 1)) / 7 + 1);
        }
        if weeks.of_year && self.days >= weeks.start(self.year + 1) {
            return (self.year + 1, 1);
        }
        (self.year, (self.days - start) / 7 + 1)
    }
}

/// How weeks are counted.
#[derive(Debug, Clone, Copy)]
struct Weeks {
    /// Weeks begin on Monday, and the first has at least four days of the year; otherwise they begin on Sunday, and the
    /// first begins in the year.
    monday_first: bool,
    /// Days before the first week belong to the last of the year before, instead of to week 0.
    of_year: bool,
}

impl Weeks {
    /// The first day of the first week of a year.
    fn start(self, year: i32) -> i32 {
        let first = first_day(year);
        if self.monday_first {
            let before = weekday(first);
            if before < 4 { first - before } else { first + 7 - before }
        } else {
            first + (6 - weekday(first))
        }
    }
}

/// The number of January 1. Years beyond the calendar's borders only decide where weeks begin.
fn first_day(year: i32) -> i32 {
    match u32::try_from(year).ok().and_then(|year| days_of(year, 1, 1)) {
        Some(day) => day,
        None if year < 0 => FIRST_DAY - 365,
        None => LAST_DAY + 1,
    }
}

/// 0 is Monday; day 0 was a Thursday.
fn weekday(days: i32) -> i32 {
    (days + 3).rem_euclid(7)
}

fn ending(day: u32) -> &'static str {
    match day {
        11..=13 => "th",
        _ => match day % 10 {
            1 => "st",
            2 => "nd",
            3 => "rd",
            _ => "th",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_table::calendar::parse_datetime;

    fn shown(time: &str, format: &str) -> String {
        Moment::of(parse_datetime(time.as_bytes(), 6).unwrap()).unwrap().format(format)
    }

    #[test]
    fn every_letter_means_what_it_means_in_mysql() {
        let time = "2009-10-04 22:23:00.000017";
        for (format, expected) in [
            ("%W %M %Y", "Sunday October 2009"),
            ("%H:%i:%s", "22:23:00"),
            ("%D %y %a %d %m %b %j", "4th 09 Sun 04 10 Oct 277"),
            ("%H %k %I %r %T %S %w", "22 22 10 10:23:00 PM 22:23:00 00 0"),
            ("%c %e %f %h %l %p", "10 4 000017 10 10 PM"),
            ("100%% %z %", "100% z %"),
            ("é%Y", "é2009"),
        ] {
            assert_eq!(shown(time, format), expected, "{format}");
        }
        assert_eq!(shown("1900-10-04", "%D %y %a %d %m %b %j"), "4th 00 Thu 04 10 Oct 277");
        assert_eq!(shown("2024-03-01", "%l %p %r %D %j"), "12 AM 12:00:00 AM 1st 061");
        assert_eq!([11, 12, 13, 21, 22, 23, 24].map(ending), ["th", "th", "th", "st", "nd", "rd", "th"]);
    }

    #[test]
    fn weeks_are_counted_in_four_ways() {
        // As MySQL answers: %U %u %V %v %X %x.
        for (day, expected) in [
            ("1999-01-01", "00 00 52 53 1998 1998"),
            ("2000-01-01", "00 00 52 52 1999 1999"),
            ("2008-12-31", "52 53 52 01 2008 2009"),
            ("2006-01-01", "01 00 01 52 2006 2005"),
            ("2024-12-30", "52 53 52 01 2024 2025"),
            ("2023-01-02", "01 01 01 01 2023 2023"),
        ] {
            assert_eq!(shown(day, "%U %u %V %v %X %x"), expected, "{day}");
        }
        assert!(!shown("0000-01-01", "%X %x %V %v").is_empty());
        assert!(!shown("9999-12-31", "%X %x %V %v").is_empty());
    }

    #[test]
    fn a_time_beyond_the_calendar_has_no_text() {
        assert!(Moment::of(i64::MAX).is_none() && Moment::of(i64::MIN).is_none());
    }
}
