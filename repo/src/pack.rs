//! The pack format: header, blobs back to back, trailer that lists them, footer that finds and guards the trailer.
//!
//! ```text
//! header   16  magic "CFRPACK\n", u32 version, u32 zero
//! blobs        their bytes, without gaps, from offset 16 on
//! trailer  48  per blob: BLAKE3 (32), u64 offset, u64 length
//! footer   64  u64 trailer offset, u64 number of blobs, BLAKE3 of header + trailer + these 16 bytes, u32 version,
//!              u32 zero, magic "\nCFRPEND"
//! ```
//!
//! Numbers are little endian. A restore never needs the trailer (the manifest says where each blob is); tools that check
//! or rescue a repository do.

use crate::check_version;
use crate::checksum::Checksum;
use bytes::{BufMut, Bytes, BytesMut};
use coffer_stdx::{Error, Result};

/// Starts every pack.
pub const MAGIC: &[u8; 8] = b"CFRPACK\n";
/// Ends every pack.
pub const END_MAGIC: &[u8; 8] = b"\nCFRPEND";
/// Bytes before the first blob.
pub const HEADER_BYTES: u64 = 16;
/// Bytes of a trailer entry.
pub const ENTRY_BYTES: u64 = 48;
/// Bytes after the trailer.
pub const FOOTER_BYTES: u64 = 64;
/// Most blobs in one pack, so that a trailer stays below 3 MiB.
pub const MAX_BLOBS: usize = 1 << 16;

/// Where a blob lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobEntry {
    /// Of its bytes.
    pub checksum: Checksum,
    /// Of its first byte in the pack.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// The size of a pack with so many blobs of so many bytes in all.
pub fn pack_bytes(blobs: usize, blob_bytes: u64) -> u64 {
    HEADER_BYTES + blob_bytes + blobs as u64 * ENTRY_BYTES + FOOTER_BYTES
}

/// The header.
pub fn header() -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES as usize);
    bytes.put_slice(MAGIC);
    bytes.put_u32_le(crate::FORMAT_VERSION);
    bytes.put_u32_le(0);
    bytes.freeze()
}

/// Trailer and footer for blobs that end at `offset`.
pub fn trailer(entries: &[BlobEntry], offset: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(entries.len() * ENTRY_BYTES as usize + FOOTER_BYTES as usize);
    for entry in entries {
        bytes.put_slice(entry.checksum.as_bytes());
        bytes.put_u64_le(entry.offset);
        bytes.put_u64_le(entry.length);
    }
    bytes.put_u64_le(offset);
    bytes.put_u64_le(entries.len() as u64);
    let checksum = guard(&header(), &bytes);
    bytes.put_slice(checksum.as_bytes());
    bytes.put_u32_le(crate::FORMAT_VERSION);
    bytes.put_u32_le(0);
    bytes.put_slice(END_MAGIC);
    bytes.freeze()
}

fn guard(header: &[u8], trailer_and_place: &[u8]) -> Checksum {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(trailer_and_place);
    Checksum::finish(&hasher)
}

/// What the footer says about the trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Where the trailer starts.
    pub trailer_offset: u64,
    /// Blobs in the pack.
    pub blobs: u64,
    checksum: Checksum,
    place: [u8; 16],
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Read the last [`FOOTER_BYTES`] of a pack of `size` bytes. `name` is for error texts.
pub fn parse_footer(bytes: &[u8], size: u64, name: &str) -> Result<Footer> {
    let broken = |what: &str| Error::corrupt(format!("pack '{name}': {what}"));
    if bytes.len() as u64 != FOOTER_BYTES || size < HEADER_BYTES + FOOTER_BYTES {
        return Err(broken("too short, it was cut"));
    }
    if &bytes[56..] != END_MAGIC {
        return Err(broken("it does not end as a pack does, it was cut or is no pack"));
    }
    check_version(u32::from_le_bytes(array(bytes, 48)), crate::FORMAT_VERSION, &format!("pack '{name}'"))?;
    if array(bytes, 52) != [0; 4] {
        return Err(broken("the footer has a damaged byte"));
    }
    let (trailer_offset, blobs) = (u64::from_le_bytes(array(bytes, 0)), u64::from_le_bytes(array(bytes, 8)));
    let room = size - FOOTER_BYTES;
    let trailer_bytes = blobs.checked_mul(ENTRY_BYTES).filter(|_| blobs <= MAX_BLOBS as u64);
    if trailer_bytes.and_then(|trailer| trailer.checked_add(trailer_offset)) != Some(room) {
        return Err(broken("the footer does not fit the size of the object"));
    }
    Ok(Footer { trailer_offset, blobs, checksum: Checksum::from(array(bytes, 16)), place: array(bytes, 0) })
}

/// Read the trailer that `footer` speaks of, and check it together with the header.
pub fn parse_trailer(header: &[u8], trailer: &[u8], footer: &Footer, name: &str) -> Result<Vec<BlobEntry>> {
    let broken = |what: &str| Error::corrupt(format!("pack '{name}': {what}"));
    if header.len() as u64 != HEADER_BYTES || trailer.len() as u64 != footer.blobs * ENTRY_BYTES {
        return Err(broken("too short, it was cut"));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(trailer).update(&footer.place);
    if Checksum::finish(&hasher) != footer.checksum {
        return Err(broken("header and trailer do not match their BLAKE3"));
    }
    if &header[..8] != MAGIC {
        return Err(broken("it does not start as a pack does"));
    }
    let mut next = HEADER_BYTES;
    let mut entries = Vec::with_capacity(footer.blobs as usize);
    for entry in trailer.chunks_exact(ENTRY_BYTES as usize) {
        let (offset, length) = (u64::from_le_bytes(array(entry, 32)), u64::from_le_bytes(array(entry, 40)));
        if offset != next {
            return Err(broken("blobs do not follow each other"));
        }
        next = next.checked_add(length).ok_or_else(|| broken("a blob is longer than any object"))?;
        entries.push(BlobEntry { checksum: Checksum::from(array(entry, 0)), offset, length });
    }
    if next != footer.trailer_offset {
        return Err(broken("blobs do not end where the trailer starts"));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    fn sample(blobs: &[&[u8]]) -> Vec<u8> {
        let mut pack = header().to_vec();
        let mut entries = Vec::new();
        for blob in blobs {
            entries.push(BlobEntry {
                checksum: Checksum::of(blob),
                offset: pack.len() as u64,
                length: blob.len() as u64,
            });
            pack.extend_from_slice(blob);
        }
        let end = trailer(&entries, pack.len() as u64);
        pack.extend_from_slice(&end);
        pack
    }

    /// Everything a checking tool does.
    fn verify(pack: &[u8]) -> Result<Vec<BlobEntry>> {
        let size = pack.len() as u64;
        let footer_at = pack.len().saturating_sub(FOOTER_BYTES as usize);
        let footer = parse_footer(&pack[footer_at..], size, "p")?;
        let entries = parse_trailer(&pack[..16], &pack[footer.trailer_offset as usize..footer_at], &footer, "p")?;
        for entry in &entries {
            let blob = &pack[entry.offset as usize..(entry.offset + entry.length) as usize];
            if Checksum::of(blob) != entry.checksum {
                return Err(Error::corrupt("blob"));
            }
        }
        Ok(entries)
    }

    #[test]
    fn a_pack_reads_back() {
        for blobs in [&[][..], &[&b""[..]], &[&b"abc"[..], b"", b"defg"]] {
            let pack = sample(blobs);
            let entries = verify(&pack).unwrap();
            assert_eq!(entries.len(), blobs.len());
            assert_eq!(pack.len() as u64, pack_bytes(blobs.len(), blobs.iter().map(|b| b.len() as u64).sum()));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let pack = sample(&[b"abc", b"defg"]);
        for at in 0..pack.len() {
            for bit in 0..8 {
                let mut bad = pack.clone();
                bad[at] ^= 1 << bit;
                assert!(verify(&bad).is_err(), "bit {bit} of byte {at}");
            }
            assert!(verify(&pack[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_pack_is_refused_by_version() {
        let mut pack = sample(&[b"x"]);
        let at = pack.len() - 16;
        pack[at] = 2;
        let error = verify(&pack).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.message().contains("version 2"), "{error}");
    }
}
