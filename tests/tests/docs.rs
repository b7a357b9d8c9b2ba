//! The reference is true: every example of `docs/sql` runs against a cluster, and `docs/metrics.md` lists exactly what the
//! three processes export.

use anyhow::Context;
use coffer_tests::cluster::BROKER;
use coffer_tests::http::get;
use coffer_tests::{Cluster, Outcome, Sql};
use std::collections::BTreeMap;
use std::path::PathBuf;

const LABEL: &str = "sunday";
/// What examples say for the timestamp of that backup, and for the number of a connection.
const TIMESTAMP: &str = "2026-11-22-16-18-12";
const CONNECTION: &str = "42";

fn docs() -> PathBuf {
    coffer_tests::crate_dir().join("../docs")
}

/// What every example finds: `shop.sales` with rows, a backup `sunday` of it in `safe`, a user, a role.
async fn world(cluster: &Cluster, root: &mut Sql) -> anyhow::Result<String> {
    root.run("CREATE DATABASE IF NOT EXISTS shop").await?;
    for gone in [
        "DROP USER IF EXISTS eve",
        "DROP USER IF EXISTS 'bob'@'10.%'",
        "DROP USER IF EXISTS guest",
        "DROP ROLE IF EXISTS loaders",
        "DROP ROLE IF EXISTS readers",
        "DROP DATABASE IF EXISTS archive",
        "DROP TABLE IF EXISTS shop.sales_of_sunday",
        "DROP TABLE IF EXISTS shop.visits",
        "DROP TABLE IF EXISTS shop.sales",
    ] {
        root.run(gone).await?;
    }
    let stranger = |row: &&coffer_tests::mysql::Row| row.get("Host") != "127.0.0.1";
    // A decommissioned one leaves by itself.
    let stays = |row: &&coffer_tests::mysql::Row| row.get("SystemDecommissioned") == "false";
    for backend in root.query("SHOW BACKENDS").await?.iter().filter(stranger).filter(stays) {
        let (host, port) = (backend.get("Host"), backend.get("HeartbeatPort"));
        root.run(&format!("ALTER SYSTEM DROPP BACKEND \"{host}:{port}\"")).await?;
    }
    root.run("CREATE USER eve IDENTIFIED BY 'x'").await?;
    root.run("CREATE ROLE loaders").await?;
    root.run(
        "CREATE TABLE shop.sales (day DATE NOT NULL, id BIGINT NOT NULL, city VARCHAR(40) DEFAULT \"unknown\",
         amount DECIMAL(10, 2)) DUPLICATE KEY(day, id) PARTITION BY RANGE(day) (
         PARTITION january VALUES LESS THAN (\"2026-02-01\"),
         PARTITION february VALUES [(\"2026-02-01\"), (\"2026-03-01\")))
         DISTRIBUTED BY HASH(id) BUCKETS 2 PROPERTIES (\"replication_num\" = \"1\")",
    )
    .await?;
    root.run("INSERT INTO shop.sales VALUES ('2026-01-15', 1, 'Oslo', 19.9), ('2026-02-03', 3, NULL, 7.25)").await?;
    for (name, fresh) in [("safe", false), ("spare", true)] {
        let known = root.query("SHOW REPOSITORIES").await?.iter().any(|row| row.get("RepoName") == name);
        if known && fresh {
            root.run(&format!("DROP REPOSITORY {name}")).await?;
        } else if !known && !fresh {
            let location = cluster.location(name);
            root.run(&format!("CREATE REPOSITORY {name} WITH BROKER {BROKER} ON LOCATION \"{location}\"")).await?;
        }
    }
    if root.query("SHOW SNAPSHOT ON safe").await?.iter().all(|row| row.get("Snapshot") != LABEL) {
        root.run(&format!("BACKUP SNAPSHOT shop.{LABEL} TO safe ON (sales)")).await?;
        let end = root.job_end("SHOW BACKUP FROM shop").await?;
        anyhow::ensure!(end.get("State") == "FINISHED", "{end:?}");
    }
    let rows = root.query("SHOW SNAPSHOT ON safe").await?;
    let row = rows.iter().find(|row| row.get("Snapshot") == LABEL).context("the backup is listed")?;
    Ok(row.get("Timestamp").split('\n').next().unwrap_or_default().to_owned())
}

/// Blocks of the example section: the fence's words, and what is inside.
fn blocks(text: &str) -> Vec<(String, String)> {
    let section = text.split_once("\n## Example\n").map_or("", |(_, section)| section);
    let parts: Vec<&str> = section.split("```").collect();
    let blocks = parts.chunks(2).filter_map(|pair| pair.get(1)?.split_once('\n'));
    blocks.map(|(fence, body)| (fence.trim().to_owned(), body.to_owned())).collect()
}

async fn run(cluster: &Cluster, root: &mut Sql, (fence, statement): (&str, &str), timestamp: &str) -> Outcome {
    let mut other = cluster.sql();
    let connection = other.scalar("SELECT connection_id()").await?;
    let statement = statement
        .replace(TIMESTAMP, timestamp)
        .replace(&format!("QUERY {CONNECTION}"), &format!("QUERY {connection}"))
        .replace("file:///backups", &format!("file://{}", cluster.repos().display()));
    match fence.strip_prefix("sql fails: ") {
        Some(text) => {
            let error = root.error(&statement).await?;
            anyhow::ensure!(error.message.contains(text), "{statement}: {}", error.message);
        }
        None => root.run(&statement).await?,
    }
    for kind in ["BACKUP", "RESTORE"].iter().filter(|kind| statement.starts_with(*kind)) {
        let end = root.job_end(&format!("SHOW {kind} FROM shop")).await?;
        anyhow::ensure!(end.get("State") == "FINISHED", "{statement}: {end:?}");
    }
    Ok(())
}

/// An example for a shell, with the cluster's address, beside a file to load.
async fn shell(cluster: &Cluster, text: &str) -> Outcome {
    std::fs::write(cluster.dir().join("sales.csv"), "2026-01-15|1|Oslo|19.90\n2026-02-03|3|\\N|7.25\n")?;
    let text = text.replace("127.0.0.1:8030", &cluster.frontend().http);
    let output = tokio::process::Command::new("sh").args(["-ec", &text]).current_dir(cluster.dir()).output().await?;
    let shown = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success() && shown.contains("\"Success\""), "{text}: {output:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_reference_works() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(docs().join("sql"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    assert!(files.len() > 50, "{}", files.len());
    let (mut faults, mut count) = (Vec::new(), 0);
    for file in files {
        let mut root = cluster.sql();
        let timestamp = world(&cluster, &mut root).await.with_context(|| format!("before {}", file.display()))?;
        for (fence, body) in blocks(&std::fs::read_to_string(&file)?) {
            let outcome = match fence.as_str() {
                "sh" => shell(&cluster, &body).await,
                // Needs a store that a test has not: the parser's own test reads it.
                "sql parse" => continue,
                _ => {
                    let mut outcome = Ok(());
                    for statement in body.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
                        outcome = run(&cluster, &mut root, (&fence, statement), &timestamp).await;
                        count += 1;
                        if outcome.is_err() {
                            break;
                        }
                    }
                    outcome
                }
            };
            if let Err(error) = outcome {
                faults.push(format!("{}: {error:#}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(count > 70, "{count}");
    Ok(())
}

/// Name to type and help, as Prometheus sees a page.
fn exported(page: &str) -> BTreeMap<String, (String, String)> {
    let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            found.entry(name.to_owned()).or_default().1 = help.to_owned();
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            found.entry(name.to_owned()).or_default().0 = kind.to_owned();
        }
    }
    found
}

/// What Prometheus itself says about a page of metrics; skipped by name where `tests/servers/promtool` did not find it.
fn promtool(name: &str, page: &str) -> Outcome {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let script = coffer_tests::crate_dir().join("servers/promtool");
    let found = Command::new(script).arg("path").output()?;
    if !found.status.success() {
        coffer_stdx::testing::skip(
            "docs::the_list_of_metrics_is_the_list_of_metrics",
            "no promtool: its check is left out",
        );
        return Ok(());
    }
    let mut check = Command::new(String::from_utf8(found.stdout)?.trim());
    let check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = check.spawn()?;
    running.stdin.take().context("standard input")?.write_all(page.as_bytes())?;
    let output = running.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    anyhow::ensure!(output.status.success() && said.is_empty(), "{name}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_metrics_is_the_list_of_metrics() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut root = cluster.sql();
    // Every metric with labels shows once something happened.
    world(&cluster, &mut root).await?;
    root.run("SELECT * FROM shop.sales").await?;
    shell(
        &cluster,
        "curl -sS --location-trusted -u root: -T sales.csv -H 'column_separator:|' http://127.0.0.1:8030/api/shop/sales/_stream_load",
    )
    .await?;
    let text = std::fs::read_to_string(docs().join("metrics.md"))?;
    let mut listed: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `coffer_")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        listed.insert(cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), cells[2].to_owned()));
    }
    let mut found = BTreeMap::new();
    for name in ["fe-1", "be-1", "broker-1"] {
        let page = get(cluster.node(name), "/metrics").await?.1;
        promtool(name, &page)?;
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            anyhow::ensure!(value.parse::<f64>().is_ok() && series.starts_with("coffer_"), "{name}: {line}");
        }
        found.extend(exported(&page));
    }
    let table = |metrics: &BTreeMap<String, (String, String)>| {
        let rows = metrics.iter().map(|(name, (kind, help))| format!("| `{name}` | {kind} | {help} |"));
        rows.collect::<Vec<_>>().join("\n")
    };
    assert!(listed == found, "docs/metrics.md is\n{}\nand should be\n{}", table(&listed), table(&found));
    Ok(())
}

/// The pages that name the tests of backup and restore: every named test is in the file that the page says.
#[test]
fn tests_that_pages_name_exist() -> Outcome {
    let root = coffer_tests::crate_dir().join("..");
    let legend = std::fs::read_to_string(docs().join("backup-restore.md"))?;
    // "`path` (*name*)"
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for (before, name) in legend.split("(*").zip(legend.split("(*").skip(1)) {
        let path = before.trim_end().trim_end_matches('`').rsplit('`').next().unwrap_or_default();
        let name = name.split("*)").next().unwrap_or_default();
        files.insert(name, std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned())?);
    }
    anyhow::ensure!(files.len() >= 7, "{:?}", files.keys());
    let mut named = 0;
    for page in ["backup-restore.md", "known-pains.md"] {
        let text = std::fs::read_to_string(docs().join(page))?;
        for (name, code) in &files {
            for rest in text.split(&format!("{name} `")).skip(1) {
                let test = rest.split('`').next().unwrap_or_default();
                let wanted = match test.strip_suffix("...") {
                    Some(begun) => format!("fn {begun}"),
                    None => format!("fn {test}("),
                };
                anyhow::ensure!(code.contains(&wanted), "{page}: there is no test `{test}` in {name}");
                named += 1;
            }
        }
    }
    anyhow::ensure!(named > 40, "only {named} tests are named");
    Ok(())
}
