//! The harness keeps its own promise: no process outlives its test, whatever becomes of the test.

use anyhow::Context;
use coffer_tests::{Cluster, Outcome, eventually};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};

/// Set for the copy of this test binary that is going to be killed.
const VICTIM: &str = "COFFER_TEST_VICTIM";

fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_test_leaves_no_process_behind() -> Outcome {
    if std::env::var_os(VICTIM).is_some() {
        return be_the_victim().await;
    }
    let mut victim = tokio::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "a_killed_test_leaves_no_process_behind", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(victim.stdout.take().context("stdout")?).lines();
    let mut pids = Vec::new();
    while let Some(line) = lines.next_line().await? {
        match line.trim().split_once(' ') {
            Some(("started", pid)) => pids.push(pid.to_owned()),
            _ if line.trim() == "ready" => break,
            _ => {}
        }
    }
    assert!(pids.len() == 2 && pids.iter().all(|pid| lives(pid)), "{pids:?}");
    victim.kill().await?;
    eventually("its processes end", Duration::from_secs(10), || async {
        let left: Vec<&String> = pids.iter().filter(|pid| lives(pid)).collect();
        anyhow::ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    })
    .await
}

#[allow(clippy::print_stdout, reason = "its output is read by the test above")]
async fn be_the_victim() -> Outcome {
    let cluster = Cluster::builder().backends(0).brokers(1).strangers().start().await?;
    println!();
    for node in cluster.nodes() {
        println!("started {}", node.pid().context("it runs")?);
    }
    println!("ready");
    std::future::pending().await
}
