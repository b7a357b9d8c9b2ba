//! How a scan of one tablet can be taken up by another replica: the ranges of versions in which its rows come.

use coffer_stdx::{Error, Result};

/// Key of the metadata of a scan's schema: the layout of the tablet, where the order of rows depends on it.
pub const LAYOUT: &str = "coffer.layout";

/// Ranges of versions as text: `2-7,8-8`.
pub fn format_layout(ranges: &[(u64, u64)]) -> String {
    ranges.iter().map(|(from, to)| format!("{from}-{to}")).collect::<Vec<_>>().join(",")
}

/// Read what [`format_layout`] made.
pub fn parse_layout(text: &str) -> Result<Vec<(u64, u64)>> {
    let range = |part: &str| part.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let ranges: Option<Vec<(u64, u64)>> = text.split(',').map(range).collect();
    ranges.ok_or_else(|| Error::invalid(format!("'{text}' is no layout of a tablet")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_read_back() {
        let ranges = [(2, 7), (8, 8)];
        assert_eq!(format_layout(&ranges), "2-7,8-8");
        assert_eq!(parse_layout("2-7,8-8").unwrap(), ranges);
        assert!(parse_layout("2-").is_err() && parse_layout("x").is_err());
    }
}
