//! A repository in S3, reached through the broker, on a real S3 server (`tests/servers/s3`).

use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::StreamLoad;
use coffer_tests::s3::S3;
use coffer_tests::{Cluster, Outcome};

fn s3(test: &str) -> Option<S3> {
    S3::of(&format!("s3::{test}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_survives_in_s3() -> Outcome {
    let Some(s3) = s3("a_table_survives_in_s3") else { return Ok(()) };
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 2)).await?;
    StreamLoad::new(cluster.frontend(), "d", "t").must_succeed(csv(9, 0, 3_000)).await?;
    let before = fingerprint(&mut sql, "d.t").await?;

    sql.run(&s3.create_repository("BROKER local_broker", &s3.place(&s3.bucket, ""))).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run("DROP TABLE d.t").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);

    // The secret is nowhere to be seen.
    let shown =
        format!("{:?}{:?}", sql.query("SHOW REPOSITORIES").await?, sql.query("SHOW CREATE REPOSITORY FOR r").await?);
    assert!(!shown.contains(&s3.secret), "{shown}");
    for node in cluster.nodes() {
        let log = std::fs::read_to_string(&node.log)?;
        assert!(!log.contains(&s3.secret), "{} logs the secret", node.name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_named() -> Outcome {
    let Some(s3) = s3("a_bucket_that_is_not_there_is_named") else { return Ok(()) };
    let cluster = Cluster::builder().start().await?;
    let mut sql = cluster.sql();
    let error = sql.error(&s3.create_repository("BROKER local_broker", "no-such-bucket/x")).await?;
    assert!(error.message.contains("no-such-bucket"), "{}", error.message);
    assert!(sql.query("SHOW REPOSITORIES").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_survives_in_s3_without_a_broker() -> Outcome {
    let Some(s3) = s3("a_table_survives_in_s3_without_a_broker") else { return Ok(()) };
    let cluster = Cluster::builder().backends(2).brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 2)).await?;
    StreamLoad::new(cluster.frontend(), "d", "t").must_succeed(csv(9, 0, 3_000)).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    sql.run(&s3.create_repository("S3", &s3.place(&s3.bucket, "-direct"))).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;

    // New properties are tried before they hold.
    let known = sql.query("SHOW CREATE REPOSITORY FOR r").await?;
    for (key, value, says) in
        [("s3.secret_key", "another", "ping failed"), ("s3.endpoint", "http://127.0.0.1:1", "refused")]
    {
        let error = sql.error(&format!("ALTER REPOSITORY r SET PROPERTIES (\"{key}\" = \"{value}\")")).await?;
        assert!(error.message.contains(says), "{key}: {}", error.message);
        assert!(!error.message.contains(&s3.secret), "{key}: {}", error.message);
    }
    assert_eq!(sql.query("SHOW CREATE REPOSITORY FOR r").await?, known);
    sql.run(&format!("ALTER REPOSITORY r SET PROPERTIES (\"s3.secret_key\" = \"{}\")", s3.secret)).await?;

    sql.run("DROP TABLE d.t").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_made_anew_where_one_was() -> Outcome {
    let Some(s3) = s3("a_repository_is_made_anew_where_one_was") else { return Ok(()) };
    let cluster = Cluster::builder().brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 1, 1)).await?;
    let place = s3.place(&s3.bucket, "-anew");
    // As other systems write it.
    let make = |name: &str, more: &str| {
        format!(
            "CREATE REPOSITORY {name} WITH S3 ON LOCATION \"s3://{place}\" PROPERTIES (\
             \"aws.s3.endpoint\" = \"{}\", \"aws.s3.region\" = \"us-east-1\", \"aws.s3.access_key\" = \"{}\", \
             \"aws.s3.secret_key\" = \"{}\", \"aws.s3.enable_path_style_access\" = \"true\", \
             \"provider\" = \"MINIO\"{more})",
            s3.endpoint, s3.key, s3.secret
        )
    };
    let anew = ", \"delete_if_exists\" = \"true\"";
    for name in ["r", "r2"] {
        sql.run(&make(name, anew)).await?;
        sql.run(&format!("BACKUP SNAPSHOT d.s_{name} TO {name}")).await?;
        sql.job_finished("SHOW BACKUP FROM d").await?;
    }
    // Under whatever name it is known here.
    let error = sql.error(&make("other", &format!("{anew}, \"remote_name\" = \"r\""))).await?;
    assert!(error.message.contains("DROP REPOSITORY r first"), "{}", error.message);
    sql.run("DROP REPOSITORY r").await?;
    sql.run(&make("r", ", \"delete_if_exists\" = \"false\"")).await?;
    assert_eq!(sql.query("SHOW SNAPSHOT ON r").await?.len(), 1);
    sql.run("DROP REPOSITORY r").await?;
    let error = sql.error(&make("r", anew).replace("CREATE", "CREATE READ ONLY")).await?;
    assert!(error.message.contains("READ ONLY"), "{}", error.message);
    sql.run(&make("r", anew)).await?;
    assert!(sql.query("SHOW SNAPSHOT ON r").await?.is_empty());
    assert_eq!(sql.query("SHOW SNAPSHOT ON r2").await?.len(), 1);
    let shown = format!("{:?}", sql.query("SHOW CREATE REPOSITORY FOR r").await?);
    assert!(!shown.contains("delete_if_exists") && !shown.contains(&s3.secret), "{shown}");
    assert!(shown.contains("provider"), "{shown}");

    // A server that speaks plain HTTP, without the scheme.
    let host = s3.endpoint.replace("http://", "");
    let named = ", \"remote_name\" = \"p\"";
    let error = sql.error(&make("p", named).replace(&s3.endpoint, &host)).await?;
    assert!(error.message.contains("http://host:port"), "{}", error.message);
    sql.run(&make("p", &format!("{named}, \"aws.s3.enable_ssl\" = \"false\"")).replace(&s3.endpoint, &host)).await?;
    Ok(())
}
