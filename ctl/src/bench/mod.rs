//! Measurements of the main job on a cluster of its own: real tables in, one replica each, then the same bytes by
//! `cp -r`, through the broker into nothing, by BACKUP, and by RESTORE, all in one run.
//!
//! The files are warm in the page cache for every contender, and every time ends with the bytes durable: `cp` is
//! followed by `sync`, a backup is FINISHED only when its files are synced.

mod backup;
mod catalog;
mod ddl;
mod failover;
mod files;
mod fsync;
mod load;
mod metrics;
mod sink;
mod store;

use crate::cli::{BenchArgs, BenchCommand, UpArgs};
use crate::cluster;
use crate::cluster::state::{Home, Role, State};
use crate::interrupt;
use crate::screen;
use crate::sql::{Login, Session};
use crate::tour::{self, Place, job, progress};
use coffer_stdx::{Error, Result};
use files::Files;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Backups of an empty table, and there and back again of a small one.
const EMPTY_ROUNDS: u32 = 5;

/// What was measured, one time per round.
#[derive(Debug, Default)]
struct Figures {
    bytes: u64,
    files: usize,
    copy: Vec<Duration>,
    backup: Vec<Duration>,
    restore: Vec<Duration>,
    empty: Vec<Duration>,
    small: Vec<Duration>,
    sink: (u64, Duration),
    memory: Vec<Vec<String>>,
}

/// Run the measurements and print them.
pub(crate) async fn run(args: &BenchArgs) -> Result<()> {
    match &args.other {
        Some(BenchCommand::Ddl(ddl)) => return ddl::run(ddl).await,
        Some(BenchCommand::Catalog(catalog)) => return catalog::run(catalog).await,
        Some(BenchCommand::Store(args)) => return store::run(args).await,
        Some(BenchCommand::Failover(failover)) => return failover::run(failover).await,
        Some(BenchCommand::Backup(args)) => return backup::run(args).await,
        None => {}
    }
    let up = UpArgs {
        dir: args.dir.clone().ok_or_else(|| Error::invalid("--dir is missing"))?,
        frontends: 1,
        backends: args.backends,
        brokers: 1,
        port_base: args.port_base,
        repos: Vec::new(),
        timeout: 60,
    };
    let (home, state) = cluster::create(&up, true).await?;
    let measured = interrupt::unless(measure(args, &home, &state)).await;
    cluster::destroy(&home, &state).await?;
    print(&measured?);
    Ok(())
}

async fn measure(args: &BenchArgs, home: &Home, state: &State) -> Result<Figures> {
    let http = state.of_role(Role::Frontend).next().map(|node| node.addresses.http.clone()).unwrap_or_default();
    let place = Place {
        login: Login::root(state.mysql()?),
        http,
        broker: state.broker_name.clone(),
        database: "bench".to_owned(),
        location: format!("file://{}", home.repos().join("bench").display()),
        properties: Vec::new(),
    };
    let mut session = Session::new(place.login.clone());
    progress::chapter(&format!("load TPC-H scale factor {}", args.scale));
    tour::create_tables(&mut session, &place, args.buckets, 1).await?;
    tour::load_tables(&place, args.scale, "bench").await?;

    progress::chapter("measure");
    let data: Vec<PathBuf> = state.of_role(Role::Backend).map(|node| home.data(&node.name).join("data")).collect();
    let files = Files::find(&data)?;
    let mut figures = Figures { bytes: files.bytes, files: files.paths.len(), ..Figures::default() };
    let broker = state.of_role(Role::Broker).next().map(|node| node.addresses.grpc.clone()).unwrap_or_default();
    coffer_proto::secret::load(&home.secret())?;
    figures.sink = sink::measure(&broker, &files, args.streams).await?;
    tour::ensure_repository(&mut session, &place, "bench_repo").await?;
    for round in 1..=args.rounds {
        let files = Files::find_settled(&data, figures.bytes).await?;
        figures.copy.push(files.copy(&home.repos().join("copy")).await?);
        round_trip(&mut session, state, &format!("round_{round}"), &mut figures).await?;
    }
    figures.empty = empty_table(&mut session).await?;
    figures.small = small_table(&mut session).await?;
    Ok(figures)
}

/// Back up, drop, restore.
async fn round_trip(session: &mut Session, state: &State, label: &str, figures: &mut Figures) -> Result<()> {
    forget_peaks(state)?;
    let backup = format!("BACKUP SNAPSHOT bench.{label} TO bench_repo ON (lineitem, orders)");
    figures.backup.push(timed(session, &backup, "SHOW BACKUP FROM bench").await?);
    remember_peaks(state, &format!("backup, {label}"), &mut figures.memory);
    let show = format!("SHOW SNAPSHOT ON bench_repo WHERE SNAPSHOT = \"{label}\"");
    let timestamp = session.query(&show).await?.first().map(|row| row.get("Timestamp").to_owned()).unwrap_or_default();
    for table in tour::tables::Table::ALL {
        tour::say_and_run(session, &format!("DROP TABLE bench.{}", table.name())).await?;
    }
    forget_peaks(state)?;
    let restore = format!(
        "RESTORE SNAPSHOT bench.{label} FROM bench_repo \
         PROPERTIES (\"backup_timestamp\" = \"{timestamp}\", \"replication_num\" = \"1\")"
    );
    figures.restore.push(timed(session, &restore, "SHOW RESTORE FROM bench").await?);
    remember_peaks(state, &format!("restore, {label}"), &mut figures.memory);
    Ok(())
}

/// From the statement to the end of its job.
async fn timed(session: &mut Session, statement: &str, show: &str) -> Result<Duration> {
    let begun = Instant::now();
    tour::say_and_run(session, statement).await?;
    job::follow(session, show, statement.split(' ').next().unwrap_or("job")).await?;
    Ok(begun.elapsed())
}

async fn empty_table(session: &mut Session) -> Result<Vec<Duration>> {
    let create = "CREATE TABLE bench.empty_table (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1 \
                  PROPERTIES (\"replication_num\" = \"1\")";
    tour::say_and_run(session, create).await?;
    let mut times = Vec::new();
    for round in 0..EMPTY_ROUNDS {
        let backup = format!("BACKUP SNAPSHOT bench.empty_{round} TO bench_repo ON (empty_table)");
        times.push(timed(session, &backup, "SHOW BACKUP FROM bench").await?);
    }
    Ok(times)
}

/// BACKUP, wait, RESTORE under another name, wait: what an operator waits for when there is next to nothing to move.
async fn small_table(session: &mut Session) -> Result<Vec<Duration>> {
    let create = "CREATE TABLE bench.small_table (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1 \
                  PROPERTIES (\"replication_num\" = \"1\")";
    tour::say_and_run(session, create).await?;
    tour::say_and_run(session, "INSERT INTO bench.small_table VALUES (1), (2), (3)").await?;
    let mut times = Vec::new();
    for round in 0..EMPTY_ROUNDS {
        let backup = format!("BACKUP SNAPSHOT bench.small_{round} TO bench_repo ON (small_table)");
        let mut took = timed(session, &backup, "SHOW BACKUP FROM bench").await?;
        let show = format!("SHOW SNAPSHOT ON bench_repo WHERE SNAPSHOT = \"small_{round}\"");
        let rows = session.query(&show).await?;
        let timestamp = rows.first().map(|row| row.get("Timestamp").to_owned()).unwrap_or_default();
        let restore = format!(
            "RESTORE SNAPSHOT bench.small_{round} FROM bench_repo ON (small_table AS small_{round}) \
             PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")"
        );
        took += timed(session, &restore, "SHOW RESTORE FROM bench").await?;
        times.push(took);
    }
    Ok(times)
}

fn forget_peaks(state: &State) -> Result<()> {
    state.processes.iter().filter_map(|node| node.process).try_for_each(|process| process.forget_peak())
}

fn remember_peaks(state: &State, during: &str, rows: &mut Vec<Vec<String>>) {
    for node in &state.processes {
        let peak = node.process.map_or(0, |process| process.memory("VmHWM"));
        rows.push(vec![node.name.clone(), during.to_owned(), mebibytes(peak)]);
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

fn print(figures: &Figures) {
    let rate = |bytes: u64, took: Duration| bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9);
    let copy = rate(figures.bytes, median(&figures.copy));
    let mut rows = Vec::new();
    for (what, times) in [("cp -r and sync", &figures.copy), ("BACKUP", &figures.backup), ("RESTORE", &figures.restore)]
    {
        let rate = rate(figures.bytes, median(times));
        let share = format!("{:.0} %", rate / copy * 100.0);
        rows.push(vec![what.to_owned(), seconds(times), format!("{rate:.0} MB/s"), share]);
    }
    let (bytes, took) = figures.sink;
    rows.push(vec![
        "broker -> null".to_owned(),
        seconds(&[took]),
        format!("{:.0} MB/s", rate(bytes, took)),
        String::new(),
    ]);
    rows.push(vec!["BACKUP, empty table".to_owned(), seconds(&figures.empty), String::new(), String::new()]);
    rows.push(vec!["BACKUP and RESTORE, 3 rows".to_owned(), seconds(&figures.small), String::new(), String::new()]);
    screen::line(&format!("\n{} files, {:.1} MB, one replica each", figures.files, figures.bytes as f64 / 1e6));
    screen::line(&screen::table(&["what", "seconds", "median rate", "of cp"], &rows));
    screen::line(&format!("\n{}", screen::table(&["process", "during", "peak memory"], &figures.memory)));
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn seconds(times: &[Duration]) -> String {
    times.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let times = [3, 1, 2].map(Duration::from_secs);
        assert_eq!(median(&times), Duration::from_secs(2));
        assert_eq!(median(&[]), Duration::ZERO);
        assert_eq!(seconds(&times[..2]), "3.00 1.00");
    }
}
