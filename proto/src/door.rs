//! The door of a port: takes connections, as many as are good for the process, and lets in who greets as it must.
//!
//! A greeting is the TLS handshake where the port speaks TLS, and the preface of HTTP/2 where gRPC is plain; both must be
//! over in [`GREET_WITHIN`]. Each connection greets in a task of its own, so that a slow one holds up nobody. A stranger
//! holds places at most: [`MAX_CONNECTIONS`] of the port, [`MAX_PER_ADDRESS`] from one address. Nothing is durable here.

use bytes::{Buf, Bytes, BytesMut};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Open connections of one port; more wait in the queue of the system.
pub const MAX_CONNECTIONS: usize = 4_096;
/// Open connections of one port from one address; more are closed at once.
pub const MAX_PER_ADDRESS: usize = 1_024;
/// How long a client may take to greet.
pub const GREET_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait when the system has no more sockets for us.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Greeted connections that nobody has taken yet.
const WAITING: usize = 16;
/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a port expects of a client first.
#[derive(Debug, Clone)]
pub(crate) enum Greeting {
    /// Nothing: HTTP/1 has limits of its own.
    None,
    /// The preface of HTTP/2.
    Http2,
    /// A TLS handshake.
    Tls(Arc<ServerConfig>),
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Io {
    stream: Stream,
    peer: SocketAddr,
    _place: Place,
}

#[derive(Debug)]
enum Stream {
    /// With what was read of it already.
    Plain(Bytes, TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    /// Who is at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// Take connections until the receiver is dropped.
pub(crate) fn open(listener: TcpListener, greeting: Greeting) -> mpsc::Receiver<Io> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(accept(listener, greeting, sender));
    receiver
}

async fn accept(listener: TcpListener, greeting: Greeting, sender: mpsc::Sender<Io>) {
    let places = Places::default();
    loop {
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = places.next(&listener) => accepted,
        };
        match accepted {
            Ok(Some((socket, peer, place))) => {
                let (greeting, sender) = (greeting.clone(), sender.clone());
                tokio::spawn(async move {
                    match tokio::time::timeout(GREET_WITHIN, greet(socket, greeting)).await {
                        // Nobody takes it when the service stops meanwhile.
                        Ok(Ok(stream)) => drop(sender.send(Io { stream, peer, _place: place }).await),
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection was not let in"),
                        Err(_) => tracing::debug!(%peer, "a connection did not greet in time"),
                    }
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn greet(mut socket: TcpStream, greeting: Greeting) -> io::Result<Stream> {
    // Without it small messages wait for acknowledgements; when it cannot be set the connection is only slower.
    let _ = socket.set_nodelay(true);
    match greeting {
        Greeting::None => Ok(Stream::Plain(Bytes::new(), socket)),
        Greeting::Http2 => {
            let read = preface(&mut socket).await?;
            Ok(Stream::Plain(read, socket))
        }
        Greeting::Tls(config) => Ok(Stream::Tls(Box::new(TlsAcceptor::from(config).accept(socket).await?))),
    }
}

async fn preface(socket: &mut TcpStream) -> io::Result<Bytes> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    while read.len() < PREFACE.len() {
        if socket.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = read.len().min(PREFACE.len());
        if read[..length] != PREFACE[..length] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/2"));
        }
    }
    Ok(read.freeze())
}

type ByAddress = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The places of a port.
struct Places {
    all: Arc<Semaphore>,
    by_address: ByAddress,
}

impl Default for Places {
    fn default() -> Places {
        Places { all: Arc::new(Semaphore::new(MAX_CONNECTIONS)), by_address: Arc::default() }
    }
}

impl Places {
    /// Wait for a place first, then for a client; `None` when its address has enough.
    async fn next(&self, listener: &TcpListener) -> io::Result<Option<(TcpStream, SocketAddr, Place)>> {
        let permit = Arc::clone(&self.all).acquire_owned().await.map_err(io::Error::other)?;
        let (socket, peer) = listener.accept().await?;
        let place = self.of(peer.ip(), permit);
        if place.is_none() {
            tracing::warn!(%peer, MAX_PER_ADDRESS, "too many connections from one address");
        }
        Ok(place.map(|place| (socket, peer, place)))
    }

    fn of(&self, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let mut taken = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= MAX_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place { address, by_address: Arc::clone(&self.by_address), _permit: permit })
    }
}

/// A place that is given back when the connection ends.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    by_address: ByAddress,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

impl Connected for Io {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: Some(self.peer) }
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(read, _) if !read.is_empty() => {
                let length = read.len().min(buf.remaining());
                buf.put_slice(&read[..length]);
                read.advance(length);
                Poll::Ready(Ok(()))
            }
            Stream::Plain(_, socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(_, socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_, socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(_, socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(_, socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(_, socket) => socket.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn port() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn who_speaks_http2_is_let_in_with_every_byte_and_others_are_not() {
        let (listener, address) = port().await;
        let mut door = open(listener, Greeting::Http2);
        for stranger in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(stranger).await.unwrap();
            // Closed, with or without a reset.
            let mut rest = Vec::new();
            let _ = client.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "{stranger:?}");
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        for part in [&PREFACE[..5], &PREFACE[5..], b"more"] {
            client.write_all(part).await.unwrap();
            client.flush().await.unwrap();
        }
        let mut io = door.recv().await.unwrap();
        assert_eq!(io.peer(), client.local_addr().unwrap());
        let mut got = vec![0; PREFACE.len() + 4];
        io.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [PREFACE, b"more"].concat());
    }

    #[tokio::test]
    async fn an_address_has_so_many_places_and_gives_them_back() {
        let places = Places::default();
        let [one, other] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let permit = || Arc::clone(&places.all).try_acquire_owned().unwrap();
        let mut held: Vec<Place> = (0..MAX_PER_ADDRESS).map(|_| places.of(one, permit()).unwrap()).collect();
        assert!(places.of(one, permit()).is_none() && places.of(other, permit()).is_some());
        held.pop();
        assert!(places.of(one, permit()).is_some());
        drop(held);
        assert!(places.by_address.lock().unwrap().is_empty());
        assert_eq!(places.all.available_permits(), MAX_CONNECTIONS);
    }

    #[tokio::test]
    async fn the_port_is_free_when_nobody_takes_connections_any_more() {
        let (listener, address) = port().await;
        drop(open(listener, Greeting::None));
        for _ in 0..1_000 {
            if TcpListener::bind(address).await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{address} is still taken");
    }
}
