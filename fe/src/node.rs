//! Start everything in order, stop it in reverse.
//!
//! Ports first, so that a second process on this machine fails at once and with a clear message; then the metadata, which
//! of a cluster of one ends with this frontend leading; then what works on it; then the services, by which the other
//! frontends of a larger cluster reach this one. A stop takes no new statements, lets those at
//! hand finish for a while, and closes the log last. What was acknowledged is durable whatever happens.

use crate::audit::Audit;
use crate::config::Config;
use crate::error::{Context as _, Error, Result};
use crate::exec::Context;
use crate::exec::processes::Processes;
use crate::login::Login;
use crate::metrics::Metrics;
use crate::mysql::Server;
use crate::query::Engine;
use crate::raft::{Meta, Opening};
use crate::{backends, custody, forward, http, job, limits, load, raft};
use coffer_proto::channel;
use coffer_proto::secret::{self, Trust};
use coffer_proto::tls;
use coffer_stdx::notify;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::time::now_ms;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Run a frontend until `shutdown` begins. Fails when it cannot start: a port is taken, the metadata is in use or damaged.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    Node::bind(config).await?.serve(shutdown).await
}

/// A frontend that has its ports but does not serve yet.
#[derive(Debug)]
pub struct Node {
    config: Config,
    mysql: TcpListener,
    http: TcpListener,
    grpc: TcpListener,
}

/// What runs beside the services.
struct Parts {
    context: Context,
    metrics: Metrics,
}

impl Node {
    /// Take the ports. A configured port of 0 becomes a real one.
    pub async fn bind(mut config: Config) -> Result<Node> {
        config.check()?;
        tls::load(&config.tls)?;
        secret::establish(Trust {
            secret_file: &config.cluster_secret_file,
            network: config.trust_network,
            certificates: config.tls.between_processes(),
            listen: &config.grpc_listen.to_string(),
        })?;
        let mysql = listen("mysql_listen", &mut config.mysql_listen).await?;
        let http = listen("http_listen", &mut config.http_listen).await?;
        let grpc = listen("grpc_listen", &mut config.grpc_listen).await?;
        Ok(Node { config, mysql, http, grpc })
    }

    /// The settings, with real ports.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Serve until `shutdown` begins or the metadata log fails.
    pub async fn serve(self, shutdown: Shutdown) -> Result<()> {
        let Node { config, mysql, http, grpc } = self;
        let config = Arc::new(config);
        // Joining may take a while, and ends when nobody needs it any more.
        let meta = match shutdown.token().run_until_cancelled(Meta::take_part(opening(&config))).await {
            Some(meta) => meta?,
            None => return Ok(()),
        };
        let parts = start(meta.clone(), Arc::clone(&config), &shutdown)?;
        tracing::info!(
            mysql = %config.mysql_listen,
            http = %config.http_listen,
            grpc = %config.grpc_listen,
            meta_dir = %config.meta_dir.display(),
            "frontend is up"
        );
        let outcome = services(parts, (mysql, http, grpc), &meta, &shutdown).await;
        if !shutdown.finish(limits::STOP_TIMEOUT).await {
            tracing::warn!(seconds = limits::STOP_TIMEOUT.as_secs(), "statements still running are cut off");
        }
        meta.stop().await;
        tracing::info!("frontend stopped");
        outcome
    }
}

fn opening(config: &Config) -> Opening {
    Opening {
        dir: config.meta_dir.clone(),
        address: config.grpc_address(),
        helper: Some(config.helper.clone()).filter(|helper| !helper.is_empty()),
        mysql_port: config.mysql_listen.port(),
        http_port: config.http_listen.port(),
        started_ms: now_ms(),
    }
}

fn start(meta: Meta, config: Arc<Config>, shutdown: &Shutdown) -> Result<Parts> {
    let backends = backends::start(meta.clone(), Arc::clone(&config), shutdown.clone());
    custody::begin(&meta, backends.vault())?;
    shutdown.spawn(custody::follow(meta.clone(), backends.clone(), shutdown.clone()));
    let metrics = Metrics::new()?;
    let audit = match config.audit_log {
        true => Audit::start(&config.audit_path(), metrics.clone())?,
        false => Audit::off(),
    };
    let login = Login::new(meta.clone(), metrics.clone(), audit.clone());
    let front = (login.clone(), audit.clone());
    let loads = load::start(meta.clone(), backends.clone(), Arc::clone(&config), front, shutdown.clone());
    let engine = Engine::new(meta.clone(), backends.clone(), &config)?;
    let jobs = job::start(meta.clone(), backends.clone(), Arc::clone(&config), shutdown.clone());
    shutdown.spawn(raft::membership::supervise(meta.clone(), shutdown.clone()));
    let (processes, started_ms, dynamics) = (Processes::default(), now_ms(), crate::exec::dynamic::Dynamics::default());
    let context =
        Context { meta, backends, loads, engine, jobs, login, audit, config, dynamics, processes, started_ms };
    shutdown.spawn(forward::follow(context.clone(), shutdown.clone()));
    shutdown.spawn(crate::exec::dynamic::scheduler::run(context.clone(), shutdown.clone()));
    Ok(Parts { context, metrics })
}

/// Everything that listens, until the stop, or until one of them or the log fails.
async fn services(
    parts: Parts,
    (mysql, http_listener, grpc): (TcpListener, TcpListener, TcpListener),
    meta: &Meta,
    shutdown: &Shutdown,
) -> Result<()> {
    let Parts { context, metrics } = parts;
    let server = Server::new(context.clone(), metrics.clone(), shutdown.clone());
    shutdown.spawn(server.run(mysql));
    notify::ready(shutdown);
    let grpc_stop = shutdown.token();
    let internal = channel::server()
        .layer(secret::guard())
        .add_service(raft::service::service(context.meta.clone()))
        .add_service(forward::service(context.clone()))
        .add_service(load::service::service(context.loads.clone()))
        .serve_with_incoming_shutdown(channel::incoming(grpc), async move { grpc_stop.cancelled().await });
    let pages = coffer_proto::http::serve(http_listener, http::router(context, metrics), shutdown.clone());
    let mut internal = shutdown.spawn(internal);
    let mut pages = shutdown.spawn(pages);
    let ended = |what: &str| Error::bug(format!("the {what} service died"));
    tokio::select! {
        () = shutdown.begun() => Ok(()),
        error = meta.failed() => Err(error),
        served = &mut internal => match served {
            Ok(served) => served.map_err(|error| Error::unavailable(format!("gRPC service: {error}"))),
            Err(_) => Err(ended("gRPC")),
        },
        served = &mut pages => match served {
            Ok(()) if shutdown.is_begun() => Ok(()),
            Ok(()) => Err(ended("HTTP")),
            Err(_) => Err(ended("HTTP")),
        },
    }
}

async fn listen(option: &str, address: &mut SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(*address).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; another process has this port: stop it or choose another port",
            _ => "",
        };
        Error::unavailable(format!("cannot listen on {address} (option {option}): {error}{advice}"))
    })?;
    *address = listener.local_addr().context(|| "look at a listener")?;
    Ok(listener)
}
