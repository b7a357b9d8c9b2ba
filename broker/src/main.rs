//! Starts the broker. Exit codes: 0 stopped as asked, 1 failed while running, 2 wrong arguments or configuration.

use clap::Parser;
use coffer_broker::config::Config;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, ErrorKind, Result, config, telemetry};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Coffer broker: an object store proxy over gRPC.
#[derive(Debug, Parser)]
#[command(name = "coffer-broker", version)]
struct Arguments {
    /// Configuration file (TOML); without it every option has its default.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Instead of the option listen: gRPC address, host:port.
    #[arg(long)]
    listen: Option<String>,
    /// Instead of the option http_listen: address of /metrics and /api/health, host:port.
    #[arg(long)]
    http_listen: Option<String>,
    /// Added to the option local_roots: a directory below which file:// locations may lie.
    #[arg(long = "local-root")]
    local_roots: Vec<PathBuf>,
}

impl Arguments {
    fn config(self) -> Result<Config> {
        let beside = self.config.as_deref().and_then(Path::parent).map(Path::to_owned);
        let mut config: Config = self.config.map_or_else(|| Ok(Config::default()), |path| config::load(&path))?;
        config.conf_dir = config.conf_dir.or(beside);
        config.listen = self.listen.unwrap_or(config.listen);
        config.http_listen = self.http_listen.unwrap_or(config.http_listen);
        config.local_roots.extend(self.local_roots);
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
    let shutdown = Shutdown::new();
    tokio::runtime::Runtime::new()?.block_on(async {
        shutdown.on_signals()?;
        coffer_broker::run(config, shutdown).await
    })
}

/// 2: the configuration is wrong, starting again changes nothing.
fn code_of(error: &Error) -> u8 {
    if error.kind() == ErrorKind::Invalid { 2 } else { 1 }
}

fn failed(error: &Error, code: u8) -> ExitCode {
    // Nothing is left to do when even standard error is closed.
    let _ = writeln!(std::io::stderr(), "coffer-broker: {error}");
    ExitCode::from(code)
}
