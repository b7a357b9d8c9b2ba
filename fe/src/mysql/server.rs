//! Accept connections, know accounts, limit how many there are, and let them end in order.
//!
//! Beyond `max_connections` a client is told so after its login; beyond that and a few more that are logging in, the
//! server does not accept, so that nobody can make it grow.

use super::errors::to_server_error;
use super::session::Conversation;
use crate::error::Error;
use crate::exec::{Context, Session, variables};
use crate::metrics::Metrics;
use async_trait::async_trait;
use coffer_mysql::error::TOO_MANY_CONNECTIONS;
use coffer_mysql::{Client, Credentials, Peer, ServerError, ServerOptions, Service, serve};
use coffer_stdx::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that may be logging in, or be told that there are too many, at a time.
const MAX_ARRIVING: usize = 64;
/// How long a login waits until this frontend is up to date.
const LOGIN_WAIT: Duration = Duration::from_secs(3);
/// How long to wait when the system has no more sockets for us.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The MySQL server of this process.
#[derive(Clone)]
pub struct Server {
    context: Context,
    metrics: Metrics,
    options: Arc<ServerOptions>,
    shutdown: Shutdown,
    numbers: Arc<AtomicU32>,
}

impl Server {
    /// A server that runs statements with `context`.
    pub fn new(context: Context, metrics: Metrics, shutdown: Shutdown) -> Server {
        let options = ServerOptions {
            version: variables::SERVER_VERSION.to_owned(),
            idle_timeout: Duration::from_secs(context.config.wait_timeout_s),
            tls: coffer_proto::tls::mysql(),
            tls_required: context.config.tls.mysql_required,
            started: Instant::now(),
            ..ServerOptions::default()
        };
        Server { context, metrics, options: Arc::new(options), shutdown, numbers: Arc::default() }
    }

    /// Accept until the process stops; open connections end after the statement at hand.
    pub async fn run(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(self.context.config.max_connections + MAX_ARRIVING));
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.begun() => return,
                accepted = accept(&listener, &places) => accepted,
            };
            match accepted {
                Ok((stream, address, place)) => {
                    let server = self.clone();
                    self.shutdown.spawn(async move {
                        server.converse(stream, address).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a MySQL connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    async fn converse(&self, stream: TcpStream, address: SocketAddr) {
        let connection = self.numbers.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let host = address.ip().to_canonical().to_string();
        let (stop, _) = self.context.processes.open(connection, &address.to_string());
        self.metrics.connections.inc();
        let ended = async {
            stream.set_nodelay(true)?;
            let stop = async {
                tokio::select! {
                    () = self.shutdown.begun() => {}
                    () = stop.cancelled() => {}
                }
            };
            serve(stream, Peer { connection, host }, &self.options, self, stop).await
        };
        if let Err(error) = ended.await {
            tracing::debug!(connection, %error, "connection broke");
        }
        self.metrics.connections.dec();
        self.context.processes.close(connection);
    }
}

fn late() -> Error {
    Error::unavailable("Node catalog is not ready, please wait for a while.")
}

/// Wait for a place first, then for a client.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, place))
}

#[async_trait]
impl Service for Server {
    async fn credentials(&self, user: &str, host: &str) -> Result<Option<Credentials>, ServerError> {
        // Passwords change like anything else. Without a leader those known here still let people in, to look around.
        let newest = tokio::time::timeout(LOGIN_WAIT, self.context.meta.barrier()).await;
        if self.context.meta.view(|state| state.cluster_id.is_empty())
            && let Err(error) = newest.unwrap_or_else(|_| Err(late()))
        {
            return Err(to_server_error(&error));
        }
        let digests = self.context.login.digests(user, host).map_err(|error| to_server_error(&error))?;
        Ok(digests.map(|digests| Credentials::from_digests(digests.sha1, digests.sha256)))
    }

    async fn refused(&self, user: &str, host: &str) {
        self.context.login.refused(user, host).await;
    }

    async fn open(&self, client: Client) -> Result<Box<dyn coffer_mysql::Session>, ServerError> {
        let processes = &self.context.processes;
        if processes.count() > self.context.config.max_connections {
            return Err(TOO_MANY_CONNECTIONS.error("Too many connections"));
        }
        let Some((_, interrupt)) = processes.handles(client.connection) else {
            return Err(to_server_error(&Error::bug("a session without a connection")));
        };
        let who = self.context.login.admitted(&client.user, &client.host);
        let mut session = Session::new(client.connection, client.user, client.host);
        session.account = who.account;
        Ok(Box::new(Conversation::new(self.context.clone(), self.metrics.clone(), session, interrupt)))
    }
}
