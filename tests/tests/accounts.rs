//! Accounts, as people meet them: logins with both plugins, rights that act at once, the audit log, and secrets that never
//! show.

use anyhow::Context;
use coffer_tests::data::create;
use coffer_tests::http::{StreamLoad, client};
use coffer_tests::mysql::Sql;
use coffer_tests::{Cluster, Node, Outcome, eventually};
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);

async fn with_table() -> anyhow::Result<(Cluster, Sql)> {
    let cluster = Cluster::builder().start().await?;
    let mut root = cluster.sql();
    root.run("CREATE DATABASE d").await?;
    root.run("CREATE DATABASE other").await?;
    root.run(&create("d.t", 2, 1)).await?;
    root.run(&create("d.u", 2, 1)).await?;
    Ok((cluster, root))
}

/// The number of the error, 0 for none.
async fn code(sql: &mut Sql, statement: &str) -> anyhow::Result<u16> {
    match sql.query(statement).await {
        Ok(_) => Ok(0),
        Err(error) => match error.chain().find_map(|cause| cause.downcast_ref::<mysql_async::Error>()) {
            Some(mysql_async::Error::Server(error)) => Ok(error.code),
            _ => Err(error),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_checked_filter_lists_and_act_at_once() -> Outcome {
    let (cluster, mut root) = with_table().await?;
    root.run("CREATE USER eve IDENTIFIED BY 'sesam'").await?;
    let exists = root.error("CREATE USER eve").await?;
    assert_eq!(exists.code, 1396, "{}", exists.message);
    root.run("CREATE USER IF NOT EXISTS eve").await?;
    let mut eve = cluster.sql().as_user("eve", "sesam");
    assert_eq!(eve.table("SHOW DATABASES").await?, [["information_schema"]]);
    for (statement, wanted) in [
        ("SELECT * FROM d.t", 1142),
        ("INSERT INTO d.t SELECT * FROM d.u", 1142),
        ("DESC d.t", 1142),
        ("USE d", 1044),
        ("CREATE DATABASE mine", 1044),
        ("DROP DATABASE d", 1044),
        ("DROP TABLE d.t", 1142),
        ("BACKUP SNAPSHOT d.l TO r", 1227),
        ("RESTORE SNAPSHOT d.l FROM r PROPERTIES ('backup_timestamp' = '2026-01-01-00-00-00')", 1227),
        ("CANCEL BACKUP FROM d", 1227),
        ("SHOW BACKUP FROM d", 1227),
        ("SHOW REPOSITORIES", 1227),
        ("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION 'file:///x'", 1227),
        ("ALTER SYSTEM ADD BACKEND 'h:1'", 1227),
        ("GRANT SELECT ON d.t TO eve", 1227),
        ("SHOW ALL GRANTS", 1227),
        ("ADMIN SHOW FRONTEND CONFIG", 1227),
    ] {
        let error = eve.error(statement).await?;
        assert_eq!(error.code, wanted, "{statement}: {}", error.message);
        assert_eq!(error.state, "42000", "{statement}");
    }
    root.run("GRANT SELECT_PRIV ON d.t TO 'eve'@'%'").await?;
    assert_eq!(eve.scalar("SELECT count(*) FROM d.t").await?, "0", "the same session");
    assert_eq!(eve.table("SHOW DATABASES").await?, [["d"], ["information_schema"]]);
    eve.run("USE d").await?;
    assert_eq!(eve.table("SHOW TABLES").await?, [["t"]]);
    let listed = "SELECT TABLE_NAME FROM information_schema.tables WHERE TABLE_SCHEMA = 'd'";
    assert_eq!(eve.table(listed).await?, [["t"]]);
    assert_eq!(code(&mut eve, "SELECT t.id FROM t, u").await?, 1142);
    root.run("CREATE ROLE loaders").await?;
    root.run("GRANT LOAD_PRIV, SELECT_PRIV ON d.* TO ROLE 'loaders'").await?;
    root.run("GRANT 'loaders' TO eve").await?;
    eve.run("INSERT INTO d.t SELECT * FROM d.u").await?;
    let grants = eve.query("SHOW GRANTS").await?;
    assert_eq!((grants[0].get("Roles"), grants[0].get("Password")), ("loaders", "Yes"));
    assert!(grants[0].get("DatabasePrivs").contains("d: Select_priv, Load_priv"), "{grants:?}");
    root.run("REVOKE 'loaders' FROM eve").await?;
    assert_eq!(code(&mut eve, "INSERT INTO d.t SELECT * FROM d.u").await?, 1142);
    assert_eq!(code(&mut root, "REVOKE LOAD ON d.t FROM eve").await?, 1141);
    root.run("DROP USER eve").await?;
    assert_eq!(code(&mut eve, "SELECT 1").await?, 1045, "the same session");
    cluster.crash("fe-1").await?;
    let rows = cluster.sql().query("SHOW ROLES").await?;
    assert!(rows.iter().any(|row| row.get("Name") == "loaders"), "{rows:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_passwords_and_connections() -> Outcome {
    let (cluster, mut root) = with_table().await?;
    root.run("CREATE USER 'far'@'10.99.%' IDENTIFIED BY 'x'").await?;
    root.run("CREATE USER 'near'@'127.0.0.1' IDENTIFIED BY 'near'").await?;
    root.run("CREATE USER 'near'@'%' IDENTIFIED BY 'any'").await?;
    assert_eq!(code(&mut cluster.sql().as_user("far", "x"), "SELECT 1").await?, 1045);
    assert_eq!(code(&mut cluster.sql().as_user("near", "any"), "SELECT 1").await?, 1045);
    let mut near = cluster.sql().as_user("near", "near");
    assert_eq!(near.table("SELECT current_user(), user()").await?, [["'near'@'127.0.0.1'", "'near'@'127.0.0.1'"]]);
    near.run("SET PASSWORD = PASSWORD('new')").await?;
    near.run("SELECT 1").await?;
    assert_eq!(code(&mut cluster.sql().as_user("near", "near"), "SELECT 1").await?, 1045);
    cluster.sql().as_user("near", "new").run("SELECT 1").await?;

    let mine = near.scalar("SELECT connection_id()").await?;
    let roots = root.scalar("SELECT connection_id()").await?;
    let users: Vec<String> =
        near.query("SHOW PROCESSLIST").await?.iter().map(|row| row.get("User").to_owned()).collect();
    assert!(users.iter().all(|user| user == "near"), "{users:?}");
    assert!(root.query("SHOW FULL PROCESSLIST").await?.iter().any(|row| row.get("Id") == mine));
    assert_eq!(code(&mut near, &format!("KILL {roots}")).await?, 1095);
    assert_eq!(code(&mut near, "KILL 4000000000").await?, 1094);
    root.run(&format!("KILL {mine}")).await?;
    eventually("the killed connection is gone", LIMIT, || async {
        let rows = cluster.sql().query("SHOW PROCESSLIST").await?;
        anyhow::ensure!(!rows.iter().any(|row| row.get("Id") == mine), "{rows:?}");
        Ok(())
    })
    .await?;

    root.run("ADMIN SET FRONTEND CONFIG ('default_buckets' = '3')").await?;
    let rows = root.query("ADMIN SHOW FRONTEND CONFIG LIKE 'default_buckets'").await?;
    assert_eq!((rows[0].get("Value"), rows[0].get("IsMutable")), ("3", "true"));
    root.run("CREATE TABLE d.three (a INT) DISTRIBUTED BY HASH(a) PROPERTIES ('replication_num' = '1')").await?;
    assert_eq!(root.query("SHOW PARTITIONS FROM d.three").await?[0].get("Buckets"), "3");
    for wrong in ["('default_buckets' = '0')", "('host' = 'x')", "('default_buckets' = 'x')"] {
        assert_eq!(code(&mut root, &format!("ADMIN SET FRONTEND CONFIG {wrong}")).await?, 1105, "{wrong}");
    }
    Ok(())
}

/// Run a client against a cluster with the users `eve` (password) and `empty`; skipped when it is not installed.
async fn with_client(program: &str, arguments: &[&str]) -> anyhow::Result<Option<(bool, String)>> {
    match Command::new(program).args(arguments).output().await {
        Ok(output) => {
            let text =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            Ok(Some((output.status.success(), text)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => Ok(None),
        Err(error) => Err(error).with_context(|| program.to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mariadb_client_logs_in_with_both_plugins_and_asks_for_help() -> Outcome {
    let cluster = Cluster::builder().backends(0).brokers(0).start().await?;
    cluster.sql().run("CREATE USER eve IDENTIFIED BY 'sesam'").await?;
    let (host, port) = cluster.frontend().mysql.split_once(':').context("host:port")?;
    let base = ["--no-defaults", "-h", host, "-P", port, "-ueve"];
    let run = async |more: &[&str]| with_client("mariadb", &[&base[..], more].concat()).await;
    for plugin in ["mysql_native_password", "caching_sha2_password"] {
        let auth = format!("--default-auth={plugin}");
        let Some((good, text)) = run(&[&auth, "-psesam", "-Ne", "SELECT current_user()"]).await? else { return Ok(()) };
        assert!(good && text.contains("'eve'@'%'"), "{plugin}: {text}");
        let (good, text) = run(&[&auth, "-pwrong", "-e", "SELECT 1"]).await?.context("installed")?;
        assert!(!good && text.contains("1045"), "{plugin}: {text}");
    }
    let help = async |topic: &str| -> anyhow::Result<String> {
        let (good, text) = run(&["-psesam", "-e", &format!("help {topic}")]).await?.context("installed")?;
        anyhow::ensure!(good, "{text}");
        Ok(text)
    };
    let backup = help("BACKUP").await?;
    assert!(backup.contains("Name: 'BACKUP'") && backup.contains("Examples:\nBACKUP SNAPSHOT"), "{backup}");
    let create = help("create repository").await?;
    assert!(create.contains("Name: 'CREATE REPOSITORY'") && create.contains("ON LOCATION"), "{create}");
    let shows = help("SHOW%").await?;
    assert!(shows.contains("SHOW BACKUP") && shows.contains("SHOW TABLETS"), "{shows}");
    let contents = help("contents").await?;
    assert!(contents.contains("help category: \"Contents\"") && contents.contains("Backup and restore"), "{contents}");
    assert!(!help("nothing like it").await?.contains("Name:"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pymysql_logs_in_with_both_plugins() -> Outcome {
    let python = std::env::var("COFFER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let present = with_client(&python, &["-c", "import pymysql"]).await?.is_some_and(|(good, _)| good);
    if !present {
        anyhow::ensure!(std::env::var_os("CI").is_none(), "pymysql is not installed: run tests/run");
        return Ok(());
    }
    let cluster = Cluster::builder().backends(0).brokers(0).start().await?;
    let mut root = cluster.sql();
    root.run("CREATE USER eve IDENTIFIED BY 'sesam'").await?;
    // SHA1(SHA1('sesam')) alone: such an account knows one plugin only.
    root.run("CREATE USER old IDENTIFIED BY PASSWORD '*ABCDEF0123456789ABCDEF0123456789ABCDEF01'").await?;
    let (host, port) = cluster.frontend().mysql.split_once(':').context("host:port")?;
    let script = format!(
        "import pymysql\n\
         def login(user, password):\n\
         \x20   c = pymysql.connect(host='{host}', port={port}, user=user, password=password)\n\
         \x20   with c.cursor() as q:\n\
         \x20       q.execute('SELECT current_user()')\n\
         \x20       return q.fetchone()[0]\n\
         assert login('eve', 'sesam') == \"'eve'@'%'\"\n\
         for user, password in [('eve', ''), ('eve', 'x'), ('old', 'x'), ('nobody', '')]:\n\
         \x20   try:\n\
         \x20       login(user, password)\n\
         \x20       raise SystemExit(user + ' came in')\n\
         \x20   except pymysql.err.OperationalError as e:\n\
         \x20       assert e.args[0] == 1045, e\n"
    );
    let (good, text) = with_client(&python, &["-c", &script]).await?.context("installed")?;
    assert!(good, "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_http_page_and_load_knows_the_same_accounts() -> Outcome {
    let (cluster, mut root) = with_table().await?;
    root.run("CREATE USER loader IDENTIFIED BY 'l'").await?;
    root.run("CREATE USER reader IDENTIFIED BY 'r'").await?;
    root.run("GRANT LOAD ON d.t TO loader").await?;
    root.run("GRANT SELECT ON *.* TO reader").await?;
    let frontend = cluster.frontend();
    let status = async |path: &str, login: Option<(&str, &str)>| -> anyhow::Result<u16> {
        let mut request = client()?.get(format!("http://{}{path}", frontend.http));
        if let Some((user, password)) = login {
            request = request.basic_auth(user, Some(password));
        }
        Ok(request.send().await?.status().as_u16())
    };
    for path in ["/api/health", "/api/ready"] {
        assert_eq!(status(path, None).await?, 200, "{path}");
    }
    for (login, wanted) in
        [(None, 401), (Some(("reader", "x")), 401), (Some(("nobody", "")), 401), (Some(("reader", "r")), 200)]
    {
        assert_eq!(status("/metrics", login).await?, wanted, "{login:?}");
    }
    let put = async |node: &Node, login: Option<(&str, &str)>| -> anyhow::Result<(u16, String)> {
        let mut request = client()?.put(format!("http://{}/api/d/t/_stream_load", node.http));
        if let Some((user, password)) = login {
            request = request.basic_auth(user, Some(password));
        }
        let reply = request.header("label", "l").body("").send().await?;
        Ok((reply.status().as_u16(), reply.text().await?))
    };
    for (login, wanted) in [
        (None, 401),
        (Some(("loader", "x")), 401),
        (Some(("nobody", "")), 401),
        (Some(("reader", "r")), 403),
        (Some(("loader", "l")), 307),
    ] {
        assert_eq!(put(frontend, login).await?.0, wanted, "{login:?}");
    }
    let backend = cluster.node("be-1");
    for login in [None, Some(("loader", "x")), Some(("reader", "r"))] {
        let (status, text) = put(backend, login).await?;
        assert!(status == 401 || text.contains("denied"), "{login:?}: {status} {text}");
    }
    let load = StreamLoad::new(frontend, "d", "t").as_user("loader", "l").header("label", "good");
    load.must_succeed(coffer_tests::data::csv(1, 0, 5)).await?;
    let metrics = coffer_tests::http::get(frontend, "/metrics").await?.1;
    assert!(metrics.contains("coffer_fe_logins_total{outcome=\"denied\"}"), "{metrics}");
    Ok(())
}

/// Whether a secret is in a file below a directory.
fn found_below(dir: &Path, secret: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(found_below(&path, secret)?);
        } else if std::fs::read(&path)?.windows(secret.len()).any(|window| window == secret) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_did_what_and_passwords_never_show() -> Outcome {
    const PASSWORDS: [&str; 3] = ["Hidden-One-77", "Hidden-Two-88", "Hidden-Three-99"];
    let (cluster, mut root) = with_table().await?;
    root.run(&format!("CREATE USER eve IDENTIFIED BY '{}'", PASSWORDS[0])).await?;
    root.run(&format!("ALTER USER eve IDENTIFIED BY '{}'", PASSWORDS[1])).await?;
    let mut errors = vec![
        root.error(&format!("CREATE USER eve IDENTIFIED BY '{}'", PASSWORDS[2])).await?.message,
        root.error(&format!("CREATE USER eve IDENTIFED BY '{}'", PASSWORDS[2])).await?.message,
        root.error(&format!("SET PASSWORD FOR nobody = PASSWORD('{}')", PASSWORDS[2])).await?.message,
        root.error(&format!(
            "CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION 's3://b/p' PROPERTIES \
             ('s3.endpoint' = 'http://127.0.0.1:1', 's3.region' = 'x', 's3.access_key' = 'a', 's3.secret_key' = '{}')",
            PASSWORDS[2]
        ))
        .await?
        .message,
    ];
    let mut eve = cluster.sql().as_user("eve", PASSWORDS[1]);
    eve.run("SELECT 1 AS one").await?;
    errors.push(eve.error("SELECT * FROM d.t").await?.message);
    assert_eq!(code(&mut cluster.sql().as_user("eve", PASSWORDS[2]), "SELECT 1").await?, 1045);
    let load = StreamLoad::new(cluster.frontend(), "d", "t").as_user("eve", PASSWORDS[1]).header("label", "no");
    errors.push(load.send("").await?.to_string());
    root.run("GRANT LOAD ON d.t TO eve").await?;
    load.must_succeed(coffer_tests::data::csv(1, 0, 5)).await?;
    for show in ["SHOW FULL PROCESSLIST", "SHOW ALL GRANTS", "SHOW WARNINGS", "ADMIN SHOW FRONTEND CONFIG"] {
        errors.extend(root.table(show).await?.concat());
    }
    for node in cluster.nodes() {
        errors.push(coffer_tests::http::get(node, "/metrics").await?.1);
    }
    let path = cluster.frontend().data.join("audit/audit.log");
    let text = eventually("the audit log has the load", LIMIT, || async {
        let text = std::fs::read_to_string(&path)?;
        anyhow::ensure!(text.contains("STREAM LOAD INTO d.t LABEL no"), "{text}");
        Ok(text)
    })
    .await?;
    let lines: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let find = |user: &str, statement: &str| {
        let line = lines.iter().find(|line| {
            line["user"] == user && line["statement"].as_str().is_some_and(|known| known.starts_with(statement))
        });
        line.with_context(|| format!("{user}: {statement} in {text}"))
    };
    assert_eq!(find("root", "CREATE USER eve")?["statement"], "CREATE USER eve IDENTIFIED BY '*XXX'");
    let one = find("eve", "SELECT 1 AS one")?;
    assert_eq!((&one["outcome"], &one["rows"], &one["host"]), (&"ok".into(), &1.into(), &"127.0.0.1".into()));
    assert!(one["ms"].as_f64() > Some(0.0), "{one}");
    let denied = find("eve", "SELECT * FROM d.t")?;
    assert_eq!((&denied["outcome"], &denied["code"]), (&"DENIED".into(), &1142.into()));
    assert!(lines.iter().any(|line| line["kind"] == "login" && line["user"] == "eve" && line["code"] == 1045));
    for node in cluster.nodes() {
        errors.push(std::fs::read_to_string(&node.log)?);
    }
    for password in PASSWORDS {
        let shown: Vec<&String> = errors.iter().filter(|text| text.contains(password)).collect();
        assert!(shown.is_empty(), "{password} in {shown:?}");
        let files = found_below(cluster.dir(), password.as_bytes())?;
        assert!(files.is_empty(), "{password} is in {files:?}");
    }
    Ok(())
}
