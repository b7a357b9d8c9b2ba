//! One hash, one spelling: BLAKE3 (256 bits), 64 lower-case hex digits in names and JSON, 32 bytes in binary records.

use coffer_stdx::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Hex digits of a checksum.
pub const HEX_DIGITS: usize = 64;

/// A BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Checksum([u8; 32]);

impl Checksum {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Checksum {
        Checksum(*blake3::hash(bytes).as_bytes())
    }

    /// Of what was fed to `hasher`.
    pub fn finish(hasher: &blake3::Hasher) -> Checksum {
        Checksum(*hasher.finalize().as_bytes())
    }

    /// From a binary record.
    pub fn from_slice(bytes: &[u8]) -> Result<Checksum> {
        let bytes =
            bytes.try_into().map_err(|_| Error::corrupt(format!("a BLAKE3 hash has 32 bytes, not {}", bytes.len())))?;
        Ok(Checksum(bytes))
    }

    /// For a binary record.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Checksum {
    fn from(bytes: [u8; 32]) -> Checksum {
        Checksum(bytes)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for Checksum {
    type Err = Error;

    fn from_str(text: &str) -> Result<Checksum> {
        parse_hex(text).map(Checksum).ok_or_else(|| Error::invalid(format!("'{text}' is not 64 lower-case hex digits")))
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Checksum, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Lower-case hex.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// `N` bytes from exactly `2 N` lower-case hex digits: one spelling, so that names compare as text.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_back_and_has_one_spelling() {
        let sum = Checksum::of(b"abc");
        let text = sum.to_string();
        assert_eq!(text, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert_eq!(text.parse::<Checksum>().unwrap(), sum);
        for bad in ["", "64", &text[1..], &text.to_uppercase(), &text.replace('6', "g"), &text.replace("64", "é")] {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_str::<Checksum>(&serde_json::to_string(&sum).unwrap()).unwrap(), sum);
        assert!(Checksum::from_slice(&[0; 31]).is_err());
    }
}
