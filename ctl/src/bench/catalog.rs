//! A catalog of many tablets: filled through the same statements as ever, then the memory of the frontend, what a snapshot
//! of the state does to commits, and how long a restart takes, cleanly and after a kill.

use super::load::{self, Commit, ms, percentile};
use super::metrics::Figures;
use crate::cli::{CatalogArgs, UpArgs};
use crate::cluster;
use crate::cluster::state::{Home, Node, Role, State};
use crate::interrupt;
use crate::sql::{Login, Session};
use crate::tour::progress;
use crate::{http, screen};
use coffer_stdx::{Error, Result};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const DATABASES: u64 = 10;
const FILL_CLIENTS: usize = 4;
/// Clients that commit small changes while snapshots are written.
const COMMIT_CLIENTS: usize = 16;
/// How often the frontend is asked whether a snapshot is being written.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the wanted snapshots may take to come.
const SNAPSHOTS_WITHIN: Duration = Duration::from_secs(600);
const UP_TIMEOUT_S: u64 = 120;
/// How long a restart may take before it counts as failed.
const RESTART_WITHIN: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_millis(20);

/// On a cluster made for the run and removed afterwards.
pub(crate) async fn run(args: &CatalogArgs) -> Result<()> {
    let up = UpArgs {
        dir: args.dir.clone(),
        frontends: 1,
        backends: args.replicas,
        brokers: 0,
        port_base: args.port_base,
        repos: Vec::new(),
        timeout: UP_TIMEOUT_S,
    };
    let (home, mut state) = cluster::create(&up, false).await?;
    let measured = interrupt::unless(measure(args, &home, &mut state)).await;
    let state = home.load()?;
    cluster::destroy(&home, &state).await?;
    measured
}

async fn measure(args: &CatalogArgs, home: &Home, state: &mut State) -> Result<()> {
    fill(args, frontend(state)?).await?;
    memory(frontend(state)?, "filled");
    commits_and_snapshots(args, frontend(state)?).await?;
    memory(frontend(state)?, "after snapshots");
    for (signal, how) in [(Signal::TERM, "stop and start"), (Signal::KILL, "kill -9 and start")] {
        restart(home, state, signal, how).await?;
        memory(frontend(state)?, "restarted");
    }
    let tablets = count_tablets(frontend(state)?).await?;
    screen::line(&format!("{tablets} tablets after the last restart"));
    if tablets < args.tablets {
        return Err(Error::corrupt(format!("{} tablets were made, {tablets} are there", args.tablets)));
    }
    Ok(())
}

fn frontend(state: &State) -> Result<&Node> {
    state.of_role(Role::Frontend).next().ok_or_else(|| Error::bug("a cluster without a frontend"))
}

fn address(node: &Node) -> String {
    node.addresses.mysql.clone().unwrap_or_default()
}

async fn fill(args: &CatalogArgs, node: &Node) -> Result<()> {
    let per_table = u64::from(args.partitions) * u64::from(args.buckets);
    let tables = args.tablets.div_ceil(per_table.max(1));
    progress::chapter(&format!("{tables} tables of {per_table} tablets with {} replicas", args.replicas));
    let databases = (0..DATABASES).map(|db| format!("CREATE DATABASE bench_{db}")).collect();
    load::run_all(&address(node), 1, databases).await?;
    let begun = Instant::now();
    let statements = (0..tables).map(|table| create_table(args, table)).collect();
    load::run_all(&address(node), FILL_CLIENTS, statements).await?;
    let took = begun.elapsed().as_secs_f64();
    screen::line(&format!(
        "filled in {took:.1} s: {:.0} tables/s, {:.0} tablets/s",
        tables as f64 / took,
        (tables * per_table) as f64 / took
    ));
    Ok(())
}

fn create_table(args: &CatalogArgs, table: u64) -> String {
    let partitions: Vec<String> =
        (1..=args.partitions).map(|p| format!("PARTITION p{p} VALUES LESS THAN (\"{p}\")")).collect();
    format!(
        "CREATE TABLE bench_{}.t{table} (day INT, id BIGINT, name VARCHAR(64), amount DECIMAL(18, 2)) \
         DUPLICATE KEY(day, id) PARTITION BY RANGE(day) ({}) DISTRIBUTED BY HASH(id) BUCKETS {} \
         PROPERTIES (\"replication_num\" = \"{}\")",
        table % DATABASES,
        partitions.join(", "),
        args.buckets,
        args.replicas
    )
}

fn memory(node: &Node, when: &str) {
    let mib = |field| node.process.map_or(0, |process| process.memory(field)) as f64 / f64::from(1 << 20);
    screen::line(&format!("memory, {when}: {:.0} MiB now, {:.0} MiB at most", mib("VmRSS"), mib("VmHWM")));
}

/// Small changes from many clients until snapshots were written; the answers that came while one was being written are told
/// from the others.
async fn commits_and_snapshots(args: &CatalogArgs, node: &Node) -> Result<()> {
    progress::chapter(&format!("small commits from {COMMIT_CLIENTS} clients until {} snapshots", args.snapshots));
    let client = http::probe()?;
    let first = Figures::of(&client, &node.addresses.http).await?.get("snapshots");
    let clients = load::start(&[address(node)], COMMIT_CLIENTS, |client, number| match number % 2 {
        0 => format!("CREATE DATABASE bench_commit_{client}_{number}"),
        _ => format!("DROP DATABASE bench_commit_{client}_{}", number - 1),
    });
    let begun = Instant::now();
    let mut windows: Vec<(Instant, Instant)> = Vec::new();
    let mut figures;
    loop {
        let asked = Instant::now();
        figures = Figures::of(&client, &node.addresses.http).await?;
        if figures.get("snapshot_running") == 1 {
            let now = Instant::now();
            match windows.last_mut().filter(|window| asked.duration_since(window.1) < 4 * LOOK_EVERY + RETRY) {
                Some(window) => window.1 = now,
                None => windows.push((asked, now)),
            }
        }
        let written = figures.get("snapshots") - first;
        if written >= u64::from(args.snapshots) && figures.get("snapshot_running") == 0 {
            break;
        }
        if begun.elapsed() > SNAPSHOTS_WITHIN {
            return Err(Error::timeout(format!("only {written} snapshots in {} s", SNAPSHOTS_WITHIN.as_secs())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let done = clients.stop().await?;
    let during = |commit: &Commit| windows.iter().any(|(from, to)| commit.sent <= *to && commit.answered >= *from);
    let (inside, outside): (Vec<Commit>, Vec<Commit>) = done.commits.iter().partition(|commit| during(commit));
    screen::line(&format!(
        "{} commits in {:.1} s, {} refused; snapshot of {:.1} MB in {}; the state was held for {}",
        done.commits.len(),
        begun.elapsed().as_secs_f64(),
        done.refused,
        figures.get("snapshot_bytes") as f64 / 1e6,
        ms(Duration::from_micros(figures.get("snapshot_microseconds"))),
        ms(Duration::from_micros(figures.get("snapshot_hold_up_microseconds"))),
    ));
    for (what, commits) in [("while a snapshot is written", inside), ("otherwise", outside)] {
        let mut times: Vec<Duration> = commits.iter().map(Commit::took).collect();
        let (median, late, worst) =
            (percentile(&mut times, 0.5), percentile(&mut times, 0.99), percentile(&mut times, 1.0));
        screen::line(&format!(
            "{what}: {} commits, median {}, 99 % within {}, worst {}",
            times.len(),
            ms(median),
            ms(late),
            ms(worst)
        ));
    }
    Ok(())
}

/// End the frontend, start it, and wait until it accepts a change.
async fn restart(home: &Home, state: &mut State, signal: Signal, how: &str) -> Result<()> {
    progress::chapter(how);
    let name = frontend(state)?.name.clone();
    cluster::end(frontend(state)?, signal, RESTART_WITHIN).await?;
    let begun = Instant::now();
    cluster::start_missing(home, state).await?;
    let mut session = Session::new(Login::root(&address(frontend(state)?)));
    let statement = format!("CREATE DATABASE restarted_{}", signal.as_raw());
    while let Err(error) = session.query(&statement).await {
        if begun.elapsed() > RESTART_WITHIN || !frontend(state)?.is_running() {
            return Err(Error::timeout(format!("{name} does not come back: {error}")));
        }
        tokio::time::sleep(RETRY).await;
    }
    screen::line(&format!("{how}: ready after {:.2} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// As the frontend's own page counts them.
async fn count_tablets(node: &Node) -> Result<u64> {
    let failed = |error: reqwest::Error| Error::unavailable(format!("metrics: {error}"));
    let client = reqwest::Client::builder().no_proxy().build().map_err(failed)?;
    let reply = client
        .get(format!("http://{}/metrics", node.addresses.http))
        .basic_auth("root", Some(""))
        .send()
        .await
        .map_err(failed)?;
    let page = reply.text().await.map_err(failed)?;
    let line = page.lines().find_map(|line| line.strip_prefix("coffer_fe_objects{kind=\"tablet\"} "));
    Ok(line.and_then(|count| count.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_statement_makes_partitions_and_buckets() {
        let args = CatalogArgs {
            dir: PathBuf::new(),
            tablets: 10,
            replicas: 3,
            partitions: 2,
            buckets: 5,
            snapshots: 1,
            port_base: None,
        };
        let statement = create_table(&args, 12);
        assert!(statement.starts_with("CREATE TABLE bench_2.t12 (day INT"), "{statement}");
        assert!(statement.contains("PARTITION p2 VALUES LESS THAN (\"2\")) DISTRIBUTED BY HASH(id) BUCKETS 5"));
    }
}
