//! SQL text as far as quotes and comments go; no grammar.
//!
//! The rules are those of MySQL with its default modes: backslash escapes in strings, `--` opens a comment only when
//! blank space follows, `#` opens one always, block comments do not nest, `/*!` is text to execute.

/// What stands at one place of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Blank space or a comment.
    Nothing,
    /// A quoted string or name, or a comment to execute.
    Opaque,
    /// One other byte.
    Byte(u8),
}

/// Walks over a text piece by piece.
pub(crate) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    /// Walk over `sql`.
    pub(crate) fn new(sql: &'a str) -> Lexer<'a> {
        Lexer { bytes: sql.as_bytes(), at: 0 }
    }

    /// The end of the quoted thing that starts at `at`.
    fn quoted_end(&self, quote: u8) -> usize {
        let mut at = self.at + 1;
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'\\' if quote != b'`' => at += 2,
                byte if *byte == quote => return at + 1,
                _ => at += 1,
            }
        }
        self.bytes.len()
    }

    fn line_end(&self) -> usize {
        self.bytes[self.at..].iter().position(|byte| *byte == b'\n').map_or(self.bytes.len(), |end| self.at + end + 1)
    }

    fn block_end(&self) -> usize {
        let inside = self.at + 2;
        self.bytes
            .get(inside..)
            .and_then(|rest| rest.windows(2).position(|pair| pair == b"*/"))
            .map_or(self.bytes.len(), |end| inside + end + 2)
    }
}

impl Iterator for Lexer<'_> {
    /// The piece and the range of bytes it covers.
    type Item = (Piece, std::ops::Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        let (piece, end) = match *rest {
            [] => return None,
            [quote @ (b'\'' | b'"' | b'`'), ..] => (Piece::Opaque, self.quoted_end(quote)),
            [b'#', ..] | [b'-', b'-'] => (Piece::Nothing, self.line_end()),
            [b'-', b'-', blank, ..] if blank <= b' ' => (Piece::Nothing, self.line_end()),
            [b'/', b'*', b'!', ..] => (Piece::Opaque, self.block_end()),
            [b'/', b'*', ..] => (Piece::Nothing, self.block_end()),
            [blank, ..] if blank.is_ascii_whitespace() => (Piece::Nothing, self.at + 1),
            [byte, ..] => (Piece::Byte(byte), self.at + 1),
        };
        let end = end.min(self.bytes.len());
        let range = self.at..end;
        self.at = end;
        Some((piece, range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(sql: &str) -> String {
        Lexer::new(sql)
            .map(|(piece, _)| match piece {
                Piece::Nothing => '_',
                Piece::Opaque => 'Q',
                Piece::Byte(byte) => char::from(byte),
            })
            .collect()
    }

    #[test]
    fn quotes_and_comments_are_single_pieces() {
        for (sql, expected) in [
            ("a'b;c'd", "aQd"),
            ("'a''b'", "QQ"),
            (r"'a\'b'c", "Qc"),
            (r#""a\"b"c"#, "Qc"),
            (r"`a\`c", "Qc"),
            ("a--1", "a--1"),
            ("a-- 1\nb", "a_b"),
            ("--", "_"),
            ("#x\ny", "_y"),
            ("/* ; */a", "_a"),
            ("/*!40101 x */a", "Qa"),
            ("/*", "_"),
            ("/*/", "_"),
            ("'open", "Q"),
            (r"'open\", "Q"),
            ("1/2", "1/2"),
        ] {
            assert_eq!(shape(sql), expected, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn pieces_cover_the_text(sql in r#"([a-z;?'"`\\#*/! \n-]|é){0,40}"#) {
            let mut at = 0;
            for (_, range) in Lexer::new(&sql) {
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > range.start);
                at = range.end;
            }
            prop_assert_eq!(at, sql.len());
        }
    }
}
