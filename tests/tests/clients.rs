//! The clients people use: each drives a cluster through a small script of its own in `tests/clients`.
//!
//! A client that is not installed skips its test with a loud line; with CI=true it fails. `tests/run` installs them all.

use anyhow::Context;
use coffer_tests::{Cluster, Outcome};
use std::path::{Path, PathBuf};
use std::process::Output;
use tokio::process::Command;

const JDBC: &str = "/usr/share/java/mariadb-java-client.jar";

async fn with_items() -> anyhow::Result<(Cluster, Vec<String>)> {
    let cluster = Cluster::builder().brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(
        "CREATE TABLE d.items (k INT NOT NULL, v VARCHAR(40), n DECIMAL(10,2), day DATE, at DATETIME)
         DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\")",
    )
    .await?;
    sql.run(
        "INSERT INTO d.items VALUES (1, '\u{e9}\u{e9}n', 1.5, '2024-01-02', '2024-01-02 03:04:05'),
         (2, 'two', 2, '2024-01-03', '2024-01-03 00:00:00'), (3, NULL, NULL, NULL, NULL)",
    )
    .await?;
    let (host, port) = cluster.frontend().mysql.split_once(':').context("host:port")?;
    let place = vec![host.to_owned(), port.to_owned(), "d".to_owned()];
    Ok((cluster, place))
}

fn scripts() -> PathBuf {
    coffer_tests::crate_dir().join("clients")
}

/// False, loudly, when the program does not answer.
async fn installed(what: &str, command: &mut Command) -> anyhow::Result<bool> {
    if command.output().await.is_ok_and(|output| output.status.success()) {
        return Ok(true);
    }
    anyhow::ensure!(std::env::var_os("CI").is_none(), "{what} is not installed: run tests/run");
    #[allow(clippy::print_stderr, reason = "a skip must be seen")]
    {
        eprintln!("SKIPPED: {what} is not installed; tests/run installs it");
    }
    Ok(false)
}

fn must_be_ok(output: &Output) -> Outcome {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success() && out.trim_end().ends_with("OK"), "{}\n{out}\n{err}", output.status);
    Ok(())
}

async fn python(module: &str, script: &str) -> Outcome {
    let python = std::env::var("COFFER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !installed(module, Command::new(&python).args(["-c", &format!("import {module}")])).await? {
        return Ok(());
    }
    let (_cluster, place) = with_items().await?;
    must_be_ok(&Command::new(&python).arg(scripts().join(script)).args(place).output().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn pymysql_works() -> Outcome {
    python("pymysql", "check_pymysql.py").await
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_connector_works() -> Outcome {
    python("mysql.connector", "check_connector.py").await
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlalchemy_works() -> Outcome {
    python("sqlalchemy", "check_sqlalchemy.py").await
}

#[tokio::test(flavor = "multi_thread")]
async fn jdbc_works() -> Outcome {
    let present = if Path::new(JDBC).is_file() { "true" } else { "false" };
    if !installed("java", Command::new("javac").arg("-version")).await?
        || !installed("libmariadb-java", &mut Command::new(present)).await?
    {
        return Ok(());
    }
    let (cluster, place) = with_items().await?;
    let compiled =
        Command::new("javac").arg("-d").arg(cluster.dir()).arg(scripts().join("CheckJdbc.java")).output().await?;
    anyhow::ensure!(compiled.status.success(), "{compiled:?}");
    let path = format!("{}:{JDBC}", cluster.dir().display());
    must_be_ok(&Command::new("java").args(["-cp", &path, "CheckJdbc"]).args(place).output().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mariadb_command_line_works() -> Outcome {
    if !installed("mariadb-client", Command::new("mariadb").arg("--version")).await? {
        return Ok(());
    }
    let (_cluster, place) = with_items().await?;
    let run = async |arguments: &[&str]| -> anyhow::Result<String> {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-u", "root", "-h", &place[0], "-P", &place[1]]);
        let output = command.args(arguments).output().await?;
        anyhow::ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let vertical = run(&["d", "-e", "SELECT k, v FROM items WHERE k = 2\\G"]).await?;
    assert!(vertical.contains("1. row") && vertical.contains("k: 2\nv: two"), "{vertical}");
    let batch = run(&["-N", "-B", "-e", "USE d; SELECT count(*) FROM items; SELECT n FROM items WHERE k = 1"]).await?;
    assert_eq!(batch, "3\n1.50\n");
    let table = run(&["d", "-t", "-e", "DESC items"]).await?;
    assert!(table.contains("| k ") && table.contains("decimal(10,2)"), "{table}");
    let status = run(&["-e", "status"]).await?;
    assert!(status.contains("Server version") || status.contains("Server:"), "{status}");
    Ok(())
}

/// Run a client that knows three frontends, the first of which is dead; kill the one it connects to; it must go on.
async fn fails_over(mut command: Command, database: &str) -> Outcome {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    let cluster = Cluster::builder().frontends(3).backends(1).brokers(0).start().await?;
    let leader = cluster.leader().await?;
    // The leader is the second address, so that the next statement needs a new one.
    let mut nodes: Vec<_> = cluster.of("fe-").filter(|node| node.name != leader.name).collect();
    nodes.insert(0, leader);
    let dead = "127.0.0.1:1";
    let addresses: Vec<&str> = nodes.iter().map(|node| node.mysql.as_str()).collect();
    command.arg(format!("{dead},{}", addresses.join(",")));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut client = command.spawn()?;
    let mut output = BufReader::new(client.stdout.take().context("output")?);
    let mut line = String::new();
    output.read_line(&mut line).await?;
    let port = line.trim().strip_prefix("PORT ").with_context(|| line.clone())?.to_owned();
    anyhow::ensure!(leader.mysql.ends_with(&format!(":{port}")), "connected to {port}, not {}", leader.mysql);
    leader.kill();
    client.stdin.take().context("input")?.write_all(b"\n").await?;
    let mut rest = String::new();
    output.read_to_string(&mut rest).await?;
    anyhow::ensure!(client.wait().await?.success() && rest.trim_end().ends_with("OK"), "{rest}");
    anyhow::ensure!(!rest.contains(&format!("PORT {port}\n")), "{rest}");
    let rows = coffer_tests::Sql::new(&nodes[1].mysql).table("SHOW DATABASES").await?;
    anyhow::ensure!(rows.contains(&vec![database.to_owned()]), "{rows:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jdbc_takes_several_addresses() -> Outcome {
    let present = if Path::new(JDBC).is_file() { "true" } else { "false" };
    if !installed("java", Command::new("javac").arg("-version")).await?
        || !installed("libmariadb-java", &mut Command::new(present)).await?
    {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let compiled =
        Command::new("javac").arg("-d").arg(dir.path()).arg(scripts().join("CheckFailover.java")).output().await?;
    anyhow::ensure!(compiled.status.success(), "{compiled:?}");
    let mut java = Command::new("java");
    java.args(["-cp", &format!("{}:{JDBC}", dir.path().display()), "CheckFailover"]);
    fails_over(java, "by_jdbc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn pymysql_takes_one_address_after_the_other() -> Outcome {
    let python = std::env::var("COFFER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !installed("pymysql", Command::new(&python).args(["-c", "import pymysql"])).await? {
        return Ok(());
    }
    let mut command = Command::new(&python);
    command.arg(scripts().join("check_failover.py"));
    fails_over(command, "by_python").await
}
