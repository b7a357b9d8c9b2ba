//! The command line of `coffer-fe`: serve, or do one of the [`Tool`]s; the options choose the same directory for both.

use crate::config::Config;
use crate::tools::Tool;
use clap::Parser;
use coffer_stdx::Result;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Coffer frontend: SQL over the MySQL protocol, replicated metadata, backup and restore jobs.
#[derive(Debug, Parser)]
#[command(name = "coffer-fe", version)]
pub struct Arguments {
    /// Instead of serving.
    #[command(subcommand)]
    pub tool: Option<Tool>,
    /// Configuration file (TOML); without it every option has its default.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Instead of the option meta_dir.
    #[arg(long, global = true)]
    meta_dir: Option<PathBuf>,
    /// Instead of the option helper: gRPC address of a frontend of the cluster to join, for the first start.
    #[arg(long)]
    helper: Option<String>,
    /// Instead of the option host: the name under which others reach this machine.
    #[arg(long, global = true)]
    host: Option<String>,
    /// Instead of the option mysql_listen: address:port.
    #[arg(long, global = true)]
    mysql_listen: Option<SocketAddr>,
    /// Instead of the option http_listen: address:port.
    #[arg(long, global = true)]
    http_listen: Option<SocketAddr>,
    /// Instead of the option grpc_listen: address:port.
    #[arg(long, global = true)]
    grpc_listen: Option<SocketAddr>,
}

impl Arguments {
    /// The configuration file with the options put in, checked.
    pub fn config(self) -> Result<Config> {
        let mut config = self.config.map_or_else(|| Ok(Config::default()), |path| Config::load(&path))?;
        config.meta_dir = self.meta_dir.unwrap_or(config.meta_dir);
        config.helper = self.helper.unwrap_or(config.helper);
        config.host = self.host.unwrap_or(config.host);
        config.mysql_listen = self.mysql_listen.unwrap_or(config.mysql_listen);
        config.http_listen = self.http_listen.unwrap_or(config.http_listen);
        config.grpc_listen = self.grpc_listen.unwrap_or(config.grpc_listen);
        config.check().map(|()| config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn options_may_stand_before_and_behind_a_tool() {
        Arguments::command().debug_assert();
        for line in ["coffer-fe --meta-dir /m dump", "coffer-fe dump --meta-dir /m"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert!(matches!(arguments.tool, Some(Tool::Dump)));
            assert_eq!(arguments.config().unwrap().meta_dir, PathBuf::from("/m"));
        }
        assert!(Arguments::try_parse_from(["coffer-fe"]).unwrap().tool.is_none());
        assert!(Arguments::try_parse_from(["coffer-fe", "export"]).is_err());
    }
}
