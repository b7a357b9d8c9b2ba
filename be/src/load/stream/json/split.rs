//! Bytes into JSON documents, chunk by chunk: lines, the elements of one outer array, or the whole file.

use crate::limits::LINE_BYTES;
use coffer_stdx::{Error, Result};

/// How documents follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// One in each line.
    Lines,
    /// The elements of one array.
    Elements,
    /// One in all.
    Whole,
}

/// Cuts documents, each of at most [`LINE_BYTES`].
#[derive(Debug)]
pub struct Splitter {
    frame: Frame,
    buffer: Vec<u8>,
    /// Where the next document begins.
    start: usize,
    /// What was looked at.
    seen: usize,
    ended: bool,
    /// Documents so far.
    count: u64,
    array: Array,
}

/// Where in the outer array the bytes looked at end.
#[derive(Debug, Default)]
struct Array {
    opened: bool,
    closed: bool,
    /// Open brackets within the element.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// A comma was the last thing between elements.
    wants_element: bool,
}

impl Splitter {
    /// For a file of this frame.
    pub fn new(frame: Frame) -> Splitter {
        Splitter { frame, buffer: Vec::new(), start: 0, seen: 0, ended: false, count: 0, array: Array::default() }
    }

    /// More of the file.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.start);
        self.seen -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(chunk);
    }

    /// That was all.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// The next document and its number, from 1; `None` when more must be fed first, or at the end.
    pub fn next_document(&mut self) -> Result<Option<(u64, &[u8])>> {
        let found = match self.frame {
            Frame::Lines => self.line(),
            Frame::Elements => self.element()?,
            Frame::Whole if self.ended && self.start < self.buffer.len() => {
                let found = (self.start, self.buffer.len());
                self.start = self.buffer.len();
                Some(found)
            }
            Frame::Whole => None,
        };
        let Some((from, to)) = found else {
            if self.buffer.len() - self.start > LINE_BYTES {
                return Err(Error::limit(format!("a JSON document is longer than {LINE_BYTES} bytes")));
            }
            return Ok(None);
        };
        self.count += 1;
        Ok(Some((self.count, &self.buffer[from..to])))
    }

    /// The next line that is not blank.
    fn line(&mut self) -> Option<(usize, usize)> {
        loop {
            let end = self.buffer[self.seen..].iter().position(|byte| *byte == b'\n').map(|at| self.seen + at);
            let (from, to) = match end {
                Some(end) => (self.start, end),
                None if self.ended && self.start < self.buffer.len() => (self.start, self.buffer.len()),
                None => {
                    self.seen = self.buffer.len();
                    return None;
                }
            };
            self.start = (to + 1).min(self.buffer.len());
            self.seen = self.start;
            if !self.buffer[from..to].trim_ascii().is_empty() {
                return Some((from, to));
            }
        }
    }

    /// The next element of the outer array.
    fn element(&mut self) -> Result<Option<(usize, usize)>> {
        while let Some(byte) = self.buffer.get(self.seen).copied() {
            let at = self.seen;
            self.seen += 1;
            if self.array.skips(byte) {
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if self.array.closed => return Err(Error::invalid("not JSON: something follows the outer array")),
                _ if !self.array.opened => {
                    if byte != b'[' {
                        return Err(Error::invalid("strip_outer_array is set, but the file does not begin with '['"));
                    }
                    self.array.opened = true;
                    self.start = self.seen;
                }
                b'{' | b'[' => self.array.depth += 1,
                b'}' | b']' if self.array.depth > 0 => self.array.depth -= 1,
                b']' | b',' if self.array.depth == 0 => {
                    let from = self.start;
                    self.start = self.seen;
                    self.array.closed = byte == b']';
                    let empty = self.buffer[from..at].trim_ascii().is_empty();
                    let first = !std::mem::replace(&mut self.array.wants_element, byte == b',');
                    match (empty, byte) {
                        (false, _) => return Ok(Some((from, at))),
                        // `[]`
                        (true, b']') if first && self.count == 0 => {}
                        (true, _) => return Err(Error::invalid("not JSON: an element of the outer array is missing")),
                    }
                }
                _ => {}
            }
        }
        if self.ended && !self.array.closed && (self.array.opened || !self.buffer.is_empty()) {
            return Err(Error::invalid("not JSON: the outer array does not end"));
        }
        Ok(None)
    }
}

impl Array {
    /// Follow a string; whether the byte belongs to one.
    fn skips(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return true;
        }
        self.in_string = byte == b'"' && self.opened && !self.closed;
        self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(frame: Frame, text: &str, chunk: usize) -> Result<Vec<String>> {
        let mut splitter = Splitter::new(frame);
        let mut found = Vec::new();
        for part in text.as_bytes().chunks(chunk.max(1)) {
            splitter.feed(part);
            while let Some((_, document)) = splitter.next_document()? {
                found.push(String::from_utf8_lossy(document).trim().to_owned());
            }
        }
        splitter.finish();
        while let Some((_, document)) = splitter.next_document()? {
            found.push(String::from_utf8_lossy(document).trim().to_owned());
        }
        Ok(found)
    }

    #[test]
    fn documents_in_every_frame() {
        for chunk in [1, 2, 1_000] {
            assert_eq!(split(Frame::Lines, "{\"a\":1}\r\n\n {}\n3", chunk).unwrap(), ["{\"a\":1}", "{}", "3"]);
            let array = " [ {\"a\": \"],\\\"{\"}, [1,2] ,3 ] \n";
            assert_eq!(split(Frame::Elements, array, chunk).unwrap(), ["{\"a\": \"],\\\"{\"}", "[1,2]", "3"]);
            assert_eq!(split(Frame::Elements, "[ ]", chunk).unwrap(), Vec::<String>::new());
            assert_eq!(split(Frame::Elements, "", chunk).unwrap(), Vec::<String>::new());
            assert_eq!(split(Frame::Whole, "{\n}", chunk).unwrap(), ["{\n}"]);
            for wrong in ["{}", "[1", "[1] 2", "[,1]", "[1,,2]", "[1,]"] {
                assert!(split(Frame::Elements, wrong, chunk).is_err(), "{wrong}");
            }
        }
    }

    #[test]
    fn a_document_without_end_is_refused() {
        let mut splitter = Splitter::new(Frame::Whole);
        splitter.feed(&vec![b' '; LINE_BYTES + 1]);
        assert!(splitter.next_document().unwrap_err().message().contains("longer than"));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "[\\[\\]{}\",\\\\a \n]{0,40}", chunk in 1_usize..9) {
            for frame in [Frame::Lines, Frame::Elements, Frame::Whole] {
                prop_assert_eq!(split(frame, &text, chunk).ok(), split(frame, &text, 1_000).ok());
            }
        }
    }
}
