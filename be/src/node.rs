//! Start everything in order, stop it in reverse.

use crate::agent::AgentService;
use crate::agent::queue::Deps;
use crate::agent::report::Process;
use crate::cluster::Cluster;
use crate::compact::Compaction;
use crate::config::Config;
use crate::http;
use crate::limits::SWEEP_EVERY;
use crate::load::LoadDeps;
use crate::load::rejects::ErrorLogs;
use crate::load::service::TabletsService;
use crate::load::stream::StreamDeps;
use crate::metrics::Metrics;
use crate::repair::{ReplicasService, scrub};
use crate::scan::ScanService;
use crate::tablet::TabletStore;
use crate::task::blocking;
use arrow_flight::flight_service_server::FlightServiceServer;
use coffer_proto::channel::{self, MAX_MESSAGE_BYTES};
use coffer_proto::secret::{self, Trust};
use coffer_proto::v1::agent_server::AgentServer;
use coffer_proto::v1::options_server::OptionsServer;
use coffer_proto::v1::replicas_server::ReplicasServer;
use coffer_proto::v1::tablets_server::TabletsServer;
use coffer_proto::{options, tls};
use coffer_stdx::error::Context;
use coffer_stdx::options::Changes;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result, notify, time};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

/// Run a backend until `shutdown` begins. Fails when it cannot start: a port is taken, a directory is in use or broken.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    Node::bind(config).await?.serve(shutdown).await
}

/// A backend that has its ports.
#[derive(Debug)]
pub struct Node {
    config: Config,
    grpc: TcpListener,
    http: TcpListener,
    start_time_ms: u64,
}

impl Node {
    /// Take the ports.
    pub async fn bind(config: Config) -> Result<Node> {
        tls::load(&config.tls)?;
        secret::establish(Trust {
            secret_file: &config.cluster_secret_file,
            network: config.trust_network,
            certificates: config.tls.between_processes(),
            listen: &config.grpc_listen,
        })?;
        let grpc = listen("grpc_listen", &config.grpc_listen).await?;
        let http = listen("http_listen", &config.http_listen).await?;
        Ok(Node { config, grpc, http, start_time_ms: time::now_ms() })
    }

    /// The gRPC and the HTTP address.
    pub fn addresses(&self) -> Result<(SocketAddr, SocketAddr)> {
        let address = |listener: &TcpListener| listener.local_addr().context(|| "address of a listener");
        Ok((address(&self.grpc)?, address(&self.http)?))
    }

    /// Serve until `shutdown` begins.
    pub async fn serve(self, shutdown: Shutdown) -> Result<()> {
        let http_port = self.addresses()?.1.port();
        let Node { config, grpc, http, start_time_ms } = self;
        let dirs = config.data_dirs.clone();
        let (store, cluster) = blocking(move || {
            let store = TabletStore::open(&dirs)?;
            let cluster = Cluster::new(store.clone())?;
            Ok((store, cluster))
        })
        .await?;
        let (config, metrics) = (Arc::new(config), Arc::new(Metrics::new()));
        let load = LoadDeps::new(store.clone(), cluster.clone(), metrics.clone(), &config);
        let deps = Deps {
            store: store.clone(),
            cluster,
            config: config.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        };
        let agent = AgentService::new(deps, Process { start_time_ms, http_port });
        let scans = ScanService::new(store.clone(), metrics.clone());
        let compaction =
            Compaction { store: store.clone(), config: config.clone(), metrics, shutdown: shutdown.clone() };
        let streams = StreamDeps {
            load: load.clone(),
            error_logs: ErrorLogs::default(),
            config: config.clone(),
            shutdown: shutdown.clone(),
        };
        tracing::info!(
            tablets = store.count(),
            bad = store.bad_tablets().len(),
            grpc = config.grpc_listen,
            http = config.http_listen,
            "backend is up"
        );
        notify::ready(&shutdown);
        let replicas = ReplicasService::new(store.clone());
        let options = options::service(config.clone(), follow);
        let routes = http::routes(streams, config.metrics_public);
        let scrubber = shutdown.spawn(scrub::run(store.clone(), config.clone(), shutdown.clone()));
        let compactor = shutdown.spawn(compaction.run());
        let sweeper = shutdown.spawn(sweep(store, config.clone(), shutdown.clone()));
        // The stop waits for them too: their open connections hold the store, and with it the locks of the data
        // directories, which a backend that starts again in this process must find free.
        let services = [
            shutdown.spawn(serve_grpc(
                grpc,
                agent,
                (TabletsService::new(load), replicas, options),
                scans,
                shutdown.clone(),
            )),
            shutdown.spawn(serve_http(http, routes, shutdown.clone())),
        ];
        let ended = until_end(services, &shutdown).await;
        if !shutdown.finish(Duration::from_secs(config.stop_wait_s.get())).await {
            tracing::warn!("loads or tasks still run; they end with the process and are repeated or discarded later");
        }
        compactor.abort();
        sweeper.abort();
        scrubber.abort();
        tracing::info!("backend stopped");
        ended
    }
}

type Service = tokio::task::JoinHandle<Result<()>>;

/// Wait for the shutdown or for a service that fails.
async fn until_end(services: [Service; 2], shutdown: &Shutdown) -> Result<()> {
    let [grpc, http] = services;
    let gone = |_| Error::bug("a service panicked; see the log");
    tokio::select! {
        () = shutdown.begun() => Ok(()),
        ended = grpc => ended.map_err(gone)?,
        ended = http => ended.map_err(gone)?,
    }
}

async fn listen(option: &str, address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::AddrInUse { "; another process has this port" } else { "" };
        Error::unavailable(format!("cannot listen on {address} (option {option}): {error}{hint}"))
    })
}

async fn serve_grpc(
    listener: TcpListener,
    agent: AgentService,
    (tablets, replicas, options): (TabletsService, ReplicasService, OptionsServer<options::Service<Config>>),
    scans: ScanService,
    shutdown: Shutdown,
) -> Result<()> {
    let limit = MAX_MESSAGE_BYTES;
    channel::server()
        .layer(secret::guard())
        .add_service(AgentServer::new(agent).max_decoding_message_size(limit).max_encoding_message_size(limit))
        .add_service(TabletsServer::new(tablets).max_decoding_message_size(limit).max_encoding_message_size(limit))
        .add_service(ReplicasServer::new(replicas).max_encoding_message_size(limit))
        .add_service(options)
        .add_service(FlightServiceServer::new(scans).max_decoding_message_size(limit).max_encoding_message_size(limit))
        .serve_with_incoming_shutdown(channel::incoming(listener), async move { shutdown.begun().await })
        .await
        .map_err(|error| Error::unavailable(format!("gRPC service: {error}")))
}

async fn serve_http(listener: TcpListener, routes: axum::Router, shutdown: Shutdown) -> Result<()> {
    coffer_proto::http::serve(listener, routes, shutdown).await;
    Ok(())
}

/// What changed options lead to, where they are not simply read when they are needed.
fn follow(config: &Config, changed: &Changes) -> Result<()> {
    if changed.contains_key("log.level") { config.log.apply() } else { Ok(()) }
}

async fn sweep(store: Arc<TabletStore>, config: Arc<Config>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.begun() => return,
        }
        let (store, keep) = (store.clone(), Duration::from_secs(config.trash_keep_s.get()));
        if let Err(error) = blocking(move || {
            store.sweep(keep);
            Ok(())
        })
        .await
        {
            tracing::warn!(%error, "sweep");
        }
    }
}
