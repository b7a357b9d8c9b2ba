//! gRPC channels with the settings that make them fast and keep them honest.
//!
//! Measured on two cores: 256 KiB to 1 MiB messages, an 8 MiB stream window, a 16 MiB connection window and 1 MiB frames
//! move two to three times what the defaults do, and accepted sockets without TCP_NODELAY are five to twenty times slower.

use crate::door::{self, Greeting, Io};
use crate::secret::user_agent;
use crate::tls;
use coffer_stdx::{Error, Result};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint, Server};

/// Payload bytes of one streamed message.
pub const MESSAGE_BYTES: usize = 512 << 10;
/// Largest object put by one message. Such messages are in a broker's memory before they are counted, at most as many for
/// each connection as it has streams.
pub const SMALL_OBJECT_BYTES: usize = 32 << 10;
/// Largest message anybody accepts.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// What a scan may send before somebody reads it.
const SCAN_WINDOW_BYTES: u32 = 256 << 10;
/// The most that HTTP/2 has: room for every scan that a connection may have, so that those nobody reads yet hold up no
/// other. A join reads one side to its end before it looks at the other, whose scans are open all the time.
const SCANS_WINDOW_BYTES: u32 = (1 << 31) - 1;
const FRAME_BYTES: u32 = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Streams of one connection that may end in a reset, over its whole life: every put that is refused before its body was
/// read is one, and connections live for days. The transport's own limit is 1,024.
const RESETS: usize = 1 << 20;
/// Requests at a time on one connection.
const MAX_STREAMS: u32 = 8_192;
/// Headers of one request, all together.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Requests that were given up before a server looked at them, on one connection. A frontend that was frozen finds hundreds
/// of the leader's when it wakes; with the transport's own limit of 20 it would lose the connection just then.
const RESETS_UNSEEN: usize = 4_096;
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A lazily connecting channel to "host:port".
pub fn connect(address: &str) -> Result<Channel> {
    open(address, STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES)
}

/// The same, for scans: streams of which many are open and only some are read.
pub fn connect_scans(address: &str) -> Result<Channel> {
    open(address, SCAN_WINDOW_BYTES, SCANS_WINDOW_BYTES)
}

fn open(address: &str, stream_window: u32, connection_window: u32) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Error::invalid(format!("address '{address}': {error}")))?;
    let endpoint = match user_agent() {
        Some(agent) => endpoint
            .user_agent(agent)
            .map_err(|error| Error::bug(format!("the cluster secret in a header: {error}")))?,
        None => endpoint,
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(match tls::loaded().between {
        Some((_, opening)) => endpoint.connect_with_connector_lazy(Secured(opening)),
        None => endpoint.connect_lazy(),
    })
}

/// Channels by address, opened on first use.
#[derive(Debug)]
pub struct Channels {
    connect: fn(&str) -> Result<Channel>,
    most: usize,
    open: Mutex<HashMap<String, Channel>>,
}

impl Channels {
    /// Keeps at most so many; when there are more, all are opened anew.
    pub fn new(connect: fn(&str) -> Result<Channel>, most: usize) -> Channels {
        Channels { connect, most, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Channel>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel to "host:port".
    pub fn to(&self, address: &str) -> Result<Channel> {
        let mut open = self.open();
        if let Some(channel) = open.get(address) {
            return Ok(channel.clone());
        }
        if open.len() >= self.most {
            open.clear();
        }
        let channel = (self.connect)(address)?;
        open.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Open the next one to this address anew. What is on its way goes on.
    pub fn renew(&self, address: &str) {
        self.open().remove(address);
    }
}

/// Opens connections over TLS, with a certificate on both ends.
#[derive(Clone)]
struct Secured(Arc<ClientConfig>);

impl Secured {
    async fn open(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{what} in address {uri}"));
        let host = uri.host().ok_or_else(|| wrong("no host"))?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().ok_or_else(|| wrong("no port"))?;
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong("not a name"))?;
        let socket = TcpStream::connect((host.as_str(), port)).await?;
        socket.set_nodelay(true)?;
        Ok(TokioIo::new(TlsConnector::from(self.0).connect(name, socket).await?))
    }
}

impl tower_service::Service<Uri> for Secured {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().open(uri))
    }
}

/// A server with the same settings; put [`guard`](crate::secret::guard) around its services.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_local_error_reset_streams(Some(RESETS))
        .http2_max_pending_accept_reset_streams(Some(RESETS_UNSEEN))
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}

/// Accept on a bound listener: over TLS where the processes have certificates of the cluster.
pub fn incoming(listener: tokio::net::TcpListener) -> impl Stream<Item = io::Result<Io>> {
    let greeting = tls::loaded().between.map_or(Greeting::Http2, |(accepting, _)| Greeting::Tls(accepting));
    ReceiverStream::new(door::open(listener, greeting)).map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn channels_are_kept_up_to_a_bound_and_opened_anew_when_asked_to() {
        let channels = Channels::new(connect, 2);
        for address in ["h:1", "h:2", "h:2"] {
            channels.to(address).unwrap();
        }
        assert_eq!(channels.open().len(), 2);
        channels.renew("h:1");
        assert!(!channels.open().contains_key("h:1"));
        channels.to("h:1").unwrap();
        channels.to("h:3").unwrap();
        assert_eq!(channels.open().keys().collect::<Vec<_>>(), ["h:3"]);
        assert!(channels.to("no address").is_err());
    }
}
