//! How many changes of the catalog a cluster commits per second: CREATE TABLE and DROP TABLE in turn from many clients,
//! spread over all frontends, beside the rate at which this machine syncs a small write in the same directory.

use super::fsync;
use super::load::{self, Done, ms, percentile};
use super::metrics::Figures;
use crate::cli::{DdlArgs, UpArgs};
use crate::cluster;
use crate::cluster::state::{Home, Role, State};
use crate::interrupt;
use crate::sql::{Login, Session};
use crate::tour::progress;
use crate::{http, screen};
use coffer_stdx::Result;
use std::time::{Duration, Instant};

/// Each of the two measurements of the disk.
const FSYNC_LASTS: Duration = Duration::from_secs(2);
const UP_TIMEOUT_S: u64 = 120;

/// Use the cluster of the directory, or one made for the run.
pub(crate) async fn run(args: &DdlArgs) -> Result<()> {
    let home = Home::new(&args.dir)?;
    if home.has_cluster() {
        let state = home.load()?;
        return measure(args, &home, &state).await;
    }
    let up = UpArgs {
        dir: args.dir.clone(),
        frontends: args.frontends,
        backends: 1,
        brokers: 0,
        port_base: args.port_base,
        repos: Vec::new(),
        timeout: UP_TIMEOUT_S,
    };
    let (home, state) = cluster::create(&up, false).await?;
    let measured = interrupt::unless(measure(args, &home, &state)).await;
    cluster::destroy(&home, &state).await?;
    measured
}

async fn measure(args: &DdlArgs, home: &Home, state: &State) -> Result<()> {
    let frontends: Vec<_> = state.of_role(Role::Frontend).collect();
    let mysql: Vec<String> = frontends.iter().filter_map(|node| node.addresses.mysql.clone()).collect();
    let client = http::probe()?;
    prepare(state.mysql()?, args.clients).await?;
    progress::chapter(&format!("{} clients, {} frontends, {} s", args.clients, mysql.len(), args.seconds));
    let before_disk = fsync::per_second(home.dir(), FSYNC_LASTS).await?;
    let mut before = Vec::new();
    for node in &frontends {
        before.push(Figures::of(&client, &node.addresses.http).await?);
    }
    let begun = Instant::now();
    let clients = load::start(&mysql, args.clients, |client, number| match number % 2 {
        0 => format!(
            "CREATE TABLE bench_ddl_{client}.t{number} (k INT, v VARCHAR(20)) DUPLICATE KEY(k) \
             DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\")"
        ),
        _ => format!("DROP TABLE bench_ddl_{client}.t{}", number - 1),
    });
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let done = clients.stop().await?;
    let took = begun.elapsed();
    let after_disk = fsync::per_second(home.dir(), FSYNC_LASTS).await?;
    let mut synced = Vec::new();
    for (node, before) in frontends.iter().zip(&before) {
        let after = Figures::of(&client, &node.addresses.http).await?;
        synced.push((node.name.clone(), after.get("log_fsyncs").saturating_sub(before.get("log_fsyncs"))));
    }
    print(done, took, (before_disk, after_disk), &synced);
    Ok(())
}

async fn prepare(address: &str, clients: usize) -> Result<()> {
    let mut session = Session::new(Login::root(address));
    for client in 0..clients {
        session.query(&format!("DROP DATABASE IF EXISTS bench_ddl_{client}")).await?;
        session.query(&format!("CREATE DATABASE bench_ddl_{client}")).await?;
    }
    Ok(())
}

fn print(done: Done, took: Duration, (before, after): (f64, f64), synced: &[(String, u64)]) {
    let seconds = took.as_secs_f64();
    let rate = done.commits.len() as f64 / seconds;
    let disk = f64::midpoint(before, after);
    let mut times: Vec<Duration> = done.commits.iter().map(load::Commit::took).collect();
    screen::line(&format!("commits      {rate:.0}/s   ({} in {seconds:.1} s, {} refused)", times.len(), done.refused));
    let (median, late, worst) =
        (percentile(&mut times, 0.5), percentile(&mut times, 0.99), percentile(&mut times, 1.0));
    screen::line(&format!("each took    median {}, 99 % within {}, worst {}", ms(median), ms(late), ms(worst)));
    screen::line(&format!("this disk    {disk:.0} fsyncs/s from one thread ({before:.0} before, {after:.0} after)"));
    screen::line(&format!("ratio        {:.2} commits per fsync of this disk", rate / disk.max(1e-9)));
    for (name, fsyncs) in synced {
        screen::line(&format!(
            "{name:<12} {:.0} fsyncs/s of its log, {:.1} commits each",
            *fsyncs as f64 / seconds,
            times.len() as f64 / (*fsyncs).max(1) as f64
        ));
    }
    if let Some(error) = done.first_refusal {
        screen::complain(&format!("the first refusal: {error}"));
    }
}
