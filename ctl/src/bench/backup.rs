//! BACKUP and RESTORE as a whole, on a cluster of its own, beside other tools that carry the same files to the same
//! storage in the same run: many small tablets and hard links ([`small`]), big tablets ([`big`]), memory of every process.
//!
//! Files lie in the page cache for everybody. A backup ends with its objects durable, a restore with its files synced and
//! in force; nobody syncs what other tools bring down. What came back is compared with what went, outside the time that
//! counts. The cluster, the folder of the run in the storage and all files go when the run ends, however it ends.

mod big;
mod report;
mod rows;
mod small;
mod stage;
mod tree;

use crate::bench::store::peers;
use crate::cli::{BackupBenchArgs, UpArgs};
use crate::cluster;
use crate::cluster::state::{Home, Role, State};
use crate::interrupt;
use crate::sql::{Login, Session};
use crate::tour::load::Loader;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::Result;
use coffer_store::{LocalAccess, Store};
use report::Report;
use stage::{DATABASE, Stage};
use std::path::PathBuf;
use std::sync::Arc;

const UP_TIMEOUT_S: u64 = 120;

/// Run the measurements and print them.
pub(crate) async fn run(args: &BackupBenchArgs) -> Result<()> {
    let place = peers::Place { location: &args.location, properties: &args.properties, peers_dir: &args.peers_dir };
    // What is missing is said before anything is made.
    let peers = peers::find(&args.peers, &place)?;
    let local = args.location.strip_prefix("file://").map(PathBuf::from);
    let up = UpArgs {
        dir: args.dir.clone(),
        frontends: 1,
        backends: args.backends,
        brokers: u16::from(!args.direct),
        port_base: args.port_base,
        repos: local.iter().cloned().collect(),
        timeout: UP_TIMEOUT_S,
    };
    let root = open(args, local)?;
    let (home, state) = cluster::create(&up, false).await?;
    let run = format!("bench-backup-{}", std::process::id());
    let measured = interrupt::unless(measure(args, (&home, &state), (Arc::clone(&root), &run), peers)).await;
    let removed = root.delete(&run, true).await;
    cluster::destroy(&home, &state).await?;
    measured?.print();
    removed
}

async fn measure(
    args: &BackupBenchArgs,
    (home, state): (&Home, &State),
    (root, run): (Arc<dyn Store>, &str),
    peers: Vec<peers::Peer>,
) -> Result<Report> {
    let login = Login::root(state.mysql()?);
    let http = state.of_role(Role::Frontend).next().map(|node| node.addresses.http.clone()).unwrap_or_default();
    let mut stage = Stage {
        args,
        home,
        state,
        loader: Loader::new(&http, &login.user, &login.password, DATABASE)?,
        session: Session::new(login),
        root,
        run: run.to_owned(),
        peers,
        report: Report::default(),
    };
    stage.prepare().await?;
    if args.tablets > 0 {
        small::measure(&mut stage).await?;
    }
    if args.big.0 > 0 {
        big::measure(&mut stage).await?;
    }
    Ok(stage.report)
}

fn open(args: &BackupBenchArgs, local: Option<PathBuf>) -> Result<Arc<dyn Store>> {
    let properties = args.properties.iter().cloned().collect();
    let spec = StorageSpec { location: args.location.clone(), properties, ..StorageSpec::default() };
    coffer_store::open(&spec, &LocalAccess { roots: local.into_iter().collect(), ..LocalAccess::default() })
}
