//! Uploads and downloads of the same files by our store, directly and through a broker, and by the tools people use
//! otherwise: all against the same server, in the same run, in turn.
//!
//! Files lie in the page cache when they go up; nobody syncs what comes down. Everything that came down is compared with
//! what went up, outside the time that counts.

mod data;
mod leg;
mod ours;
pub(super) mod peers;
mod streams;

use crate::bench::median;
use crate::cli::StoreBenchArgs;
use crate::cluster::process::{Identity, find_program};
use crate::interrupt;
use crate::screen;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use coffer_store::{LocalAccess, PutOptions, Store, from_bytes};
use data::Files;
use leg::{Leg, Load};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long our broker may take to answer.
const BROKER_WITHIN: Duration = Duration::from_secs(30);

/// A broker of our own; ends when dropped.
struct Broker {
    address: String,
    process: Child,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Broker {
    fn start(dir: &Path, budget_mib: u64) -> Result<Broker> {
        let port = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let (address, http) = (port()?.to_string(), port()?.to_string());
        let config = dir.join("broker.toml");
        let roots = dir.display();
        let text = format!(
            "listen = \"{address}\"\nhttp_listen = \"{http}\"\nmemory_budget_mib = {budget_mib}\nlocal_roots = [\"{roots}\"]\n\
             [log]\nlevel = \"warn\"\n"
        );
        std::fs::write(&config, text).context(|| format!("write {}", config.display()))?;
        let mut command = Command::new(find_program("coffer-broker")?);
        let process = command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Broker { address, process: process.context(|| "start coffer-broker")? })
    }

    fn identity(&self) -> Identity {
        Identity::of(self.process.id())
    }
}

/// What a leg took, one time per round.
#[derive(Debug, Default)]
struct Times {
    up: Vec<Duration>,
    down: Vec<Duration>,
}

/// Run the measurements and print them.
pub(crate) async fn run(args: &StoreBenchArgs) -> Result<()> {
    let dir = args.dir.join(format!("coffer-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).context(|| format!("create {}", dir.display()))?;
    let measured = interrupt::unless(measure(args, &dir)).await;
    fsx::remove(&dir)?;
    measured
}

async fn measure(args: &StoreBenchArgs, dir: &Path) -> Result<()> {
    let run = format!("bench-{}", std::process::id());
    let root = open(args, &[], dir)?;
    let broker = match &args.broker {
        Some(_) => None,
        None => Some(Broker::start(dir, args.broker_budget_mib)?),
    };
    let address = broker.as_ref().map(|broker| broker.address.clone()).or_else(|| args.broker.clone());
    let through = open(args, address.as_slice(), dir)?;
    reachable(&through).await?;
    let mut legs = vec![Leg::ours("coffer", Arc::clone(&root)), Leg::ours("coffer-broker", Arc::clone(&through))];
    let place = peers::Place { location: &args.location, properties: &args.properties, peers_dir: &args.peers_dir };
    for peer in peers::find(&args.peers, &place)? {
        legs.push(Leg::peer(peer));
    }
    if args.files > 0 {
        let files = Files::make(&dir.join("big"), args.files, args.size.0)?;
        compare(args, &root, &legs, &Load { files, streams: args.streams, run: format!("{run}/big") }).await?;
    }
    if args.small > 0 {
        let files = Files::make(&dir.join("small"), args.small, args.small_size.0)?;
        compare(args, &root, &legs, &Load { files, streams: args.small_streams, run: format!("{run}/small") }).await?;
    }
    if args.many_streams > 0 {
        let broker = broker.as_ref().map(|broker| (broker.identity(), args.broker_budget_mib));
        streams::measure(&through, &format!("{run}/streams"), args.many_streams, broker).await?;
    }
    root.delete(&run, true).await
}

/// The location, directly or through brokers.
fn open(args: &StoreBenchArgs, brokers: &[String], dir: &Path) -> Result<Arc<dyn Store>> {
    let properties = args.properties.iter().cloned().collect();
    let spec = StorageSpec {
        location: args.location.clone(),
        properties,
        brokers: brokers.to_vec(),
        ..StorageSpec::default()
    };
    coffer_store::open(
        &spec,
        &LocalAccess { roots: vec![dir.to_owned(), PathBuf::from("/tmp")], ..LocalAccess::default() },
    )
}

async fn reachable(store: &Arc<dyn Store>) -> Result<()> {
    let deadline = Instant::now() + BROKER_WITHIN;
    loop {
        match store.children("").await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Every leg in turn, round after round.
async fn compare(args: &StoreBenchArgs, root: &Arc<dyn Store>, legs: &[Leg], load: &Load) -> Result<()> {
    let dir = load.files.dir.parent().unwrap_or(&load.files.dir);
    let mut times: Vec<Times> = legs.iter().map(|_| Times::default()).collect();
    // Not every peer makes the folders above its own.
    root.put(&format!("{}/begun", load.run), from_bytes("x"), PutOptions::default()).await?;
    for round in 0..args.rounds as usize {
        // Each round begins with another leg, so that none always meets the server just after the same one.
        for turn in 0..legs.len() {
            let at = (round + turn) % legs.len();
            let leg = &legs[at];
            let folder = format!("{}/{}-{round}", load.run, leg.name());
            screen::complain(&format!("round {} of {}: {} {}", round + 1, args.rounds, leg.name(), load.files.shown()));
            settle()?;
            times[at].up.push(leg.upload(load, &folder).await.context(|| format!("{}: upload", leg.name()))?);
            let target = dir.join("down");
            settle()?;
            let down = leg.download(load, &folder, &target).await;
            times[at].down.push(down.context(|| format!("{}: download", leg.name()))?);
            load.files.compare(&target)?;
            fsx::remove(&target)?;
        }
    }
    print(legs, &times, load);
    Ok(())
}

/// What others wrote before is on disk before the next one begins.
fn settle() -> Result<()> {
    let status = Command::new("sync").status().context(|| "run sync")?;
    if status.success() { Ok(()) } else { Err(Error::unavailable(format!("sync ended with {status}"))) }
}

fn print(legs: &[Leg], times: &[Times], load: &Load) {
    for (what, of) in
        [("upload", (|times| &times.up) as fn(&Times) -> &Vec<Duration>), ("download", |times| &times.down)]
    {
        let rate = |times: &Times| load.files.bytes as f64 / 1e6 / median(of(times)).as_secs_f64().max(1e-9);
        let best = legs.iter().zip(times).filter(|(leg, _)| leg.is_peer()).map(|(_, times)| rate(times));
        let best = best.fold(0.0, f64::max);
        let rows: Vec<Vec<String>> = legs
            .iter()
            .zip(times)
            .map(|(leg, times)| {
                let seconds: Vec<String> = of(times).iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect();
                let per_second = load.files.count as f64 / median(of(times)).as_secs_f64().max(1e-9);
                let ratio = if best > 0.0 { format!("{:.2}", rate(times) / best) } else { String::new() };
                let rates = [format!("{:.0} MB/s", rate(times)), format!("{per_second:.0} files/s")];
                [vec![leg.name().to_owned(), seconds.join(" ")], rates.to_vec(), vec![ratio]].concat()
            })
            .collect();
        screen::line(&format!("\n{what} of {}", load.files.shown()));
        screen::line(&screen::table(&["who", "seconds", "median rate", "", "of best peer"], &rows));
    }
}
