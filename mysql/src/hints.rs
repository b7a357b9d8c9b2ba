//! Comments to execute, `/*!40101 SET NAMES utf8 */`: dumps and drivers hide in them what only MySQL understands.

use crate::lex::{Lexer, Piece};
use std::borrow::Cow;

/// Comments for servers newer than this stay comments. As the version that `ServerOptions` tells by default.
const VERSION: u32 = 80_033;

/// `sql` with blanks in the place of the signs that make up such comments, so that their text is part of the
/// statement; all other bytes stay where they are.
pub fn expand(sql: &str) -> Cow<'_, str> {
    if !sql.contains("/*!") {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len());
    let mut at = 0;
    for (_, range) in Lexer::new(sql).filter(|(piece, _)| *piece == Piece::Opaque) {
        if let Some(inside) = sql[range.clone()].strip_prefix("/*!") {
            out.push_str(&sql[at..range.start]);
            push_expanded(&mut out, inside);
            at = range.end;
        }
    }
    out.push_str(&sql[at..]);
    Cow::Owned(out)
}

fn push_expanded(out: &mut String, inside: &str) {
    let digits = inside.bytes().take(6).take_while(u8::is_ascii_digit).count();
    let (version, text) = inside.split_at(if digits < 5 { 0 } else { digits });
    let newer = version.parse::<u32>().is_ok_and(|version| version > VERSION);
    let (text, end) = text.strip_suffix("*/").map_or((text, ""), |text| (text, "  "));
    out.extend(std::iter::repeat_n(' ', "/*!".len() + version.len()));
    if newer {
        out.extend(text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
    } else {
        out.push_str(text);
    }
    out.push_str(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn signs_become_blanks() {
        for (sql, expected) in [
            ("select 1", "select 1"),
            ("/*!40101 SET NAMES utf8 */", "         SET NAMES utf8   "),
            ("/*! a */ '/*!b*/' /* c */", "    a    '/*!b*/' /* c */"),
            ("/*!99999 a\nb */c", "          \n    c"),
            ("/*!4 a */", "   4 a   "),
            ("/*!é", "   é"),
            ("é /*!é*/ü", "é    é  ü"),
        ] {
            assert_eq!(expand(sql), expected, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_the_length_stays(sql in r#"([a-z0-9;'"`*/! \n-]|/\*!|\*/|é){0,40}"#) {
            prop_assert_eq!(expand(&sql).len(), sql.len());
        }
    }
}
