//! Properties of repositories and brokers that are ours and not a storage's. Pure.

use crate::catalog::rate::{RateChange, RateLimits};
use crate::error::{Error, Result};
use crate::sql::ast::Properties;

/// Both directions.
const BOTH: &str = "max_bytes_per_second";
/// Into the storage; stronger than [`BOTH`].
pub(super) const UPLOAD: &str = "max_upload_bytes_per_second";
/// Out of the storage; stronger than [`BOTH`].
pub(super) const DOWNLOAD: &str = "max_download_bytes_per_second";
/// The name that a repository has at its location, where another cluster may have given it.
pub(super) const REMOTE_NAME: &str = "remote_name";
/// Remove the repository that is at the location before one is created there.
pub(super) const DELETE_IF_EXISTS: &str = "delete_if_exists";

/// The limits, and the properties that are left.
pub fn limits(mut properties: Properties) -> Result<(RateChange, Properties)> {
    let mut take = |key: &str| properties.remove(key).map(|text| bytes_per_second(key, &text)).transpose();
    let (both, upload, download) = (take(BOTH)?, take(UPLOAD)?, take(DOWNLOAD)?);
    Ok((RateChange { upload: upload.or(both), download: download.or(both) }, properties))
}

/// Properties of a broker: limits and nothing else.
pub fn of_broker(properties: Properties) -> Result<RateChange> {
    let (limits, rest) = limits(properties)?;
    match rest.keys().next() {
        None => Ok(limits),
        Some(key) => Err(Error::invalid(format!(
            "property '{key}' of a broker is unknown; known are {BOTH}, {UPLOAD}, {DOWNLOAD}"
        ))),
    }
}

/// Limits as they are written.
pub(super) fn written(limits: Option<RateLimits>) -> Properties {
    let pairs = limits.map(|limits| [(UPLOAD, limits.upload), (DOWNLOAD, limits.download)]);
    pairs.into_iter().flatten().map(|(key, limit)| (key.to_owned(), limit.to_string())).collect()
}

/// Take out whether the repository that is at the location is to be removed before one is created there.
pub(super) fn removal(properties: &mut Properties) -> Result<bool> {
    match properties.remove(DELETE_IF_EXISTS) {
        None => Ok(false),
        Some(value) if value.trim().eq_ignore_ascii_case("false") => Ok(false),
        Some(value) if value.trim().eq_ignore_ascii_case("true") => Ok(true),
        Some(value) => Err(Error::invalid(format!("Invalid {DELETE_IF_EXISTS}: '{value}' is not true or false"))),
    }
}

/// `1048576`, `512K`, `100M`, `2G` (of 1024); 0 lifts the limit.
fn bytes_per_second(key: &str, text: &str) -> Result<u64> {
    let text = text.trim();
    let (digits, shift) = match text.chars().next_back().map(|last| last.to_ascii_uppercase()) {
        Some('K') => (&text[..text.len() - 1], 10),
        Some('M') => (&text[..text.len() - 1], 20),
        Some('G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number = digits.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| {
        Error::invalid(format!(
            "Invalid {key}: '{text}'; write bytes per second as a whole number, with K, M or G if you like; 0 lifts the limit"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn limits_are_taken_out_and_one_direction_is_stronger_than_both() {
        let (change, rest) = limits(properties(&[("max_bytes_per_second", "2K"), ("s3.region", "x")])).unwrap();
        assert_eq!(change, RateChange { upload: Some(2_048), download: Some(2_048) });
        assert_eq!(rest, properties(&[("s3.region", "x")]));
        let pairs = [("max_bytes_per_second", "1m"), ("max_upload_bytes_per_second", "0")];
        assert_eq!(limits(properties(&pairs)).unwrap().0, RateChange { upload: Some(0), download: Some(1 << 20) });
        assert!(limits(properties(&[])).unwrap().0.is_empty());
        for wrong in ["", "x", "-1", "1T", "1.5M", "18446744073709551615K", "K", "é"] {
            let error = limits(properties(&[(DOWNLOAD, wrong)])).unwrap_err();
            assert!(error.message().starts_with("Invalid max_download_bytes_per_second"), "{error}");
        }
    }

    #[test]
    fn a_broker_has_limits_only() {
        assert!(of_broker(properties(&[(UPLOAD, "1G")])).is_ok());
        assert!(of_broker(properties(&[("speed", "1")])).unwrap_err().message().contains("'speed'"));
    }

    #[test]
    fn limits_are_written_as_they_are_read() {
        let limits_now = RateLimits { upload: 5, download: 0 };
        let change = limits(written(Some(limits_now))).unwrap().0;
        assert_eq!(change.of(RateLimits { upload: 1, download: 1 }), limits_now);
        assert!(written(None).is_empty());
    }

    #[test]
    fn removal_is_asked_for_in_one_word() {
        let read = |value: &str| removal(&mut properties(&[("delete_if_exists", value)]));
        assert_eq!(
            (read("false"), read("FALSE"), read("true"), read("True")),
            (Ok(false), Ok(false), Ok(true), Ok(true))
        );
        assert_eq!(removal(&mut properties(&[])), Ok(false));
        assert!(read("yes").unwrap_err().message().contains("delete_if_exists: 'yes'"));
    }
}
