//! Starts the backend. Exit codes: 0 stopped as asked, 1 failed while starting or running, 2 wrong arguments or
//! configuration.

use clap::Parser;
use coffer_be::config::Config;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, ErrorKind, Result, config, telemetry};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Gives memory back to the system soon after a load or a transfer; the system's allocator keeps what each thread used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Coffer backend: keeps tablets, loads and scans them, moves backups.
#[derive(Debug, Parser)]
#[command(name = "coffer-be", version)]
struct Arguments {
    /// Configuration file (TOML); without it every option has its default.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Instead of the option grpc_listen: host:port.
    #[arg(long)]
    grpc_listen: Option<String>,
    /// Instead of the option http_listen: host:port.
    #[arg(long)]
    http_listen: Option<String>,
    /// Instead of the option data_dirs; may be given several times.
    #[arg(long = "data-dir")]
    data_dirs: Vec<PathBuf>,
}

impl Arguments {
    fn config(self) -> Result<Config> {
        let mut config: Config = self.config.map_or_else(|| Ok(Config::default()), |path| config::load(&path))?;
        config.grpc_listen = self.grpc_listen.unwrap_or(config.grpc_listen);
        config.http_listen = self.http_listen.unwrap_or(config.http_listen);
        if !self.data_dirs.is_empty() {
            config.data_dirs = self.data_dirs;
        }
        config.check().map(|()| config)
    }
}

fn main() -> ExitCode {
    match Arguments::parse().config() {
        Err(error) => failed(&error, 2),
        Ok(config) => serve(config).map_or_else(|error| failed(&error, code_of(&error)), |()| ExitCode::SUCCESS),
    }
}

fn serve(config: Config) -> Result<()> {
    telemetry::start(&config.log);
    let runtime = tokio::runtime::Runtime::new()?;
    let shutdown = Shutdown::new();
    let ended = runtime.block_on(async {
        shutdown.on_signals()?;
        coffer_be::node::run(config, shutdown).await
    });
    // File work that still blocks a thread must not keep the process.
    runtime.shutdown_background();
    ended
}

/// 2: the configuration is wrong, starting again changes nothing.
fn code_of(error: &Error) -> u8 {
    if error.kind() == ErrorKind::Invalid { 2 } else { 1 }
}

fn failed(error: &Error, code: u8) -> ExitCode {
    // Nothing is left to do when even standard error is closed.
    let _ = writeln!(std::io::stderr(), "coffer-be: {error}");
    ExitCode::from(code)
}
