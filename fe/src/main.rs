//! Starts the frontend. Exit codes: 0 stopped as asked, 1 failed while starting or running, 2 wrong arguments or
//! configuration.

use clap::Parser;
use coffer_fe::config::Config;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, Result, telemetry};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Coffer frontend: SQL over the MySQL protocol, replicated metadata, backup and restore jobs.
#[derive(Debug, Parser)]
#[command(name = "coffer-fe", version)]
struct Arguments {
    /// Configuration file (TOML); without it every option has its default.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Instead of the option meta_dir.
    #[arg(long)]
    meta_dir: Option<PathBuf>,
    /// Instead of the option host: the name under which others reach this machine.
    #[arg(long)]
    host: Option<String>,
    /// Instead of the option mysql_listen: address:port.
    #[arg(long)]
    mysql_listen: Option<SocketAddr>,
    /// Instead of the option http_listen: address:port.
    #[arg(long)]
    http_listen: Option<SocketAddr>,
    /// Instead of the option grpc_listen: address:port.
    #[arg(long)]
    grpc_listen: Option<SocketAddr>,
}

impl Arguments {
    fn config(self) -> Result<Config> {
        let mut config = self.config.map_or_else(|| Ok(Config::default()), |path| Config::load(&path))?;
        config.meta_dir = self.meta_dir.unwrap_or(config.meta_dir);
        config.host = self.host.unwrap_or(config.host);
        config.mysql_listen = self.mysql_listen.unwrap_or(config.mysql_listen);
        config.http_listen = self.http_listen.unwrap_or(config.http_listen);
        config.grpc_listen = self.grpc_listen.unwrap_or(config.grpc_listen);
        config.check().map(|()| config)
    }
}

fn main() -> ExitCode {
    match Arguments::parse().config() {
        Err(error) => failed(&error, 2),
        Ok(config) => serve(config).map_or_else(|error| failed(&error, 1), |()| ExitCode::SUCCESS),
    }
}

fn serve(config: Config) -> Result<()> {
    telemetry::start(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(coffer_fe::limits::THREAD_STACK_BYTES)
        .build()?;
    let shutdown = Shutdown::new();
    let ended = runtime.block_on(async {
        shutdown.on_signals()?;
        coffer_fe::node::run(config, shutdown).await
    });
    // File work that still blocks a thread must not keep the process.
    runtime.shutdown_background();
    ended
}

fn failed(error: &Error, code: u8) -> ExitCode {
    // Nothing is left to do when even standard error is closed.
    let _ = writeln!(std::io::stderr(), "coffer-fe: {error}");
    ExitCode::from(code)
}
