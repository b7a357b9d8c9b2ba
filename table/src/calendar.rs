//! Dates and times as text and as the numbers that carry them: days and microseconds since 1970-01-01, no time zone,
//! proleptic Gregorian calendar, years 0000 to 9999.
//!
//! Read: `YYYY-MM-DD`, `YYYY/MM/DD`, `YYYYMMDD`; a time is `hh:mm[:ss[.fraction]]` after a space or `T`, or `hhmmss` after
//! a date without separators. A fraction longer than the column's scale is rounded half up. Anything else is refused.

use std::fmt::Write;

/// Microseconds of one day.
pub const DAY_US: i64 = 86_400_000_000;
/// Days since 1970-01-01 of 0000-01-01.
pub const FIRST_DAY: i32 = -719_528;
/// Days since 1970-01-01 of 9999-12-31.
pub const LAST_DAY: i32 = 2_932_896;

/// Days since 1970-01-01 of a date that exists; `None` for one that does not.
pub fn days_of(year: u32, month: u32, day: u32) -> Option<i32> {
    if year > 9999 || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    // Years begin in March, so that the leap day is the last of its year.
    let shifted = i64::from(year) - i64::from(month <= 2);
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) as i32)
}

/// Year, month and day of a number of days since 1970-01-01.
pub fn date_of(days: i32) -> (i32, u32, u32) {
    let shifted = i64::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month, day)
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Read a date; a time after it is checked and dropped.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let (days, rest) = date_part(text)?;
    if rest.is_empty() { Some(days) } else { time_part(rest, 6).map(|_| days) }
}

/// Read a date and a time (midnight when absent), rounded to `scale` digits of a second.
pub fn parse_datetime(text: &[u8], scale: u8) -> Option<i64> {
    let (days, rest) = date_part(text)?;
    let time = if rest.is_empty() { 0 } else { time_part(rest, scale)? };
    let micros = i64::from(days) * DAY_US + time;
    (micros < (i64::from(LAST_DAY) + 1) * DAY_US).then_some(micros)
}

/// `YYYY-MM-DD`.
pub fn format_date(days: i32) -> String {
    let (year, month, day) = date_of(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `YYYY-MM-DD hh:mm:ss`, with `scale` digits of a second after a point when `scale` is not 0.
pub fn format_datetime(micros: i64, scale: u8) -> String {
    let (days, within) = (micros.div_euclid(DAY_US), micros.rem_euclid(DAY_US));
    let mut text = format_date(days as i32);
    let seconds = within / 1_000_000;
    // Writing to a String cannot fail.
    let _ = write!(text, " {:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if scale > 0 {
        let digits = u32::from(scale.min(6));
        let fraction = within % 1_000_000 / 10_i64.pow(6 - digits);
        let _ = write!(text, ".{fraction:0width$}", width = digits as usize);
    }
    text
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

/// One or two digits at the start, and what follows.
fn short_number(text: &[u8]) -> Option<(u32, &[u8])> {
    let count = text.iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
    Some((number(&text[..count])?, &text[count..]))
}

fn date_part(text: &[u8]) -> Option<(i32, &[u8])> {
    let year = number(text.get(..4)?)?;
    match text.get(4)? {
        separator @ (b'-' | b'/') => {
            let (month, rest) = short_number(&text[5..])?;
            let rest = rest.strip_prefix(std::slice::from_ref(separator))?;
            let (day, rest) = short_number(rest)?;
            Some((days_of(year, month, day)?, rest))
        }
        _ => {
            let (month, day) = (number(text.get(4..6)?)?, number(text.get(6..8)?)?);
            Some((days_of(year, month, day)?, &text[8..]))
        }
    }
}

fn time_part(rest: &[u8], scale: u8) -> Option<i64> {
    let (hour, minute, second, fraction) = match rest.first()? {
        b' ' | b'T' => {
            let (hour, rest) = short_number(&rest[1..])?;
            let (minute, rest) = short_number(rest.strip_prefix(b":")?)?;
            match rest.strip_prefix(b":") {
                Some(rest) => short_number(rest).map(|(second, fraction)| (hour, minute, second, fraction))?,
                None => (hour, minute, 0, rest),
            }
        }
        _ => {
            let part = |from: usize| rest.get(from..from + 2).and_then(number);
            (part(0)?, part(2)?, part(4)?, &rest[6..])
        }
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3_600 + minute * 60 + second);
    let fraction = if fraction.is_empty() { 0 } else { fraction_part(fraction.strip_prefix(b".")?, scale)? };
    Some(seconds * 1_000_000 + fraction)
}

fn fraction_part(digits: &[u8], scale: u8) -> Option<i64> {
    let scale = usize::from(scale.min(6));
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let kept = digits.iter().copied().chain(std::iter::repeat(b'0')).take(scale);
    let mut value = kept.fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    if digits.get(scale).is_some_and(|digit| *digit >= b'5') {
        value += 1;
    }
    Some(value * 10_i64.pow(6 - scale as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        assert_eq!(parse_date(b"1970-01-01"), Some(0));
        assert_eq!(parse_date(b"2000-02-29"), Some(11_016));
        assert_eq!(parse_date(b"0000-01-01"), Some(FIRST_DAY));
        assert_eq!(parse_date(b"9999-12-31"), Some(LAST_DAY));
        assert_eq!(parse_date(b"20240131"), parse_date(b"2024/1/31"));
        assert_eq!(parse_date(b"2024-01-31 10:00:00"), parse_date(b"2024-01-31"));
    }

    #[test]
    fn what_is_not_a_date_is_refused() {
        for text in ["", "2024", "2024-13-01", "2023-02-29", "2024-01-32", "2024-01/02", "2024-01-01x", "abcd-01-01"] {
            assert_eq!(parse_date(text.as_bytes()), None, "{text}");
        }
        for text in
            ["2024-01-01 24:00:00", "2024-01-01 10", "2024-01-01 10:61", "2024-01-01 10:00:00.", "2024-01-01 10:00:00Z"]
        {
            assert_eq!(parse_datetime(text.as_bytes(), 6), None, "{text}");
        }
    }

    #[test]
    fn times_round_to_the_scale_and_print_back() {
        let cases = [
            ("2024-01-31 10:20:30.123456", 6, "2024-01-31 10:20:30.123456"),
            ("2024-01-31T10:20:30.15", 1, "2024-01-31 10:20:30.2"),
            ("2024-01-31 23:59:59.9", 0, "2024-02-01 00:00:00"),
            ("20240131102030", 0, "2024-01-31 10:20:30"),
            ("2024-01-31 10:20", 3, "2024-01-31 10:20:00.000"),
            ("0001-01-01", 0, "0001-01-01 00:00:00"),
        ];
        for (text, scale, shown) in cases {
            assert_eq!(format_datetime(parse_datetime(text.as_bytes(), scale).unwrap(), scale), shown);
        }
        assert_eq!(parse_datetime(b"9999-12-31 23:59:59.9", 0), None, "rounds out of range");
    }

    proptest! {
        #[test]
        fn every_day_prints_and_reads_back(days in FIRST_DAY..=LAST_DAY) {
            prop_assert_eq!(parse_date(format_date(days).as_bytes()), Some(days));
        }

        #[test]
        fn every_microsecond_prints_and_reads_back(micros in i64::from(FIRST_DAY) * DAY_US..(i64::from(LAST_DAY) + 1) * DAY_US) {
            prop_assert_eq!(parse_datetime(format_datetime(micros, 6).as_bytes(), 6), Some(micros));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            let _ = parse_datetime(&bytes, 3);
        }
    }
}
