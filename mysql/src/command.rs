//! What a client asks in one packet.

use crate::lenenc::{Malformed, Reader};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    Quit,
    UseDatabase(&'a [u8]),
    Query(&'a [u8]),
    FieldList { table: &'a [u8], pattern: &'a [u8] },
    Statistics,
    Kill,
    Ping,
    ChangeUser(&'a [u8]),
    Prepare(&'a [u8]),
    Execute { statement: u32, arguments: &'a [u8] },
    SendLongData { statement: u32, parameter: u16, data: &'a [u8] },
    Close(u32),
    Reset(u32),
    SetOption(u16),
    Fetch(u32),
    ResetConnection,
    Unknown(u8),
}

impl<'a> Command<'a> {
    /// Read a packet.
    pub(crate) fn parse(packet: &'a [u8]) -> Result<Command<'a>, Malformed> {
        let mut reader = Reader::new(packet);
        Ok(match reader.u8()? {
            0x01 => Command::Quit,
            0x02 => Command::UseDatabase(reader.take_rest()),
            0x03 => Command::Query(reader.take_rest()),
            0x04 => Command::FieldList { table: reader.cstr(), pattern: reader.take_rest() },
            0x09 => Command::Statistics,
            0x0c => Command::Kill,
            0x0e => Command::Ping,
            0x11 => Command::ChangeUser(reader.take_rest()),
            0x16 => Command::Prepare(reader.take_rest()),
            0x17 => {
                let statement = reader.u32()?;
                // A cursor may be asked for (and is never given), the count of iterations is always 1.
                reader.take(1 + 4)?;
                Command::Execute { statement, arguments: reader.take_rest() }
            }
            0x18 => {
                Command::SendLongData { statement: reader.u32()?, parameter: reader.u16()?, data: reader.take_rest() }
            }
            0x19 => Command::Close(reader.u32()?),
            0x1a => Command::Reset(reader.u32()?),
            0x1b => Command::SetOption(reader.u16()?),
            0x1c => Command::Fetch(reader.u32()?),
            0x1f => Command::ResetConnection,
            other => Command::Unknown(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_are_read() {
        for (packet, expected) in [
            (&[1][..], Ok(Command::Quit)),
            (b"\x03select", Ok(Command::Query(b"select"))),
            (b"\x04t\0%", Ok(Command::FieldList { table: b"t", pattern: b"%" })),
            (&[0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 9], Ok(Command::Execute { statement: 1, arguments: &[9] })),
            (&[0x17, 1, 0, 0, 0], Err(Malformed)),
            (&[0x18, 2, 0, 0, 0, 3, 0, 7], Ok(Command::SendLongData { statement: 2, parameter: 3, data: &[7] })),
            (&[0x19, 1, 0], Err(Malformed)),
            (&[0x1d], Ok(Command::Unknown(0x1d))),
            (&[], Err(Malformed)),
        ] {
            assert_eq!(Command::parse(packet), expected, "{packet:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = Command::parse(&bytes);
        }
    }
}
