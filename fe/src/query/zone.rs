//! The session's time zone: what `now()` and the like show, and what `unix_timestamp` takes a time for. Times that are
//! stored have none. Pure.

use crate::error::{Error, Result};
use arrow::array::timezone::Tz;
use chrono::{DateTime, NaiveDateTime, TimeZone};

/// A name that is none.
const UNKNOWN_TIME_ZONE: u16 = 1298;
/// Microseconds of a second.
const SECOND_US: i64 = 1_000_000;

/// The zone of a name: `SYSTEM` (which is UTC), `+02:00`, `Europe/Berlin`.
pub fn zone(name: &str) -> Result<Tz> {
    let name = match name.trim() {
        system if system.eq_ignore_ascii_case("system") || system.is_empty() => "UTC",
        china if china.eq_ignore_ascii_case("cst") => "Asia/Shanghai",
        other => other,
    };
    let error = || Error::invalid(format!("Unknown or incorrect time zone: '{name}'")).numbered(UNKNOWN_TIME_ZONE);
    name.parse().map_err(|_| error())
}

/// Microseconds of UTC as those that a clock in the zone shows.
pub(super) fn to_local(micros: i64, zone: Tz) -> Option<i64> {
    let utc = DateTime::from_timestamp(micros.div_euclid(SECOND_US), 0)?;
    let local = utc.with_timezone(&zone).naive_local().and_utc().timestamp();
    Some(local * SECOND_US + micros.rem_euclid(SECOND_US))
}

/// The other way, in whole seconds. A time that a clock shows twice is the first; one that it skips is none.
pub(super) fn to_utc_seconds(micros: i64, zone: Tz) -> Option<i64> {
    let local: NaiveDateTime = DateTime::from_timestamp(micros.div_euclid(SECOND_US), 0)?.naive_utc();
    Some(zone.from_local_datetime(&local).earliest()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_zones() {
        let summer = 1_720_000_000_000_001;
        for (name, hours) in [("UTC", 0), ("system", 0), ("+00:00", 0), ("-03:30", -7), ("Europe/Berlin", 4)] {
            let local = to_local(summer, zone(name).unwrap()).unwrap();
            assert_eq!(local - summer, hours * 1_800 * SECOND_US, "{name}");
            assert_eq!(to_utc_seconds(local, zone(name).unwrap()), Some(summer / SECOND_US), "{name}");
        }
        assert_eq!(zone("Mars/Base").unwrap_err().number(), UNKNOWN_TIME_ZONE);
    }
}
