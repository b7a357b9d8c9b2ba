//! Repositories as operators meet them: without a broker, read only, under other names, damaged, and against endpoints
//! and brokers that do not answer.

use anyhow::Context;
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Outcome, Sql, eventually};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(60);
/// What a statement may take against a storage that says nothing, with room for a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(25);

async fn loaded(cluster: &Cluster, rows: u64) -> anyhow::Result<(Sql, Vec<String>)> {
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 1)).await?;
    StreamLoad::new(cluster.frontend(), "d", "t").must_succeed(csv(3, 0, rows)).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    Ok((sql, before))
}

/// Every file below a directory, with size and time: a write shows.
fn files(dir: &Path) -> anyhow::Result<Vec<(PathBuf, u64, std::time::SystemTime)>> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let (entry, meta) = entry.and_then(|entry| entry.metadata().map(|meta| (entry, meta)))?;
            match meta.is_dir() {
                true => dirs.push(entry.path()),
                false => found.push((entry.path(), meta.len(), meta.modified()?)),
            }
        }
    }
    found.sort();
    Ok(found)
}

fn info_file(repos: &Path) -> anyhow::Result<PathBuf> {
    let mut all = files(repos)?.into_iter().map(|(path, _, _)| path);
    let is_info = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("__info_"));
    all.find(is_info).context("no info file")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_a_broker_saves_and_restores() -> Outcome {
    let cluster = Cluster::builder().backends(2).brokers(0).start().await?;
    let (mut sql, before) = loaded(&cluster, 2_000).await?;
    let location = cluster.location("r");
    let local = |words: &str, name: &str| format!("CREATE {words} {name} WITH LOCAL ON LOCATION \"{location}\"");
    let missing = sql.error(&local("READ ONLY REPOSITORY", "r")).await?;
    assert!(missing.message.contains("is not at its location"), "{}", missing.message);
    assert!(!cluster.repos().join("r").exists(), "READ ONLY wrote something");
    let outside = sql.error("CREATE REPOSITORY r WITH LOCAL ON LOCATION \"file:///etc/coffer\"").await?;
    assert!(outside.message.contains("local_roots"), "{}", outside.message);

    sql.run(&local("REPOSITORY", "r")).await?;
    let twice = sql.error(&local("REPOSITORY", "r")).await?;
    assert!(twice.message.contains("repository with same name already exist: r"), "{}", twice.message);
    sql.run(&local("REPOSITORY IF NOT EXISTS", "r")).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;

    // The same repository under another name, read only: nothing is written, restores work.
    let untouched = files(&cluster.repos())?;
    sql.run(&local("READ ONLY REPOSITORY", "archive")).await?;
    let rows = sql.query("SHOW REPOSITORIES").await?;
    let archive = rows.iter().find(|row| row.get("RepoName") == "archive").context("archive is shown")?;
    let shown = ["IsReadOnly", "Broker", "Type", "ErrMsg", "RemoteName"].map(|column| archive.get(column));
    assert_eq!(shown, ["true", "-", "LOCAL", "NULL", "r"]);
    let statement = sql.query("SHOW CREATE REPOSITORY FOR archive").await?;
    assert!(statement[0].get("CreateStmt").contains("\"remote_name\" = \"r\""), "{statement:?}");
    let refused = sql.error("BACKUP SNAPSHOT d.s2 TO archive ON (t)").await?;
    assert!(refused.message.contains("Repository archive is read only"), "{}", refused.message);
    sql.run("DROP TABLE d.t").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM archive PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);
    assert_eq!(files(&cluster.repos())?, untouched);

    // Dropping forgets; what is there stays and can be attached again.
    sql.run("DROP REPOSITORY r").await?;
    sql.run("DROP REPOSITORY IF EXISTS r").await?;
    let gone = sql.error("DROP REPOSITORY r").await?;
    assert!(gone.message.contains("Repository does not exist"), "{}", gone.message);
    assert_eq!(files(&cluster.repos())?, untouched);
    sql.run(&local("REPOSITORY", "r")).await?;
    assert_eq!(sql.timestamp("r", "s").await?, timestamp);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_and_absence_are_seen() -> Outcome {
    let cluster = Cluster::builder().brokers(0).config("fe", "repository_check_s = 1").start().await?;
    let (mut sql, _) = loaded(&cluster, 100).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH LOCAL ON LOCATION \"{location}\"")).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    sql.timestamp("r", "s").await?;

    let info = info_file(&cluster.repos())?;
    let mut bytes = std::fs::read(&info)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&info, &bytes)?;
    for show in ["SHOW SNAPSHOT ON r", "SHOW SNAPSHOT ON r WHERE SNAPSHOT = \"s\""] {
        let rows = sql.query(show).await?;
        assert!(rows[0].get("Status").starts_with("ERROR: Failed to get info"), "{show}: {rows:?}");
        assert!(rows[0].get("Status").contains("BLAKE3"), "{show}: {rows:?}");
    }

    let message = |rows: &[coffer_tests::mysql::Row]| rows[0].get("ErrMsg").to_owned();
    let (here, away) = (cluster.repos().join("r"), cluster.repos().join("moved"));
    std::fs::rename(&here, &away)?;
    eventually("SHOW REPOSITORIES says that it is gone", LIMIT, || async {
        let said = message(&cluster.sql().query("SHOW REPOSITORIES").await?);
        anyhow::ensure!(said.contains("is not at its location"), "{said}");
        Ok(())
    })
    .await?;
    std::fs::rename(&away, &here)?;
    eventually("SHOW REPOSITORIES says that it is back", LIMIT, || async {
        let said = message(&cluster.sql().query("SHOW REPOSITORIES").await?);
        anyhow::ensure!(said == "NULL", "{said}");
        Ok(())
    })
    .await
}

/// Where a listener takes connections and never says a word.
async fn silent() -> anyhow::Result<(String, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let held = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
        }
    });
    Ok((address, held))
}

fn s3(access: &str, endpoint: &str) -> String {
    format!(
        "CREATE REPOSITORY r WITH {access} ON LOCATION \"s3://bucket/p\" PROPERTIES (\"s3.endpoint\" = \"{endpoint}\", \
         \"s3.region\" = \"x\", \"s3.access_key\" = \"a\", \"s3.secret_key\" = \"hunter2\", \"use_path_style\" = \"true\")"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "the figure is for people")]
async fn an_endpoint_that_is_wrong_or_silent_fails_in_time_with_the_cause() -> Outcome {
    let cluster = Cluster::builder().backends(0).brokers(1).start().await?;
    let mut sql = cluster.sql();
    let broker = cluster.node("broker-1").grpc.clone();
    let (quiet, held) = silent().await?;
    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string();
    for (access, endpoint, says) in [
        ("S3", &quiet, vec![]),
        ("BROKER local_broker", &quiet, vec![broker.as_str()]),
        ("S3", &nobody, vec!["refused"]),
        ("BROKER local_broker", &nobody, vec!["refused", broker.as_str()]),
    ] {
        let begun = Instant::now();
        let error = sql.error(&s3(access, &format!("http://{endpoint}"))).await?;
        println!("WITH {access}: {:.1} s: {}", begun.elapsed().as_secs_f32(), error.message);
        assert!(begun.elapsed() < ANSWER_LIMIT, "{:?}", begun.elapsed());
        for part in says.into_iter().chain(["Failed to create repository", endpoint.as_str()]) {
            assert!(error.message.contains(part), "{part}: {}", error.message);
        }
        assert!(!error.message.contains("hunter2"), "{}", error.message);
    }
    assert!(sql.query("SHOW REPOSITORIES").await?.is_empty());
    held.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "the figure is for people")]
async fn a_frozen_broker_is_named_and_comes_back() -> Outcome {
    let cluster = Cluster::builder().backends(0).brokers(1).start().await?;
    let mut sql = cluster.sql();
    let node = cluster.node("broker-1");
    let statement = format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{}\"", cluster.location("r"));
    node.pause()?;
    // At once: the frontend has not noticed yet.
    let begun = Instant::now();
    let error = sql.error(&statement).await?;
    println!("frozen broker: {:.1} s: {}", begun.elapsed().as_secs_f32(), error.message);
    assert!(begun.elapsed() < ANSWER_LIMIT, "{:?}", begun.elapsed());
    assert!(error.message.contains(&node.grpc) && error.message.contains("SHOW BROKER"), "{}", error.message);
    eventually("SHOW BROKER says that it is dead", LIMIT, || async {
        let rows = cluster.sql().query("SHOW BROKER").await?;
        let (alive, said) = (rows[0].get("Alive"), rows[0].get("ErrMsg"));
        anyhow::ensure!(alive == "false" && said.contains(&node.grpc), "{rows:?}");
        anyhow::ensure!(rows[0].get("LastUpdateTime") != "NULL", "{rows:?}");
        Ok(())
    })
    .await?;
    let error = sql.error(&statement).await?;
    assert!(error.message.contains("failed to find alive broker: local_broker"), "{}", error.message);
    assert!(error.message.contains(&node.grpc), "{}", error.message);
    node.resume()?;
    cluster.until_alive().await?;
    sql.run(&statement).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_location_is_said_in_one_sentence() -> Outcome {
    let cluster = Cluster::builder().backends(0).brokers(1).start().await?;
    let mut sql = cluster.sql();
    let s3 = "\"s3.endpoint\" = \"http://127.0.0.1:1\", \"s3.access_key\" = \"a\", \"s3.secret_key\" = \"hunter2\"";
    let with = |more: &str| format!("{s3}, {more}");
    for (access, location, properties, says) in [
        ("S3", "s3://bucket/p", with("\"s3.acces_key\" = \"b\""), "'s3.acces_key' is unknown"),
        ("S3", "s3://bucket/p", with("\"use_path_style\" = \"maybe\""), "use_path_style = 'maybe' must be"),
        ("S3", "s3://bucket/p", with("\"AWS_SECRET_KEY\" = \"other\""), "s3.secret_key is given twice"),
        (
            "S3",
            "s3://bucket/p",
            "\"s3.endpoint\" = \"ftp://h\"".to_owned(),
            "must be host, host:port, http://host:port",
        ),
        ("S3", "s3://", s3.to_owned(), "bucket"),
        ("S3", "s3://host:9000/b", s3.to_owned(), "'host:9000' is no name of a bucket"),
        ("S3", "s3://b/../c", s3.to_owned(), ".."),
        ("HDFS", "hdfs://nn:x/b", "\"username\" = \"u\"".to_owned(), "malformed port 'x'"),
        ("HDFS", "hdfs://127.0.0.1:1/b", "\"dfs_replication\" = \"1\"".to_owned(), "'dfs_replication' is unknown"),
        ("LOCAL", "file://host/dir", String::new(), "absolute path"),
    ] {
        for access in [access, "BROKER local_broker"] {
            let properties = if properties.is_empty() { String::new() } else { format!(" PROPERTIES ({properties})") };
            let error =
                sql.error(&format!("CREATE REPOSITORY r WITH {access} ON LOCATION \"{location}\"{properties}")).await?;
            assert!(error.message.contains(says), "{access} {location}: {says}: {}", error.message);
            assert!(!error.message.contains('\n') && !error.message.contains("hunter2"), "{}", error.message);
        }
    }
    assert!(sql.query("SHOW REPOSITORIES").await?.is_empty());
    Ok(())
}
