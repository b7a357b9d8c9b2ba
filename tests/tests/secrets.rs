//! Secrets show nowhere: after statements with known passwords and keys, good ones and failing ones, everything that the
//! cluster shows or keeps is searched for them: answers, errors, pages, logs, the audit log, data directories, dumps.

use coffer_tests::data::create;
use coffer_tests::http::{StreamLoad, get};
use coffer_tests::mysql::Sql;
use coffer_tests::{Cluster, Outcome};
use std::path::Path;
use tokio::process::Command;

/// Of accounts; then of repositories.
const PASSWORDS: [&str; 5] = ["Hidden-Pass-1a", "Hidden-Pass-2b", "Hidden-Pass-3c", "Hidden-Pass-4d", "Hidden-Pass-5e"];
const KEYS: [&str; 7] = [
    "Hidden-Access-1a",
    "Hidden-Key-2b",
    "Hidden-Token-3c",
    "Hidden-Altered-4d",
    "Hidden-Refused-5e",
    "Hidden-Misspelt-6f",
    "Hidden-Url-7g",
];
const SHOWS: [&str; 16] = [
    "SHOW FULL PROCESSLIST",
    "SHOW ALL GRANTS",
    "SHOW GRANTS",
    "SHOW GRANTS FOR eve",
    "SHOW ROLES",
    "SHOW WARNINGS",
    "SHOW ERRORS",
    "SHOW VARIABLES",
    "SHOW REPOSITORIES",
    "SHOW CREATE REPOSITORY FOR r",
    "SHOW BACKUP FROM d",
    "SHOW RESTORE FROM d",
    "SHOW BROKER",
    "SHOW BACKENDS",
    "SHOW FRONTENDS",
    "ADMIN SHOW FRONTEND CONFIG",
];

/// Files below a directory that hold a text, and do not have this name.
fn found_below(dir: &Path, text: &[u8], but: &str) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(found_below(&path, text, but)?);
        } else if path.file_name().is_none_or(|name| name != but)
            && std::fs::read(&path)?.windows(text.len()).any(|window| window == text)
        {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

fn repository(name: &str, location: &str, key: &str) -> String {
    format!(
        "CREATE REPOSITORY {name} WITH BROKER local_broker ON LOCATION '{location}' PROPERTIES ('s3.endpoint' = \
         'http://127.0.0.1:1', 's3.region' = 'x', 's3.access_key' = '{}', 's3.secret_key' = '{key}', 's3.session_token' = '{}')",
        KEYS[0], KEYS[2]
    )
}

async fn accounts(cluster: &Cluster, root: &mut Sql, seen: &mut Vec<String>) -> Outcome {
    root.run(&format!("CREATE USER eve IDENTIFIED BY '{}'", PASSWORDS[0])).await?;
    root.run(&format!("ALTER USER eve IDENTIFIED BY '{}'", PASSWORDS[1])).await?;
    root.run(&format!("SET PASSWORD FOR eve = PASSWORD('{}')", PASSWORDS[2])).await?;
    for wrong in [
        format!("CREATE USER eve IDENTIFIED BY '{}'", PASSWORDS[3]),
        format!("CREATE USER mallory IDENTFIED BY \"{}\"", PASSWORDS[3]),
        format!("ALTER USER nobody IDENTIFIED BY '{}'", PASSWORDS[3]),
        format!("SET PASSWORD FOR nobody = PASSWORD('{}", PASSWORDS[3]),
    ] {
        seen.push(root.error(&wrong).await?.message);
    }
    seen.push(cluster.sql().as_user("eve", PASSWORDS[4]).error("SELECT 1").await?.message);
    let load = StreamLoad::new(cluster.frontend(), "d", "t");
    seen.push(load.clone().as_user("eve", PASSWORDS[4]).send("").await?.to_string());
    seen.push(load.clone().as_user("eve", PASSWORDS[2]).send("").await?.to_string());
    root.run("GRANT LOAD ON d.t TO eve").await?;
    load.as_user("eve", PASSWORDS[2]).must_succeed(coffer_tests::data::csv(1, 0, 50)).await?;
    Ok(())
}

async fn repositories(root: &mut Sql, seen: &mut Vec<String>) -> Outcome {
    root.run(&repository("r", "memory://one", KEYS[1])).await?;
    root.run(&format!("ALTER REPOSITORY r SET PROPERTIES ('s3.secret_key' = '{}')", KEYS[1])).await?;
    for wrong in [
        repository("r", "memory://one", KEYS[4]),
        repository("q", "s3://b/p", KEYS[4]),
        repository("q", "file:///nowhere", KEYS[4]),
        repository("q", "nonsense://x", KEYS[4]),
        repository("q", &format!("s3://user:{}@b/p", KEYS[6]), KEYS[4]),
        repository("q", "memory://x", KEYS[5]).replace("PROPERTIES", "PROPERTEIS"),
        format!("ALTER REPOSITORY q SET PROPERTIES ('s3.secret_key' = '{}')", KEYS[4]),
    ] {
        seen.push(root.error(&wrong).await?.message);
    }
    root.run("BACKUP SNAPSHOT d.one TO r ON (t)").await?;
    root.job_finished("SHOW BACKUP FROM d").await?;
    let altered = format!("ALTER REPOSITORY r SET PROPERTIES ('s3.secret_key' = '{}')", KEYS[3]);
    // The place is in the broker's memory, one per set of properties: with another key it is another, empty place.
    seen.push(root.error(&altered).await?.message);
    Ok(())
}

/// What the frontend's tools say about its metadata, and what they export.
async fn tools(cluster: &Cluster, seen: &mut Vec<String>) -> Outcome {
    let node = cluster.frontend();
    anyhow::ensure!(node.stop().await?.success(), "{}", node.log_tail());
    let exported = cluster.dir().join("exported.image").display().to_string();
    for arguments in [vec!["dump"], vec!["export", "--to", &exported]] {
        let output = Command::new(&node.program).arg("--config").arg(&node.config).args(&arguments).output().await?;
        anyhow::ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        seen.push(String::from_utf8_lossy(&output.stdout).into_owned());
        seen.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    node.start()?;
    cluster.until_alive().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_statement_is_shown_or_kept() -> Outcome {
    let cluster = Cluster::builder().config("broker", "allow_null = true").start().await?;
    let (mut root, mut seen) = (cluster.sql(), Vec::new());
    root.run("CREATE DATABASE d").await?;
    root.run(&create("d.t", 2, 1)).await?;
    accounts(&cluster, &mut root, &mut seen).await?;
    repositories(&mut root, &mut seen).await?;
    tools(&cluster, &mut seen).await?;

    // The secrets are still there for those that need them.
    let mut root = cluster.sql();
    root.run("BACKUP SNAPSHOT d.two TO r ON (t)").await?;
    root.job_finished("SHOW BACKUP FROM d").await?;
    cluster.sql().as_user("eve", PASSWORDS[2]).run("SELECT 1").await?;

    for show in SHOWS {
        seen.extend(root.table(show).await?.concat());
    }
    for node in cluster.nodes() {
        seen.push(get(node, "/metrics").await?.1);
        seen.push(get(node, "/api/health").await?.1);
    }
    let file = |path: &Path| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    let key = file(&cluster.dir().join("metadata.key"))?;
    let key = key.lines().last().unwrap_or_default().to_owned();
    let secret = file(&cluster.dir().join("cluster.secret"))?;
    assert!(key.len() == 64 && secret.len() >= 32);
    let known = PASSWORDS
        .iter()
        .chain(&KEYS)
        .map(|text| (*text, "-"))
        .chain([(&*key, "metadata.key"), (&*secret, "cluster.secret")]);
    for (text, but) in known {
        let shown: Vec<&String> = seen.iter().filter(|seen| seen.contains(text)).collect();
        assert!(shown.is_empty(), "{text} in {shown:?}");
        let files = found_below(cluster.dir(), text.as_bytes(), but)?;
        assert!(files.is_empty(), "{text} is in {files:?}");
    }
    // What was searched holds what it should.
    let sealed = found_below(&cluster.frontend().data, b"sealed:1:", "-")?;
    assert!(!sealed.is_empty() && seen.iter().any(|text| text.contains("*XXX")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_of_the_metadata_nothing_is_lost_but_the_secrets() -> Outcome {
    let cluster = Cluster::builder().config("broker", "allow_null = true").start().await?;
    let mut root = cluster.sql();
    root.run(&repository("r", "memory://one", KEYS[1])).await?;
    let node = cluster.frontend();
    node.kill();
    let (path, aside) = (cluster.dir().join("metadata.key"), cluster.dir().join("kept"));
    std::fs::rename(&path, &aside)?;
    node.start()?;
    cluster.until_alive().await?;
    let mut root = cluster.sql();
    root.run("CREATE DATABASE d").await?;
    let told = root.query("SHOW REPOSITORIES").await?;
    assert!(told[0].get("ErrMsg").contains("metadata key"), "{told:?}");
    assert!(!path.exists(), "a new key would hide that the old one is gone");
    node.kill();
    std::fs::rename(&aside, &path)?;
    node.start()?;
    cluster.until_alive().await?;
    let told = cluster.sql().query("SHOW REPOSITORIES").await?;
    assert!(!told[0].get("ErrMsg").contains("metadata key"), "{told:?}");
    Ok(())
}
