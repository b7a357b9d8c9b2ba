//! The command line of what operators run against deployments: doctor, migrate, completion.

use super::{Output, key_value};
use clap::Args;
use std::path::PathBuf;

/// Behind `cofferctl --help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  cofferctl doctor --mysql fe1:9030               is the cluster well, and what is to be done?
  cofferctl doctor                                only this machine: configuration, disks, limits
  cofferctl migrate --from mysql://root@old:9030 --to mysql://root@new:9030 \\
      --repository safe --database shop --dry-run  what would happen
  cofferctl cluster up --dir /tmp/c               a small cluster on this machine
  cofferctl tour --dir /tmp/c                     load, back up, lose and restore two tables there
  cofferctl completion bash > ~/.local/share/bash-completion/completions/cofferctl

Passwords are better in the environment than in arguments: COFFER_PASSWORD, COFFER_FROM_PASSWORD, COFFER_TO_PASSWORD.
Exit codes: 0 done and well, 1 failed or a problem was found, 2 the request is wrong, 3 see `migrate --help`.";

const DOCTOR: &str = "\
What is checked: whether every port answers from here, whether a frontend leads, dead or unlike nodes, versions, full
disks, certificates (with --ca), clocks (against the one of this machine), repositories that brokers cannot reach, tables with fewer replicas than
they should have; and of Coffer on this machine: configuration files, certificates, data directories, space, open files.

Exit codes: 0 no problem (there may be warnings), 1 a problem, 2 the request is wrong.

Examples:
  cofferctl doctor --mysql fe1:9030 --user root
  cofferctl doctor --mysql fe1:9030 --ca /etc/coffer/ca.pem
  cofferctl doctor --mysql fe1:9030 --output json | jq '.findings[] | select(.level == \"problem\")'";

const MIGRATE: &str = "\
The repository has to be known to both clusters, under any name, at the same place; read only is enough on the target.
Steps: check both sides and say what will happen; BACKUP on the source; RESTORE on the target; compare the number of rows
and order-independent checksums of every column, partition by partition. Loads may go on at the source: what came after
the snapshot is listed at the end by partition and version, and has to be loaded again or moved by another run.

Where it stands is kept in DIR/state.json (no passwords): the same command given again goes on where it was, also when it
was interrupted or a cluster was away. The report is in DIR/report.txt and DIR/report.json.

Exit codes: 0 all is equal and nothing came after the snapshot; 3 all that can be compared is equal, but the source took
loads meanwhile; 1 failed or not equal; 2 the checks refuse, nothing was done.

Examples:
  cofferctl migrate --from mysql://root@old:9030 --to mysql://root@new:9030 --repository safe --database shop --dry-run
  COFFER_FROM_PASSWORD=... COFFER_TO_PASSWORD=... cofferctl migrate \\
      --from mysql://admin@old:9030 --to mysql://admin@new:9030 --repository safe --database shop --tables sales,stock";

/// `doctor`.
#[derive(Debug, Args)]
#[command(after_help = DOCTOR)]
pub(crate) struct DoctorArgs {
    /// MySQL address of a frontend, host:port. Without it only this machine is checked.
    #[arg(long)]
    pub(crate) mysql: Option<String>,
    /// Directory of a local cluster, instead of --mysql.
    #[arg(long, conflicts_with = "mysql")]
    pub(crate) dir: Option<PathBuf>,
    /// User with ADMIN privilege.
    #[arg(long, default_value = "root")]
    pub(crate) user: String,
    /// Its password.
    #[arg(long, env = "COFFER_PASSWORD", hide_env_values = true, default_value = "")]
    pub(crate) password: String,
    /// Certificate of the cluster's authority (ca.pem of `cofferctl certs`): MySQL is asked over TLS, and every port has to
    /// show a certificate of it.
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    /// Where the configuration files of this machine's processes are.
    #[arg(long, default_value = "/etc/coffer")]
    pub(crate) config_dir: PathBuf,
    /// A table for people, or JSON for programs.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `migrate`.
#[derive(Debug, Args)]
#[command(after_help = MIGRATE)]
pub(crate) struct MigrateArgs {
    /// The cluster that has the tables: mysql://user[:password]@host:port.
    #[arg(long)]
    pub(crate) from: String,
    /// The cluster that gets them.
    #[arg(long)]
    pub(crate) to: String,
    /// Password at the source, unless --from has one.
    #[arg(long, env = "COFFER_FROM_PASSWORD", hide_env_values = true, default_value = "")]
    pub(crate) from_password: String,
    /// Password at the target, unless --to has one.
    #[arg(long, env = "COFFER_TO_PASSWORD", hide_env_values = true, default_value = "")]
    pub(crate) to_password: String,
    /// Certificate of the source's authority, PEM: ask it over TLS.
    #[arg(long)]
    pub(crate) from_ca: Option<PathBuf>,
    /// Likewise of the target.
    #[arg(long)]
    pub(crate) to_ca: Option<PathBuf>,
    /// Name of the repository at the source.
    #[arg(long)]
    pub(crate) repository: String,
    /// Its name at the target, when that is another.
    #[arg(long)]
    pub(crate) to_repository: Option<String>,
    /// The database.
    #[arg(long)]
    pub(crate) database: String,
    /// Tables, separated by commas; all of the database without it.
    #[arg(long, value_delimiter = ',')]
    pub(crate) tables: Vec<String>,
    /// Label of the backup. Without it `migrate_<database>_<seconds>`.
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// A property of RESTORE, key=value, such as replication_num=2. May be repeated.
    #[arg(long = "restore-property", value_parser = key_value)]
    pub(crate) restore_properties: Vec<(String, String)>,
    /// Directory for state and report. Without it `coffer-migrate-<database>` here.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Only check, and say what would happen.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What is printed at the end.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// bash, zsh, fish, elvish or powershell.
    pub(crate) shell: clap_complete::Shell,
}
