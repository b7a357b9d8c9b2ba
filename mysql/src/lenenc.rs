//! The protocol's own numbers and strings: little-endian integers, NUL-ended and length-encoded strings.
//!
//! [`Reader`] never panics: reading past the end is [`Malformed`].

/// The first byte of a text row's cell that is NULL.
pub(crate) const NULL_CELL: u8 = 0xfb;

/// A packet that ends too early or says impossible things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed communication packet")]
pub(crate) struct Malformed;

/// Append a length-encoded integer.
pub(crate) fn put_int(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    match value {
        0..=250 => out.push(bytes[0]),
        251..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&bytes[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Append a length-encoded string.
pub(crate) fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_int(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Append a NUL-ended string; a NUL inside ends it early for the reader, so callers pass names only.
pub(crate) fn put_cstr(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(value);
    out.push(0);
}

/// Reads a packet from its front.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Read `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Whether all is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Everything that is left.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length-encoded integer.
    pub(crate) fn int(&mut self) -> Result<u64, Malformed> {
        match self.u8()? {
            short @ 0..=250 => Ok(u64::from(short)),
            0xfc => self.u16().map(u64::from),
            0xfd => self.array::<3>().map(|b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], 0]))),
            0xfe => self.u64(),
            _ => Err(Malformed),
        }
    }

    /// A length-encoded string.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.int()?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }

    /// A NUL-ended string; the end of the packet ends it as well, as some clients leave the last NUL out.
    pub(crate) fn cstr(&mut self) -> &'a [u8] {
        match self.rest.iter().position(|byte| *byte == 0) {
            Some(end) => {
                let (text, rest) = self.rest.split_at(end);
                self.rest = &rest[1..];
                text
            }
            None => self.take_rest(),
        }
    }

    /// A NUL-ended string as text; bytes that are not UTF-8 are replaced.
    pub(crate) fn ctext(&mut self) -> String {
        String::from_utf8_lossy(self.cstr()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_take_the_shortest_form() {
        for (value, length) in
            [(0, 1), (250, 1), (251, 3), (0xffff, 3), (0x1_0000, 4), (0xff_ffff, 4), (0x100_0000, 9), (u64::MAX, 9)]
        {
            let mut out = Vec::new();
            put_int(&mut out, value);
            assert_eq!(out.len(), length, "{value}");
            assert_eq!(Reader::new(&out).int(), Ok(value));
        }
    }

    #[test]
    fn reading_past_the_end_is_malformed() {
        assert_eq!(Reader::new(&[0xfd, 1, 2]).int(), Err(Malformed));
        assert_eq!(Reader::new(&[0xfb]).int(), Err(Malformed));
        assert_eq!(Reader::new(&[5, b'a']).bytes(), Err(Malformed));
        assert_eq!(Reader::new(&[0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 0]).bytes(), Err(Malformed));
        let mut reader = Reader::new(b"ab\0cd");
        assert_eq!((reader.cstr(), reader.cstr(), reader.cstr()), (&b"ab"[..], &b"cd"[..], &b""[..]));
        assert!(reader.is_empty());
    }

    proptest! {
        #[test]
        fn strings_read_back(value: Vec<u8>, tail: Vec<u8>) {
            let mut out = Vec::new();
            put_bytes(&mut out, &value);
            out.extend_from_slice(&tail);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.bytes(), Ok(&value[..]));
            prop_assert_eq!(reader.take_rest(), &tail[..]);
        }

        #[test]
        fn random_bytes_do_not_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() && reader.bytes().is_ok() {}
        }
    }
}
