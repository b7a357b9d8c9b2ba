//! The command line: every command, every option, every default.

mod operate;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use operate::{CompletionArgs, DoctorArgs, MigrateArgs};
use std::path::PathBuf;

/// Checks and migrations of Coffer clusters; local clusters, demonstrations and measurements.
#[derive(Debug, Parser)]
#[command(name = "cofferctl", version, propagate_version = true, after_help = operate::EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A local cluster: frontend, backends and brokers on this machine's loopback.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Load TPC-H data, back it up, drop it, restore it, and compare every column.
    Tour(TourArgs),
    /// Measure backup and restore beside `cp -r` of the same files, on a cluster of its own.
    Bench(BenchArgs),
    /// Check a deployment: ports, clocks, disks, limits, versions, brokers, replicas; say what to do.
    Doctor(DoctorArgs),
    /// Move a database to another cluster through a repository, and compare both.
    Migrate(MigrateArgs),
    /// Print the completions of a shell.
    Completion(CompletionArgs),
    /// The secret that the processes of a cluster share.
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Make a certificate authority for a cluster, and certificates for its machines.
    Certs(CertsArgs),
    /// Leave the caller's session and become the program (used by `cluster` for background processes).
    #[command(name = "__run", hide = true)]
    Run {
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
}

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Make a secret in a new file, for the option cluster_secret_file of every process.
    New {
        /// The file; it must not exist.
        #[arg(long)]
        to: PathBuf,
    },
    /// Print the token with which /metrics of backends and brokers answers: `Authorization: Bearer TOKEN`.
    MetricsToken {
        /// The file with the secret of the cluster.
        #[arg(long)]
        of: PathBuf,
    },
}

/// `certs`.
#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    /// Where the files are: ca.pem, ca.key, and NAME.pem and NAME.key for each machine. What is there is used again.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// A machine, NAME or NAME=ALIAS,ALIAS: every name and address under which others reach it. May be repeated.
    #[arg(long = "host", required = true)]
    pub(crate) hosts: Vec<String>,
    /// Days that certificates of machines are good.
    #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
    /// Replace certificates that are there.
    #[arg(long)]
    pub(crate) renew: bool,
}

/// What to do with a local cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Create a cluster in a directory and start it; returns when every process is alive.
    Up(UpArgs),
    /// Say how each process is.
    Status(StatusArgs),
    /// Start what is not running; ports and data stay. COFFER_PASSWORD has root's password, when it has one.
    Start(StartArgs),
    /// Stop every process cleanly; what does not stop in time is killed.
    Stop(StopArgs),
    /// Stop; with --purge also remove what the cluster left on disk.
    Down(DownArgs),
}

/// `cluster up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The cluster's directory: configuration, data, logs, local repositories.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Number of frontends; three survive the loss of one, five that of two.
    #[arg(long, default_value_t = 1)]
    pub(crate) frontends: u16,
    /// Number of backends.
    #[arg(long, default_value_t = 3)]
    pub(crate) backends: u16,
    /// Number of brokers; they form one group named `local_broker`.
    #[arg(long, default_value_t = 1)]
    pub(crate) brokers: u16,
    /// First of a run of consecutive ports. Without it: 9030, 8030, 9010 for the frontend, 9050+n and 8040+n for
    /// backend n, 8000+2n and 8001+2n for broker n.
    #[arg(long)]
    pub(crate) port_base: Option<u16>,
    /// Another directory below which local repositories may lie (besides DIR/repos). May be repeated.
    #[arg(long = "repos")]
    pub(crate) repos: Vec<PathBuf>,
    /// Seconds to wait until everything is alive.
    #[arg(long, default_value_t = 60)]
    pub(crate) timeout: u64,
}

/// `cluster status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The cluster's directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// A table for people, or JSON for programs.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `cluster start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The cluster's directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Seconds to wait until everything is alive.
    #[arg(long, default_value_t = 60)]
    pub(crate) timeout: u64,
}

/// `cluster stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The cluster's directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Seconds to wait for a clean stop before killing.
    #[arg(long, default_value_t = 20)]
    pub(crate) timeout: u64,
}

/// `cluster down`.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// The cluster's directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Remove data, logs, configuration and local repositories.
    #[arg(long)]
    pub(crate) purge: bool,
    /// Seconds to wait for a clean stop before killing.
    #[arg(long, default_value_t = 20)]
    pub(crate) timeout: u64,
}

/// `tour`.
#[derive(Debug, Args)]
pub(crate) struct TourArgs {
    /// Directory of a local cluster (gives addresses and a place for the repository).
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// MySQL address of a frontend, host:port.
    #[arg(long)]
    pub(crate) mysql: Option<String>,
    /// HTTP address of a frontend, host:port.
    #[arg(long)]
    pub(crate) http: Option<String>,
    /// User with ADMIN privilege.
    #[arg(long, default_value = "root")]
    pub(crate) user: String,
    /// Its password.
    #[arg(long, env = "COFFER_PASSWORD", hide_env_values = true, default_value = "")]
    pub(crate) password: String,
    /// TPC-H scale factor; 1 is about 1 GB of text.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) scale: f64,
    /// Hash buckets per partition.
    #[arg(long, default_value_t = 2)]
    pub(crate) buckets: u32,
    /// Database for the tables; its tables `lineitem` and `orders` are replaced.
    #[arg(long, default_value = "tour")]
    pub(crate) database: String,
    /// Broker group that the repository is reached through.
    #[arg(long, default_value = "local_broker")]
    pub(crate) broker: String,
    /// Where the repository lies, for instance s3://bucket/prefix. With --dir: a directory below DIR/repos.
    #[arg(long)]
    pub(crate) location: Option<String>,
    /// A repository property, key=value. May be repeated.
    #[arg(long = "property", value_parser = key_value)]
    pub(crate) properties: Vec<(String, String)>,
}

/// `bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BenchArgs {
    /// Another measurement.
    #[command(subcommand)]
    pub(crate) other: Option<BenchCommand>,
    /// Directory for the cluster; made for this run and removed afterwards.
    #[arg(long, required = true)]
    pub(crate) dir: Option<PathBuf>,
    /// TPC-H scale factor.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) scale: f64,
    /// Hash buckets per partition.
    #[arg(long, default_value_t = 2)]
    pub(crate) buckets: u32,
    /// Number of backends.
    #[arg(long, default_value_t = 3)]
    pub(crate) backends: u16,
    /// First of a run of consecutive ports; without it the standard ports.
    #[arg(long)]
    pub(crate) port_base: Option<u16>,
    /// How often copy, backup and restore are repeated; medians count.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Streams that send to the sink at the same time.
    #[arg(long, default_value_t = 2)]
    pub(crate) streams: usize,
}

/// `bench ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Changes of the catalog per second, beside the fsync rate of this machine.
    Ddl(DdlArgs),
    /// A catalog of many tablets: memory of the frontend, snapshots, restarts.
    Catalog(CatalogArgs),
    /// Time from kill -9 of the leading frontend to the next change of the catalog.
    Failover(FailoverArgs),
    /// Uploads and downloads to a storage, directly and through a broker, beside other tools.
    Store(StoreBenchArgs),
    /// Backups and restores of many small and of few big tablets, beside other tools with the same files.
    Backup(BackupBenchArgs),
}

/// `bench backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupBenchArgs {
    /// Directory for the cluster and all files; made for this run and removed afterwards. Six times --big is needed.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Where to, for instance s3://bucket/prefix; a folder of this run is made there, and removed.
    #[arg(long)]
    pub(crate) location: String,
    /// A property of the location, key=value. May be repeated.
    #[arg(long = "property", value_parser = key_value)]
    pub(crate) properties: Vec<(String, String)>,
    /// Without a broker.
    #[arg(long)]
    pub(crate) direct: bool,
    /// Tablets with three small files each; 0 leaves that part out.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) tablets: u32,
    /// Size of those files, about: bytes, or with KiB, MiB, GiB.
    #[arg(long, default_value = "8KiB")]
    pub(crate) file: Size,
    /// Files of the same tablets that are hard-linked; 0 leaves that part out.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) links: u64,
    /// Size of the table with big tablets, about; 0 leaves that part out.
    #[arg(long, default_value = "2GiB")]
    pub(crate) big: Size,
    /// Its tablets.
    #[arg(long, default_value_t = 12)]
    pub(crate) buckets: u32,
    /// Transfers of other tools that take a number, for big tablets.
    #[arg(long, default_value_t = 8)]
    pub(crate) streams: usize,
    /// Other tools, by name and separated by commas. For S3: s5cmd, rclone, awscli, restic; for HDFS: hdfs, rclone.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Where those are, before PATH. May be repeated.
    #[arg(long)]
    pub(crate) peers_dir: Vec<PathBuf>,
    /// Number of backends.
    #[arg(long, default_value_t = 3)]
    pub(crate) backends: u16,
    /// How often everything but the loads is repeated; medians count.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Seconds that one job or one call of another tool may take.
    #[arg(long, default_value_t = 1_800)]
    pub(crate) limit: u64,
    /// First of a run of consecutive ports; without it the standard ports.
    #[arg(long)]
    pub(crate) port_base: Option<u16>,
}

/// `bench store`.
#[derive(Debug, Args)]
pub(crate) struct StoreBenchArgs {
    /// Where to, for instance s3://bucket/prefix; a folder of this run is made there, and removed.
    #[arg(long)]
    pub(crate) location: String,
    /// A property of the location, key=value. May be repeated.
    #[arg(long = "property", value_parser = key_value)]
    pub(crate) properties: Vec<(String, String)>,
    /// The broker to go through, host:port. Without it one is started for this run.
    #[arg(long)]
    pub(crate) broker: Option<String>,
    /// The memory budget of the broker that is started, MiB.
    #[arg(long, default_value_t = 128)]
    pub(crate) broker_budget_mib: u64,
    /// Where the files lie; twice their size is needed.
    #[arg(long, default_value = "/tmp")]
    pub(crate) dir: PathBuf,
    /// Number of large files; 0 for none.
    #[arg(long, default_value_t = 32)]
    pub(crate) files: usize,
    /// Their size: bytes, or with KiB, MiB, GiB.
    #[arg(long, default_value = "64MiB")]
    pub(crate) size: Size,
    /// Streams of ours, and transfers of peers that take a number, for large files.
    #[arg(long, default_value_t = 8)]
    pub(crate) streams: usize,
    /// Number of small files; 0 for none.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) small: usize,
    /// Their size.
    #[arg(long, default_value = "4KiB")]
    pub(crate) small_size: Size,
    /// The same as --streams for small files.
    #[arg(long, default_value_t = 32)]
    pub(crate) small_streams: usize,
    /// Streams through the broker at once while its memory is watched; 0 for none.
    #[arg(long, default_value_t = 200)]
    pub(crate) many_streams: usize,
    /// Other tools, by name and separated by commas. For S3: s5cmd, rclone, awscli, restic; for HDFS: hdfs, rclone.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Where those are, before PATH. May be repeated.
    #[arg(long)]
    pub(crate) peers_dir: Vec<PathBuf>,
    /// How often everything is repeated; medians count.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let (digits, shift) = ["KiB", "MiB", "GiB"]
            .iter()
            .zip([10, 20, 30])
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
            .unwrap_or((text, 0));
        let number: u64 = digits.trim().parse().map_err(|_| format!("'{text}' is no size such as 64MiB"))?;
        Some(number << shift).filter(|size| size >> shift == number).map(Size).ok_or_else(|| "too large".to_owned())
    }
}

/// `bench ddl`.
#[derive(Debug, Args)]
pub(crate) struct DdlArgs {
    /// Directory of a running cluster; without one there a cluster is made for this run and removed afterwards.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Frontends of the cluster made for this run.
    #[arg(long, default_value_t = 1)]
    pub(crate) frontends: u16,
    /// Clients that send statements at the same time, spread over the frontends.
    #[arg(long, default_value_t = 32)]
    pub(crate) clients: usize,
    /// How long they do.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// First of a run of consecutive ports; without it the standard ports.
    #[arg(long)]
    pub(crate) port_base: Option<u16>,
}

/// `bench catalog`.
#[derive(Debug, Args)]
pub(crate) struct CatalogArgs {
    /// Directory for the cluster; made for this run and removed afterwards.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Tablets to make.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) tablets: u64,
    /// Replicas of each, and backends of the cluster.
    #[arg(long, default_value_t = 3)]
    pub(crate) replicas: u16,
    /// Partitions of each table.
    #[arg(long, default_value_t = 100)]
    pub(crate) partitions: u32,
    /// Buckets of each partition.
    #[arg(long, default_value_t = 10)]
    pub(crate) buckets: u32,
    /// Snapshots to wait for while commits go on.
    #[arg(long, default_value_t = 2)]
    pub(crate) snapshots: u32,
    /// First of a run of consecutive ports; without it the standard ports.
    #[arg(long)]
    pub(crate) port_base: Option<u16>,
}

/// `bench failover`.
#[derive(Debug, Args)]
pub(crate) struct FailoverArgs {
    /// Directory for the cluster; made for this run and removed afterwards.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Frontends.
    #[arg(long, default_value_t = 3)]
    pub(crate) frontends: u16,
    /// How often the leader is killed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// First of a run of consecutive ports; without it the standard ports.
    #[arg(long)]
    pub(crate) port_base: Option<u16>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "write it as key=value".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table.
    Text,
    /// One JSON object.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("64MiB".parse(), Ok(Size(64 << 20)));
        assert_eq!("5".parse(), Ok(Size(5)));
        for wrong in ["", "MiB", "1MB", "99999999999999999999", "18446744073709551615GiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn bench_is_a_command_and_has_commands() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.command);
        let Ok(Command::Bench(plain)) = parse("cofferctl bench --dir /d --scale 2") else { panic!("bench") };
        assert_eq!((plain.dir, plain.scale, plain.other.is_none()), (Some(PathBuf::from("/d")), 2.0, true));
        let Ok(Command::Bench(ddl)) = parse("cofferctl bench ddl --dir /d --clients 8") else { panic!("bench ddl") };
        assert!(matches!(ddl.other, Some(BenchCommand::Ddl(DdlArgs { clients: 8, .. }))));
        assert!(parse("cofferctl bench").is_err() && parse("cofferctl bench catalog").is_err());
    }
}
