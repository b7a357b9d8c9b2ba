//! The first packets of a connection: the server's greeting, the client's response.

use crate::auth::{Nonce, Plugin};
use crate::lenenc::{Malformed, Reader, put_cstr};

/// What either side can do; both use what both can.
pub(crate) mod capability {
    pub(crate) const LONG_PASSWORD: u32 = 1;
    pub(crate) const FOUND_ROWS: u32 = 1 << 1;
    pub(crate) const LONG_FLAG: u32 = 1 << 2;
    pub(crate) const CONNECT_WITH_DB: u32 = 1 << 3;
    pub(crate) const IGNORE_SPACE: u32 = 1 << 8;
    pub(crate) const PROTOCOL_41: u32 = 1 << 9;
    pub(crate) const INTERACTIVE: u32 = 1 << 10;
    /// Asked for in a packet of its own, before the client says who it is.
    pub(crate) const SSL: u32 = 1 << 11;
    pub(crate) const TRANSACTIONS: u32 = 1 << 13;
    pub(crate) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(crate) const MULTI_STATEMENTS: u32 = 1 << 16;
    pub(crate) const MULTI_RESULTS: u32 = 1 << 17;
    pub(crate) const PS_MULTI_RESULTS: u32 = 1 << 18;
    pub(crate) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(crate) const CONNECT_ATTRS: u32 = 1 << 20;
    pub(crate) const LENENC_AUTH: u32 = 1 << 21;
    pub(crate) const DEPRECATE_EOF: u32 = 1 << 24;

    /// What this server can. LOCAL_FILES and COMPRESS are not among it, SSL is where there
    /// is a certificate.
    pub(crate) const SERVER: u32 = LONG_PASSWORD
        | FOUND_ROWS
        | LONG_FLAG
        | CONNECT_WITH_DB
        | IGNORE_SPACE
        | PROTOCOL_41
        | INTERACTIVE
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_STATEMENTS
        | MULTI_RESULTS
        | PS_MULTI_RESULTS
        | PLUGIN_AUTH
        | CONNECT_ATTRS
        | LENENC_AUTH
        | DEPRECATE_EOF;
}

/// The session commits each statement by itself.
pub(crate) const STATUS_AUTOCOMMIT: u16 = 2;
/// Another result follows.
pub(crate) const STATUS_MORE_RESULTS: u16 = 8;
/// utf8mb4_general_ci: known to every client.
const CHARSET: u8 = 45;
/// More attributes than any client sends.
const MAX_ATTRIBUTES: usize = 64;

/// The server's first packet.
pub(crate) struct Greeting<'a> {
    pub(crate) version: &'a str,
    pub(crate) connection: u32,
    pub(crate) nonce: &'a Nonce,
    pub(crate) plugin: Plugin,
    /// Whether TLS is offered.
    pub(crate) tls: bool,
}

impl Greeting<'_> {
    /// Append the packet.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let [low, lower, higher, high] =
            (capability::SERVER | if self.tls { capability::SSL } else { 0 }).to_le_bytes();
        let (first, second) = self.nonce.0.split_at(8);
        out.push(10);
        put_cstr(out, self.version.as_bytes());
        out.extend_from_slice(&self.connection.to_le_bytes());
        put_cstr(out, first);
        out.extend_from_slice(&[low, lower, CHARSET]);
        out.extend_from_slice(&STATUS_AUTOCOMMIT.to_le_bytes());
        out.extend_from_slice(&[higher, high, self.nonce.0.len() as u8 + 1]);
        out.extend_from_slice(&[0; 10]);
        put_cstr(out, second);
        put_cstr(out, self.plugin.name().as_bytes());
    }
}

/// The packet that asks the client to answer again, by way of `plugin`.
pub(crate) fn encode_auth_switch(out: &mut Vec<u8>, plugin: Plugin, nonce: &Nonce) {
    out.push(0xfe);
    put_cstr(out, plugin.name().as_bytes());
    put_cstr(out, &nonce.0);
}

/// Whether the client's first packet asks for TLS: it ends where the name of the user would begin.
pub(crate) fn asks_for_tls(packet: &[u8]) -> bool {
    let capabilities = packet.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    packet.len() == 4 + 4 + 1 + 23 && capabilities & capability::SSL != 0
}

/// Who the client says it is: in its first packet, or in COM_CHANGE_USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// What both sides can.
    pub(crate) capabilities: u32,
    pub(crate) user: String,
    pub(crate) answer: Vec<u8>,
    pub(crate) database: Option<String>,
    /// The plugin of the answer; `None` from clients that do not name one.
    pub(crate) plugin: Option<String>,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Response {
    /// Read the client's first packet.
    pub(crate) fn parse(packet: &[u8]) -> Result<Response, Malformed> {
        let mut reader = Reader::new(packet);
        let capabilities = reader.u32()? & capability::SERVER;
        if capabilities & capability::PROTOCOL_41 == 0 {
            return Err(Malformed);
        }
        // Longest packet, character set, 23 reserved bytes: all text is UTF-8 here whatever the client names.
        reader.take(4 + 1 + 23)?;
        let user = reader.ctext();
        let answer = if capabilities & capability::LENENC_AUTH != 0 {
            reader.bytes()?
        } else if capabilities & capability::SECURE_CONNECTION != 0 {
            let length = reader.u8()?;
            reader.take(usize::from(length))?
        } else {
            reader.cstr()
        }
        .to_vec();
        let database = (capabilities & capability::CONNECT_WITH_DB != 0).then(|| reader.ctext());
        let (plugin, attributes) = plugin_and_attributes(&mut reader, capabilities)?;
        let database = database.filter(|name| !name.is_empty());
        Ok(Response { capabilities, user, answer, database, plugin, attributes })
    }

    /// Read what follows the command byte of COM_CHANGE_USER.
    pub(crate) fn parse_change_user(packet: &[u8], capabilities: u32) -> Result<Response, Malformed> {
        let mut reader = Reader::new(packet);
        let user = reader.ctext();
        let length = reader.u8()?;
        let answer = reader.take(usize::from(length))?.to_vec();
        let database = Some(reader.ctext()).filter(|name| !name.is_empty());
        if !reader.is_empty() {
            reader.u16()?;
        }
        let (plugin, attributes) = plugin_and_attributes(&mut reader, capabilities)?;
        Ok(Response { capabilities, user, answer, database, plugin, attributes })
    }
}

type Attributes = Vec<(String, String)>;

fn plugin_and_attributes(
    reader: &mut Reader<'_>,
    capabilities: u32,
) -> Result<(Option<String>, Attributes), Malformed> {
    let plugin = (capabilities & capability::PLUGIN_AUTH != 0).then(|| reader.ctext()).filter(|name| !name.is_empty());
    if capabilities & capability::CONNECT_ATTRS == 0 || reader.is_empty() {
        return Ok((plugin, Vec::new()));
    }
    let mut pairs = Reader::new(reader.bytes()?);
    let mut attributes = Vec::new();
    while !pairs.is_empty() && attributes.len() < MAX_ATTRIBUTES {
        let mut text = || pairs.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        attributes.push((text()?, text()?));
    }
    Ok((plugin, attributes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lenenc::put_bytes;
    use proptest::prelude::*;

    fn response(capabilities: u32, tail: &[&[u8]]) -> Vec<u8> {
        let mut out = capabilities.to_le_bytes().to_vec();
        out.extend_from_slice(&[0; 28]);
        out.extend(tail.concat());
        out
    }

    #[test]
    fn a_full_response_is_read() {
        let mut pairs = Vec::new();
        for text in ["_os", "Linux"] {
            put_bytes(&mut pairs, text.as_bytes());
        }
        let mut attributes = Vec::new();
        put_bytes(&mut attributes, &pairs);
        let packet = response(u32::MAX, &[b"root\0", &[3, 1, 2, 3], b"db\0", b"caching_sha2_password\0", &attributes]);
        let read = Response::parse(&packet).unwrap();
        assert_eq!(read.capabilities, capability::SERVER);
        assert_eq!((read.user.as_str(), &read.answer[..]), ("root", &[1, 2, 3][..]));
        assert_eq!(read.database.as_deref(), Some("db"));
        assert_eq!(read.plugin.as_deref(), Some("caching_sha2_password"));
        assert_eq!(read.attributes, [("_os".to_owned(), "Linux".to_owned())]);
    }

    #[test]
    fn small_responses_are_read() {
        let old = capability::PROTOCOL_41 | capability::SECURE_CONNECTION;
        let read = Response::parse(&response(old, &[b"u\0", &[0]])).unwrap();
        assert_eq!((read.user.as_str(), read.answer.len(), read.plugin), ("u", 0, None));
        let read = Response::parse(&response(capability::PROTOCOL_41, &[b"u\0", b"xy\0"])).unwrap();
        assert_eq!(read.answer, b"xy");
        assert_eq!(Response::parse(&response(1, &[b"u\0"])), Err(Malformed));
        assert_eq!(Response::parse(&response(old, &[b"u\0", &[9, 1]])), Err(Malformed));
        assert_eq!(Response::parse(&[0; 31]), Err(Malformed));
    }

    #[test]
    fn a_change_of_user_is_read() {
        let read =
            Response::parse_change_user(b"u\0\x02abdb\0\x2d\0mysql_native_password\0", capability::SERVER).unwrap();
        assert_eq!((read.user.as_str(), &read.answer[..]), ("u", &b"ab"[..]));
        assert_eq!(read.database.as_deref(), Some("db"));
        assert_eq!(read.plugin.as_deref(), Some("mysql_native_password"));
        assert!(Response::parse_change_user(b"u\0\0\0", capability::SERVER).unwrap().database.is_none());
    }

    #[test]
    fn the_greeting_offers_no_file_transfer() {
        let mut out = Vec::new();
        let nonce = Nonce([b'n'; 20]);
        let greeting = |tls| Greeting { version: "8", connection: 7, nonce: &nonce, plugin: Plugin::Native, tls };
        greeting(false).encode(&mut out);
        assert_eq!(&out[..7], &[10, b'8', 0, 7, 0, 0, 0]);
        assert_eq!(out.len(), 7 + 9 + 2 + 1 + 2 + 2 + 1 + 10 + 13 + 22);
        assert_eq!(capability::SERVER & 128, 0);
        let plain = out.clone();
        out.clear();
        greeting(true).encode(&mut out);
        let differ: Vec<usize> = (0..out.len()).filter(|at| out[*at] != plain[*at]).collect();
        assert_eq!((differ, out[17] & !plain[17]), (vec![17], 8), "the bit that offers TLS");
    }

    #[test]
    fn a_request_for_tls_is_told_from_a_response() {
        let mut request = (capability::SSL | capability::PROTOCOL_41).to_le_bytes().to_vec();
        request.resize(32, 0);
        assert!(asks_for_tls(&request) && !asks_for_tls(&request[..31]) && !asks_for_tls(&[0; 32]));
        request.push(0);
        assert!(!asks_for_tls(&request));
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_panic(head in proptest::array::uniform32(any::<u8>()), tail: Vec<u8>) {
            let mut packet = head.to_vec();
            packet[1] |= 2;
            packet.extend_from_slice(&tail);
            let _ = Response::parse(&packet);
            let _ = Response::parse(&tail);
            let _ = Response::parse_change_user(&tail, u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
        }
    }
}
