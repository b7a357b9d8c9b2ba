//! From processes that were started to one cluster: wait for the frontend, tell it about backends and brokers, wait
//! until it reports all of them alive. Safe to repeat: what it knows already is not added again.

use crate::cluster::state::{Home, Node, Role, State};
use crate::http;
use crate::sql::{Login, Row, Session};
use coffer_stdx::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

/// How often the cluster is asked whether it is ready.
const POLL: Duration = Duration::from_millis(50);
/// The environment variable with the password of root, once it was given one.
const PASSWORD: &str = "COFFER_PASSWORD";
/// Lines of a dead process's log that are shown.
const LOG_LINES: usize = 12;

/// Return when the frontend leads and reports every backend and broker alive.
pub(crate) async fn until_ready(home: &Home, state: &State, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    let client = http::probe()?;
    for node in &state.processes {
        while !http::is_healthy(&client, &node.addresses.http, &home.config(&node.name)).await {
            wait_on(home, state, deadline, || format!("{} does not answer", node.name)).await?;
        }
    }
    let mut session = Session::new(login(home, state.mysql()?));
    loop {
        let missing = match step(&mut session, state).await {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(error) if error.kind() == ErrorKind::Denied => format!("{error} ({PASSWORD} has root's password)"),
            Err(error) => error.to_string(),
        };
        wait_on(home, state, deadline, || missing).await?;
    }
}

/// How long one frontend may take to say who leads.
const LEADER_LIMIT: Duration = Duration::from_secs(4);
/// How long the first frontend may take until it knows another.
const ADD_LIMIT: Duration = Duration::from_secs(30);

/// As root, with the password that the environment has, and over TLS where the frontend is configured to ask for it.
fn login(home: &Home, address: &str) -> Login {
    let (password, ca) = (std::env::var(PASSWORD).unwrap_or_default(), http::mysql_authority(&home.config("fe-1")));
    Login { password, ca, ..Login::root(address) }
}

/// Make a frontend known before its first start.
pub(crate) async fn add_frontend(home: &Home, state: &State, node: &Node) -> Result<()> {
    let deadline = Instant::now() + ADD_LIMIT;
    let mut session = Session::new(login(home, state.mysql()?));
    loop {
        let failed = match session.query("SHOW FRONTENDS").await {
            Ok(rows) if find(&rows, node, "EditLogPort").is_some() => return Ok(()),
            Ok(_) => {
                let add = format!("ALTER SYSTEM ADD FOLLOWER \"{}\"", node.addresses.grpc);
                match session.query(&add).await {
                    Ok(_) => continue,
                    Err(error) => error.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        wait_on(home, state, deadline, || failed).await?;
    }
}

/// One look at the cluster, adding what is unknown to it. None when nothing is missing.
async fn step(session: &mut Session, state: &State) -> Result<Option<String>> {
    let frontends = session.query("SHOW FRONTENDS").await?;
    if !frontends.iter().any(|row| is_true(row.get("IsMaster")) && is_true(row.get("Alive"))) {
        return Ok(Some("no frontend leads".to_owned()));
    }
    let mut missing = Vec::new();
    for node in state.of_role(Role::Frontend) {
        match find(&frontends, node, "EditLogPort") {
            Some(row) if is_true(row.get("Alive")) && row.get("Votes") == "Yes" => {}
            Some(row) => missing.push(format!("{} ({})", node.name, row.get("ErrMsg"))),
            None => missing.push(node.name.clone()),
        }
    }
    let backends = session.query("SHOW BACKENDS").await?;
    for node in state.of_role(Role::Backend) {
        match find(&backends, node, "HeartbeatPort") {
            None => {
                session.query(&format!("ALTER SYSTEM ADD BACKEND \"{}\"", node.addresses.grpc)).await?;
                missing.push(node.name.clone());
            }
            Some(row) if is_true(row.get("Alive")) => {}
            Some(row) => missing.push(format!("{} ({})", node.name, row.get("ErrMsg"))),
        }
    }
    let brokers =
        if state.of_role(Role::Broker).next().is_some() { session.query("SHOW BROKER").await? } else { vec![] };
    for node in state.of_role(Role::Broker) {
        match find(&brokers, node, "Port") {
            None => {
                let (name, address) = (&state.broker_name, &node.addresses.grpc);
                session.query(&format!("ALTER SYSTEM ADD BROKER {name} \"{address}\"")).await?;
                missing.push(node.name.clone());
            }
            Some(row) if is_true(row.get("Alive")) => {}
            Some(row) => missing.push(format!("{} ({})", node.name, row.get("ErrMsg"))),
        }
    }
    Ok((!missing.is_empty()).then(|| format!("the frontend does not see alive: {}", missing.join(", "))))
}

fn find<'a>(rows: &'a [Row], node: &Node, port: &str) -> Option<&'a Row> {
    rows.iter().find(|row| format!("{}:{}", row.get("Host"), row.get(port)) == node.addresses.grpc)
}

fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

/// Wait a little; an error when a process ended or the time is over.
async fn wait_on(home: &Home, state: &State, deadline: Instant, missing: impl FnOnce() -> String) -> Result<()> {
    if let Some(dead) = state.processes.iter().find(|node| node.process.is_some() && !node.is_running()) {
        let log = home.log(&dead.name);
        let tail = tail(&std::fs::read_to_string(&log).unwrap_or_default());
        return Err(Error::unavailable(format!("{} ended; its log {} ends with:\n{tail}", dead.name, log.display())));
    }
    if Instant::now() >= deadline {
        let logs = home.dir().join("logs");
        return Err(Error::timeout(format!(
            "the cluster is not ready in time: {}; logs in {}",
            missing(),
            logs.display()
        )));
    }
    tokio::time::sleep(POLL).await;
    Ok(())
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// The `host:port` of the frontend that leads, if one answers.
pub(crate) async fn leader(home: &Home, state: &State) -> Option<String> {
    for node in state.of_role(Role::Frontend).filter(|node| node.is_running()) {
        let Some(address) = &node.addresses.mysql else { continue };
        let mut session = Session::new(login(home, address));
        let asked = tokio::time::timeout(LEADER_LIMIT, session.query("SHOW FRONTENDS")).await;
        let Ok(Ok(rows)) = asked else { continue };
        let leads = |row: &&Row| is_true(row.get("IsMaster")) && is_true(row.get("Alive"));
        if let Some(row) = rows.iter().find(leads) {
            return Some(format!("{}:{}", row.get("Host"), row.get("QueryPort")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        let log: String = (0..30).map(|n| format!("{n}\n")).collect();
        assert!(tail(&log).starts_with("18\n") && tail(&log).ends_with("29"));
        assert_eq!(tail("one"), "one");
    }
}
