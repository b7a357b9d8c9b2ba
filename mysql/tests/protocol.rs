//! Conversations byte by byte, over a pipe instead of a socket: ends, limits, and clients that send nonsense.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared by several test programs")]
mod toy;

use coffer_mysql::{Peer, ServerOptions, serve};
use proptest::prelude::*;
use std::future::pending;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use toy::Toy;

const BASIC: u32 = (1 << 9) | (1 << 15) | (1 << 19);

/// A client that knows frames and nothing else.
struct Raw {
    stream: DuplexStream,
    sequence: u8,
}

impl Raw {
    /// Serve the other end of a pipe until `stop`.
    fn start(options: ServerOptions, stop: impl Future<Output = ()> + Send + 'static) -> Raw {
        let (stream, far) = duplex(1 << 20);
        let peer = Peer { connection: 1, host: "pipe".to_owned() };
        tokio::spawn(async move { serve(far, peer, &options, &Toy, stop).await });
        Raw { stream, sequence: 0 }
    }

    async fn read(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await.ok()?;
        self.sequence = header[3].wrapping_add(1);
        let mut payload = vec![0; u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(payload)
    }

    async fn send(&mut self, payload: &[u8]) {
        let [low, middle, high, _] = (payload.len() as u32).to_le_bytes();
        self.stream.write_all(&[low, middle, high, self.sequence]).await.unwrap();
        self.stream.write_all(payload).await.unwrap();
    }

    async fn command(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        self.sequence = 0;
        self.send(payload).await;
        self.read().await
    }

    /// Log in as root, without a password.
    async fn log_in(mut self) -> Raw {
        self.read().await.unwrap();
        let mut response = BASIC.to_le_bytes().to_vec();
        response.extend_from_slice(&[0; 28]);
        response.extend_from_slice(b"root\0\0mysql_native_password\0");
        self.send(&response).await;
        assert_eq!(self.read().await.unwrap()[0], 0);
        self
    }
}

fn code(packet: &[u8]) -> u16 {
    assert_eq!(packet[0], 0xff, "{packet:?}");
    u16::from_le_bytes([packet[1], packet[2]])
}

#[tokio::test]
async fn commands_that_are_not_done_are_answered() {
    let mut raw = Raw::start(ServerOptions::default(), pending()).log_in().await;
    for (packet, expected) in [
        (&[0x1d][..], 1047),
        (&[0x08], 1047),
        (&[0x0c, 1, 0, 0, 0], 1235),
        (&[0x1c, 1, 0, 0, 0, 1, 0, 0, 0], 1421),
        (&[0x17, 9, 0, 0, 0, 0, 1, 0, 0, 0], 1243),
        (&[0x1a, 9, 0, 0, 0], 1243),
        (&[0x1b, 7, 0], 1047),
        (&[0x17], 1835),
        (&[], 1835),
        (b"\x03", 1065),
        (b"\x03\xff\xfe", 1300),
        (b"\x03select 1; select 2", 1064),
        (b"\x02nowhere", 1049),
    ] {
        assert_eq!(code(&raw.command(packet).await.unwrap()), expected, "{packet:?}");
    }
    assert_eq!(raw.command(&[0x0e]).await.unwrap()[0], 0);
    assert!(raw.command(&[0x09]).await.unwrap().starts_with(b"Uptime: "));
    assert_eq!(raw.command(b"\x04t\0%").await.unwrap()[0], 0xfe);
    assert_eq!(raw.command(&[0x1b, 0, 0]).await.unwrap()[0], 0xfe);
    assert_eq!(raw.command(b"\x03set a; set b").await.unwrap()[3] & 8, 8);
    assert_eq!(raw.read().await.unwrap()[3] & 8, 0);
    assert_eq!(raw.command(&[0x1f]).await.unwrap()[0], 0);
    assert_eq!(code(&raw.command(b"\x03set a; set b").await.unwrap()), 1064);
    assert_eq!(raw.command(&[1]).await, None);
}

#[tokio::test]
async fn a_query_ends_with_its_client() {
    for sql in ["select forever", "select endless"] {
        let (stream, far) = duplex(1 << 20);
        let peer = Peer { connection: 1, host: "pipe".to_owned() };
        let server = tokio::spawn(async move { serve(far, peer, &ServerOptions::default(), &Toy, pending()).await });
        let mut raw = Raw { stream, sequence: 0 }.log_in().await;
        raw.sequence = 0;
        raw.send(&[&[3], sql.as_bytes()].concat()).await;
        drop(raw);
        let ended = tokio::time::timeout(Duration::from_secs(60), server).await;
        assert!(ended.unwrap_or_else(|_| panic!("{sql} goes on")).unwrap().is_ok(), "{sql}");
    }
}

#[tokio::test]
async fn commands_sent_ahead_are_kept() {
    let mut raw = Raw::start(ServerOptions::default(), pending()).log_in().await;
    for sql in ["select slowly", "select user"] {
        raw.sequence = 0;
        raw.send(&[&[3], sql.as_bytes()].concat()).await;
    }
    let mut texts = Vec::new();
    while texts.len() < 2 {
        // Columns, their end, a row, the end.
        let mut packets = Vec::new();
        for _ in 0..5 {
            packets.push(raw.read().await.unwrap());
        }
        texts.push(String::from_utf8_lossy(&packets[3][1..]).into_owned());
    }
    assert_eq!(texts, ["select slowly", "root@"]);
}

#[tokio::test]
async fn a_server_that_stops_says_so_between_commands() {
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move {
        stopped.await.ok();
    };
    let mut raw = Raw::start(ServerOptions::default(), stopped).log_in().await;
    stop.send(()).unwrap();
    assert_eq!(code(&raw.read().await.unwrap()), 1053);
    assert_eq!(raw.read().await, None);
}

#[tokio::test]
async fn silent_clients_are_ended() {
    let soon = Duration::from_millis(20);
    let mut raw = Raw::start(ServerOptions { handshake_timeout: soon, ..ServerOptions::default() }, pending());
    raw.read().await.unwrap();
    assert_eq!(raw.read().await, None, "no response within the handshake timeout");

    let options = ServerOptions { idle_timeout: soon, ..ServerOptions::default() };
    let mut raw = Raw::start(options, pending()).log_in().await;
    assert_eq!(code(&raw.read().await.unwrap()), 4031);
    assert_eq!(raw.read().await, None);
}

#[tokio::test]
async fn packets_beyond_the_limits_are_refused() {
    let options = || ServerOptions { max_packet: 100, ..ServerOptions::default() };
    let mut raw = Raw::start(options(), pending()).log_in().await;
    assert_eq!(code(&raw.command(&[3; 101]).await.unwrap()), 1153);
    assert_eq!(raw.read().await, None);

    let mut raw = Raw::start(options(), pending()).log_in().await;
    raw.sequence = 5;
    raw.send(&[0x0e]).await;
    assert_eq!(code(&raw.read().await.unwrap()), 1156);

    let mut raw = Raw::start(options(), pending());
    raw.read().await.unwrap();
    raw.send(&[0; 70_000]).await;
    assert_eq!(code(&raw.read().await.unwrap()), 1153, "before the login the limit is small");
}

#[tokio::test]
async fn a_response_of_another_protocol_is_refused() {
    let mut raw = Raw::start(ServerOptions::default(), pending());
    raw.read().await.unwrap();
    raw.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(code(&raw.read().await.unwrap()), 1043);
    assert_eq!(raw.read().await, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever commands come, the server neither panics nor hangs.
    #[test]
    fn random_commands_do_not_panic(packets in proptest::collection::vec((0..0x20_u8, proptest::collection::vec(any::<u8>(), 0..40)), 0..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (near, far) = duplex(1 << 20);
            let peer = Peer { connection: 1, host: "pipe".to_owned() };
            let server = tokio::spawn(async move {
                serve(far, peer, &ServerOptions::default(), &Toy, pending()).await
            });
            let mut raw = Raw { stream: near, sequence: 0 }.log_in().await;
            for (command, rest) in packets {
                raw.sequence = 0;
                let mut packet = vec![command];
                packet.extend_from_slice(&rest);
                let [low, middle, high, _] = (packet.len() as u32).to_le_bytes();
                if raw.stream.write_all(&[low, middle, high, 0]).await.is_err() || raw.stream.write_all(&packet).await.is_err() {
                    break;
                }
            }
            raw.stream.shutdown().await.ok();
            let mut rest = Vec::new();
            raw.stream.read_to_end(&mut rest).await.ok();
            drop(raw);
            assert!(server.await.is_ok(), "the server panicked");
        });
    }
}
