//! Names of objects as names of files: HDFS allows no `:`, which becomes `%3A`. A `%` is changed only where it would be
//! taken for the result of that, so that ordinary names stay as they are.

/// The path of a file for the path of an object.
pub(super) fn encoded(object: &str) -> String {
    let mut file = String::with_capacity(object.len());
    for (at, c) in object.char_indices() {
        match c {
            ':' => file.push_str("%3A"),
            '%' if is_taken_for_ours(&object[at + 1..]) => file.push_str("%25"),
            other => file.push(other),
        }
    }
    file
}

/// The path of the object in a file.
pub(super) fn decoded(file: &str) -> String {
    let mut object = String::with_capacity(file.len());
    let mut rest = file;
    while let Some(c) = rest.chars().next() {
        let (decoded, length) = match rest.strip_prefix("%25") {
            _ if rest.starts_with("%3A") => (':', 3),
            Some(after) if is_taken_for_ours(after) => ('%', 3),
            _ => (c, c.len_utf8()),
        };
        object.push(decoded);
        rest = &rest[length..];
    }
    object
}

/// Whether a `%` before this would be decoded.
fn is_taken_for_ours(after: &str) -> bool {
    after.trim_start_matches("25").starts_with("3A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_ordinary_ones_stay() {
        for name in ["a", "a b/ü", "per%2Fcent", "100%", "%25", "%3a", "%252F"] {
            assert_eq!(encoded(name), name);
            assert_eq!(decoded(name), name);
        }
        let odd = [":", "a:b/c::", "%3A", "%253A", "%25253A", ":%3A:", "%:3A", "%%3A", "%2525", "%25:", "25:3A%253A"];
        for name in odd {
            let file = encoded(name);
            assert!(!file.contains(':'), "{file}");
            assert_eq!(decoded(&file), name, "{file}");
        }
        let files: std::collections::BTreeSet<String> = odd.iter().map(|name| encoded(name)).collect();
        assert_eq!(files.len(), odd.len());
    }
}
