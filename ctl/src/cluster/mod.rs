//! A local cluster in a directory: create, look at, start, stop, remove.
//!
//! The processes are the same binaries as everywhere, each with its configuration file; nothing supervises them. All
//! that is known about them is in `cluster.json` ([`state`]), so every command can be given from any terminal.

mod config;
pub(crate) mod detach;
pub(crate) mod join;
mod layout;
mod ports;
pub(crate) mod process;
pub(crate) mod state;

use crate::cli::{ClusterCommand, DownArgs, Output, StartArgs, StatusArgs, StopArgs, UpArgs};
use crate::{http, interrupt, screen};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use process::Identity;
use rustix::process::Signal;
use state::{Home, Node, Role, State};
use std::time::Duration;

/// How long a killed process may take to vanish.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Run one `cluster` command.
pub(crate) async fn run(command: ClusterCommand) -> Result<()> {
    match command {
        ClusterCommand::Up(args) => up(&args).await,
        ClusterCommand::Status(args) => status(&args).await,
        ClusterCommand::Start(args) => start(&args).await,
        ClusterCommand::Stop(args) => stop(&args).await,
        ClusterCommand::Down(args) => down(&args).await,
    }
}

async fn up(args: &UpArgs) -> Result<()> {
    let (home, state) = create(args, false).await?;
    greet(&home, &state)
}

/// Create a cluster and return when it is alive. `measured`: for measurements, see [`config::render`].
pub(crate) async fn create(args: &UpArgs, measured: bool) -> Result<(Home, State)> {
    let home = Home::new(&args.dir)?;
    if home.has_cluster() {
        let dir = home.dir().display();
        return Err(Error::invalid(format!(
            "{dir} holds a cluster already: `cofferctl cluster start --dir {dir}` starts it, \
             `cofferctl cluster down --purge --dir {dir}` removes it"
        )));
    }
    let nodes = layout::plan(args)?;
    for node in &nodes {
        process::find_program(&node.role.program())?;
    }
    ports::require_free(&wanted(nodes.iter()), "stop what uses them, or choose other ports with --port-base")?;
    let mut local_roots = vec![home.repos()];
    for extra in &args.repos {
        local_roots.push(std::path::absolute(extra).context(|| format!("directory {}", extra.display()))?);
    }
    let mut state = State::new(local_roots, nodes);
    for dir in [home.dir().join("conf"), home.dir().join("logs")].iter().chain(&state.local_roots) {
        fsx::create_dir(dir)?;
    }
    let _lock = home.lock()?;
    if !home.secret().exists() {
        crate::secret::make(&home.secret())?;
    }
    for node in &state.processes {
        fsx::create_dir(&home.data(&node.name))?;
        let helper = state.of_role(Role::Frontend).next().map(|first| first.addresses.grpc.as_str());
        let text = config::render(&home, node, (&state.local_roots, helper), measured)?;
        fsx::write_durably(&home.config(&node.name), text.as_bytes())?;
    }
    home.save(&state)?;
    let ready = interrupt::unless(launch(&home, &mut state, Duration::from_secs(args.timeout))).await;
    if ready.is_err() {
        // Nothing keeps running behind an `up` that failed or was interrupted; logs and data stay for a look, `start` tries again.
        halt(&state, Duration::from_secs(5)).await?;
    }
    ready?;
    Ok((home, state))
}

async fn start(args: &StartArgs) -> Result<()> {
    let home = Home::new(&args.dir)?;
    let mut state = home.load()?;
    let _lock = home.lock()?;
    let stopped = state.processes.iter().filter(|node| !node.is_running());
    ports::require_free(&wanted(stopped), "stop what uses them and try again")?;
    launch(&home, &mut state, Duration::from_secs(args.timeout)).await?;
    greet(&home, &state)
}

async fn stop(args: &StopArgs) -> Result<()> {
    let home = Home::new(&args.dir)?;
    let state = home.load()?;
    let _lock = home.lock()?;
    halt(&state, Duration::from_secs(args.timeout)).await?;
    screen::line(&format!("cluster in {} is stopped", home.dir().display()));
    Ok(())
}

async fn down(args: &DownArgs) -> Result<()> {
    let home = Home::new(&args.dir)?;
    let state = home.load()?;
    let _lock = home.lock()?;
    halt(&state, Duration::from_secs(args.timeout)).await?;
    if !args.purge {
        screen::line(&format!("cluster in {} is down; its data stays", home.dir().display()));
        return Ok(());
    }
    purge(&home, &state)?;
    screen::line(&format!("cluster in {} is down and removed", home.dir().display()));
    Ok(())
}

/// Remove what [`create`] made; the state file last, so that a purge that was cut short can be repeated.
fn purge(home: &Home, state: &State) -> Result<()> {
    let dir = home.dir();
    let made = ["conf", "logs", "repos"].iter().map(|name| dir.join(name));
    for path in made.chain(state.processes.iter().map(|node| home.data(&node.name))) {
        fsx::remove(&path)?;
    }
    fsx::remove(&home.secret())?;
    fsx::remove(&home.metadata_key())?;
    fsx::remove(&dir.join("cluster.lock"))?;
    fsx::remove(&dir.join("cluster.json"))?;
    // The directory itself goes when nothing else is in it.
    let _ = std::fs::remove_dir(dir);
    Ok(())
}

/// Stop a cluster and remove what it left.
pub(crate) async fn destroy(home: &Home, state: &State) -> Result<()> {
    halt(state, KILL_LIMIT).await?;
    purge(home, state)
}

async fn status(args: &StatusArgs) -> Result<()> {
    let home = Home::new(&args.dir)?;
    let state = home.load()?;
    let client = http::probe()?;
    let leader = join::leader(&home, &state).await;
    let mut seen = Vec::new();
    for node in &state.processes {
        let config = home.config(&node.name);
        let alive = node.is_running() && http::is_healthy(&client, &node.addresses.http, &config).await;
        seen.push(Seen { node, alive, leader: alive && leads(node, leader.as_deref()) });
    }
    screen::line(&match args.output {
        Output::Json => json(&home, &state, &seen)?,
        Output::Text => text(&seen),
    });
    let down: Vec<&str> = seen.iter().filter(|seen| !seen.alive).map(|seen| seen.node.name.as_str()).collect();
    if down.is_empty() {
        return Ok(());
    }
    Err(Error::unavailable(format!("not alive: {}", down.join(", "))))
}

struct Seen<'a> {
    node: &'a Node,
    alive: bool,
    leader: bool,
}

fn leads(node: &Node, leader: Option<&str>) -> bool {
    node.role == Role::Frontend && leader.is_some() && node.addresses.mysql.as_deref() == leader
}

fn json(home: &Home, state: &State, seen: &[Seen<'_>]) -> Result<String> {
    let processes: Vec<serde_json::Value> = seen
        .iter()
        .map(|seen| {
            let mut fields = serde_json::Map::new();
            fields.insert("name".to_owned(), seen.node.name.clone().into());
            fields.insert("role".to_owned(), seen.node.role.name().into());
            fields.insert("pid".to_owned(), seen.node.process.map(|process| process.pid).into());
            for (name, address) in seen.node.addresses.all() {
                fields.insert(name.to_owned(), address.into());
            }
            fields.insert("alive".to_owned(), seen.alive.into());
            fields.insert("leader".to_owned(), seen.leader.into());
            fields.insert("log".to_owned(), home.log(&seen.node.name).display().to_string().into());
            fields.into()
        })
        .collect();
    let answer = serde_json::json!({
        "dir": home.dir().display().to_string(),
        "broker_name": state.broker_name,
        "repos": home.repos().display().to_string(),
        "processes": processes,
    });
    serde_json::to_string_pretty(&answer).map_err(|error| Error::bug(format!("status: {error}")))
}

fn text(seen: &[Seen<'_>]) -> String {
    let rows: Vec<Vec<String>> = seen
        .iter()
        .map(|seen| {
            let addresses = seen.node.addresses.all();
            let addresses: Vec<String> = addresses.iter().map(|(name, address)| format!("{name} {address}")).collect();
            let state = match (seen.alive, seen.node.is_running()) {
                (true, _) => "alive",
                (false, true) => "not answering",
                (false, false) => "not running",
            };
            let pid = seen.node.process.map_or("-".to_owned(), |process| process.pid.to_string());
            let leader = if seen.leader { "leader" } else { "" };
            vec![seen.node.name.clone(), pid, state.to_owned(), addresses.join(", "), leader.to_owned()]
        })
        .collect();
    screen::table(&["name", "pid", "state", "addresses", ""], &rows)
}

/// Start what does not run and wait until the cluster is whole.
async fn launch(home: &Home, state: &mut State, limit: Duration) -> Result<()> {
    let found: Vec<Identity> = state.processes.iter().filter_map(|node| node.process).collect();
    let found: Vec<Identity> = found.into_iter().filter(|process| process.is_running()).collect();
    start_missing(home, state).await?;
    let ready = join::until_ready(home, state, limit).await;
    if ready.is_ok() || found.iter().all(|process| process.is_running()) {
        return ready;
    }
    // One that was killed a moment ago still looked alive.
    start_missing(home, state).await?;
    join::until_ready(home, state, limit).await
}

/// A frontend beside the first is added to the cluster before its first start: it asks who it is.
pub(crate) async fn start_missing(home: &Home, state: &mut State) -> Result<()> {
    for index in 0..state.processes.len() {
        let node = &state.processes[index];
        if node.is_running() {
            continue;
        }
        if node.role == Role::Frontend && node.process.is_none() && index > 0 {
            join::add_frontend(home, state, node).await?;
        }
        start_one(home, state, index)?;
    }
    Ok(())
}

/// Send a signal that ends a process, and wait until it is gone.
pub(crate) async fn end(node: &Node, signal: Signal, limit: Duration) -> Result<()> {
    let Some(process) = node.process else { return Ok(()) };
    process.signal(signal)?;
    match process.ended_within(limit).await {
        true => Ok(()),
        false => Err(Error::timeout(format!("{} (process {}) does not end", node.name, process.pid))),
    }
}

/// Start a node again that ended.
pub(crate) fn restart(home: &Home, state: &mut State, name: &str) -> Result<()> {
    let index = state.processes.iter().position(|node| node.name == name);
    start_one(home, state, index.ok_or_else(|| Error::bug(format!("no node {name}")))?)
}

fn start_one(home: &Home, state: &mut State, index: usize) -> Result<()> {
    let node = &state.processes[index];
    let program = process::find_program(&node.role.program())?;
    let pid = detach::spawn(&program, &home.config(&node.name), &home.log(&node.name))?;
    state.processes[index].process = Some(Identity::of(pid));
    home.save(state)
}

/// Stop everything: ask, wait, kill. The frontend first, so that it starts nothing on nodes that are leaving.
async fn halt(state: &State, limit: Duration) -> Result<()> {
    for role in [Role::Frontend, Role::Backend, Role::Broker] {
        let processes: Vec<(&Node, Identity)> =
            state.of_role(role).filter_map(|node| node.process.map(|process| (node, process))).collect();
        for (_, process) in &processes {
            process.signal(Signal::TERM)?;
        }
        for (node, process) in processes {
            if process.ended_within(limit).await {
                continue;
            }
            screen::complain(&format!("{} did not stop in {} s and is killed", node.name, limit.as_secs()));
            process.signal(Signal::KILL)?;
            if !process.ended_within(KILL_LIMIT).await {
                let text = format!("{} (process {}) cannot be killed", node.name, process.pid);
                return Err(Error::unavailable(text));
            }
        }
    }
    Ok(())
}

fn wanted<'a>(nodes: impl Iterator<Item = &'a Node>) -> Vec<(String, String)> {
    nodes
        .flat_map(|node| {
            let purpose = |name: &str| format!("{name} of {}", node.name);
            node.addresses.all().into_iter().map(move |(name, address)| (address.to_owned(), purpose(name)))
        })
        .collect()
}

fn greet(home: &Home, state: &State) -> Result<()> {
    let mysql = state.mysql()?;
    let (host, port) = mysql.rsplit_once(':').unwrap_or((mysql, ""));
    screen::line(&format!("cluster in {} is alive: {} processes", home.dir().display(), state.processes.len()));
    screen::line(&format!("connect with: mariadb -h {host} -P {port} -u root"));
    Ok(())
}
