//! How SHOW prints times, sizes and shares. Pure.

use coffer_table::calendar;

/// What stands for a time that has not come or a thing that is not there: text, as operators' scripts expect, not SQL NULL.
pub const NONE: &str = "NULL";

/// `2024-02-29 01:02:03`, UTC; [`NONE`] for 0.
pub fn time(ms: u64) -> String {
    match i64::try_from(ms.saturating_mul(1_000)) {
        Ok(micros) if ms > 0 => calendar::format_datetime(micros, 0),
        Ok(_) | Err(_) => NONE.to_owned(),
    }
}

/// `1.234 GB`, `17.000 B`, `0.000 `.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    if bytes == 0 {
        return "0.000 ".to_owned();
    }
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.3} {}", UNITS[unit])
}

/// `12.34 %`.
pub fn share(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    format!("{share:.2} %")
}

/// A text in double quotes, as properties and partition values are written.
pub fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_operators_know_them() {
        assert_eq!(time(0), "NULL");
        assert_eq!(time(1_709_168_523_999), "2024-02-29 01:02:03");
        for (bytes, text) in [(0, "0.000 "), (17, "17.000 B"), (1_536, "1.500 KB"), (5 << 30, "5.000 GB")] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(share(1, 3), "33.33 %");
        assert_eq!(share(1, 0), "0.00 %");
    }
}
