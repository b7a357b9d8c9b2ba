//! The broker: the object store trait, served over gRPC.
//!
//! A broker keeps nothing. It turns the seven calls of broker.proto into calls on a [`coffer_store::Store`], bounds the
//! memory they need, and counts them. Killing it loses the streams that pass through it and nothing else: an object
//! that was not complete is not visible, and its sender tries again here or at another broker.
//!
//! Modules, bottom to top: `config`, `limits`, `metrics`, `fence` | `stores`, `admission`, `pace` | `receive` | `service`, `http`.

pub mod admission;
pub mod config;
pub mod fence;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod pace;
pub mod receive;
pub mod service;
pub mod stores;

use admission::Admission;
use coffer_proto::channel::{MAX_MESSAGE_BYTES, incoming, server};
use coffer_proto::door::Io;
use coffer_proto::secret::{self, Trust};
use coffer_proto::v1::broker_server::BrokerServer;
use coffer_proto::{options, tls};
use coffer_stdx::error::Context;
use coffer_stdx::options::Changes;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result, notify};
use coffer_store::{Budget, LocalAccess};
use config::Config;
use futures::{Stream, StreamExt, stream};
use limits::Shares;
use metrics::Metrics;
use pace::Pace;
use service::{Memory, Service};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stores::Stores;
use tokio::net::TcpListener;

/// Listen and serve until `shutdown` begins, then let running requests finish.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    Bound::bind(config).await?.serve(shutdown).await
}

/// A broker that has its ports but does not serve yet.
#[derive(Debug)]
pub struct Bound {
    config: Arc<Config>,
    grpc: TcpListener,
    http: TcpListener,
}

impl Bound {
    /// Take the ports.
    pub async fn bind(config: Config) -> Result<Bound> {
        config.check()?;
        tls::load(&config.tls)?;
        secret::establish(Trust {
            secret_file: &config.cluster_secret_file,
            network: config.trust_network,
            certificates: config.tls.between_processes(),
            listen: &config.listen,
        })?;
        let grpc = listen("listen", &config.listen).await?;
        let http = listen("http_listen", &config.http_listen).await?;
        Ok(Bound { config: Arc::new(config), grpc, http })
    }

    /// Where gRPC answers; the port is real even when the configured one is 0.
    pub fn grpc_address(&self) -> Result<SocketAddr> {
        self.grpc.local_addr().context(|| "look at the gRPC port")
    }

    /// Where HTTP answers.
    pub fn http_address(&self) -> Result<SocketAddr> {
        self.http.local_addr().context(|| "look at the HTTP port")
    }

    /// Serve until `shutdown` begins, then let running requests finish for the configured time.
    pub async fn serve(self, shutdown: Shutdown) -> Result<()> {
        let config = &self.config;
        let metrics = Metrics::new()?;
        let shares = Shares::of(config.memory_budget_mib);
        let [reads, writes, parts] = [shares.reads, shares.writes, shares.parts].map(Budget::new);
        let memory = Memory {
            reads: Admission::new(reads.clone()),
            writes: Admission::new(writes.clone()),
            parts: parts.clone(),
        };
        let pace = Pace::new(config.max_upload_bytes_per_second.get(), config.max_download_bytes_per_second.get());
        let pace = Arc::new(pace);
        let access = LocalAccess { roots: config.local_roots.clone(), conf_dir: config.conf_dir.clone() };
        let stores = Arc::new(Stores::new(access, config.allow_null, parts.clone(), metrics.clone()));
        let pages = http::Pages {
            metrics: metrics.clone(),
            budgets: vec![("reads", reads), ("writes", writes), ("parts", parts)],
            metrics_public: config.metrics_public,
            shutdown: shutdown.clone(),
        };
        tracing::info!(grpc = %self.grpc_address()?, http = %self.http_address()?, roots = ?config.local_roots, "broker serves");
        notify::ready(&shutdown);

        let sweep = sweep(Arc::clone(&stores), Arc::clone(config), shutdown.clone());
        let sweep = tokio::spawn(sweep);
        let changing = Arc::clone(&pace);
        let options = options::service(Arc::clone(config), move |config, changed| follow(config, changed, &changing));
        let service = BrokerServer::new(Service::new(stores, metrics, pace, memory))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let token = shutdown.token();
        let grpc = server()
            .layer(secret::guard())
            .add_service(service)
            .add_service(options)
            .serve_with_incoming_shutdown(until_shutdown(self.grpc, &shutdown), async move { token.cancelled().await });
        let http = coffer_proto::http::serve(self.http, http::router(pages), shutdown.clone());
        let both = async {
            let (grpc, ()) = tokio::join!(grpc, http);
            grpc.map_err(|error| Error::unavailable(format!("gRPC server: {error}")))
        };
        let outcome = tokio::select! {
            outcome = both => outcome,
            () = drained(&shutdown, config) => {
                tracing::warn!(seconds = config.drain_seconds.get(), "requests still running are cut off");
                Ok(())
            }
        };
        sweep.abort();
        tracing::info!("broker stopped");
        outcome
    }
}

/// New connections until the shutdown begins, which closes the port: left open, the kernel would go on taking connections
/// that nobody serves, and whoever made them would wait instead of asking another broker.
fn until_shutdown(listener: TcpListener, shutdown: &Shutdown) -> impl Stream<Item = std::io::Result<Io>> + use<> {
    stream::unfold((incoming(listener), shutdown.token()), |(mut connections, token)| async move {
        tokio::select! {
            connection = connections.next() => Some((connection?, (connections, token))),
            () = token.cancelled() => None,
        }
    })
}

/// Until the time after the beginning of the shutdown is up.
async fn drained(shutdown: &Shutdown, config: &Config) {
    shutdown.begun().await;
    tokio::time::sleep(Duration::from_secs(config.drain_seconds.get())).await;
}

/// What changed options lead to, where they are not simply read when they are needed.
fn follow(config: &Config, changed: &Changes, pace: &Pace) -> Result<()> {
    pace.configure(config.max_upload_bytes_per_second.get(), config.max_download_bytes_per_second.get());
    if changed.contains_key("log.level") { config.log.apply() } else { Ok(()) }
}

async fn sweep(stores: Arc<Stores>, config: Arc<Config>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(limits::SWEEP_EVERY);
    while !shutdown.is_begun() {
        ticks.tick().await;
        stores.sweep(Instant::now(), Duration::from_secs(config.store_idle_seconds.get()));
    }
}

async fn listen(option: &str, address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; another process has this port: stop it or choose another port",
            _ => "",
        };
        Error::unavailable(format!("cannot listen on {address} (option {option}): {error}{advice}"))
    })
}
