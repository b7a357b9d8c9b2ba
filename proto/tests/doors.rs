//! The gRPC door against strangers: no bytes stop the server, nothing is served without the cluster's token, and messages
//! are bounded. One process has one secret, so these tests have a file, and with it a process, of their own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use coffer_proto::v1::frontend_client::FrontendClient;
use coffer_proto::v1::frontend_server::{Frontend, FrontendServer};
use coffer_proto::{channel, secret, v1};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// How long an answer may take on a slow machine.
const SOON: Duration = Duration::from_secs(60);
const SECRET: &str = "a-secret-of-this-test-and-of-nobody-else";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Answers one kind of call with what it was asked.
struct Echo;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Frontend for Echo {
    async fn begin_load(&self, _: Request<v1::BeginLoadRequest>) -> Answer<v1::LoadPlan> {
        Err(Status::unimplemented(""))
    }

    async fn finish_load(&self, _: Request<v1::FinishLoadRequest>) -> Answer<v1::FinishLoadReply> {
        Err(Status::unimplemented(""))
    }

    async fn end_load(&self, _: Request<v1::EndLoadRequest>) -> Answer<v1::EndLoadReply> {
        Err(Status::unimplemented(""))
    }

    async fn abort_load(&self, request: Request<v1::AbortLoadRequest>) -> Answer<v1::AbortLoadReply> {
        match request.into_inner().transaction_id {
            7 => Ok(Response::new(v1::AbortLoadReply {})),
            _ => Err(Status::internal("")),
        }
    }
}

fn establish() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut file, SECRET.as_bytes()).unwrap();
        secret::load(&path).unwrap();
    });
}

async fn server() -> SocketAddr {
    establish();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = FrontendServer::new(Echo).max_decoding_message_size(channel::MAX_MESSAGE_BYTES);
    let server = channel::server().layer(secret::guard()).add_service(service);
    tokio::spawn(server.serve_with_incoming(channel::incoming(listener)));
    address
}

/// A call with a reason of so many bytes.
async fn call(channel: Channel, bytes: usize) -> Result<(), Code> {
    let request = v1::AbortLoadRequest { transaction_id: 7, reason: "x".repeat(bytes) };
    FrontendClient::new(channel).abort_load(request).await.map(drop).map_err(|status| status.code())
}

async fn friend(address: SocketAddr) -> Result<(), Code> {
    call(channel::connect(&address.to_string()).unwrap(), 1).await
}

/// Say this and wait until the server closes or has answered.
async fn say(address: SocketAddr, bytes: &[u8]) {
    let mut client = TcpStream::connect(address).await.unwrap();
    let _ = client.write_all(bytes).await;
    let _ = client.shutdown().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, client.read_to_end(&mut answer)).await.expect("the connection is closed");
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test]
async fn who_has_the_token_is_served_and_others_are_not() {
    let address = server().await;
    assert_eq!(friend(address).await, Ok(()));
    let stranger = || Endpoint::from_shared(format!("http://{address}")).unwrap();
    for agent in ["x", "coffer/", "coffer/0123456789abcdef0123456789abcdef", &format!("coffer/{SECRET}")] {
        let stranger = stranger().user_agent(agent).unwrap().connect_lazy();
        assert_eq!(call(stranger, 1).await, Err(Code::Unauthenticated), "{agent}");
    }
    assert_eq!(call(stranger().connect_lazy(), 1).await, Err(Code::Unauthenticated));
    assert!(!secret::is_metrics_token(None) && !secret::is_metrics_token(Some("Bearer x")));
    assert!(secret::is_known());
}

#[tokio::test]
async fn messages_and_headers_are_bounded() {
    let address = server().await;
    let channel = channel::connect(&address.to_string()).unwrap();
    assert_eq!(call(channel.clone(), channel::MAX_MESSAGE_BYTES / 2).await, Ok(()));
    assert_eq!(call(channel.clone(), channel::MAX_MESSAGE_BYTES + 1).await, Err(Code::OutOfRange));
    let mut request = Request::new(v1::AbortLoadRequest { transaction_id: 7, reason: String::new() });
    request.metadata_mut().insert("x", "y".repeat(64 << 10).parse().unwrap());
    assert!(FrontendClient::new(channel).abort_load(request).await.is_err(), "such a header is too long");
    assert_eq!(friend(address).await, Ok(()));
}

/// Frames of HTTP/2, good ones and others.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let frame = (proptest::collection::vec(any::<u8>(), 0..64), any::<u8>(), any::<u8>(), 0_u32..5).prop_map(
        |(payload, kind, flags, stream)| {
            let length = (payload.len() as u32).to_be_bytes();
            let mut frame = length[1..].to_vec();
            frame.extend([kind % 12, flags]);
            frame.extend(stream.to_be_bytes());
            frame.extend(payload);
            frame
        },
    );
    let part = prop_oneof![frame, proptest::collection::vec(any::<u8>(), 0..64)];
    let settings = Just(vec![0, 0, 0, 4, 0, 0, 0, 0, 0]);
    (any::<bool>(), settings, proptest::collection::vec(part, 0..12)).prop_map(|(greet, settings, parts)| {
        let mut bytes = if greet { [PREFACE, &settings].concat() } else { Vec::new() };
        bytes.extend(parts.concat());
        bytes
    })
}

#[test]
fn no_bytes_stop_the_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let address = runtime.block_on(server());
    let tried = TestRunner::default().run(&garbage(), |bytes| {
        runtime.block_on(say(address, &bytes));
        Ok(())
    });
    tried.unwrap();
    assert_eq!(runtime.block_on(friend(address)), Ok(()));
}
