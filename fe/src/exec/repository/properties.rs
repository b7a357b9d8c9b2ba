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
const DELETE_IF_EXISTS: &str = "delete_if_exists";

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

/// Refuse what would remove a repository that is there.
pub(super) fn refuse_removal(properties: &mut Properties) -> Result<()> {
    match properties.remove(DELETE_IF_EXISTS).as_deref() {
        None | Some("false") => Ok(()),
        Some(_) => Err(Error::not_supported(format!(
            "property {DELETE_IF_EXISTS} is not supported: remove the repository's folder by hand if you mean it"
        ))),
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
    fn nothing_is_removed() {
        assert!(refuse_removal(&mut properties(&[("delete_if_exists", "false")])).is_ok());
        assert!(refuse_removal(&mut properties(&[("delete_if_exists", "true")])).is_err());
    }
}
