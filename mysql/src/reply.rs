//! Answers on the wire: OK, ERR and EOF packets, result sets.
//!
//! Clients of our time say DEPRECATE_EOF: then column definitions end without a packet of their own, and rows end with
//! an OK packet that carries the EOF's first byte.

use crate::binary;
use crate::column::Column;
use crate::error::{ServerError, UNKNOWN};
use crate::handshake::{STATUS_AUTOCOMMIT, STATUS_MORE_RESULTS, capability};
use crate::lenenc::{put_bytes, put_int};
use crate::packet::{Wire, WireError};
use crate::session::{Done, Reply, Rows};
use crate::text;
use crate::value::Value;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};

const OK: u8 = 0x00;
const EOF: u8 = 0xfe;
const ERR: u8 = 0xff;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For COM_QUERY.
    Text,
    /// For COM_STMT_EXECUTE.
    Binary,
}

/// How an answer is to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// What client and server can.
    pub(crate) capabilities: u32,
    /// Text or binary rows.
    pub(crate) format: Format,
    /// Whether another result follows.
    pub(crate) more: bool,
}

impl Form {
    fn deprecates_eof(self) -> bool {
        self.capabilities & capability::DEPRECATE_EOF != 0
    }

    fn status(self) -> u16 {
        STATUS_AUTOCOMMIT | if self.more { STATUS_MORE_RESULTS } else { 0 }
    }
}

fn encode_ok(out: &mut Vec<u8>, first: u8, done: &Done, status: u16) {
    out.push(first);
    put_int(out, done.affected);
    put_int(out, 0);
    out.extend_from_slice(&status.to_le_bytes());
    out.extend_from_slice(&done.warnings.to_le_bytes());
    if !done.info.is_empty() {
        put_bytes(out, done.info.as_bytes());
    }
}

fn encode_error(out: &mut Vec<u8>, error: &ServerError) {
    out.push(ERR);
    out.extend_from_slice(&error.code.to_le_bytes());
    out.push(b'#');
    out.extend_from_slice(&error.state);
    out.extend_from_slice(error.message.as_bytes());
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Queue an OK packet.
    pub(crate) fn put_ok(&mut self, form: Form, done: &Done) {
        self.put(|out| encode_ok(out, OK, done, form.status()));
    }

    /// Queue an ERR packet.
    pub(crate) fn put_error(&mut self, error: &ServerError) {
        self.put(|out| encode_error(out, error));
    }

    /// Queue what ends a list of rows.
    pub(crate) fn put_end(&mut self, form: Form) {
        if form.deprecates_eof() {
            self.put(|out| encode_ok(out, EOF, &Done::default(), form.status()));
        } else {
            self.put_eof(form);
        }
    }

    fn put_eof(&mut self, form: Form) {
        let [low, high] = form.status().to_le_bytes();
        self.put(|out| out.extend_from_slice(&[EOF, 0, 0, low, high]));
    }

    /// Queue column definitions and what ends them.
    pub(crate) fn put_columns(&mut self, form: Form, columns: &[Column]) {
        for column in columns {
            self.put(|out| column.encode(out, false));
        }
        if !columns.is_empty() && !form.deprecates_eof() {
            self.put_eof(form);
        }
    }

    /// Queue an answer, sending what gathers on the way. False when it ended with an error.
    pub(crate) async fn put_reply(&mut self, form: Form, reply: Result<Reply, ServerError>) -> Result<bool, WireError> {
        let ended = match reply {
            Ok(Reply::Done(done)) => {
                self.put_ok(form, &done);
                Ok(())
            }
            Ok(Reply::Rows(rows)) => self.put_rows(form, rows).await?,
            Err(error) => Err(error),
        };
        if let Err(error) = &ended {
            self.put_error(error);
        }
        Ok(ended.is_ok())
    }

    async fn put_rows(&mut self, form: Form, rows: Rows) -> Result<Result<(), ServerError>, WireError> {
        let Rows { columns, mut batches } = rows;
        if columns.is_empty() {
            return Ok(Err(UNKNOWN.error("the result has no columns")));
        }
        self.put(|out| put_int(out, columns.len() as u64));
        self.put_columns(form, &columns);
        // Nobody makes rows for a client that is gone.
        while let Some(batch) = self.attend(true, batches.next()).await? {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return Ok(Err(error)),
            };
            for row in batch {
                if let Err(error) = self.try_put(|out| encode_row(out, form.format, &columns, &row)) {
                    return Ok(Err(error));
                }
                self.relieve().await?;
            }
        }
        self.put_end(form);
        Ok(Ok(()))
    }
}

fn encode_row(out: &mut Vec<u8>, format: Format, columns: &[Column], row: &[Value]) -> Result<(), ServerError> {
    if row.len() != columns.len() {
        return Err(UNKNOWN.error(format!("a row has {} values for {} columns", row.len(), columns.len())));
    }
    match format {
        Format::Text => {
            text::encode_row(out, columns, row);
            Ok(())
        }
        Format::Binary => binary::encode_row(out, columns, row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NO_DATABASE;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, duplex};

    #[test]
    fn packets_have_their_layout() {
        let mut out = Vec::new();
        encode_ok(&mut out, OK, &Done { affected: 300, warnings: 1, info: "hi".into() }, 10);
        assert_eq!(out, [0, 0xfc, 44, 1, 0, 10, 0, 1, 0, 2, b'h', b'i']);
        let mut out = Vec::new();
        encode_error(&mut out, &NO_DATABASE.error("No"));
        assert_eq!(out, b"\xff\x16\x04#3D000No");
    }

    /// The first bytes and lengths of the packets that answer `reply`.
    async fn shape(capabilities: u32, format: Format, reply: Reply) -> Vec<(u8, usize)> {
        let (near, mut far) = duplex(1 << 20);
        let mut wire = Wire::new(near, 100, Duration::from_secs(5));
        wire.put_reply(Form { capabilities, format, more: false }, Ok(reply)).await.unwrap();
        wire.flush().await.unwrap();
        drop(wire);
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        let (mut packets, mut rest) = (Vec::new(), &bytes[..]);
        while let [low, middle, high, sequence, tail @ ..] = rest {
            assert_eq!(usize::from(*sequence), packets.len());
            let length = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
            packets.push((tail[0], length));
            rest = &tail[length..];
        }
        packets
    }

    #[tokio::test]
    async fn ends_depend_on_what_the_client_can() {
        let rows = || Reply::rows(vec![Column::text("a")], vec![vec![Value::text("x")]]);
        let old = shape(0, Format::Text, rows()).await;
        assert_eq!(old, [(1, 1), (3, 24), (EOF, 5), (1, 2), (EOF, 5)]);
        let new = shape(capability::DEPRECATE_EOF, Format::Binary, rows()).await;
        assert_eq!(new, [(1, 1), (3, 24), (0, 4), (EOF, 7)]);
    }

    #[tokio::test]
    async fn wrong_rows_end_in_an_error() {
        let reply = Reply::rows(vec![Column::text("a")], vec![vec![]]);
        assert_eq!(shape(0, Format::Text, reply).await.last().unwrap().0, ERR);
        assert_eq!(shape(0, Format::Text, Reply::rows(vec![], vec![])).await[0].0, ERR);
        let failing = futures::stream::iter([Err(NO_DATABASE.error("No"))]);
        let reply = Reply::stream(vec![Column::text("a")], Box::pin(failing));
        assert_eq!(shape(0, Format::Text, reply).await.last().unwrap().0, ERR);
    }
}
