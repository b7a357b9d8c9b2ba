//! Records and snapshot files as bytes: versioned, checksummed, and refused by name when they are not what was written.
//!
//! ```text
//! record         version (1 byte) | BLAKE3 of the body, first 8 bytes | body (JSON)
//! snapshot file  "COFFERSM" | version (4 bytes LE) | body length (8 bytes LE) | BLAKE3 of the body (32) | body
//! ```

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

const RECORD_VERSION: u8 = 1;
const RECORD_HEAD: usize = 1 + 8;
const FILE_MAGIC: &[u8; 8] = b"COFFERSM";
const FILE_VERSION: u32 = 1;
const FILE_HEAD: usize = 8 + 4 + 8 + 32;

/// A value as a record.
pub(super) fn seal<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut out = vec![0; RECORD_HEAD];
    serde_json::to_writer(&mut out, value).map_err(|error| Error::bug(format!("encode a log record: {error}")))?;
    let sum = blake3::hash(&out[RECORD_HEAD..]);
    out[0] = RECORD_VERSION;
    out[1..RECORD_HEAD].copy_from_slice(&sum.as_bytes()[..8]);
    Ok(out)
}

/// A record as a value. `what` names it in errors.
pub(super) fn open<T: DeserializeOwned>(record: &[u8], what: impl Fn() -> String) -> Result<T> {
    let Some((head, body)) = record.split_at_checked(RECORD_HEAD) else {
        return Err(Error::corrupt(format!("{} is too short", what())));
    };
    if head[0] != RECORD_VERSION {
        return Err(Error::not_supported(format!(
            "{} has format {}, this program reads {RECORD_VERSION}",
            what(),
            head[0]
        )));
    }
    if blake3::hash(body).as_bytes()[..8] != head[1..] {
        return Err(Error::corrupt(format!("{} does not match its checksum", what())));
    }
    serde_json::from_slice(body).map_err(|error| Error::corrupt(format!("{} cannot be read: {error}", what())))
}

/// The bytes of a snapshot file.
pub(super) fn seal_file(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FILE_HEAD + body.len());
    out.extend_from_slice(FILE_MAGIC);
    out.extend_from_slice(&FILE_VERSION.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(blake3::hash(body).as_bytes());
    out.extend_from_slice(body);
    out
}

/// The body of a snapshot file.
pub(super) fn open_file(bytes: &[u8], path: &Path) -> Result<Vec<u8>> {
    let broken = |why: &str| Error::corrupt(format!("metadata snapshot {} is damaged: {why}", path.display()));
    let (head, body) = bytes.split_at_checked(FILE_HEAD).ok_or_else(|| broken("it is shorter than its header"))?;
    if &head[..8] != FILE_MAGIC {
        return Err(broken("it does not start as a snapshot does"));
    }
    let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if version != FILE_VERSION {
        let path = path.display();
        return Err(Error::not_supported(format!(
            "metadata snapshot {path} has format {version}, this program reads {FILE_VERSION}"
        )));
    }
    if head[12..20] != (body.len() as u64).to_le_bytes() {
        return Err(broken("its length is not the one in its header"));
    }
    if head[20..] != *blake3::hash(body).as_bytes() {
        return Err(broken("it does not match its checksum"));
    }
    Ok(body.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    #[test]
    fn a_record_reads_back_and_no_flipped_bit_passes() {
        let record = seal(&"vote").unwrap();
        assert_eq!(open::<String>(&record, || "r".to_owned()).unwrap(), "vote");
        for at in 0..record.len() {
            let mut broken = record.clone();
            broken[at] ^= 1;
            assert!(open::<String>(&broken, || "record 7".to_owned()).unwrap_err().message().contains("record 7"));
        }
        assert_eq!(open::<String>(&record[..3], || "r".to_owned()).unwrap_err().kind(), ErrorKind::Corrupt);
        let other = seal(&7).unwrap();
        assert_eq!(open::<String>(&other, || "r".to_owned()).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_file_reads_back_and_no_flipped_bit_passes() {
        let path = Path::new("/meta/snapshot");
        let file = seal_file(b"{}");
        assert_eq!(open_file(&file, path).unwrap(), b"{}");
        for at in 0..file.len() {
            let mut broken = file.clone();
            broken[at] ^= 1;
            assert!(open_file(&broken, path).unwrap_err().message().contains("/meta/snapshot"), "byte {at}");
        }
        for length in 0..file.len() {
            assert_eq!(open_file(&file[..length], path).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
