//! What operators and their tools are used to: how values read and print, what SHOW says at once, and how long a query may
//! take.

use coffer_tests::http::StreamLoad;
use coffer_tests::{Cluster, Outcome, Sql, eventually};
use std::time::Duration;

/// What a slow machine needs.
const LIMIT: Duration = Duration::from_secs(60);

async fn cluster() -> anyhow::Result<(Cluster, Sql)> {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run("USE d").await?;
    Ok((cluster, sql))
}

fn rows(table: Vec<Vec<String>>) -> Vec<String> {
    table.into_iter().map(|row| row.join("|")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_read_and_printed_as_expected() -> Outcome {
    let (cluster, mut sql) = cluster().await?;
    sql.run(
        "CREATE TABLE v (k INT NOT NULL, x DOUBLE, at DATETIME(3), since DATETIME DEFAULT CURRENT_TIMESTAMP,
         note VARCHAR(20)) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\")",
    )
    .await?;
    assert!(sql.query("SHOW CREATE TABLE v").await?[0].get("Create Table").contains("DEFAULT CURRENT_TIMESTAMP"));
    let load = |columns: &str| {
        let load = StreamLoad::new(cluster.frontend(), "d", "v").header("column_separator", ",");
        load.header("columns", columns)
    };
    let text = "1,1e308,2024-02-29 01:02:03.12,a\n2,,,\n3,1e400,2024-02-29 01:02:03,c\n,4,2024-02-29 01:02:03,d\n";
    let answer = load("k,x,at,note").header("max_filter_ratio", "0.5").must_succeed(text).await?;
    assert_eq!((&answer["NumberLoadedRows"], &answer["NumberFilteredRows"]), (&2.into(), &2.into()), "{answer}");
    let url = answer["ErrorURL"].as_str().unwrap_or_default();
    let reasons = coffer_tests::http::client()?.get(url).send().await?.text().await?;
    assert!(reasons.contains("'1e400' is not a value of type double"), "{reasons}");
    assert!(reasons.contains("column 'k': the field is empty"), "{reasons}");

    let shown = rows(sql.table("SELECT k, x, at, note FROM v ORDER BY k").await?);
    assert_eq!(shown, ["1|1e308|2024-02-29 01:02:03.120|a", "2|NULL|NULL|"]);
    let filled = "SELECT count(*) FROM v WHERE since > now() - INTERVAL 1 DAY AND since <= now() + INTERVAL 1 SECOND";
    assert_eq!(sql.scalar(filled).await?, "2");
    sql.run("INSERT INTO v (k) VALUES (7)").await?;
    assert_eq!(sql.scalar("SELECT since IS NOT NULL FROM v WHERE k = 7").await?, "1");
    assert!(sql.error("INSERT INTO v (k, x) VALUES (8, 1e400)").await?.message.contains("1e400"));
    let formatted = "SELECT date_format(at, '%d.%m.%Y %H:%i:%s') FROM v WHERE k = 1";
    assert_eq!(sql.scalar(formatted).await?, "29.02.2024 01:02:03");
    assert!(sql.error("SELECT b'1'").await?.message.contains("bit literal b'1'"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn show_and_select_say_what_was_asked() -> Outcome {
    let (_cluster, mut sql) = cluster().await?;
    sql.run(
        "CREATE TABLE Parts (k INT NOT NULL) DUPLICATE KEY(k)
         PARTITION BY RANGE(k) (PARTITION low VALUES LESS THAN (\"10\"), PARTITION high VALUES LESS THAN (\"20\"))
         DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\")",
    )
    .await?;
    sql.run("INSERT INTO Parts VALUES (1), (2), (11)").await?;
    // At once, without waiting for a report.
    let tablets = sql.query("SHOW TABLETS FROM Parts WHERE VERSION = 2 AND rowcount >= 1").await?;
    assert_eq!(tablets.len(), 2, "{tablets:?}");
    assert_eq!(sql.scalar("SELECT count(*) FROM Parts PARTITION (low)").await?, "2");
    assert_eq!(sql.scalar("SELECT sum(p.k) FROM d.Parts PARTITION (low, HIGH) p").await?, "14");
    assert_eq!(
        sql.error("SELECT * FROM Parts PARTITION (none)").await?.message,
        "Unknown partition none in table Parts"
    );
    for (condition, found) in [
        ("tables_in_D LIKE 'p%'", 1),
        ("Tables_in_d = 'parts'", 1),
        ("Tables_in_d LIKE '_'", 0),
        ("TABLE_TYPE = 'BASE TABLE' AND Tables_in_d LIKE '%'", 1),
        ("Table_type = 'VIEW'", 0),
    ] {
        assert_eq!(sql.query(&format!("SHOW FULL TABLES WHERE {condition}")).await?.len(), found, "{condition}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_its_time_is_over() -> Outcome {
    let (_cluster, mut sql) = cluster().await?;
    sql.run("CREATE TABLE n (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\")").await?;
    sql.run("INSERT INTO n VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)").await?;
    sql.run("SET query_timeout = 1").await?;
    let tables: Vec<String> = (0..20).map(|n| format!("n n{n}")).collect();
    let error = sql.error(&format!("SELECT count(*) FROM {}", tables.join(", "))).await?;
    assert_eq!(error.code, 3024, "{error}");
    assert!(error.message.contains("query_timeout = 1 s"), "{error}");
    // The session goes on.
    sql.run("SET query_timeout = 900").await?;
    assert_eq!(sql.scalar("SELECT count(*) FROM n").await?, "10");
    sql.run("SET max_execution_time = 500").await?;
    let error = sql.error(&format!("SELECT count(*) FROM {}", tables.join(", "))).await?;
    assert!(error.code == 3024 && error.message.contains("max_execution_time = 500 ms"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_when_its_client_is_gone() -> Outcome {
    let (cluster, mut sql) = cluster().await?;
    sql.run("CREATE TABLE n (k INT) DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\")").await?;
    sql.run("INSERT INTO n VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)").await?;
    let tables: Vec<String> = (0..20).map(|n| format!("d.n n{n}")).collect();
    let endless = format!("SELECT count(*) FROM {}", tables.join(", "));
    // A runtime of its own, which takes its sockets with it.
    let (client, mut other) = (tokio::runtime::Runtime::new()?, cluster.sql());
    client.spawn(async move { other.run(&endless).await });
    let running = async || {
        let rows = cluster.sql().query("SHOW FULL PROCESSLIST").await?;
        anyhow::Ok(rows.iter().any(|row| row.get("Info").contains("d.n n19")))
    };
    eventually("the query runs", LIMIT, || async {
        anyhow::ensure!(running().await?, "not yet");
        Ok(())
    })
    .await?;
    client.shutdown_background();
    eventually("the query of the vanished client ends", LIMIT, || async {
        anyhow::ensure!(!running().await?, "it runs");
        Ok(())
    })
    .await
}
