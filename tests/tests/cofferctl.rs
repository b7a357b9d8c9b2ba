//! cofferctl and the quickstart, run as users run them, with the binaries under test.

use anyhow::Context;
use coffer_tests::node::program;
use coffer_tests::ports::PortBlock;
use coffer_tests::{Outcome, Sql};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Output;
use tokio::process::Command;

/// A cluster directory that is always brought down.
struct Local {
    dir: tempfile::TempDir,
    port_base: String,
    _ports: PortBlock,
}

impl Local {
    fn new() -> anyhow::Result<Local> {
        let mut ports = PortBlock::take()?;
        let address = ports.address()?;
        let port_base = address.rsplit_once(':').context("host:port")?.1.to_owned();
        Ok(Local { dir: tempfile::tempdir()?, port_base, _ports: ports })
    }

    fn dir(&self) -> PathBuf {
        self.dir.path().join("c")
    }

    async fn cluster(&self, command: &str, more: &[&str]) -> anyhow::Result<Output> {
        let mut run = Command::new(program("cofferctl")?);
        Ok(run.args(["cluster", command, "--dir"]).arg(self.dir()).args(more).output().await?)
    }

    async fn must(&self, command: &str, more: &[&str]) -> anyhow::Result<String> {
        let output = self.cluster(command, more).await?;
        anyhow::ensure!(output.status.success(), "{command}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    async fn status(&self) -> anyhow::Result<Vec<Value>> {
        let output = self.cluster("status", &["--output", "json"]).await?;
        let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| text(&output))?;
        let processes = answer["processes"].as_array().context("processes")?.clone();
        let whole = processes.iter().all(|process| process["alive"] == true);
        anyhow::ensure!(output.status.code() == Some(i32::from(!whole)), "the exit code tells it too: {output:?}");
        Ok(processes)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Ok(cofferctl) = program("cofferctl") {
            let mut down = std::process::Command::new(cofferctl);
            let _ = down.args(["cluster", "down", "--purge", "--timeout", "3", "--dir"]).arg(self.dir()).output();
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_cluster_gets_certificates_and_is_looked_at_over_tls() -> Outcome {
    let local = Local::new()?;
    local.must("up", &["--backends", "1", "--port-base", &local.port_base]).await?;
    Sql::new(&format!("127.0.0.1:{}", local.port_base)).run("SET PASSWORD FOR 'root' = PASSWORD('secure')").await?;
    local.must("stop", &[]).await?;
    let certificates = local.dir.path().join("certs");
    let mut make = Command::new(program("cofferctl")?);
    let made = make.args(["certs", "--host", "here=127.0.0.1,localhost", "--dir"]).arg(&certificates).output().await?;
    anyhow::ensure!(made.status.success(), "{}", text(&made));
    let file = |name: &str| certificates.join(name).display().to_string();
    let (ca, pem, key) = (file("ca.pem"), file("here.pem"), file("here.key"));
    let tls = format!(
        "\n[tls]\nca_file = '{ca}'\ncert_file = '{pem}'\nkey_file = '{key}'\nhttps = true\nmysql_required = true\n"
    );
    for config in std::fs::read_dir(local.dir().join("conf"))? {
        let path = config?.path();
        let before = std::fs::read_to_string(&path)?;
        std::fs::write(&path, format!("{before}{tls}"))?;
    }
    let mut start = Command::new(program("cofferctl")?);
    let start = start.args(["cluster", "start", "--dir"]).arg(local.dir()).env("COFFER_PASSWORD", "secure");
    let started = start.output().await?;
    anyhow::ensure!(started.status.success(), "{}", text(&started));
    assert!(local.status().await?.iter().all(|process| process["alive"] == true));
    let mut doctor = Command::new(program("cofferctl")?);
    let doctor = doctor
        .env("COFFER_PASSWORD", "secure")
        .args(["doctor", "--ca", &ca, "--config-dir", &file("none"), "--dir"])
        .arg(local.dir());
    let said = text(&doctor.output().await?);
    assert!(said.contains("shows a certificate of the authority") && !said.contains("speaks no TLS"), "{said}");
    local.must("down", &["--purge"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_cluster_lives_through_its_life() -> Outcome {
    let local = Local::new()?;
    local.must("up", &["--backends", "2", "--port-base", &local.port_base]).await?;
    let processes = local.status().await?;
    assert_eq!(processes.len(), 4, "{processes:?}");
    assert!(processes.iter().all(|process| process["alive"] == true && process["pid"].is_u64()), "{processes:?}");
    assert_eq!((&processes[0]["role"], &processes[0]["leader"]), (&"frontend".into(), &true.into()));
    let mysql = processes[0]["mysql"].as_str().context("mysql address")?;
    assert_eq!(mysql, format!("127.0.0.1:{}", local.port_base));
    Sql::new(mysql).run("CREATE DATABASE d").await?;

    let again = local.cluster("up", &["--port-base", &local.port_base]).await?;
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again).contains("holds a cluster already"), "{}", text(&again));

    let pid = processes[1]["pid"].as_i64().context("pid")? as i32;
    let pid = rustix::process::Pid::from_raw(pid).context("pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    coffer_tests::eventually("status sees the dead backend", std::time::Duration::from_secs(10), || async {
        let processes = local.status().await?;
        anyhow::ensure!(processes[1]["alive"] == false && processes[2]["alive"] == true, "{processes:?}");
        Ok(())
    })
    .await?;
    local.must("start", &[]).await?;
    assert!(local.status().await?.iter().all(|process| process["alive"] == true));

    local.must("stop", &[]).await?;
    assert!(local.status().await?.iter().all(|process| process["alive"] == false));
    let moved = local.dir.path().join("moved");
    std::fs::rename(local.dir(), &moved)?;
    for command in [&["start"][..], &["stop"], &["down", "--purge"]] {
        let mut run = Command::new(program("cofferctl")?);
        let output = run.arg("cluster").args(command).arg("--dir").arg(&moved).output().await?;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output).contains(&format!("was made in {}", local.dir().display())), "{output:?}");
        assert!(moved.join("be-1/data").exists() && !local.dir().exists(), "{command:?}");
    }
    std::fs::rename(&moved, local.dir())?;
    local.must("start", &[]).await?;
    assert_eq!(local.status().await?[0]["mysql"], mysql);
    let databases = Sql::new(mysql).table("SHOW DATABASES").await?;
    assert!(databases.concat().contains(&"d".to_owned()), "{databases:?}");
    local.must("down", &["--purge"]).await?;
    assert!(!local.dir().exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named_with_who_has_it() -> Outcome {
    let local = Local::new()?;
    let taken = std::net::TcpListener::bind(format!("127.0.0.1:{}", local.port_base))?;
    let output = local.cluster("up", &["--port-base", &local.port_base]).await?;
    drop(taken);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    let me = format!("process {}", std::process::id());
    assert!(said.contains(&format!("port {}", local.port_base)) && said.contains(&me), "{said}");
    assert!(!local.dir().exists());
    let many = local.cluster("up", &["--frontends", "10"]).await?;
    assert!(text(&many).contains("at most 9"), "{}", text(&many));
    Ok(())
}

/// Ask a process to end.
fn signal(pid: u32, signal: rustix::process::Signal) -> Outcome {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("pid")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_up_stops_what_it_started() -> Outcome {
    let local = Local::new()?;
    let up = Command::new(program("cofferctl")?)
        .args(["cluster", "up", "--backends", "1", "--port-base", &local.port_base, "--dir"])
        .arg(local.dir())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    coffer_tests::eventually("a process was started", std::time::Duration::from_secs(30), || async {
        let text = std::fs::read_to_string(local.dir().join("cluster.json"))?;
        anyhow::ensure!(text.contains("\"pid\""), "{text}");
        Ok(())
    })
    .await?;
    signal(up.id().context("it runs")?, rustix::process::Signal::INT)?;
    let output = up.wait_with_output().await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("interrupted"), "{output:?}");
    let shown = text(&local.cluster("status", &[]).await?);
    assert_eq!(shown.matches("not running").count(), 3, "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_that_is_terminated_leaves_no_broker() -> Outcome {
    let dir = tempfile::tempdir()?;
    // Nothing its broker serves: it waits for that, with its broker running.
    let storage = tempfile::tempdir()?;
    let bench = Command::new(program("cofferctl")?)
        .args(["bench", "store", "--files", "1", "--size", "1KiB", "--small", "0", "--many-streams", "0", "--dir"])
        .arg(dir.path())
        .arg("--location")
        .arg(format!("file://{}", storage.path().display()))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let pid = bench.id().context("it runs")?;
    let children = || -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = std::fs::read_to_string(task?.path().join("children"))?;
            found.extend(text.split_whitespace().map(str::to_owned));
        }
        Ok(found)
    };
    coffer_tests::eventually("its broker runs", std::time::Duration::from_secs(30), || async {
        anyhow::ensure!(children()?.len() == 1, "{:?}", children());
        Ok(())
    })
    .await?;
    let broker = children()?.concat();
    signal(pid, rustix::process::Signal::TERM)?;
    let output = bench.wait_with_output().await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!std::path::Path::new("/proc").join(&broker).exists(), "process {broker} runs on");
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quickstart_of_no_size_begins_nothing() -> Outcome {
    let local = Local::new()?;
    let script = coffer_tests::crate_dir().join("../deploy/quickstart");
    for scale in ["abc", "0", "1001", "-1", "1e3"] {
        let mut run = Command::new(&script);
        // Were anything built or started, it would fail on these binaries.
        run.env("COFFER_BIN_DIR", "/nonexistent").args(["--scale", scale, "--dir"]).arg(local.dir());
        let output = run.output().await?;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output).contains(&format!("--scale {scale}: must be a number")), "{output:?}");
        assert!(!local.dir().exists());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quickstart_ends_with_all_equal_twice() -> Outcome {
    let local = Local::new()?;
    let script = coffer_tests::crate_dir().join("../deploy/quickstart");
    let binaries = program("cofferctl")?.parent().context("target directory")?.to_owned();
    for _ in 0..2 {
        let output = Command::new(&script)
            .env("COFFER_BIN_DIR", &binaries)
            .args(["--scale", "0.002", "--keep", "--port-base", &local.port_base, "--dir"])
            .arg(local.dir())
            .output()
            .await?;
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.lines().any(|line| line.starts_with("ALL EQUAL")), "{said}");
        for part in ["SnapshotName: tour_", "State: FINISHED", "Timestamp: ", "mariadb -h 127.0.0.1 -P"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_cluster_of_three_frontends_shows_its_leader() -> Outcome {
    let local = Local::new()?;
    let up = ["--frontends", "3", "--backends", "1", "--brokers", "0", "--port-base", &local.port_base];
    local.must("up", &up).await?;
    let leaders = |processes: &[Value]| -> Vec<String> {
        let led = processes.iter().filter(|process| process["leader"] == true);
        led.filter_map(|process| process["name"].as_str().map(str::to_owned)).collect()
    };
    let processes = local.status().await?;
    assert!(processes.len() == 4 && processes.iter().all(|process| process["alive"] == true), "{processes:?}");
    assert_eq!(leaders(&processes), ["fe-1"]);
    let pid = rustix::process::Pid::from_raw(processes[0]["pid"].as_i64().context("pid")? as i32).context("pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    coffer_tests::eventually("status shows another leader", std::time::Duration::from_secs(60), || async {
        let leaders = leaders(&local.status().await?);
        anyhow::ensure!(leaders.len() == 1 && leaders[0] != "fe-1", "{leaders:?}");
        Ok(())
    })
    .await?;
    local.must("start", &[]).await?;
    assert!(local.status().await?.iter().all(|process| process["alive"] == true));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_of_backups_runs_to_its_end_and_leaves_nothing() -> Outcome {
    let local = Local::new()?;
    let storage = local.dir.path().join("storage");
    std::fs::create_dir(&storage)?;
    let location = format!("file://{}", storage.display());
    let small =
        ["--tablets", "20", "--links", "80", "--big", "1MiB", "--buckets", "2", "--backends", "2", "--rounds", "2"];
    let output = Command::new(program("cofferctl")?)
        .args(["bench", "backup", "--location", &location, "--port-base", &local.port_base, "--dir"])
        .arg(local.dir())
        .args(small)
        .output()
        .await?;
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let lines =
        ["BACKUP, 20 tablets", "RESTORE, 20 tablets", "BACKUP of 20 tablets / of 10", "RESTORE, big tablets", "cp -al"];
    for line in lines {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("table many: 60 files"), "{said}");
    assert!(!local.dir().exists());
    assert_eq!(std::fs::read_dir(&storage)?.count(), 0);
    Ok(())
}
