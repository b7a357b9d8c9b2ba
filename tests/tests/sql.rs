//! Statements and their results, as a client sees them.

use coffer_tests::data::create;
use coffer_tests::{Cluster, Outcome, Sql};

async fn cluster() -> anyhow::Result<(Cluster, Sql)> {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run("USE d").await?;
    Ok((cluster, sql))
}

const ALL_TYPES: &str = "CREATE TABLE types (
    c_int INT, c_boolean BOOLEAN, c_tinyint TINYINT, c_smallint SMALLINT, c_bigint BIGINT, c_largeint LARGEINT,
    c_float FLOAT, c_double DOUBLE, c_decimal DECIMAL(38, 10), c_date DATE, c_datetime DATETIME, c_datetime6 DATETIME(6),
    c_char CHAR(5), c_varchar VARCHAR(20), c_string STRING
) DISTRIBUTED BY HASH(c_int) BUCKETS 2 PROPERTIES (\"replication_num\" = \"1\")";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_holds_its_extremes() -> Outcome {
    let (_cluster, mut sql) = cluster().await?;
    sql.run(ALL_TYPES).await?;
    sql.run(
        "INSERT INTO types VALUES
         (2147483647, true, 127, 32767, 9223372036854775807, '99999999999999999999999999999999999999', 1.5, -2.25e300,
          '1234567890123456789012345678.0123456789', '9999-12-31', '2024-02-29 23:59:59', '2024-02-29 23:59:59.123456',
          'abcde', 'gr\u{fc}\u{df}e', 'text'),
         (-2147483648, false, -128, -32768, -9223372036854775808, '-99999999999999999999999999999999999999', -1.5, 0,
          '-0.0000000001', '0001-01-01', '1970-01-01 00:00:00', '1970-01-01 00:00:00.000001', '', '', ''),
         (0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    .await?;
    let rows = sql.table("SELECT * FROM types ORDER BY c_int DESC").await?;
    assert_eq!(
        rows[0],
        [
            "2147483647",
            "1",
            "127",
            "32767",
            "9223372036854775807",
            "99999999999999999999999999999999999999",
            "1.5",
            "-2.25e300",
            "1234567890123456789012345678.0123456789",
            "9999-12-31",
            "2024-02-29 23:59:59",
            "2024-02-29 23:59:59.123456",
            "abcde",
            "gr\u{fc}\u{df}e",
            "text"
        ]
    );
    assert!(rows[1][1..].iter().all(|cell| cell == "NULL"), "{rows:?}");
    assert_eq!(rows[2][5], "-99999999999999999999999999999999999999");
    assert_eq!(rows[2][12..], ["", "", ""]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_and_tables_come_and_go() -> Outcome {
    let (_cluster, mut sql) = cluster().await?;
    sql.run(&create("t", 2, 1)).await?;
    assert_eq!(sql.table("SHOW TABLES").await?, [["t"]]);
    assert!(sql.table("SHOW DATABASES").await?.concat().contains(&"d".to_owned()));
    assert_eq!(sql.error(&create("t", 2, 1)).await?.code, 1050);
    assert_eq!(sql.error("CREATE DATABASE d").await?.code, 1007);
    sql.run("CREATE DATABASE IF NOT EXISTS d").await?;

    let described = sql.query("DESC t").await?;
    assert_eq!(described.len(), coffer_tests::data::COLUMNS.len());
    assert_eq!((described[0].get("Field"), described[0].get("Null")), ("id", "No"));
    let shown = sql.query("SHOW CREATE TABLE t").await?.remove(0);
    let text = shown.get("Create Table").to_owned();
    sql.run("DROP TABLE t").await?;
    assert!(sql.table("SHOW TABLES").await?.is_empty());
    sql.run("DROP TABLE IF EXISTS t").await?;
    sql.run(&text).await?;
    let again = sql.query("SHOW CREATE TABLE t").await?.remove(0);
    assert_eq!(again.get("Create Table"), text);

    let partitions = sql.query("SHOW PARTITIONS FROM t").await?;
    let names: Vec<&str> = partitions.iter().map(|row| row.get("PartitionName")).collect();
    assert_eq!(names, ["p01", "p02", "p03"]);
    assert!(partitions[2].get("Range").contains("2024-04-01"), "{:?}", partitions[2]);
    assert_eq!(sql.query("SHOW TABLETS FROM t").await?.len(), 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_check_and_selects_answer() -> Outcome {
    let (_cluster, mut sql) = cluster().await?;
    sql.run(
        "CREATE TABLE s (k INT NOT NULL, v VARCHAR(10) DEFAULT \"none\", n DECIMAL(8,2)) DUPLICATE KEY(k)
         DISTRIBUTED BY HASH(k) BUCKETS 3 PROPERTIES (\"replication_num\" = \"1\")",
    )
    .await?;
    sql.run("INSERT INTO s (k, n) VALUES (1, 1.25), (2, 2.5)").await?;
    sql.run("INSERT INTO s VALUES (3, 'x', NULL), (3, 'x', NULL)").await?;
    assert_eq!(
        sql.table("SELECT * FROM s WHERE k < 3 ORDER BY k").await?,
        [["1", "none", "1.25"], ["2", "none", "2.50"]]
    );
    assert_eq!(
        sql.table("SELECT v, count(*), sum(n) FROM s GROUP BY v ORDER BY v").await?,
        [["none", "2", "3.75"], ["x", "2", "NULL"]]
    );
    sql.run("INSERT INTO s SELECT k + 10, v, n FROM s").await?;
    assert_eq!(sql.scalar("SELECT count(*) FROM s").await?, "8");
    let joined = "SELECT a.k, b.k FROM s a JOIN s b ON a.k + 10 = b.k WHERE a.k = 1";
    assert_eq!(sql.table(joined).await?, [["1", "11"]]);

    assert!(sql.error("INSERT INTO s VALUES (NULL, 'a', 1)").await?.message.contains('k'));
    assert!(sql.error("INSERT INTO s VALUES (9, 'much too long a text', 1)").await?.message.contains('v'));
    assert!(!sql.error("INSERT INTO s VALUES (9, 'a')").await?.message.is_empty());
    assert!(sql.error("INSERT INTO nothing VALUES (1)").await?.message.contains("nothing"));
    assert_eq!(sql.scalar("SELECT count(*) FROM s").await?, "8");
    sql.run("TRUNCATE TABLE s").await?;
    assert_eq!(sql.scalar("SELECT count(*) FROM s").await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_ignore_order_and_see_every_change() -> Outcome {
    let (_cluster, mut sql) = cluster().await?;
    for table in ["a", "b"] {
        sql.run(&format!(
            "CREATE TABLE {table} (k INT, v VARCHAR(10)) DISTRIBUTED BY HASH(k) BUCKETS 2 \
             PROPERTIES (\"replication_num\" = \"1\")"
        ))
        .await?;
    }
    sql.run("INSERT INTO a VALUES (1, 'x'), (2, 'y'), (2, 'y'), (3, NULL)").await?;
    sql.run("INSERT INTO b VALUES (3, NULL), (2, 'y')").await?;
    sql.run("INSERT INTO b VALUES (2, 'y'), (1, 'x')").await?;
    let sums = |table: &str| format!("SELECT count(*), checksum(k), checksum(v) FROM {table}");
    let a = sql.table(&sums("a")).await?;
    assert_eq!(a, sql.table(&sums("b")).await?);
    sql.run("TRUNCATE TABLE b").await?;
    sql.run("INSERT INTO b VALUES (1, 'x'), (2, 'y'), (2, 'z'), (3, NULL)").await?;
    let b = sql.table(&sums("b")).await?;
    assert_eq!(a[0][..2], b[0][..2]);
    assert_ne!(a[0][2], b[0][2]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_the_codes_clients_know() -> Outcome {
    let (cluster, mut sql) = cluster().await?;
    for (statement, code, state) in [
        ("USE nowhere", 1049, "42000"),
        ("DROP DATABASE nowhere", 1008, "HY000"),
        ("SELECT * FROM nothing", 1051, "42S02"),
        ("DROP TABLE nothing", 1051, "42S02"),
        ("SELEC 1", 1064, "42000"),
    ] {
        let error = sql.error(statement).await?;
        assert_eq!((error.code, error.state.as_str()), (code, state), "{statement}: {}", error.message);
    }
    let error = cluster.sql().error("SHOW TABLES").await?;
    assert_eq!((error.code, error.state.as_str()), (1046, "3D000"));
    let denied = cluster.sql().as_user("root", "wrong").query("SELECT 1").await.unwrap_err();
    assert!(format!("{denied:#}").contains("1045"), "{denied:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_statements_show_real_liveness() -> Outcome {
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    let mut sql = cluster.sql();
    let error = sql.error("ALTER SYSTEM DROP BACKEND \"127.0.0.1:1\"").await?;
    assert!(error.message.contains("DROPP"), "{}", error.message);
    let taken =
        sql.error(&format!("ALTER SYSTEM ADD BROKER local_broker \"{}\"", cluster.node("broker-1").grpc)).await?;
    assert!(taken.message.contains(&cluster.node("broker-1").grpc), "{}", taken.message);

    cluster.node("be-2").kill();
    let limit = std::time::Duration::from_secs(30);
    let alive = |rows: &[coffer_tests::mysql::Row]| rows.iter().filter(|row| row.get("Alive") == "true").count();
    coffer_tests::eventually("the dead backend is seen", limit, || async {
        let rows = cluster.sql().query("SHOW BACKENDS").await?;
        anyhow::ensure!(rows.len() == 2 && alive(&rows) == 1, "{rows:?}");
        Ok(())
    })
    .await?;
    cluster.node("be-2").start()?;
    cluster.until_alive().await?;
    sql.run(&format!("ALTER SYSTEM DROPP BACKEND \"{}\"", cluster.node("be-2").grpc)).await?;
    assert_eq!(sql.query("SHOW BACKENDS").await?.len(), 1);
    sql.run("ALTER SYSTEM DROP ALL BROKER local_broker").await?;
    assert!(sql.query("SHOW BROKER").await?.is_empty());
    Ok(())
}
