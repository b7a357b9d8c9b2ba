//! What the rows of SHOW FRONTENDS, BACKENDS, BROKER, REPOSITORIES and PARTITIONS say about the health of a cluster. Pure.

use super::finding::Finding;
use crate::sql::Row;
use std::collections::BTreeSet;

/// A disk fuller than this is to be known, percent.
const FULL_WARNING: f64 = 80.0;
/// A disk fuller than this is a problem, percent.
const FULL_PROBLEM: f64 = 92.0;

/// What a cluster says about itself.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// SHOW FRONTENDS.
    pub(crate) frontends: Vec<Row>,
    /// SHOW BACKENDS.
    pub(crate) backends: Vec<Row>,
    /// SHOW BROKER.
    pub(crate) brokers: Vec<Row>,
    /// SHOW REPOSITORIES.
    pub(crate) repositories: Vec<Row>,
    /// Tables.
    pub(crate) tables: Vec<TableShown>,
    /// The sums of SHOW PROC "/cluster_health/tablet_health"; empty where it is not known.
    pub(crate) health: Vec<Row>,
    /// Tables that were not looked at.
    pub(crate) tables_left_out: usize,
}

/// A table and its replicas.
#[derive(Debug, Default, Clone)]
pub(crate) struct TableShown {
    /// `database.table`.
    pub(crate) name: String,
    /// Smallest and largest number of replicas of its partitions.
    pub(crate) replicas: (usize, usize),
    /// Replicas whose bytes are wrong.
    pub(crate) bad: usize,
    /// Replicas that lack a version.
    pub(crate) behind: usize,
}

/// Everything that can be said.
pub(crate) fn judge(shown: &Shown, own_version: &str) -> Vec<Finding> {
    let mut findings = frontends(&shown.frontends);
    findings.extend(shown.backends.iter().flat_map(backend));
    let alive = shown.backends.iter().filter(|row| is_true(row.get("Alive"))).count();
    if shown.backends.is_empty() {
        let advice = "ALTER SYSTEM ADD BACKEND \"host:9050\" for each";
        findings.push(Finding::problem("nodes", "backends", "there are none", advice));
    }
    findings.extend(shown.brokers.iter().map(broker));
    findings.extend(versions(shown, own_version));
    findings.extend(shown.repositories.iter().map(repository));
    findings.extend(tables(shown, alive));
    findings
}

fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

fn at(row: &Row, port: &str) -> String {
    format!("{}:{}", row.get("Host"), row.get(port))
}

fn frontends(rows: &[Row]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !rows.iter().any(|row| is_true(row.get("IsMaster")) && is_true(row.get("Alive"))) {
        let advice = "a majority of the frontends has to run and reach each other on the gRPC port; see the journals";
        findings.push(Finding::problem("nodes", "frontends", "none leads: nothing can be changed", advice));
    }
    for row in rows {
        let about = format!("frontend {}", at(row, "QueryPort"));
        let role = if is_true(row.get("IsMaster")) { "leads" } else { "alive" };
        findings.push(match is_true(row.get("Alive")) {
            true => Finding::ok("nodes", &about, role),
            false => {
                let found = format!("does not answer the others: {}", row.get("ErrMsg"));
                Finding::problem("nodes", &about, found, "systemctl status coffer-fe there; start it, or remove it")
            }
        });
    }
    let voters = rows.iter().filter(|row| row.get("Role") != "OBSERVER").count();
    if voters > 0 && voters < 3 {
        let advice = "three on three machines survive the loss of one; until then keep a copy of `coffer-fe export`";
        findings.push(Finding::warning("nodes", "frontends", format!("{voters} that vote"), advice));
    } else if voters > 0 && voters % 2 == 0 {
        let advice = "an even number survives no more losses than one less: add one or make one an observer";
        findings.push(Finding::warning("nodes", "frontends", format!("{voters} that vote"), advice));
    }
    findings
}

fn backend(row: &Row) -> Vec<Finding> {
    let about = format!("backend {}", at(row, "HeartbeatPort"));
    if !is_true(row.get("Alive")) {
        let found = format!("dead, {} replicas lie on it: {}", row.get("TabletNum"), row.get("ErrMsg"));
        let advice = "systemctl status coffer-be there; when it is lost for good: ALTER SYSTEM DROP BACKEND";
        return vec![Finding::problem("nodes", &about, found, advice)];
    }
    let used = row.get("MaxDiskUsedPct").trim_end_matches([' ', '%']).parse::<f64>().unwrap_or(0.0);
    let found = format!("fullest disk {used:.0} %, {} free", row.get("AvailCapacity"));
    let disk = match used {
        used if used >= FULL_PROBLEM => {
            Finding::problem("disks", &about, found, "add data_dirs or backends, or drop what nobody needs; soon")
        }
        used if used >= FULL_WARNING => Finding::warning("disks", &about, found, "plan for more space"),
        _ => Finding::ok("disks", &about, found),
    };
    vec![Finding::ok("nodes", &about, format!("alive, {} replicas", row.get("TabletNum"))), disk]
}

fn broker(row: &Row) -> Finding {
    let about = format!("broker {} {}", row.get("Name"), at(row, "Port"));
    if !is_true(row.get("Alive")) {
        let advice = "systemctl status coffer-broker there; port 8000 must be open from frontends and backends";
        return Finding::problem("nodes", &about, format!("dead: {}", row.get("ErrMsg")), advice);
    }
    match row.get("Waiting").parse::<u64>().unwrap_or(0) {
        0 => Finding::ok("nodes", &about, "alive"),
        waiting => {
            let advice = "raise memory_budget_mib in broker.toml or add brokers";
            Finding::warning("nodes", &about, format!("{waiting} requests wait for memory"), advice)
        }
    }
}

fn versions(shown: &Shown, own: &str) -> Option<Finding> {
    let rows = shown.frontends.iter().chain(&shown.backends).chain(&shown.brokers);
    let seen: BTreeSet<&str> = rows.map(|row| row.get("Version")).filter(|version| !version.is_empty()).collect();
    let list = seen.iter().copied().collect::<Vec<_>>().join(", ");
    match seen.len() {
        0 => None,
        1 if seen.contains(own) => Some(Finding::ok("versions", "all nodes", list)),
        1 => {
            Some(Finding::warning("versions", "all nodes", format!("{list}; this cofferctl is {own}"), "use the same"))
        }
        _ => Some(Finding::warning("versions", "all nodes", list, "finish the upgrade: every node on one version")),
    }
}

fn repository(row: &Row) -> Finding {
    let about = format!("repository {}", row.get("RepoName"));
    match row.get("ErrMsg") {
        "" | "NULL" => Finding::ok("brokers", &about, format!("reached at {}", row.get("Location"))),
        error => {
            let advice = "ALTER REPOSITORY ... SET PROPERTIES when a key or endpoint changed; else look at SHOW BROKER";
            Finding::problem("brokers", &about, error.to_owned(), advice)
        }
    }
}

fn tables(shown: &Shown, alive: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &shown.tables {
        let about = &table.name;
        if table.replicas.1 > alive {
            let found = format!("wants {} replicas, {alive} backends are alive", table.replicas.1);
            findings.push(Finding::problem("replicas", about, found, "start or add backends"));
        }
        if table.bad > 0 {
            let found = format!("{} replicas have wrong bytes", table.bad);
            let advice = "they are copied from healthy ones; if this stays, no healthy one is left: RESTORE the table";
            findings.push(Finding::problem("replicas", about, found, advice));
        }
        if table.behind > 0 {
            let found = format!("{} replicas lack a version", table.behind);
            findings.push(Finding::warning("replicas", about, found, "they are caught up by themselves; look again"));
        }
    }
    findings.extend(shown.health.iter().flat_map(health));
    let single = shown.tables.iter().filter(|table| table.replicas.0 == 1).map(|table| table.name.as_str());
    let single: Vec<&str> = single.collect();
    if let Some(first) = single.first() {
        let found = format!("{} with one replica, such as {first}", single.len());
        let advice = "a lost disk loses them: back them up, and make new ones with replication_num 3";
        findings.push(Finding::warning("replicas", "tables", found, advice));
    }
    if findings.is_empty() && !shown.tables.is_empty() {
        findings.push(Finding::ok("replicas", "tables", format!("{} are whole", shown.tables.len())));
    }
    if shown.tables_left_out > 0 {
        let found = format!("{} more were not looked at", shown.tables_left_out);
        findings.push(Finding::warning("replicas", "tables", found, "SHOW TABLETS FROM ... WHERE State = \"BAD\""));
    }
    findings
}

/// Tablets that lack replicas, of all databases.
fn health(total: &Row) -> Vec<Finding> {
    let count = |column: &str| total.get(column).parse::<u64>().unwrap_or(0);
    let (missing, unrecoverable) = (count("ReplicaMissingNum"), count("UnrecoverableNum"));
    let mut findings = Vec::new();
    if missing > 0 {
        let found = format!("{missing} of {} are under-replicated", count("TabletNum"));
        let advice = "start their backends; what was dropped, or is dead for tablet_repair_delay_factor_second, is made \
                      anew on others that have room: SHOW PROC \"/cluster_health/tablet_health\" counts down";
        findings.push(Finding::warning("replicas", "tablets", found, advice));
    }
    if unrecoverable > 0 {
        let found = format!("{unrecoverable} of {} have no whole replica", count("TabletNum"));
        let advice = "start the backends that have them, or RESTORE the tables";
        findings.push(Finding::problem("replicas", "tablets", found, advice));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::{Level, worst};

    fn frontend(master: &str, alive: &str) -> Row {
        Row::of(&[
            ("Host", "f"),
            ("QueryPort", "9030"),
            ("IsMaster", master),
            ("Alive", alive),
            ("Role", "FOLLOWER"),
            ("Version", "1"),
        ])
    }

    fn backend_row(alive: &str, used: &str, version: &str) -> Row {
        Row::of(&[
            ("Host", "b"),
            ("HeartbeatPort", "9050"),
            ("Alive", alive),
            ("TabletNum", "7"),
            ("MaxDiskUsedPct", used),
            ("AvailCapacity", "1.000 GB"),
            ("ErrMsg", "connection refused"),
            ("Version", version),
        ])
    }

    fn well() -> Shown {
        Shown {
            frontends: vec![frontend("true", "true"), frontend("false", "true"), frontend("false", "true")],
            backends: vec![backend_row("true", "10.00 %", "1"), backend_row("true", "10.00 %", "1")],
            brokers: vec![Row::of(&[("Name", "b"), ("Alive", "true"), ("Waiting", "0"), ("Version", "1")])],
            repositories: vec![Row::of(&[("RepoName", "r"), ("ErrMsg", "NULL"), ("Location", "s3://x")])],
            tables: vec![TableShown { name: "d.t".to_owned(), replicas: (2, 2), bad: 0, behind: 0 }],
            health: vec![health_row("0", "0")],
            tables_left_out: 0,
        }
    }

    fn health_row(missing: &str, unrecoverable: &str) -> Row {
        Row::of(&[("TabletNum", "9"), ("ReplicaMissingNum", missing), ("UnrecoverableNum", unrecoverable)])
    }

    fn found(shown: &Shown) -> (Level, String) {
        let findings = judge(shown, "1");
        let bad: Vec<String> =
            findings.iter().filter(|f| f.level > Level::Ok).map(|f| format!("{}: {}", f.about, f.found)).collect();
        (worst(&findings), bad.join("; "))
    }

    #[test]
    fn a_healthy_cluster_has_no_finding() {
        assert_eq!(found(&well()), (Level::Ok, String::new()));
    }

    #[test]
    fn every_illness_is_found_and_named() {
        type Spoil = fn(&mut Shown);
        let cases: [(Level, &str, Spoil); 17] = [
            (Level::Problem, "none leads", |s| s.frontends[0] = frontend("false", "true")),
            (Level::Problem, "does not answer the others", |s| s.frontends[1] = frontend("false", "false")),
            (Level::Warning, "1 that vote", |s| s.frontends.truncate(1)),
            (Level::Warning, "4 that vote", |s| s.frontends.push(frontend("false", "true"))),
            (Level::Problem, "dead, 7 replicas lie on it: connection refused", |s| {
                s.backends.push(backend_row("false", "", ""));
            }),
            (Level::Problem, "backends: there are none", |s| s.backends.clear()),
            (Level::Warning, "fullest disk 85 %", |s| s.backends[0] = backend_row("true", "85.00 %", "1")),
            (Level::Problem, "fullest disk 99 %", |s| s.backends[0] = backend_row("true", "99.00 %", "1")),
            (Level::Warning, "1, 2", |s| s.backends[0] = backend_row("true", "1.00 %", "2")),
            (Level::Problem, "dead: gone", |s| s.brokers[0] = Row::of(&[("Alive", "false"), ("ErrMsg", "gone")])),
            (Level::Warning, "5 requests wait", |s| {
                s.brokers[0] = Row::of(&[("Alive", "true"), ("Waiting", "5"), ("Version", "1")]);
            }),
            (Level::Problem, "no such bucket", |s| s.repositories[0] = Row::of(&[("ErrMsg", "no such bucket")])),
            (Level::Problem, "wants 3 replicas, 2 backends", |s| s.tables[0].replicas = (2, 3)),
            (Level::Problem, "1 replicas have wrong bytes", |s| s.tables[0].bad = 1),
            (Level::Warning, "2 replicas lack a version", |s| s.tables[0].behind = 2),
            (Level::Warning, "4 of 9 are under-replicated", |s| s.health = vec![health_row("4", "0")]),
            (Level::Problem, "1 of 9 have no whole replica", |s| s.health = vec![health_row("0", "1")]),
        ];
        for (level, text, spoil) in cases {
            let mut shown = well();
            spoil(&mut shown);
            let (worst, said) = found(&shown);
            assert!(worst == level && said.contains(text), "{text}: {worst:?} {said}");
        }
        let mut shown = well();
        shown.tables[0].replicas = (1, 2);
        shown.tables_left_out = 3;
        assert!(found(&shown).1.contains("1 with one replica, such as d.t; tables: 3 more were not"));
        assert!(judge(&well(), "2").iter().any(|f| f.found.contains("this cofferctl is 2")));
        assert!(versions(&Shown::default(), "1").is_none());
    }
}
