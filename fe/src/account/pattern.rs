//! LIKE, and patterns of hosts.

/// Whether a text matches a LIKE pattern: `%`, `_`, backslash escapes; ASCII case does not matter.
pub fn like(pattern: &str, text: &str) -> bool {
    let pattern: Vec<Piece> = pieces(pattern);
    let text: Vec<char> = text.chars().map(|c| c.to_ascii_lowercase()).collect();
    // Greedy with one point to come back to: the last `%`. Linear in practice, pattern times text at worst.
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(Piece::Any) => {
                back = Some((p, t));
                p += 1;
            }
            Some(Piece::One) => (p, t) = (p + 1, t + 1),
            Some(Piece::Char(wanted)) if *wanted == text[t] => (p, t) = (p + 1, t + 1),
            Some(Piece::Char(_)) | None => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (p, t) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|piece| *piece == Piece::Any)
}

#[derive(PartialEq)]
enum Piece {
    Any,
    One,
    Char(char),
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '%' => Piece::Any,
            '_' => Piece::One,
            '\\' => Piece::Char(chars.next().unwrap_or('\\').to_ascii_lowercase()),
            other => Piece::Char(other.to_ascii_lowercase()),
        });
    }
    pieces
}

/// How closely a host pattern describes an address: the larger the closer, `None` when it does not match.
pub(super) fn host_rank(pattern: &str, host: &str) -> Option<(bool, usize)> {
    let local = pattern.eq_ignore_ascii_case("localhost") && matches!(host, "127.0.0.1" | "::1");
    let literal = pattern.find(['%', '_']).unwrap_or(pattern.len());
    (local || like(pattern, host)).then_some((literal == pattern.len(), literal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_knows_wildcards_escapes_and_backtracks() {
        for (pattern, text, expected) in [
            ("%", "", true),
            ("", "", true),
            ("", "a", false),
            ("a_c", "ABC", true),
            ("a_c", "ac", false),
            ("%ab%ab", "abxabab", true),
            ("%ab", "abx", false),
            ("a\\_c", "abc", false),
            ("a\\_c", "a_c", true),
            ("100\\%", "100%", true),
            ("é%", "école", true),
            ("tail\\", "tail\\", true),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn hosts_rank_by_how_much_of_them_is_literal() {
        assert_eq!(host_rank("10.%", "10.1.2.3"), Some((false, 3)));
        assert_eq!(host_rank("10.1.2.3", "10.1.2.3"), Some((true, 8)));
        assert_eq!(host_rank("10.1.2._", "10.1.2.33"), None);
        assert_eq!(host_rank("LOCALHOST", "::1"), Some((true, 9)));
        assert_eq!(host_rank("localhost", "10.0.0.1"), None);
    }
}
