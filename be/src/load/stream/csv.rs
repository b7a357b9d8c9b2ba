//! Text into records and fields, chunk by chunk, without copying fields.
//!
//! A record ends at the line delimiter (with `\n` a `\r` before it belongs to it) or at the end of the file. With an
//! enclosing byte, a field that begins with it runs to the next one; separators and delimiters inside are text, a doubled
//! enclosing byte or one after the escape byte is literal, and what follows the closing one up to the separator is kept.
//! `\N` is NULL unless it is enclosed. Empty records and a byte order mark at the beginning are skipped.

use super::options::Shape;
use crate::limits::LINE_BYTES;
use coffer_stdx::{Error, Result};

const NULL: &[u8] = b"\\N";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Cuts text.
#[derive(Debug)]
pub struct Reader {
    shape: Shape,
    buffer: Vec<u8>,
    /// Where the next record begins.
    start: usize,
    /// No delimiter begins before this.
    scanned: usize,
    began: bool,
    ended: bool,
    to_skip: u64,
    fields: Vec<Field>,
    /// Enclosed fields with something literal in them, without what made it literal.
    scratch: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    from: usize,
    to: usize,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Plain,
    Enclosed,
    Scratch,
}

/// One record; it borrows the reader.
#[derive(Debug)]
pub struct Record<'a> {
    /// The whole of it, without the delimiter.
    pub line: &'a [u8],
    buffer: &'a [u8],
    scratch: &'a [u8],
    fields: &'a [Field],
    trim: bool,
}

impl Record<'_> {
    /// How many fields it has.
    pub fn width(&self) -> usize {
        self.fields.len()
    }

    /// A field; `None` is NULL.
    pub fn field(&self, number: usize) -> Option<&[u8]> {
        let field = self.fields[number];
        match field.place {
            Place::Scratch => Some(&self.scratch[field.from..field.to]),
            Place::Enclosed => Some(&self.buffer[field.from..field.to]),
            Place::Plain => match &self.buffer[field.from..field.to] {
                NULL => None,
                [b'"', inner @ .., b'"'] if self.trim => Some(inner),
                text => Some(text),
            },
        }
    }
}

impl Reader {
    /// For a file of this shape.
    pub fn new(shape: Shape) -> Reader {
        let to_skip = shape.skip_lines;
        Reader {
            shape,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            began: false,
            ended: false,
            to_skip,
            fields: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// More of the file.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(chunk);
        if !self.began && self.buffer.len() >= BYTE_ORDER_MARK.len() {
            self.began = true;
            if self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.start = BYTE_ORDER_MARK.len();
                self.scanned = self.start;
            }
        }
    }

    /// That was all.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// The next record; `None` when more must be fed first, or at the end.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>> {
        let (from, to) = loop {
            let Some((from, to)) = self.advance()? else { return Ok(None) };
            if self.to_skip > 0 {
                self.to_skip -= 1;
            } else if from < to {
                break (from, to);
            }
        };
        Ok(Some(Record {
            line: &self.buffer[from..to],
            buffer: &self.buffer,
            scratch: &self.scratch,
            fields: &self.fields,
            trim: self.shape.trim_double_quotes,
        }))
    }

    /// Find the next record and its fields: from, to.
    fn advance(&mut self) -> Result<Option<(usize, usize)>> {
        if self.start == self.buffer.len() {
            return Ok(None);
        }
        let found = if self.shape.enclose.is_some() { self.walk() } else { self.split() };
        let Some((to, next)) = found else {
            if self.buffer.len() - self.start > LINE_BYTES {
                return Err(Error::limit(format!(
                    "a line is longer than {LINE_BYTES} bytes; is line_delimiter right?"
                )));
            }
            return Ok(None);
        };
        let from = std::mem::replace(&mut self.start, next);
        self.scanned = next;
        Ok(Some((from, to)))
    }

    /// Without enclosing: find the delimiter, then the separators. Returns the end of the record and the next one's begin.
    fn split(&mut self) -> Option<(usize, usize)> {
        let found = find(&self.buffer, self.scanned, &self.shape.delimiter);
        let (mut to, next) = match found {
            Some(at) => (at, at + self.shape.delimiter.len()),
            None if self.ended => (self.buffer.len(), self.buffer.len()),
            None => {
                self.scanned = self.start.max((self.buffer.len() + 1).saturating_sub(self.shape.delimiter.len()));
                return None;
            }
        };
        if self.shape.delimiter == b"\n" && to > self.start && self.buffer[to - 1] == b'\r' {
            to -= 1;
        }
        self.fields.clear();
        let mut from = self.start;
        if let [separator] = self.shape.separator.as_slice() {
            for (offset, byte) in self.buffer[self.start..to].iter().enumerate() {
                if byte == separator {
                    let at = self.start + offset;
                    self.fields.push(Field { from, to: at, place: Place::Plain });
                    from = at + 1;
                }
            }
        } else {
            while let Some(at) = find(&self.buffer[..to], from, &self.shape.separator) {
                self.fields.push(Field { from, to: at, place: Place::Plain });
                from = at + self.shape.separator.len();
            }
        }
        self.fields.push(Field { from, to, place: Place::Plain });
        Some((to, next))
    }

    /// With enclosing: one field after the other.
    fn walk(&mut self) -> Option<(usize, usize)> {
        self.fields.clear();
        self.scratch.clear();
        let mut at = self.start;
        loop {
            let field = self.enclosed(at)?;
            let (begin, rest) = match field {
                Some((field, after)) => (Some(field), after),
                None => (None, at),
            };
            let (to, end) = self.field_end(rest)?;
            match begin {
                Some(field) if rest == to => self.fields.push(field),
                // Text after the closing byte: the field is what was enclosed and that text.
                Some(field) => {
                    let from = self.scratch.len();
                    let inner = match field.place {
                        Place::Scratch => self.scratch[field.from..field.to].to_vec(),
                        Place::Plain | Place::Enclosed => self.buffer[field.from..field.to].to_vec(),
                    };
                    self.scratch.extend(inner);
                    self.scratch.extend_from_slice(&self.buffer[rest..to]);
                    self.fields.push(Field { from, to: self.scratch.len(), place: Place::Scratch });
                }
                None => self.fields.push(Field { from: at, to, place: Place::Plain }),
            }
            match end {
                End::Separator => at = to + self.shape.separator.len(),
                End::Record(next) => return Some((to, next)),
            }
        }
    }

    /// The enclosed field that begins at `at` and where it ends; `Some(None)` when none does, `None` when more is needed.
    fn enclosed(&mut self, at: usize) -> Option<Option<(Field, usize)>> {
        let enclose = self.shape.enclose?;
        if self.buffer.get(at) != Some(&enclose) {
            return Some(None);
        }
        let (from, mark) = (at + 1, self.scratch.len());
        let (mut copied, mut position) = (from, from);
        while position < self.buffer.len() {
            let byte = self.buffer[position];
            let following = self.buffer.get(position + 1).copied();
            let undecided = following.is_none() && !self.ended;
            if self.shape.escape == Some(byte) && byte != enclose {
                if undecided {
                    return None;
                }
                self.scratch.extend_from_slice(&self.buffer[copied..position]);
                copied = position + 1;
                position += 2;
            } else if byte == enclose {
                if undecided {
                    return None;
                }
                if following == Some(enclose) {
                    self.scratch.extend_from_slice(&self.buffer[copied..=position]);
                    position += 2;
                    copied = position;
                    continue;
                }
                if self.scratch.len() == mark && copied == from {
                    return Some(Some((Field { from, to: position, place: Place::Enclosed }, position + 1)));
                }
                self.scratch.extend_from_slice(&self.buffer[copied..position]);
                let field = Field { from: mark, to: self.scratch.len(), place: Place::Scratch };
                return Some(Some((field, position + 1)));
            } else {
                position += 1;
            }
        }
        // Never closed: at the end of the file it is plain text.
        if self.ended { Some(None) } else { None }
    }

    /// Where the field that goes on at `from` ends, and what ends it.
    fn field_end(&self, from: usize) -> Option<(usize, End)> {
        let (separator, delimiter) = (&self.shape.separator, &self.shape.delimiter);
        let mut at = from;
        while at < self.buffer.len() {
            let rest = &self.buffer[at..];
            if rest.starts_with(separator) {
                return Some((at, End::Separator));
            }
            if rest.starts_with(delimiter) {
                return Some((at, End::Record(at + delimiter.len())));
            }
            if delimiter == b"\n" && rest.starts_with(b"\r\n") {
                return Some((at, End::Record(at + 2)));
            }
            at += 1;
        }
        self.ended.then_some((at, End::Record(at)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Separator,
    Record(usize),
}

/// The first place of `needle` in `hay` at or after `from`.
fn find(hay: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    let (first, others) = needle.split_first()?;
    let mut at = from;
    loop {
        at += hay.get(at..)?.iter().position(|byte| byte == first)?;
        if hay[at + 1..].starts_with(others) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(separator: &str, delimiter: &str) -> Shape {
        Shape { separator: separator.into(), delimiter: delimiter.into(), ..Shape::default() }
    }

    fn enclosed() -> Shape {
        Shape { enclose: Some(b'"'), escape: Some(b'\\'), ..shape(",", "\n") }
    }

    /// All records; NULL is "NULL", other fields are in brackets.
    fn read(shape: &Shape, text: &[u8], chunk: usize) -> Vec<Vec<String>> {
        let mut reader = Reader::new(shape.clone());
        let mut records = Vec::new();
        let mut drain = |reader: &mut Reader| {
            while let Some(record) = reader.next_record().unwrap() {
                let show = |field: Option<&[u8]>| {
                    field.map_or("NULL".to_owned(), |text| format!("[{}]", String::from_utf8_lossy(text)))
                };
                records.push((0..record.width()).map(|number| show(record.field(number))).collect());
            }
        };
        for part in text.chunks(chunk) {
            reader.feed(part);
            drain(&mut reader);
        }
        reader.finish();
        drain(&mut reader);
        records
    }

    fn check(shape: &Shape, text: &str, wanted: &[&[&str]]) {
        for chunk in [1, 2, 3, 1_000] {
            assert_eq!(read(shape, text.as_bytes(), chunk), wanted, "{text:?} in chunks of {chunk}");
        }
    }

    #[test]
    fn plain_text() {
        check(&shape("|", "\n"), "1|a\n\n2|\r\n\\N|b", &[&["[1]", "[a]"], &["[2]", "[]"], &["NULL", "[b]"]]);
        check(&shape("||", "@@"), "1||a@b@@2||@@", &[&["[1]", "[a@b]"], &["[2]", "[]"]]);
        check(&shape(",", "\n"), "\u{feff}a,b\n", &[&["[a]", "[b]"]]);
        check(&shape(",", "\r\n"), "a\r,b\r\nc,d", &[&["[a\r]", "[b]"], &["[c]", "[d]"]]);
        let skip = Shape { skip_lines: 2, trim_double_quotes: true, ..shape(",", "\n") };
        check(&skip, "x\n\n\"a\",\"b\n", &[&["[a]", "[\"b]"]]);
        check(&shape(",", "\n"), "", &[]);
    }

    #[test]
    fn enclosed_text() {
        check(&enclosed(), "\"a,b\nc\",2\n", &[&["[a,b\nc]", "[2]"]]);
        check(&enclosed(), "\"a\"\"b\",\"c\\\"d\",\"\"\r\n", &[&["[a\"b]", "[c\"d]", "[]"]]);
        check(&enclosed(), "\"\\\\N\",\"\\N\",\\N\n", &[&["[\\N]", "[N]", "NULL"]]);
        check(&enclosed(), "\"a\"x,\"b\"\"c\"y\nz", &[&["[ax]", "[b\"cy]"], &["[z]"]]);
        check(&enclosed(), "1,\"open\n2,3\n", &[&["[1]", "[\"open]"], &["[2]", "[3]"]]);
        check(&enclosed(), "\"last\"", &[&["[last]"]]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut reader = Reader::new(shape(",", "\n"));
        reader.feed(&vec![b'x'; LINE_BYTES + 1]);
        assert!(reader.next_record().unwrap_err().message().contains("line_delimiter"));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "[ab,\"\\\\|\r\n]{0,60}", chunk in 1_usize..9, enclose in any::<bool>()) {
            let shape = if enclose { enclosed() } else { shape(",", "\n") };
            prop_assert_eq!(read(&shape, text.as_bytes(), chunk), read(&shape, text.as_bytes(), 1_000));
        }

        #[test]
        fn what_is_quoted_reads_back(fields in proptest::collection::vec("[ab,\"\\\\\r\n]{0,8}", 1..5)) {
            let quote = |field: &String| format!("\"{}\"", field.replace('\\', "\\\\").replace('"', "\"\""));
            let line = fields.iter().map(quote).collect::<Vec<_>>().join(",");
            let wanted: Vec<String> = fields.iter().map(|field| format!("[{field}]")).collect();
            prop_assert_eq!(read(&enclosed(), line.as_bytes(), 1_000), vec![wanted]);
        }
    }
}
