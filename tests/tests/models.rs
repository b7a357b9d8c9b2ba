//! Key models from CREATE TABLE to a restored backup, and what compaction does to them under load.

use anyhow::ensure;
use coffer_tests::http::StreamLoad;
use coffer_tests::mysql::Sql;
use coffer_tests::{Cluster, Outcome, eventually};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// A replica is looked at every ten seconds, and twice.
const REPAIR_LIMIT: Duration = Duration::from_secs(120);

const COUNTERS: &str = "CREATE TABLE d.counters (
        day DATE NOT NULL, page VARCHAR(20) NOT NULL,
        hits BIGINT SUM NOT NULL DEFAULT '0', cost DECIMAL(10, 2) SUM, least INT MIN, most DOUBLE MAX,
        last VARCHAR(20) REPLACE, name VARCHAR(20) REPLACE_IF_NOT_NULL COMMENT 'the last known')
    AGGREGATE KEY(day, page)
    PARTITION BY RANGE(day) (PARTITION p1 VALUES LESS THAN ('2026-02-01'), PARTITION p2 VALUES LESS THAN ('2026-03-01'))
    DISTRIBUTED BY HASH(page) BUCKETS 2 PROPERTIES ('replication_num' = '2')";

const USERS: &str = "CREATE TABLE d.users (id INT, name VARCHAR(20), score INT) UNIQUE KEY(id)
    DISTRIBUTED BY HASH(id) BUCKETS 1 PROPERTIES ('replication_num' = '2')";

async fn load(cluster: &Cluster, table: &str, text: String) -> Outcome {
    StreamLoad::new(cluster.frontend(), "d", table).must_succeed(text).await?;
    Ok(())
}

async fn counters(sql: &mut Sql) -> anyhow::Result<Vec<Vec<String>>> {
    sql.table("SELECT * FROM d.counters ORDER BY day, page").await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_with_equal_keys_become_one_and_stay_so_through_a_backup() -> Outcome {
    let cluster = Cluster::builder().backends(2).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(COUNTERS).await?;
    sql.run(USERS).await?;
    for text in [
        "2026-01-01|a|1|1.50|5|1.5|x|\\N\n2026-01-01|a|2|\\N|3|0.5|y|n1\n",
        "2026-01-01|a|4|2.25|4|\\N|\\N|\\N\n2026-02-01|a|10|\\N|\\N|7|z|\\N\n2026-01-01|b|7|0|1|1|q|w\n",
        "2026-01-01|a|8|0.01|\\N|9|last|\\N\n",
    ] {
        load(&cluster, "counters", text.to_owned()).await?;
    }
    sql.run("INSERT INTO d.users VALUES (1, 'a', 1), (2, 'b', 2), (1, 'c', 3)").await?;
    sql.run("INSERT INTO d.users VALUES (2, NULL, 4)").await?;
    let wanted = [
        ["2026-01-01", "a", "15", "3.76", "3", "9", "last", "n1"],
        ["2026-01-01", "b", "7", "0.00", "1", "1", "q", "w"],
        ["2026-02-01", "a", "10", "NULL", "NULL", "7", "z", "NULL"],
    ];
    assert_eq!(counters(&mut sql).await?, wanted);
    // Counts, projections and conditions on values see merged rows alone.
    for (query, answer) in [
        ("SELECT count(*) FROM d.counters", "3"),
        ("SELECT sum(hits) FROM d.counters", "32"),
        ("SELECT count(*) FROM d.counters WHERE hits = 4", "0"),
        ("SELECT name FROM d.counters WHERE hits = 15", "n1"),
        ("SELECT count(*) FROM d.users WHERE name = 'a'", "0"),
        ("SELECT score FROM d.users WHERE name IS NULL", "4"),
        ("SELECT count(score) FROM d.users", "2"),
    ] {
        assert_eq!(sql.table(query).await?, [[answer]], "{query}");
    }
    let shown = sql.table("DESC d.counters").await?;
    let extra: Vec<(&str, &str)> = shown.iter().map(|row| (row[3].as_str(), row[5].as_str())).collect();
    assert_eq!(extra[1..4], [("true", ""), ("false", "SUM"), ("false", "SUM")]);
    assert_eq!(extra[7], ("false", "REPLACE_IF_NOT_NULL"));
    let keys =
        "SELECT COLUMN_KEY, EXTRA FROM information_schema.columns WHERE TABLE_NAME = 'users' ORDER BY ORDINAL_POSITION";
    assert_eq!(sql.table(keys).await?, [["UNI", ""], ["", "REPLACE"], ["", "REPLACE"]]);
    let statement = sql.table("SHOW CREATE TABLE d.counters").await?.remove(0).remove(1);
    ensure!(
        statement.contains("`hits` bigint SUM NOT NULL") && statement.contains("AGGREGATE KEY(`day`, `page`)"),
        "{statement}"
    );

    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION '{location}'")).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    let restore = format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES ('backup_timestamp' = '{timestamp}')");
    // A table of another model is not restored over.
    sql.run("DROP TABLE d.users").await?;
    sql.run(&USERS.replace("UNIQUE", "DUPLICATE")).await?;
    let error = sql.error(&restore).await?.message;
    ensure!(error.contains("key model is DUPLICATE KEY here and UNIQUE KEY in the snapshot"), "{error}");
    sql.run("DROP TABLE d.users").await?;
    sql.run("DROP TABLE d.counters").await?;
    sql.run(&restore).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(counters(&mut sql).await?, wanted);
    assert_eq!(sql.table("SHOW CREATE TABLE d.counters").await?[0][1], statement);
    sql.run("INSERT INTO d.users VALUES (1, 'again', 9)").await?;
    assert_eq!(sql.table("SELECT * FROM d.users ORDER BY id").await?, [["1", "again", "9"], ["2", "NULL", "4"]]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_take_older_rows_alone_on_every_replica_and_in_backups() -> Outcome {
    let cluster = Cluster::builder().backends(3).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&COUNTERS.replace("'2')", "'3')")).await?;
    sql.run(
        "CREATE TABLE d.log (id INT, kind VARCHAR(9), text STRING) DUPLICATE KEY(id, kind) DISTRIBUTED BY HASH(id) BUCKETS 2
         PROPERTIES ('replication_num' = '3')",
    )
    .await?;
    let text: String = (0..100).map(|id| format!("{id}|{}|t\n", if id % 2 == 0 { "even" } else { "odd" })).collect();
    load(&cluster, "log", text.clone()).await?;
    load(&cluster, "counters", "2026-01-01|a|1|1|1|1|x|n\n2026-02-01|a|2|2|2|2|y|m\n".to_owned()).await?;
    // One that is away hears of it when it is back.
    cluster.node("be-2").kill();
    sql.run("DELETE FROM d.log WHERE id >= 10 AND kind = 'odd' AND id NOT IN (11, 13)").await?;
    sql.run("DELETE FROM d.counters PARTITION p1 WHERE page = 'a'").await?;
    load(&cluster, "log", "15|odd|new\n".to_owned()).await?;
    load(&cluster, "counters", "2026-01-01|a|7|\\N|\\N|\\N|z|\\N\n".to_owned()).await?;
    let logged = "SELECT count(*), count(text), min(id), sum(id) FROM d.log WHERE kind = 'odd'";
    let (odd, all) = ([["8", "8", "1", "64"]], [["58"]]);
    let rest = [
        ["2026-01-01", "a", "7", "NULL", "NULL", "NULL", "z", "NULL"],
        ["2026-02-01", "a", "2", "2.00", "2", "2", "y", "m"],
    ];
    assert_eq!(sql.table(logged).await?, odd);
    assert_eq!(sql.table("SELECT count(*) FROM d.log").await?, all);
    assert_eq!(counters(&mut sql).await?, rest);
    for (statement, part) in [
        ("DELETE FROM d.log WHERE text = 'x'", "'text' is not a key column"),
        ("DELETE FROM d.log WHERE id = 'x'", "'x' is not a value of type int"),
        ("DELETE FROM d.log PARTITION p9 WHERE id = 1", "p9"),
    ] {
        let error = sql.error(statement).await?.message;
        ensure!(error.contains(part), "{statement}: {error}");
    }
    cluster.node("be-2").start()?;
    cluster.until_alive().await?;
    until_equal(&cluster, 3).await?;
    // One that lost its tablets gets them from the others, with their DELETEs.
    let lost = cluster.node("be-3");
    lost.kill();
    std::fs::remove_dir_all(lost.data.join("data"))?;
    lost.start()?;
    cluster.until_alive().await?;
    until_equal(&cluster, 3).await?;
    // Whichever replica answers, it says the same.
    let all_backends = ["be-1", "be-2", "be-3"];
    for alone in all_backends {
        let others = all_backends.into_iter().filter(|other| *other != alone);
        others.clone().for_each(|other| cluster.node(other).kill());
        assert_eq!(sql.table(logged).await?, odd, "{alone} alone");
        assert_eq!(sql.table("SELECT count(*) FROM d.log").await?, all, "{alone} alone");
        assert_eq!(counters(&mut sql).await?, rest, "{alone} alone");
        for other in others {
            cluster.node(other).start()?;
        }
        cluster.until_alive().await?;
    }
    // A backup carries them, and compaction applies them for good.
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION '{location}'")).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run("DROP TABLE d.log").await?;
    sql.run("DROP TABLE d.counters").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES ('backup_timestamp' = '{timestamp}')")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(sql.table(logged).await?, odd);
    assert_eq!(counters(&mut sql).await?, rest);
    for id in 200..220 {
        sql.run(&format!("INSERT INTO d.log VALUES ({id}, 'even', 'more'), ({}, 'even', 'more')", id + 20)).await?;
    }
    until_merged(&cluster, "d.log", 16).await?;
    assert_eq!(sql.table(logged).await?, odd);
    assert_eq!(sql.table("SELECT count(*) FROM d.log").await?, [["98"]]);
    Ok(())
}

/// Wait until as many replicas of every tablet have its visible version.
async fn until_equal(cluster: &Cluster, replicas: usize) -> Outcome {
    eventually("all replicas have the version", REPAIR_LIMIT, || async {
        for table in ["d.log", "d.counters"] {
            let visible = cluster.sql().query(&format!("SHOW PARTITIONS FROM {table}")).await?;
            let wanted: Vec<String> = visible.iter().map(|row| row.get("VisibleVersion").to_owned()).collect();
            let mut found: BTreeMap<String, usize> = BTreeMap::new();
            for row in cluster.sql().query(&format!("SHOW TABLETS FROM {table}")).await? {
                ensure!(wanted.iter().any(|wanted| wanted == row.get("Version")), "{wanted:?} {:?}", row.texts());
                *found.entry(row.get("TabletId").to_owned()).or_default() += 1;
            }
            ensure!(!found.is_empty() && found.values().all(|count| *count == replicas), "{table}: {found:?}");
        }
        Ok(())
    })
    .await
}

/// Wait until no tablet has more than so many rowsets.
async fn until_merged(cluster: &Cluster, table: &str, most: u64) -> Outcome {
    eventually("rowsets are merged", LIMIT, || async {
        for row in cluster.sql().query(&format!("SHOW TABLETS FROM {table}")).await? {
            let versions: u64 = row.get("VersionCount").parse()?;
            ensure!(versions <= most, "{versions} rowsets");
        }
        Ok(())
    })
    .await
}

/// Load round after round until told to stop: each sets all five users to its number and adds one to all five sums.
async fn keep_loading(mut sql: Sql, loaded: Arc<AtomicI64>, stop: Arc<AtomicBool>) -> Outcome {
    while !stop.load(Ordering::Acquire) {
        let round = loaded.load(Ordering::Acquire) + 1;
        let rows = |value: i64| (1..=5).map(|id| format!("({id}, {value})")).collect::<Vec<_>>().join(", ");
        sql.run(&format!("INSERT INTO d.users (id, score) VALUES {}", rows(round))).await?;
        sql.run(&format!("INSERT INTO d.sums VALUES {}", rows(1))).await?;
        loaded.store(round, Ordering::Release);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_hold_the_rows_of_their_moment_while_rowsets_are_merged() -> Outcome {
    const BACKUPS: usize = 3;
    let cluster = Cluster::builder().backends(2).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(USERS).await?;
    sql.run(
        "CREATE TABLE d.sums (id INT, n BIGINT SUM) AGGREGATE KEY(id) DISTRIBUTED BY HASH(id) BUCKETS 1
         PROPERTIES ('replication_num' = '2')",
    )
    .await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION '{location}'")).await?;
    let (loaded, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let loading = tokio::spawn(keep_loading(cluster.sql(), Arc::clone(&loaded), Arc::clone(&stop)));
    let mut moments = Vec::new();
    for number in 0..BACKUPS {
        // Enough loads between backups that some are merged.
        let (seen, least) = (&loaded, 10 * (number as i64 + 1));
        eventually("some loads", LIMIT, || async move {
            ensure!(seen.load(Ordering::Acquire) >= least, "{seen:?} of {least}");
            Ok(())
        })
        .await?;
        let before = loaded.load(Ordering::Acquire);
        sql.run(&format!("BACKUP SNAPSHOT d.s{number} TO r")).await?;
        // A round may have half of its rows in it.
        let after = loaded.load(Ordering::Acquire) + 1;
        sql.job_finished("SHOW BACKUP FROM d").await?;
        moments.push((before, after, sql.timestamp("r", &format!("s{number}")).await?));
    }
    stop.store(true, Ordering::Release);
    loading.await??;
    until_merged(&cluster, "d.users", 16).await?;
    until_merged(&cluster, "d.sums", 16).await?;
    for (number, (before, after, timestamp)) in moments.into_iter().enumerate() {
        sql.run(&format!(
            "RESTORE SNAPSHOT d.s{number} FROM r ON (users AS users_{number}, sums AS sums_{number})
             PROPERTIES ('backup_timestamp' = '{timestamp}')"
        ))
        .await?;
        sql.job_finished("SHOW RESTORE FROM d").await?;
        for (table, column) in [("users", "score"), ("sums", "n")] {
            let query = format!("SELECT count(*), min({column}), max({column}) FROM d.{table}_{number}");
            let found = sql.table(&query).await?.remove(0);
            let value: i64 = found[1].parse()?;
            ensure!(found[0] == "5" && found[1] == found[2], "{table}: {found:?}");
            ensure!((before..=after).contains(&value), "{table}: {value} is not of {before} to {after}");
        }
    }
    let total = loaded.load(Ordering::Acquire).to_string();
    for query in ["SELECT count(*), min(score), max(score) FROM d.users", "SELECT count(*), min(n), max(n) FROM d.sums"]
    {
        assert_eq!(sql.table(query).await?, [["5", total.as_str(), total.as_str()]]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_killed_while_they_merge_lose_nothing() -> Outcome {
    // Slow merges, so that the kills find some at work.
    let cluster = Cluster::builder()
        .backends(2)
        .brokers(0)
        .config("be", "compaction_mib_s = 1\ncompaction_workers = 2")
        .start()
        .await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(USERS).await?;
    let mut loaded = 0;
    for round in 0..6 {
        for _ in 0..12 {
            let rows: String = (0..2_000).map(|id| format!("{id}|load {loaded}|{loaded}\n")).collect();
            load(&cluster, "users", rows).await?;
            loaded += 1;
        }
        let victim = format!("be-{}", 1 + round % 2);
        cluster.crash(&victim).await?;
        let found = sql.table("SELECT count(*), min(score), max(score) FROM d.users").await?;
        let last = (loaded - 1).to_string();
        assert_eq!(found, [["2000", last.as_str(), last.as_str()]], "round {round}");
    }
    until_merged(&cluster, "d.users", 20).await?;
    assert_eq!(
        sql.table("SELECT count(*), min(score) FROM d.users").await?,
        [["2000".to_owned(), (loaded - 1).to_string()]]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_loads_leave_fewer_than_a_hundred_versions() -> Outcome {
    let cluster = Cluster::builder().brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&USERS.replace("'2'", "'1'")).await?;
    let mut most = 0;
    for number in 0..1_000 {
        sql.run(&format!("INSERT INTO d.users VALUES ({}, 'n{number}', {number})", number % 100)).await?;
        if number % 50 == 49 {
            for row in sql.query("SHOW TABLETS FROM d.users").await? {
                most = most.max(row.get("VersionCount").parse::<u64>()?);
            }
        }
    }
    ensure!(most < 100, "{most} versions at once");
    until_merged(&cluster, "d.users", 20).await?;
    let found = sql.table("SELECT count(*), min(score), max(score) FROM d.users").await?;
    assert_eq!(found, [["100", "900", "999"]]);
    Ok(())
}
