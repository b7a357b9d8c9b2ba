//! Frames: a payload of any length as packets of at most 16 MiB - 1, each with its length and a sequence number.
//!
//! Reading grows with the bytes that arrive, never with the length a client merely announces, and stops at a limit.
//! Writing collects packets and sends them in pieces of [`FLUSH_AT`], so that a result set of any size needs little
//! memory; a client that does not take its bytes within the write timeout is given up.

use crate::link::Link;
use bytes::{Buf, Bytes, BytesMut};
use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest payload of one packet; one of exactly this length is followed by another.
pub(crate) const MAX_PAYLOAD: usize = 0xff_ffff;
/// Output is sent once this much has gathered.
pub(crate) const FLUSH_AT: usize = 64 * 1024;
/// Input is read in pieces of this size.
const READ_CHUNK: usize = 16 * 1024;
/// While a statement runs, this much of what follows is read ahead; beyond it, nobody notices a client that goes, bytes.
const AHEAD: usize = 64 * 1024;
/// Buffers larger than this are given back after use.
const KEEP: usize = 1024 * 1024;
const HEADER: usize = 4;

/// Why no packet came or went.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The socket failed, or ended inside a packet.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The client did not take what was sent.
    #[error("the client took no bytes for {0:?}")]
    Stuck(Duration),
    /// A payload is longer than allowed.
    #[error("packet larger than {0} bytes")]
    TooLarge(usize),
    /// A sequence number is not the next one.
    #[error("packets out of order")]
    OutOfOrder,
}

/// A stream of packets in both directions.
pub(crate) struct Wire<S> {
    stream: Link<S>,
    input: BytesMut,
    output: Vec<u8>,
    sequence: u8,
    limit: usize,
    write_timeout: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Packets over `stream`; payloads read may have up to `limit` bytes.
    pub(crate) fn new(stream: S, limit: usize, write_timeout: Duration) -> Wire<S> {
        let stream = Link::Plain(stream);
        Wire { stream, input: BytesMut::new(), output: Vec::new(), sequence: 0, limit, write_timeout }
    }

    /// Allow payloads of `limit` bytes from now on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Speak TLS from now on.
    pub(crate) async fn secure(&mut self, config: Arc<ServerConfig>) -> Result<(), WireError> {
        let read = std::mem::take(&mut self.input);
        Ok(self.stream.secure(config, read).await?)
    }

    /// A new exchange: the sequence starts again.
    pub(crate) fn begin(&mut self) {
        self.sequence = 0;
        if self.output.capacity() > KEEP {
            self.output = Vec::new();
        }
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::new();
        }
    }

    /// The next payload; `None` when the client is gone between two packets.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, WireError> {
        let mut whole: Option<BytesMut> = None;
        loop {
            if !self.fill(HEADER).await? {
                if self.input.is_empty() && whole.is_none() {
                    return Ok(None);
                }
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let mut header = self.input.split_to(HEADER);
            let length = header.get_uint_le(3) as usize;
            if header.get_u8() != self.sequence {
                return Err(WireError::OutOfOrder);
            }
            self.sequence = self.sequence.wrapping_add(1);
            if whole.as_ref().map_or(0, BytesMut::len) + length > self.limit {
                return Err(WireError::TooLarge(self.limit));
            }
            if !self.fill(length).await? {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let part = self.input.split_to(length);
            let payload = match whole.take() {
                None => part,
                Some(mut start) => {
                    start.extend_from_slice(&part);
                    start
                }
            };
            if length < MAX_PAYLOAD {
                return Ok(Some(payload.freeze()));
            }
            whole = Some(payload);
        }
    }

    /// Do some work; when `abandon` is set, only as long as the client is there. What the client sends meanwhile is kept.
    pub(crate) async fn attend<T>(&mut self, abandon: bool, work: impl Future<Output = T>) -> Result<T, WireError> {
        if !abandon {
            return Ok(work.await);
        }
        tokio::select! {
            biased;
            done = work => Ok(done),
            gone = self.departure() => Err(gone),
        }
    }

    /// Wait until the client is gone.
    async fn departure(&mut self) -> WireError {
        while self.input.len() < AHEAD {
            self.input.reserve(READ_CHUNK);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return io::Error::from(io::ErrorKind::UnexpectedEof).into(),
                Ok(_) => {}
                Err(error) => return error.into(),
            }
        }
        std::future::pending().await
    }

    /// Read until `wanted` bytes are buffered; false when the stream ends before.
    async fn fill(&mut self, wanted: usize) -> Result<bool, WireError> {
        while self.input.len() < wanted {
            self.input.reserve(READ_CHUNK);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Queue the payload that `write` appends.
    pub(crate) fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let written: Result<(), std::convert::Infallible> = self.try_put(|out| {
            write(out);
            Ok(())
        });
        match written {
            Ok(()) => {}
        }
    }

    /// Queue the payload that `write` appends, or nothing when it fails.
    pub(crate) fn try_put<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.output.len();
        self.output.extend_from_slice(&[0; HEADER]);
        if let Err(error) = write(&mut self.output) {
            self.output.truncate(start);
            return Err(error);
        }
        let length = self.output.len() - start - HEADER;
        if length < MAX_PAYLOAD {
            let header = self.header(length);
            self.output[start..start + HEADER].copy_from_slice(&header);
        } else {
            let payload = self.output.split_off(start + HEADER);
            self.output.truncate(start);
            self.put_parts(&payload);
        }
        Ok(())
    }

    fn put_parts(&mut self, mut payload: &[u8]) {
        loop {
            let (part, rest) = payload.split_at(payload.len().min(MAX_PAYLOAD));
            let header = self.header(part.len());
            self.output.extend_from_slice(&header);
            self.output.extend_from_slice(part);
            if part.len() < MAX_PAYLOAD {
                return;
            }
            payload = rest;
        }
    }

    fn header(&mut self, length: usize) -> [u8; HEADER] {
        let [low, middle, high, _] = (length as u32).to_le_bytes();
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        [low, middle, high, sequence]
    }

    /// Send what has gathered if it is much.
    pub(crate) async fn relieve(&mut self) -> Result<(), WireError> {
        if self.output.len() >= FLUSH_AT { self.flush().await } else { Ok(()) }
    }

    /// Send all that has gathered.
    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        for part in self.output.chunks(KEEP) {
            match tokio::time::timeout(self.write_timeout, self.stream.write_all(part)).await {
                Ok(done) => done?,
                Err(_) => return Err(WireError::Stuck(self.write_timeout)),
            }
        }
        self.output.clear();
        self.stream.flush().await?;
        Ok(())
    }

    /// Say goodbye to the stream.
    pub(crate) async fn close(&mut self) {
        // The client may be gone already; there is nobody left to tell.
        let _ = tokio::time::timeout(self.write_timeout, self.stream.shutdown()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::duplex;

    const LIMIT: usize = 64 * 1024 * 1024;
    const SOON: Duration = Duration::from_secs(5);

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    async fn there_and_back(length: usize) -> Bytes {
        let (near, far) = duplex(FLUSH_AT);
        let (mut near, mut far) = (Wire::new(near, LIMIT, SOON), Wire::new(far, LIMIT, SOON));
        let send = async {
            near.put(|out| out.resize(out.len() + length, 7));
            near.flush().await.unwrap();
        };
        let (_, got) = tokio::join!(send, far.read());
        assert_eq!(near.sequence, far.sequence);
        got.unwrap().unwrap()
    }

    #[test]
    fn payloads_of_any_length_arrive_whole() {
        for length in [0, 1, MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD] {
            let got = run(there_and_back(length));
            assert_eq!(got.len(), length);
            assert!(got.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn a_payload_above_the_limit_is_refused_before_it_is_read() {
        run(async {
            let (near, mut far) = duplex(64);
            let mut near = Wire::new(near, 10, SOON);
            far.write_all(&[11, 0, 0, 0]).await.unwrap();
            assert!(matches!(near.read().await, Err(WireError::TooLarge(10))));
        });
    }

    #[test]
    fn order_and_ends_are_watched() {
        run(async {
            let (near, mut far) = duplex(64);
            let mut near = Wire::new(near, 10, SOON);
            far.write_all(&[1, 0, 0, 3, 9]).await.unwrap();
            assert!(matches!(near.read().await, Err(WireError::OutOfOrder)));

            let (near, mut far) = duplex(64);
            let mut near = Wire::new(near, 10, SOON);
            far.write_all(&[1, 0, 0, 0, 9, 2, 0]).await.unwrap();
            drop(far);
            assert_eq!(near.read().await.unwrap().as_deref(), Some(&[9][..]));
            assert!(matches!(near.read().await, Err(WireError::Io(_))));

            let (near, far) = duplex(64);
            drop(far);
            assert!(Wire::new(near, 10, SOON).read().await.unwrap().is_none());
        });
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up() {
        run(async {
            let (near, _far) = duplex(8);
            let mut near = Wire::new(near, 10, Duration::from_millis(5));
            near.put(|out| out.extend_from_slice(&[0; 100]));
            assert!(matches!(near.flush().await, Err(WireError::Stuck(_))));
        });
    }

    #[test]
    fn a_payload_that_fails_leaves_no_trace() {
        let (near, _far) = duplex(8);
        let mut near = Wire::new(near, 10, SOON);
        near.put(|out| out.push(1));
        let failed = near.try_put(|out| {
            out.push(2);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!((near.output.as_slice(), near.sequence), (&[1, 0, 0, 0, 1][..], 1));
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_panic(bytes: Vec<u8>) {
            run(async {
                let (near, mut far) = duplex(FLUSH_AT);
                far.write_all(&bytes).await.unwrap();
                drop(far);
                let mut near = Wire::new(near, 100, SOON);
                while let Ok(Some(_)) = near.read().await {
                    near.begin();
                }
            });
        }
    }
}
