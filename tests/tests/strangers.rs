//! A stranger that reaches a port of the cluster gets nothing and harms nothing: every port of every process is tried without
//! an account, with a wrong one, and with one that lacks the privilege.
//!
//! gRPC is spoken with curl, because a stranger does not use our channels; skipped loudly where curl knows no HTTP/2.

use anyhow::Context;
use coffer_tests::cluster::READY_LIMIT;
use coffer_tests::data::{create, csv};
use coffer_tests::http::{StreamLoad, client};
use coffer_tests::mysql::Sql;
use coffer_tests::{Cluster, Node, Outcome, eventually};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

/// Every service, with a method that does something.
const CALLS: [(&str, &str); 9] = [
    ("fe-1", "coffer.v1.Frontend/BeginLoad"),
    ("fe-1", "coffer.v1.Frontend/AbortLoad"),
    ("be-1", "coffer.v1.Agent/Control"),
    ("be-1", "coffer.v1.Tablets/Ingest"),
    ("be-1", "coffer.v1.Replicas/Describe"),
    ("be-1", "arrow.flight.protocol.FlightService/DoGet"),
    ("broker-1", "coffer.v1.Broker/Ping"),
    ("broker-1", "coffer.v1.Broker/Delete"),
    ("broker-1", "coffer.v1.Broker/Write"),
];
const WRONG: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// How often a call is made until curl has seen the answer: it may miss one that comes before it has sent everything.
const TRIES: usize = 20;

/// A call with an empty message: five zero bytes. The answer's headers and body; `None` where curl cannot.
async fn call(address: &str, method: &str, agent: Option<&str>) -> anyhow::Result<Option<String>> {
    for _ in 0..TRIES {
        match call_once(address, method, agent).await? {
            Some(answer) if answer.is_empty() => {}
            answer => return Ok(answer),
        }
    }
    Ok(Some(String::new()))
}

async fn call_once(address: &str, method: &str, agent: Option<&str>) -> anyhow::Result<Option<String>> {
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--max-time", "30", "--http2-prior-knowledge", "-H", "content-type: application/grpc"]);
    command.args(["-H", "te: trailers", "--data-binary", "@-"]);
    if let Some(agent) = agent {
        command.args(["-A", agent]);
    }
    command.arg(format!("http://{address}/{method}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&[0; 5]).await?;
    }
    let output = child.wait_with_output().await?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
    if err.contains("doesn't support") || err.contains("not supported") {
        anyhow::ensure!(std::env::var_os("CI").is_none(), "curl knows no HTTP/2: {err}");
        return Ok(None);
    }
    Ok(Some(out))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_grpc_service_asks_for_the_secret_of_the_cluster() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let secret = std::fs::read_to_string(cluster.dir().join("cluster.secret"))?;
    let secret = secret.trim();
    let with = |text: &str| format!("coffer/{text} tonic/0");
    for (node, method) in CALLS {
        let address = &cluster.node(node).grpc;
        for agent in [None, Some("coffer/"), Some(&*with(WRONG)), Some(&*with(secret)), Some(secret)] {
            let Some(answer) = call(address, method, agent).await? else { return Ok(()) };
            let told = answer.to_ascii_lowercase();
            assert!(told.contains("grpc-status: 16"), "{node} {method} as {agent:?}: {answer}");
            assert!(!answer.contains(secret), "{answer}");
        }
    }
    for (node, method) in [("broker-1", "no.such/Service"), ("fe-1", "grpc.reflection.v1.ServerReflection/X")] {
        let answer = call(&cluster.node(node).grpc, method, None).await?.unwrap_or_default().to_ascii_lowercase();
        assert!(answer.contains("grpc-status: 12") || answer.contains("grpc-status: 16"), "{answer}");
    }
    // What belongs together still works.
    cluster.sql().run("CREATE DATABASE d").await?;
    cluster.sql().run(&create("d.t", 2, 1)).await?;
    cluster.sql().run("INSERT INTO d.t SELECT * FROM d.t").await
}

/// Restart a node with this secret, and with or without trust in the network.
async fn restart(node: &Node, secret: &Path, trust_network: bool) -> Outcome {
    let mut config: toml::Table = std::fs::read_to_string(&node.config)?.parse()?;
    config.insert("cluster_secret_file".to_owned(), secret.display().to_string().into());
    config.insert("trust_network".to_owned(), trust_network.into());
    std::fs::write(&node.config, config.to_string())?;
    let ended = node.stop().await?;
    anyhow::ensure!(ended.success(), "{} ended with {ended}: {}", node.name, node.log_tail());
    node.start()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_cluster_gets_another_secret_one_process_after_the_other() -> Outcome {
    let cluster = Cluster::builder().backends(2).start().await?;
    let old = cluster.dir().join("cluster.secret");
    let new = cluster.dir().join("other.secret");
    std::fs::write(&new, WRONG)?;
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let mut root = cluster.sql();
    root.run("CREATE DATABASE d").await?;
    root.run(&create("d.t", 2, 2)).await?;
    let location = cluster.location("r");
    root.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    let mut rows = 0_u64;
    for (secret, trust_network) in [(&old, true), (&new, true), (&new, false)] {
        for name in ["broker-1", "be-1", "be-2", "fe-1"] {
            restart(cluster.node(name), secret, trust_network).await?;
            // Loads go from backend to backend, and listings through the broker.
            rows += 10;
            let wanted = rows.to_string();
            eventually("all processes work together", READY_LIMIT, || async {
                let label = format!("rows_{rows}");
                let load = StreamLoad::new(cluster.frontend(), "d", "t").header("label", &label);
                let _ = load.send(csv(1, rows, 10)).await?;
                let seen = cluster.sql().scalar("SELECT count(*) FROM d.t").await?;
                anyhow::ensure!(seen == wanted, "{seen} rows after {name}, not {wanted}");
                cluster.sql().run("SHOW SNAPSHOT ON r").await
            })
            .await?;
        }
        let Some(answer) = call(&cluster.node("broker-1").grpc, "coffer.v1.Broker/Ping", None).await? else { continue };
        assert_eq!(answer.to_ascii_lowercase().contains("grpc-status: 16"), !trust_network, "{answer}");
    }
    Ok(())
}

/// Say something on a port; what comes back until the other side closes, at most so much.
async fn say(address: &str, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // The other side may close at the first wrong byte.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let mut limited = stream.take(64 << 10);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(60), limited.read_to_end(&mut answer))
        .await
        .with_context(|| format!("{address} keeps the connection of a stranger"))?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn other_words_end_the_connection_and_hurt_nobody() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let large = [&[0xff_u8, 0xff, 0xff, 1][..], &[b'x'; 70_000]].concat();
    let words: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\0\0\0\0", &large, b""];
    for name in ["fe-1", "be-1", "broker-1"] {
        let node = cluster.node(name);
        for port in [&node.grpc, &node.http, &node.mysql].into_iter().filter(|port| !port.is_empty()) {
            for word in words {
                let answer = String::from_utf8_lossy(&say(port, word).await?).into_owned();
                assert!(!answer.contains("data_dir") && !answer.contains("test-secret"), "{name} {port}: {answer}");
            }
        }
        assert!(say(&node.grpc, words[0]).await?.is_empty(), "{name} tells its gRPC port nothing");
    }
    cluster.until_alive().await
}

async fn status(node: &Node, path: &str, header: Option<(&str, &str)>) -> anyhow::Result<u16> {
    let mut request = client()?.get(format!("http://{}{path}", node.http));
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    Ok(request.send().await?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_ask_for_an_account_or_for_the_metrics_token() -> Outcome {
    let off = "metrics_public = false";
    let cluster = Cluster::builder().config("be", off).config("broker", off).start().await?;
    let file = cluster.dir().join("cluster.secret").display().to_string();
    let program = coffer_tests::node::program("cofferctl")?;
    let printed = Command::new(program).args(["secret", "metrics-token", "--of", &file]).output().await?;
    let token = String::from_utf8(printed.stdout)?.trim().to_owned();
    let bearer = |token: &str| format!("Bearer {token}");
    for name in ["fe-1", "be-1", "broker-1"] {
        let node = cluster.node(name);
        let secret = std::fs::read_to_string(&file)?;
        for wrong in [bearer(WRONG), bearer(secret.trim()), bearer(""), "Basic eDp5".to_owned()] {
            assert_eq!(status(node, "/metrics", Some(("Authorization", &wrong))).await?, 401, "{name}");
        }
        assert_eq!(status(node, "/metrics", None).await?, 401, "{name}");
        assert_eq!(status(node, "/metrics", Some(("Authorization", &bearer(&token)))).await?, 200, "{name}");
        assert_eq!(status(node, "/api/health", None).await?, 200, "{name}");
        assert_eq!(status(node, "/", None).await?, 404, "{name}");
    }
    let backend = cluster.node("be-1");
    assert_eq!(status(backend, "/api/_load_error_log?file=../be-1.log", None).await?, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_ask_for_an_account_with_the_privilege() -> Outcome {
    let cluster = Cluster::builder().start().await?;
    let mut root = cluster.sql();
    root.run("CREATE DATABASE d").await?;
    root.run(&create("d.t", 2, 1)).await?;
    root.run("CREATE USER eve IDENTIFIED BY 'sesam'").await?;
    for (name, login, wanted) in [
        ("fe-1", None, 401),
        ("fe-1", Some(("root", "wrong")), 401),
        ("fe-1", Some(("nobody", "")), 401),
        ("fe-1", Some(("eve", "sesam")), 403),
        ("be-1", None, 401),
        ("be-1", Some(("root", "wrong")), 401),
        ("be-1", Some(("nobody", "")), 401),
        ("be-1", Some(("eve", "sesam")), 401),
    ] {
        let url = format!("http://{}/api/d/t/_stream_load", cluster.node(name).http);
        let mut request = client()?.put(url).header("column_separator", "|").body("1|1\n");
        if let Some((user, password)) = login {
            request = request.basic_auth(user, Some(password));
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        assert_eq!(status, wanted, "{name} {login:?}: {text}");
        assert!(!text.contains("Success"), "{name} {login:?}: {text}");
    }
    let count = root.table("SELECT count(*) FROM d.t").await?;
    assert_eq!(count, [["0"]]);
    let mut wrong = Sql::new(&cluster.frontend().mysql).as_user("root", "wrong");
    assert_eq!(wrong.error("SELECT 1").await?.code, 1045);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_a_secret_does_not_serve_others_than_this_machine() -> Outcome {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data").display().to_string();
    for (program, text) in [
        (
            "coffer-fe",
            format!(
                "meta_dir = '{data}'\nmysql_listen = '127.0.0.1:0'\nhttp_listen = '127.0.0.1:0'\ngrpc_listen = '0.0.0.0:0'"
            ),
        ),
        ("coffer-be", format!("data_dirs = ['{data}']\nhttp_listen = '127.0.0.1:0'\ngrpc_listen = '0.0.0.0:0'")),
        ("coffer-broker", "http_listen = '127.0.0.1:0'\nlisten = '0.0.0.0:0'".to_owned()),
    ] {
        let config = dir.path().join("config.toml");
        std::fs::write(&config, text)?;
        let mut command = Command::new(coffer_tests::node::program(program)?);
        let ended = command.arg("--config").arg(&config).kill_on_drop(true).output();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), ended).await??;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{program}: {said}");
        assert!(said.contains("cofferctl secret new") && said.contains("trust_network"), "{program}: {said}");
        assert!(!std::path::Path::new(&data).exists(), "{program} left something behind");
    }
    Ok(())
}
