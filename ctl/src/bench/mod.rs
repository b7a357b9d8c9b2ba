//! Measurements of the main job on a cluster of its own: real tables in, one replica each, then the same bytes by
//! `cp -r`, through the broker into nothing, by BACKUP, and by RESTORE, all in one run.
//!
//! The files are warm in the page cache for every contender, and every time ends with the bytes durable: `cp` is
//! followed by `sync`, a backup is FINISHED only when its files are synced.

mod files;
mod sink;

use crate::cli::{BenchArgs, UpArgs};
use crate::cluster;
use crate::cluster::state::{Home, Role, State};
use crate::screen;
use crate::sql::{Login, Session};
use crate::tour::{self, Place, job, progress};
use coffer_stdx::{Error, Result};
use files::Files;
use std::time::{Duration, Instant};

/// Backups of an empty table; the median counts.
const EMPTY_ROUNDS: u32 = 5;

/// What was measured.
#[derive(Debug, Default)]
struct Figures {
    bytes: u64,
    files: usize,
    copies: Vec<Duration>,
    sink: Duration,
    backup: Duration,
    restore: Duration,
    empty: Vec<Duration>,
    memory: Vec<Vec<String>>,
}

/// Run the measurements and print them.
pub(crate) async fn run(args: &BenchArgs) -> Result<()> {
    let up = UpArgs {
        dir: args.dir.clone(),
        frontends: 1,
        backends: args.backends,
        brokers: 1,
        port_base: args.port_base,
        repos: Vec::new(),
        timeout: 60,
    };
    let (home, state) = cluster::create(&up, true).await?;
    let measured = tokio::select! {
        measured = measure(args, &home, &state) => measured,
        _ = tokio::signal::ctrl_c() => Err(Error::cancelled("interrupted")),
    };
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
    let data = state.of_role(Role::Backend).map(|node| home.data(&node.name).join("data")).collect();
    let files = Files::find(data)?;
    let copy = home.repos().join("copy");
    let mut figures = Figures { bytes: files.bytes, files: files.paths.len(), ..Figures::default() };
    figures.copies.push(files.copy(&copy).await?);
    let broker = state.of_role(Role::Broker).next().map(|node| node.addresses.grpc.clone()).unwrap_or_default();
    figures.sink = sink::measure(&broker, &files, args.streams).await?;
    figures.copies.push(files.copy(&copy).await?);

    tour::ensure_repository(&mut session, &place, "bench_repo").await?;
    forget_peaks(state)?;
    let backup = "BACKUP SNAPSHOT bench.whole TO bench_repo ON (lineitem, orders)";
    figures.backup = timed(&mut session, backup, "SHOW BACKUP FROM bench").await?;
    remember_peaks(state, "backup", &mut figures.memory);
    figures.copies.push(files.copy(&copy).await?);

    let show = "SHOW SNAPSHOT ON bench_repo WHERE SNAPSHOT = \"whole\"";
    let timestamp = session.query(show).await?.first().map(|row| row.get("Timestamp").to_owned()).unwrap_or_default();
    for table in tour::tables::Table::ALL {
        tour::say_and_run(&mut session, &format!("DROP TABLE bench.{}", table.name())).await?;
    }
    forget_peaks(state)?;
    let restore = format!(
        "RESTORE SNAPSHOT bench.whole FROM bench_repo \
         PROPERTIES (\"backup_timestamp\" = \"{timestamp}\", \"replication_num\" = \"1\")"
    );
    figures.restore = timed(&mut session, &restore, "SHOW RESTORE FROM bench").await?;
    remember_peaks(state, "restore", &mut figures.memory);
    figures.empty = empty_table(&mut session).await?;
    Ok(figures)
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
    times.sort();
    Ok(times)
}

fn forget_peaks(state: &State) -> Result<()> {
    state.processes.iter().filter_map(|node| node.process).try_for_each(|process| process.forget_peak())
}

fn remember_peaks(state: &State, during: &str, rows: &mut Vec<Vec<String>>) {
    for node in &state.processes {
        let peak = node.process.map_or(0, |process| process.memory("VmHWM"));
        rows.push(vec![node.name.clone(), during.to_owned(), format!("{:.0} MiB", peak as f64 / f64::from(1 << 20))]);
    }
}

fn print(figures: &Figures) {
    let rate = |took: Duration| figures.bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9);
    let copies: Duration = figures.copies.iter().sum();
    let copy = rate(copies) * figures.copies.len() as f64;
    let row = |what: &str, took: Duration, rate: f64, share: Option<f64>| {
        let share = share.map_or(String::new(), |share| format!("{:.0} %", share * 100.0));
        vec![what.to_owned(), format!("{:.2} s", took.as_secs_f64()), format!("{rate:.0} MB/s"), share]
    };
    let mut rows: Vec<Vec<String>> =
        figures.copies.iter().map(|took| row("cp -r and sync", *took, rate(*took), None)).collect();
    for (what, took) in [("BACKUP", figures.backup), ("RESTORE", figures.restore)] {
        rows.push(row(what, took, rate(took), Some(rate(took) / copy)));
    }
    rows.push(row("client -> broker -> null", figures.sink, rate(figures.sink), None));
    screen::line(&format!("\n{} files, {:.1} MB, one replica each", figures.files, figures.bytes as f64 / 1e6));
    screen::line(&screen::table(&["what", "time", "rate", "of mean cp"], &rows));
    let times: Vec<String> = figures.empty.iter().map(|time| format!("{:.3}", time.as_secs_f64())).collect();
    let median = figures.empty.get(figures.empty.len() / 2).copied().unwrap_or_default();
    screen::line(&format!("\nBACKUP of an empty table: median {:.3} s of {}", median.as_secs_f64(), times.join(" ")));
    screen::line(&format!("\npeak memory\n{}", screen::table(&["process", "during", "VmHWM"], &figures.memory)));
}
