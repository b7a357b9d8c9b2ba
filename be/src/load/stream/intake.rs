//! The body of a request: counted, bounded, and read to its end when nobody wants it any more, because a client that
//! still sends may miss an early answer.

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use coffer_stdx::{Error, Result};
use std::time::{Duration, Instant};
use tokio_stream::StreamExt;

const DRAIN_BYTES: u64 = 256 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Reads a body.
#[derive(Debug)]
pub struct Intake {
    stream: BodyDataStream,
    limit: u64,
    bytes: u64,
    waited: Duration,
    ended: bool,
    /// The client sends nothing before it is told to continue, which the first read does.
    waits: bool,
}

impl Intake {
    /// At most `limit` bytes; `waits` when the request says `Expect: 100-continue`.
    pub fn new(body: Body, limit: u64, waits: bool) -> Intake {
        Intake { stream: body.into_data_stream(), limit, bytes: 0, waited: Duration::ZERO, ended: false, waits }
    }

    /// The next chunk; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.waits = false;
        let since = Instant::now();
        let next = self.stream.next().await;
        self.waited += since.elapsed();
        match next {
            Some(Ok(chunk)) => {
                self.bytes += chunk.len() as u64;
                if self.bytes > self.limit {
                    return Err(Error::limit(format!(
                        "the body is larger than {} MiB (option stream_load_max_mib)",
                        self.limit >> 20
                    )));
                }
                Ok(Some(chunk))
            }
            Some(Err(error)) => {
                self.ended = true;
                Err(Error::unavailable(format!("the client stopped sending: {error}")))
            }
            None => {
                self.ended = true;
                Ok(None)
            }
        }
    }

    /// Bytes read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Time spent waiting for the client.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Read and forget the rest, within limits; nothing of a client that still waits.
    pub async fn drain(&mut self) {
        if self.waits {
            return;
        }
        let mut left = DRAIN_BYTES;
        let drain = async {
            while !self.ended && left > 0 {
                match self.stream.next().await {
                    Some(Ok(chunk)) => left = left.saturating_sub(chunk.len() as u64),
                    Some(Err(_)) | None => self.ended = true,
                }
            }
        };
        // What is left after that is cut off with the connection.
        let _ = tokio::time::timeout(DRAIN_TIME, drain).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    #[tokio::test]
    async fn a_body_is_counted_and_bounded() {
        let mut intake = Intake::new(Body::from("12345"), 5, true);
        assert_eq!(intake.next().await.unwrap().unwrap(), "12345");
        assert_eq!((intake.next().await.unwrap(), intake.bytes()), (None, 5));
        let mut intake = Intake::new(Body::from("123456"), 5, false);
        assert_eq!(intake.next().await.unwrap_err().kind(), ErrorKind::Limit);
        intake.drain().await;
        assert!(intake.ended);
        let mut intake = Intake::new(Body::from("123456"), 5, true);
        intake.drain().await;
        assert!(!intake.ended);
    }
}
