//! What a client may do to an HTTP port: nothing that hurts others.

use super::*;
use axum::routing::{get, put};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take on a slow machine.
const SOON: Duration = Duration::from_secs(60);

struct Port {
    address: SocketAddr,
    shutdown: Shutdown,
}

async fn port() -> Port {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
    let length = |body: axum::body::Bytes| async move { body.len().to_string() };
    let routes = Router::new().route("/who", get(who)).route("/length", put(length));
    shutdown.spawn(serve(listener, routes, shutdown.clone()));
    Port { address, shutdown }
}

/// Everything that the server says until it closes. `ends`: the client says that this was all; a request that is not
/// answered yet is then given up.
async fn say(address: SocketAddr, bytes: &[u8], ends: bool) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    // The server may close before it has read everything.
    let _ = client.write_all(bytes).await;
    if ends {
        let _ = client.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, client.read_to_end(&mut answer)).await.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn still_serves(address: SocketAddr) {
    let answer = say(address, b"GET /who HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn requests_are_answered_and_heads_are_bounded() {
    let port = port().await;
    still_serves(port.address).await;
    let put = b"PUT /length HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde";
    assert!(say(port.address, put, false).await.ends_with('5'));
    let many = "x: y\r\n".repeat(MAX_HEADERS + 1);
    let long = format!("x: {}\r\n", "y".repeat(2 * MAX_HEAD_BYTES));
    for (head, code) in [(many, "431"), (long, "431")] {
        let answer = say(port.address, format!("GET /who HTTP/1.1\r\nHost: h\r\n{head}\r\n").as_bytes(), false).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
    }
    still_serves(port.address).await;
    assert!(port.shutdown.finish(SOON).await, "it stops");
}

const WORDS: [&str; 12] = [
    "GET /who HTTP/1.1\r\n",
    "PUT /length HTTP/1.1\r\n",
    "Host: h\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Authorization: Basic !!!\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "ffffffffffffffff\r\n",
    "\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Bytes that look like requests, now and then.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let word = proptest::sample::select(WORDS.as_slice());
    let part =
        prop_oneof![word.prop_map(|word| word.as_bytes().to_vec()), proptest::collection::vec(any::<u8>(), 0..200)];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

#[test]
fn no_bytes_stop_the_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let port = runtime.block_on(port());
    let mut runner = TestRunner::default();
    let tried = runner.run(&garbage(), |bytes| {
        runtime.block_on(say(port.address, &bytes, true));
        Ok(())
    });
    tried.unwrap();
    runtime.block_on(still_serves(port.address));
    assert!(runtime.block_on(port.shutdown.finish(SOON)), "no connection is left");
}
