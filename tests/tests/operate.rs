//! cofferctl as operators run it against a deployment: doctor, completion, help, exit codes, nothing but text in a pipe.

use anyhow::{Context, ensure};
use coffer_tests::data::{create, csv};
use coffer_tests::http::StreamLoad;
use coffer_tests::node::program;
use coffer_tests::{Cluster, Outcome, eventually};
use serde_json::Value;
use std::process::Output;
use std::time::Duration;
use tokio::process::Command;

/// How long a dead process may take until a frontend says so.
const NOTICE_LIMIT: Duration = Duration::from_secs(60);

async fn cofferctl(args: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(program("cofferctl")?).args(args).output().await?)
}

/// The findings of a doctor, and its exit code.
async fn doctor(mysql: &str, more: &[&str]) -> anyhow::Result<(Option<i32>, Vec<Value>)> {
    let none = tempfile::tempdir()?;
    let config = none.path().to_str().context("a path")?;
    let mut args = vec!["doctor", "--mysql", mysql, "--output", "json", "--config-dir", config];
    args.extend(more);
    let output = cofferctl(&args).await?;
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    Ok((output.status.code(), answer["findings"].as_array().context("findings")?.clone()))
}

fn with<'a>(findings: &'a [Value], check: &str, level: &str) -> Vec<&'a Value> {
    findings.iter().filter(|finding| finding["check"] == check && finding["level"] == level).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_ill_and_nothing_else() -> Outcome {
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 2)).await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let mysql = cluster.frontend().mysql.clone();

    // A machine that is busy may be too slow for one look.
    eventually("the doctor finds everything well", NOTICE_LIMIT, || async {
        let (code, findings) = doctor(&mysql, &[]).await?;
        let problems: Vec<&Value> = findings.iter().filter(|finding| finding["level"] == "problem").collect();
        let full_disk = problems.iter().all(|finding| finding["check"] == "disks");
        anyhow::ensure!(full_disk && code == Some(i32::from(!problems.is_empty())), "{code:?} {problems:?}");
        // Three of the frontend, two of each backend, one of the broker; one clock for each that speaks HTTP.
        let well = |check: &str| with(&findings, check, "ok").len();
        anyhow::ensure!((well("ports"), well("clocks")) == (8, 3), "{findings:?}");
        anyhow::ensure!((well("versions"), well("brokers")) == (1, 1), "{findings:?}");
        anyhow::ensure!(well("limits") + with(&findings, "limits", "warning").len() >= 4, "{findings:?}");
        Ok(())
    })
    .await?;

    let dead = cluster.node("be-2");
    dead.kill();
    eventually("the doctor finds the dead backend", NOTICE_LIMIT, || async {
        let (code, findings) = doctor(&mysql, &[]).await?;
        let named = |check: &str| {
            with(&findings, check, "problem").iter().any(|finding| {
                finding["about"].as_str().is_some_and(|about| about.contains(&dead.grpc))
                    && finding["advice"].as_str().is_some_and(|advice| !advice.is_empty())
            })
        };
        anyhow::ensure!(code == Some(1) && named("nodes") && named("ports"), "{code:?} {findings:?}");
        let replicas = with(&findings, "replicas", "problem");
        anyhow::ensure!(replicas.iter().any(|finding| finding["about"] == "d.t"), "{replicas:?}");
        Ok(())
    })
    .await?;

    let (code, findings) = doctor(&mysql, &["--user", "nobody"]).await?;
    assert!(code == Some(1) && with(&findings, "nodes", "problem").len() == 1, "{findings:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_says_whether_it_is_ready() -> Outcome {
    let cluster = Cluster::builder().frontends(2).start().await?;
    for node in cluster.nodes() {
        let (code, text) = coffer_tests::http::get(node, "/api/ready").await?;
        assert!(code.is_success() && text.contains("ready"), "{}: {code} {text}", node.name);
    }
    // Without a leader a frontend lives, but answers nothing: it must not be restarted for that.
    let leader = cluster.leader().await?;
    let left = cluster.of("fe-").find(|node| node.name != leader.name).context("another frontend")?;
    leader.kill();
    eventually("it is alive and not ready", Duration::from_secs(60), || async {
        let (ready, _) = coffer_tests::http::get(left, "/api/ready").await?;
        let (alive, text) = coffer_tests::http::get(left, "/api/health").await?;
        ensure!(ready.as_u16() == 503 && alive.is_success() && text.contains("no leader"), "{ready} {alive} {text}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn habits_of_a_shell() -> Outcome {
    let help = cofferctl(&["--help"]).await?;
    let text = String::from_utf8(help.stdout)?;
    assert!(help.status.success());
    for word in ["Examples:", "cofferctl doctor --mysql", "Exit codes:", "COFFER_PASSWORD", "migrate"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    for command in ["doctor", "migrate"] {
        let text = String::from_utf8(cofferctl(&[command, "--help"]).await?.stdout)?;
        assert!(text.contains("Exit codes:") && text.contains("Examples:"), "{text}");
    }
    for (shell, word) in
        [("bash", "complete -F _cofferctl"), ("zsh", "#compdef cofferctl"), ("fish", "complete -c cofferctl")]
    {
        let output = cofferctl(&["completion", shell]).await?;
        let text = String::from_utf8(output.stdout)?;
        assert!(output.status.success() && text.contains(word) && text.contains("doctor"), "{shell}: {text}");
    }
    // The shell itself takes it and completes.
    let script = format!(
        "source <({} completion bash); COMP_WORDS=(cofferctl doc); COMP_CWORD=1; \
         _cofferctl cofferctl doc cofferctl; echo \"${{COMPREPLY[*]}}\"",
        program("cofferctl")?.display()
    );
    let completed = Command::new("bash").args(["-c", &script]).output().await?;
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "doctor", "{completed:?}");

    let none = tempfile::tempdir()?;
    let empty = none.path().to_str().context("a path")?;
    for (args, code) in [
        (vec!["nonsense"], 2),
        (vec!["doctor", "--mysql", "nowhere", "--config-dir", empty], 2),
        (vec!["doctor", "--mysql", "127.0.0.1:1", "--config-dir", empty], 1),
        (vec!["cluster", "status", "--dir", empty], 2),
        (vec!["migrate", "--from", "x", "--to", "y", "--repository", "r", "--database", "d"], 2),
    ] {
        let output = cofferctl(&args).await?;
        assert_eq!(output.status.code(), Some(code), "{args:?} {output:?}");
        let shown = [output.stdout, output.stderr].concat();
        assert!(!shown.is_empty() && !shown.contains(&0x1b), "{args:?} {}", String::from_utf8_lossy(&shown));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_backends_and_brokers_are_shown_and_changed_while_they_run() -> Outcome {
    let cluster = Cluster::builder().backends(2).brokers(1).start().await?;
    let mut sql = cluster.sql();
    for (kind, node, option) in [("BACKEND", "be-2", "trash_keep_s"), ("BROKER", "broker-1", "drain_seconds")] {
        let address = cluster.node(node).grpc.clone();
        let all = sql.query(&format!("ADMIN SHOW {kind} CONFIG \"{address}\"")).await?;
        assert!(all.len() > 8 && all.iter().all(|row| row.get("Node") == address), "{all:?}");
        sql.run(&format!("ADMIN SET {kind} CONFIG \"{address}\" (\"{option}\" = \"4242\")")).await?;
        let shown = sql.query(&format!("ADMIN SHOW {kind} CONFIG LIKE \"{option}\"")).await?;
        let changed: Vec<&str> =
            shown.iter().filter(|row| row.get("Value") == "4242").map(|row| row.get("Node")).collect();
        assert_eq!(changed, [address.as_str()], "{shown:?}");
        assert!(shown.iter().all(|row| row.get("IsMutable") == "true" && !row.get("Comment").is_empty()), "{shown:?}");
        let fixed = sql.error(&format!("ADMIN SET {kind} CONFIG (\"http_listen\" = \"x\")")).await?;
        assert!(fixed.message.contains("'http_listen' cannot be changed while the"), "{}", fixed.message);
        let unknown = sql.error(&format!("ADMIN SHOW {kind} CONFIG \"127.0.0.1:1\"")).await?;
        assert!(unknown.message.contains("127.0.0.1:1"), "{}", unknown.message);
    }
    let gone = cluster.node("be-2").grpc.clone();
    cluster.node("be-2").kill();
    let dead = sql.error("ADMIN SET BACKEND CONFIG (\"trash_keep_s\" = \"7\")").await?;
    let alive = &cluster.node("be-1").grpc;
    assert!(
        dead.message.contains(&gone) && dead.message.contains(&format!("changed at backend {alive}")),
        "{}",
        dead.message
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_options_take_effect_at_once() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 1, 1)).await?;
    let (load, rows) = (StreamLoad::new(cluster.frontend(), "d", "t"), csv(1, 0, 20_000));
    assert!(rows.len() > 1 << 20);
    sql.run("ADMIN SET BACKEND CONFIG (\"stream_load_max_mib\" = \"1\")").await?;
    let refused = load.send(rows.clone()).await?.to_string();
    assert!(refused.contains("larger than 1 MiB (option stream_load_max_mib)"), "{refused}");
    sql.run("ADMIN SET BACKEND CONFIG (\"stream_load_max_mib\" = \"64\")").await?;
    load.must_succeed(rows).await?;

    // A backup that a limit of the broker holds up goes on when the limit is lifted. At the limit it would take days.
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let set = |limit: &str| format!("ADMIN SET BROKER CONFIG (\"max_upload_bytes_per_second\" = \"{limit}\")");
    sql.run(&set("1")).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r").await?;
    let state = |rows: Vec<coffer_tests::mysql::Row>| rows.last().map(|row| row.get("State").to_owned());
    eventually("the backup uploads", NOTICE_LIMIT, || async {
        let state = state(cluster.sql().query("SHOW BACKUP FROM d").await?);
        ensure!(state.as_deref() == Some("UPLOADING"), "{state:?}");
        Ok(())
    })
    .await?;
    for _ in 0..50 {
        assert_eq!(state(sql.query("SHOW BACKUP FROM d").await?).as_deref(), Some("UPLOADING"));
    }
    sql.run(&set("0")).await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;

    // How much the processes note in their logs.
    for (kind, node) in [("FRONTEND", "fe-1"), ("BACKEND", "be-1"), ("BROKER", "broker-1")] {
        let log = &cluster.node(node).log;
        assert!(!std::fs::read_to_string(log)?.contains("DEBUG"), "{node} begins with details");
        sql.run(&format!("ADMIN SET {kind} CONFIG (\"log.level\" = \"debug\")")).await?;
        eventually("the log has details", NOTICE_LIMIT, || async {
            ensure!(std::fs::read_to_string(log)?.contains("DEBUG"), "{node} notes none");
            Ok(())
        })
        .await?;
        let wrong = sql.error(&format!("ADMIN SET {kind} CONFIG (\"log.level\" = \"coffer=loud\")")).await?;
        assert!(wrong.message.contains("log.level"), "{}", wrong.message);
    }
    Ok(())
}
