//! `cofferctl doctor`: look at a deployment and say what to do.
//!
//! Gathering and judging are apart: `cluster` judges rows that SHOW printed, `reach` ports and clocks, `local` this
//! machine. Nothing is changed anywhere.

mod cluster;
mod finding;
mod local;
mod reach;

use crate::cli::{DoctorArgs, Output};
use crate::cluster::state::Home;
use crate::screen;
use crate::sql::{Login, Row, Session};
use cluster::{Shown, TableShown};
use coffer_proto::authority::Authority;
use coffer_stdx::{Error, Result};
use finding::{Finding, Level};
use reach::Port;
use std::process::ExitCode;

/// Tables whose replicas are looked at, each with three statements.
const MAX_TABLES: usize = 500;

/// Run the checks and print what they found.
pub(crate) async fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let mut findings = local::look(&args.config_dir);
    let mysql = match &args.dir {
        Some(dir) => Some(Home::new(dir)?.load()?.mysql()?.to_owned()),
        None => args.mysql.clone(),
    };
    if let Some(address) = mysql {
        let (user, password) = (args.user.clone(), args.password.clone());
        let login = Login { address: address.clone(), user, password, ca: args.ca.clone() };
        findings.extend(of_cluster(login).await?);
    } else if findings.is_empty() {
        let dir = args.config_dir.display();
        return Err(Error::invalid(format!(
            "nothing to check: no configuration in {dir}, no running process here; --mysql host:9030 names a cluster"
        )));
    }
    let text = match args.output {
        Output::Text => finding::text(&findings, screen::colours()),
        Output::Json => serde_json::to_string_pretty(&finding::json(&findings))
            .map_err(|error| Error::bug(format!("findings: {error}")))?,
    };
    screen::line(&text);
    Ok(match finding::worst(&findings) {
        Level::Problem => ExitCode::FAILURE,
        Level::Ok | Level::Warning => ExitCode::SUCCESS,
    })
}

async fn of_cluster(login: Login) -> Result<Vec<Finding>> {
    let address = login.address.clone();
    let authority = login.ca.as_deref().map(Authority::read).transpose()?;
    let mut session = Session::new(login);
    let shown = match gather(&mut session).await {
        Ok(shown) => shown,
        Err(error) if error.kind() == coffer_stdx::ErrorKind::Invalid => return Err(error),
        Err(error) => {
            let insecure = authority.is_none() && error.message().contains("insecure transport");
            let advice = match insecure {
                true => "name the certificate of the cluster's authority: --ca ca.pem",
                false => "check address, user, password and --ca; systemctl status coffer-fe there",
            };
            return Ok(vec![Finding::problem("nodes", &format!("frontend {address}"), error.message(), advice)]);
        }
    };
    let mut findings = cluster::judge(&shown, env!("CARGO_PKG_VERSION"));
    findings.extend(reach::look(ports(&shown), authority).await);
    Ok(findings)
}

async fn gather(session: &mut Session) -> Result<Shown> {
    let mut shown = Shown {
        frontends: session.query("SHOW FRONTENDS").await?,
        backends: session.query("SHOW BACKENDS").await?,
        brokers: session.query("SHOW BROKER").await?,
        repositories: session.query("SHOW REPOSITORIES").await?,
        ..Shown::default()
    };
    // An older frontend does not know the path.
    let health = session.query("SHOW PROC \"/cluster_health/tablet_health\"").await.unwrap_or_default();
    shown.health = health.into_iter().filter(|row| row.get("DbId") == "Total").collect();
    let system = ["information_schema", "mysql"];
    for database in session.query("SHOW DATABASES").await? {
        let database = database.get("Database").to_owned();
        if system.contains(&database.as_str()) {
            continue;
        }
        // A database dropped meanwhile is none of ours.
        let Ok(tables) = session.query(&format!("SHOW TABLES FROM `{database}`")).await else { continue };
        for table in tables {
            let table = table.cells().first().and_then(|(_, name)| name.clone()).unwrap_or_default();
            if shown.tables.len() >= MAX_TABLES {
                shown.tables_left_out += 1;
            } else if let Ok(seen) = look_at_table(session, &database, &table).await {
                shown.tables.push(seen);
            }
        }
    }
    Ok(shown)
}

async fn look_at_table(session: &mut Session, database: &str, table: &str) -> Result<TableShown> {
    let of = format!("FROM `{database}`.`{table}`");
    let partitions = session.query(&format!("SHOW PARTITIONS {of}")).await?;
    let numbers = partitions.iter().filter_map(|row| row.get("ReplicationNum").parse::<usize>().ok());
    let numbers: Vec<usize> = numbers.collect();
    let smallest_and_largest = (numbers.iter().min().copied(), numbers.iter().max().copied());
    Ok(TableShown {
        name: format!("{database}.{table}"),
        replicas: (smallest_and_largest.0.unwrap_or(0), smallest_and_largest.1.unwrap_or(0)),
        bad: session.query(&format!("SHOW TABLETS {of} WHERE State = \"BAD\"")).await?.len(),
        behind: session.query(&format!("SHOW TABLETS {of} WHERE LstFailedVersion != \"-1\"")).await?.len(),
    })
}

/// Every port that the rows tell of.
fn ports(shown: &Shown) -> Vec<Port> {
    let of = |rows: &[Row], kind: &str, name: &str, ports: &[(&'static str, &str)]| -> Vec<Port> {
        let mut found = Vec::new();
        for row in rows {
            let node = format!("{kind} {}:{}", row.get("Host"), row.get(name));
            let known = ports.iter().filter(|(_, column)| !matches!(row.get(column), "" | "0" | "-1"));
            found.extend(known.map(|(purpose, column)| Port {
                node: node.clone(),
                purpose,
                address: format!("{}:{}", row.get("Host"), row.get(column)),
            }));
        }
        found
    };
    let mut all = of(
        &shown.frontends,
        "frontend",
        "QueryPort",
        &[("MySQL", "QueryPort"), ("HTTP", "HttpPort"), ("gRPC", "EditLogPort")],
    );
    all.extend(of(&shown.backends, "backend", "HeartbeatPort", &[("gRPC", "HeartbeatPort"), ("HTTP", "HttpPort")]));
    all.extend(of(&shown.brokers, "broker", "Port", &[("gRPC", "Port")]));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_named_with_its_node() {
        let shown = Shown {
            frontends: vec![Row::of(&[("Host", "f"), ("QueryPort", "1"), ("HttpPort", "2"), ("EditLogPort", "3")])],
            backends: vec![Row::of(&[("Host", "b"), ("HeartbeatPort", "4"), ("HttpPort", "0")])],
            brokers: vec![Row::of(&[("Host", "k"), ("Port", "5")])],
            ..Shown::default()
        };
        let all: Vec<String> =
            ports(&shown).iter().map(|p| format!("{} {} {}", p.node, p.purpose, p.address)).collect();
        assert_eq!(
            all,
            [
                "frontend f:1 MySQL f:1",
                "frontend f:1 HTTP f:2",
                "frontend f:1 gRPC f:3",
                "backend b:4 gRPC b:4",
                "broker k:5 gRPC k:5",
            ]
        );
    }
}
