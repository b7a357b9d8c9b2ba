//! Files that come compressed: chunks of the body in, plain bytes out, some at a time. Pure.

use super::options::Compression;
use coffer_stdx::{Error, Result};
use flate2::write::MultiGzDecoder;
use std::io::{self, Write};

/// Packed bytes that are unpacked at a time: a byte of gzip stands for about a thousand at most.
const SLICE_BYTES: usize = 4 << 10;

/// Makes a file of its body.
pub struct Unpacker {
    gzip: Option<MultiGzDecoder<Vec<u8>>>,
}

impl Unpacker {
    /// For a body that is compressed so.
    pub fn new(compression: Compression) -> Unpacker {
        let gzip = match compression {
            Compression::Plain => None,
            Compression::Gzip => Some(MultiGzDecoder::new(Vec::new())),
        };
        Unpacker { gzip }
    }

    /// More of the body; what it stands for goes to `take`.
    pub fn feed(&mut self, chunk: &[u8], mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some(decoder) = &mut self.gzip else { return take(chunk) };
        for slice in chunk.chunks(SLICE_BYTES) {
            decoder.write_all(slice).map_err(broken)?;
            hand_on(decoder, &mut take)?;
        }
        Ok(())
    }

    /// The end of the body; what is left goes to `take`. Invalid when the body is cut short.
    pub fn finish(mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some(decoder) = &mut self.gzip else { return Ok(()) };
        decoder.try_finish().map_err(broken)?;
        hand_on(decoder, &mut take)
    }
}

fn hand_on(decoder: &mut MultiGzDecoder<Vec<u8>>, take: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let plain = decoder.get_mut();
    if !plain.is_empty() {
        take(plain)?;
        plain.clear();
    }
    Ok(())
}

/// Nothing is read or written here, so what fails is the stream.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: io::Error) -> Error {
    Error::invalid(format!("compress_type is gz, but the body is not gzip or is cut short: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// What comes out, and the longest piece.
    fn unpack(compression: Compression, body: &[u8], chunk: usize) -> Result<(Vec<u8>, usize)> {
        let (mut plain, mut longest) = (Vec::new(), 0);
        let mut take = |bytes: &[u8]| {
            plain.extend_from_slice(bytes);
            longest = longest.max(bytes.len());
            Ok(())
        };
        let mut unpacker = Unpacker::new(compression);
        for chunk in body.chunks(chunk) {
            unpacker.feed(chunk, &mut take)?;
        }
        unpacker.finish(&mut take)?;
        Ok((plain, longest))
    }

    #[test]
    fn bodies_come_out_whatever_the_chunks() {
        let plain: Vec<u8> = (0..10_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        // Two files in one, as `cat a.gz b.gz` makes them.
        let body = [gzip(&plain), gzip(b""), gzip(b"more")].concat();
        let wanted = [plain.as_slice(), b"more"].concat();
        for chunk in [1, 7, 4_096, body.len()] {
            assert!(unpack(Compression::Gzip, &body, chunk).unwrap().0 == wanted, "{chunk}");
        }
        assert_eq!(unpack(Compression::Plain, b"abc", 2).unwrap().0, b"abc");
    }

    #[test]
    fn a_body_that_unpacks_to_much_more_does_so_in_pieces() {
        let body = gzip(&vec![b'x'; 8 << 20]);
        let (plain, longest) = unpack(Compression::Gzip, &body, body.len()).unwrap();
        assert!(plain.len() == 8 << 20 && longest < 6 << 20, "{longest}");
    }

    #[test]
    fn bodies_that_are_cut_short_changed_or_no_gzip_are_refused() {
        let body = gzip(b"some text that is long enough");
        for end in 0..body.len() {
            assert!(unpack(Compression::Gzip, &body[..end], 5).is_err(), "{end}");
        }
        let mut changed = body.clone();
        let at = changed.len() - 6;
        changed[at] ^= 1;
        assert!(unpack(Compression::Gzip, &changed, 5).is_err());
        let error = unpack(Compression::Gzip, b"1|a|2\n", 5).unwrap_err();
        assert!(error.message().contains("not gzip"), "{error}");
        assert!(unpack(Compression::Gzip, &[body.as_slice(), b"rest"].concat(), 5).is_err());
    }
}
