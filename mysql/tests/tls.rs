//! TLS on the wire: the upgrade in the middle of the handshake, and clients that do it wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared by several test programs")]
mod toy;

use coffer_mysql::{Peer, ServerOptions, serve};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use toy::Toy;

const BASIC: u32 = (1 << 9) | (1 << 15) | (1 << 19);
const TLS: u32 = 1 << 11;
/// How long an answer may take on a slow machine.
const SOON: Duration = Duration::from_secs(60);

struct Ends {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn ends() -> Ends {
    let made = rcgen::generate_simple_self_signed(vec!["coffer".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    Ends { server: Arc::new(server), client: Arc::new(client) }
}

/// A connection whose greeting was read.
async fn greeted(options: ServerOptions) -> (DuplexStream, Vec<u8>) {
    let (mut stream, far) = duplex(1 << 20);
    let peer = Peer { connection: 1, host: "pipe".to_owned() };
    tokio::spawn(async move { serve(far, peer, &options, &Toy, pending()).await });
    let greeting = read(&mut stream).await.unwrap();
    (stream, greeting)
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.ok()?;
    let mut payload = vec![0; u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(payload)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), sequence: u8, payload: &[u8]) {
    let [low, middle, high, _] = (payload.len() as u32).to_le_bytes();
    let packet = [&[low, middle, high, sequence], payload].concat();
    stream.write_all(&packet).await.unwrap();
    stream.flush().await.unwrap();
}

/// The first packet of a client, up to the name of the user.
fn head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.resize(32, 0);
    head
}

fn login(capabilities: u32) -> Vec<u8> {
    [&head(capabilities)[..], b"root\0\0mysql_native_password\0"].concat()
}

fn code(packet: &[u8]) -> u16 {
    assert_eq!(packet[0], 0xff, "{packet:?}");
    u16::from_le_bytes([packet[1], packet[2]])
}

#[tokio::test]
async fn a_client_that_asks_gets_tls_and_others_are_served_in_the_clear() {
    let ends = ends();
    let options = || ServerOptions { tls: Some(ends.server.clone()), ..ServerOptions::default() };
    let (mut plain, greeting) = greeted(options()).await;
    let version = greeting.iter().position(|byte| *byte == 0).unwrap();
    assert_eq!(greeting[version + 15] & 8, 8, "TLS is offered: {greeting:?}");
    send(&mut plain, 1, &login(BASIC)).await;
    assert_eq!(read(&mut plain).await.unwrap()[0], 0);

    let (mut stream, _) = greeted(options()).await;
    send(&mut stream, 1, &head(BASIC | TLS)).await;
    let name = ServerName::try_from("coffer").unwrap();
    let mut secure = TlsConnector::from(ends.client).connect(name, stream).await.unwrap();
    send(&mut secure, 2, &login(BASIC | TLS)).await;
    assert_eq!(read(&mut secure).await.unwrap()[0], 0);
    send(&mut secure, 0, &[0x0e]).await;
    assert_eq!(read(&mut secure).await.unwrap()[0], 0, "a ping");
}

#[tokio::test]
async fn tls_can_be_required_and_is_not_asked_for_twice() {
    let ends = ends();
    let options = |tls| ServerOptions { tls, tls_required: true, ..ServerOptions::default() };
    let (mut plain, _) = greeted(options(Some(ends.server.clone()))).await;
    send(&mut plain, 1, &login(BASIC)).await;
    assert_eq!(code(&read(&mut plain).await.unwrap()), 3159);
    assert_eq!(read(&mut plain).await, None);

    // Without a certificate a request for TLS is no response.
    let (mut plain, _) = greeted(ServerOptions::default()).await;
    send(&mut plain, 1, &head(BASIC | TLS)).await;
    assert_eq!(code(&read(&mut plain).await.unwrap()), 1043);

    let (mut stream, _) = greeted(options(Some(ends.server))).await;
    send(&mut stream, 1, &head(BASIC | TLS)).await;
    let name = ServerName::try_from("coffer").unwrap();
    let mut secure = TlsConnector::from(ends.client).connect(name, stream).await.unwrap();
    send(&mut secure, 2, &head(BASIC | TLS)).await;
    assert_eq!(code(&read(&mut secure).await.unwrap()), 1043);
}

#[test]
fn no_bytes_in_place_of_a_handshake_stop_the_server() {
    let ends = ends();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let random = (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300));
    let tried = TestRunner::default().run(&random, |(asks, bytes)| {
        runtime.block_on(async {
            let options = ServerOptions { tls: Some(ends.server.clone()), ..ServerOptions::default() };
            let (mut stream, far) = duplex(1 << 20);
            let peer = Peer { connection: 1, host: "pipe".to_owned() };
            let served = tokio::spawn(async move { serve(far, peer, &options, &Toy, pending()).await });
            read(&mut stream).await.unwrap();
            if asks {
                send(&mut stream, 1, &head(BASIC | TLS)).await;
            }
            // The server may end the conversation at the first wrong byte.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it ends").unwrap();
            assert!(served.await.is_ok(), "the server panicked");
        });
        Ok(())
    });
    tried.unwrap();
}
