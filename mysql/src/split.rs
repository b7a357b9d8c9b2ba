//! Cuts a text into its statements at each `;` that is neither quoted nor in a comment.

use crate::lex::{Lexer, Piece};

/// The statements of `sql`, without their `;` and the blank space around them. Parts that hold nothing but blanks and
/// comments are left out.
pub fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut content) = (0, false);
    for (piece, range) in Lexer::new(sql) {
        match piece {
            Piece::Byte(b';') => {
                push(&mut found, content, &sql[start..range.start]);
                (start, content) = (range.end, false);
            }
            Piece::Byte(_) | Piece::Opaque => content = true,
            Piece::Nothing => {}
        }
    }
    push(&mut found, content, &sql[start..]);
    found
}

fn push<'a>(found: &mut Vec<&'a str>, content: bool, part: &'a str) {
    if content {
        found.push(part.trim_matches(|c: char| c.is_ascii_whitespace()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        for (sql, expected) in [
            ("", vec![]),
            (" ; ;; ", vec![]),
            ("-- only\n/* this */ # comment", vec![]),
            ("select 1", vec!["select 1"]),
            ("select 1;", vec!["select 1"]),
            ("select 1; select 2 ;", vec!["select 1", "select 2"]),
            ("select ';'; select \";\"; select `;`", vec!["select ';'", "select \";\"", "select `;`"]),
            ("select 1 -- ;\n; select 2", vec!["select 1 -- ;", "select 2"]),
            ("select 1 /* ; */ + 1", vec!["select 1 /* ; */ + 1"]),
            ("select 'it''s; ok\\'; yes'; b", vec!["select 'it''s; ok\\'; yes'", "b"]),
            ("/*!40101 SET NAMES utf8 */;", vec!["/*!40101 SET NAMES utf8 */"]),
            ("-- first\nselect 1; -- last", vec!["-- first\nselect 1"]),
            ("select 'é;ü'; ö", vec!["select 'é;ü'", "ö"]),
        ] {
            assert_eq!(statements(sql), expected, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(sql in r#"([a-z;?'"`\\#*/! \n-]|é|\PC){0,60}"#) {
            for statement in statements(&sql) {
                prop_assert!(!statement.is_empty());
                prop_assert_eq!(statements(statement), vec![statement]);
            }
        }
    }
}
