//! A cluster with certificates of its own authority: processes, MySQL clients and HTTP clients speak TLS; strangers do not
//! get past the handshake. Spoken with real clients: mariadb, curl.

use anyhow::Context;
use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::{Cluster, Outcome, eventually};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

/// What a program said, and whether it was content; `None` where it is not installed.
async fn run(program: impl AsRef<Path>, arguments: &[&str]) -> anyhow::Result<Option<(bool, String)>> {
    let output = match Command::new(program.as_ref()).args(arguments).kill_on_drop(true).output().await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            anyhow::ensure!(std::env::var_os("CI").is_none(), "{} is not installed", program.as_ref().display());
            return Ok(None);
        }
        output => output?,
    };
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(Some((output.status.success(), text)))
}

/// Certificates for this machine's loopback, made by `cofferctl certs`; `PREFIX.pem` and so on.
async fn certificates(dir: &Path) -> anyhow::Result<PathBuf> {
    let program = coffer_tests::node::program("cofferctl")?;
    let text = dir.display().to_string();
    let made = run(program, &["certs", "--dir", &text, "--host", "node=127.0.0.1,localhost"]).await?;
    let (good, said) = made.context("cofferctl")?;
    anyhow::ensure!(good, "{said}");
    Ok(dir.to_owned())
}

/// How long a process may take to start or to answer.
const LIMIT: Duration = Duration::from_secs(60);

fn config(certificates: &Path, https: bool) -> String {
    let file = |name: &str| certificates.join(name).display().to_string();
    let (ca, pem, key) = (file("ca.pem"), file("node.pem"), file("node.key"));
    format!("[tls]\nca_file = '{ca}'\ncert_file = '{pem}'\nkey_file = '{key}'\nhttps = {https}")
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_and_clients_speak_tls_and_strangers_get_nothing() -> Outcome {
    let dir = tempfile::tempdir()?;
    let ours = certificates(&dir.path().join("ours")).await?;
    let theirs = certificates(&dir.path().join("theirs")).await?;
    let cluster = Cluster::builder().backends(2).config("", &config(&ours, true)).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 2)).await?;
    load(&cluster, &ours).await?;
    let before = fingerprint(&mut sql, "d.t").await?;
    let location = cluster.location("r");
    sql.run(&format!("CREATE REPOSITORY r WITH BROKER local_broker ON LOCATION \"{location}\"")).await?;
    sql.run("BACKUP SNAPSHOT d.s TO r ON (t)").await?;
    sql.job_finished("SHOW BACKUP FROM d").await?;
    let timestamp = sql.timestamp("r", "s").await?;
    sql.run("DROP TABLE d.t").await?;
    sql.run(&format!("RESTORE SNAPSHOT d.s FROM r PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")")).await?;
    sql.job_finished("SHOW RESTORE FROM d").await?;
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);
    pages(&cluster, &ours, &theirs).await?;
    mysql(&cluster, &ours, &theirs).await?;
    strangers(&cluster, &theirs).await?;
    assert_eq!(fingerprint(&mut sql, "d.t").await?, before);
    doctor_looks_at_certificates(&cluster, &ours, &theirs).await?;
    // The last: afterwards the harness cannot log in any more.
    mysql_without_tls_is_refused_where_it_is_required(&cluster, &ours).await
}

/// Findings of the doctor that are no report of health, as `level check found`, and how many of `tls` are.
async fn doctor(cluster: &Cluster, authority: Option<&Path>) -> anyhow::Result<(usize, Vec<String>)> {
    let (mysql, none) = (&cluster.frontend().mysql, tempfile::tempdir()?);
    let config = none.path().display().to_string();
    let mut arguments = vec!["doctor", "--mysql", mysql, "--output", "json", "--config-dir", &config];
    let ca = authority.map(|dir| dir.join("ca.pem").display().to_string());
    arguments.extend(ca.iter().flat_map(|ca| ["--ca", ca.as_str()]));
    let (_, said) = run(coffer_tests::node::program("cofferctl")?, &arguments).await?.context("cofferctl")?;
    let answer: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    let findings = answer["findings"].as_array().context("findings")?;
    let is = |finding: &&Value, check: &str, level: &str| finding["check"] == check && finding["level"] == level;
    let well = findings.iter().filter(|finding| is(finding, "tls", "ok")).count();
    // What the machine of the test is like is not asked.
    let about = |finding: &&Value| ["nodes", "ports", "tls", "clocks"].iter().any(|check| finding["check"] == *check);
    let ill = findings.iter().filter(about).filter(|finding| finding["level"] != "ok");
    // One frontend is few, and meant.
    let ill = ill.filter(|finding| !is(finding, "nodes", "warning"));
    let ill = ill.map(|f| format!("{} {} {} {}", f["level"], f["check"], f["found"], f["advice"]));
    Ok((well, ill.collect()))
}

async fn doctor_looks_at_certificates(cluster: &Cluster, ours: &Path, theirs: &Path) -> Outcome {
    // A machine that is busy may be too slow for one look.
    eventually("the doctor is content with the certificates", LIMIT, || async {
        let (well, ill) = doctor(cluster, Some(ours)).await?;
        // HTTP and gRPC of a frontend and two backends, gRPC of a broker.
        let about_ports = ill.iter().find(|said| said.contains("tls") || said.contains("clocks"));
        anyhow::ensure!(well == 7 && about_ports.is_none(), "{well} {ill:?}");
        Ok(())
    })
    .await?;
    let (_, ill) = doctor(cluster, Some(theirs)).await?;
    assert!(ill.len() == 1 && ill[0].contains("\"problem\" \"nodes\"") && ill[0].contains("ertificate"), "{ill:?}");
    let (well, ill) = doctor(cluster, None).await?;
    assert!(well == 0 && ill.iter().any(|said| said.contains("looked at with --ca")), "{ill:?}");
    Ok(())
}

async fn mysql_without_tls_is_refused_where_it_is_required(cluster: &Cluster, ours: &Path) -> Outcome {
    let frontend = cluster.frontend();
    let text = std::fs::read_to_string(&frontend.config)?;
    anyhow::ensure!(text.contains("https = true"), "{text}");
    std::fs::write(&frontend.config, text.replace("https = true", "https = true\nmysql_required = true"))?;
    frontend.stop().await?;
    frontend.start()?;
    let (_, port) = frontend.mysql.rsplit_once(':').context("no port")?;
    let ca = format!("--ssl-ca={}", ours.join("ca.pem").display());
    let client = ["--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", "-e", "SELECT count(*) FROM d.t"];
    eventually("a client without TLS is refused", LIMIT, || async {
        let Some((good, said)) = run("mariadb", &[&client[..], &["--skip-ssl"]].concat()).await? else { return Ok(()) };
        anyhow::ensure!(!good && said.contains("ERROR 3159 (HY000)") && said.contains("insecure transport"), "{said}");
        Ok(())
    })
    .await?;
    eventually("one with TLS is served", LIMIT, || async {
        let with = [&client[..], &["--ssl-verify-server-cert", &ca]].concat();
        let Some((good, said)) = run("mariadb", &with).await? else { return Ok(()) };
        anyhow::ensure!(good && said.contains("2000"), "{said}");
        Ok(())
    })
    .await?;
    let (_, ill) = doctor(cluster, None).await?;
    assert!(ill.len() == 1 && ill[0].contains("3159") && ill[0].contains("--ca ca.pem"), "{ill:?}");
    let (well, ill) = doctor(cluster, Some(ours)).await?;
    assert!(well > 0, "{ill:?}");
    // A migration gets as far as its checks, which refuse to move a database onto itself.
    let (dir, address) = (tempfile::tempdir()?, format!("mysql://root@{}", frontend.mysql));
    let (dir, ca) = (dir.path().display().to_string(), ours.join("ca.pem").display().to_string());
    let migrate =
        ["migrate", "--from", &address, "--to", &address, "--repository", "r", "--database", "d", "--dir", &dir];
    let program = coffer_tests::node::program("cofferctl")?;
    let (_, said) = run(&program, &[&migrate[..], &["--dry-run"]].concat()).await?.context("cofferctl")?;
    assert!(said.contains("3159"), "{said}");
    let secure = [&migrate[..], &["--dry-run", "--from-ca", &ca, "--to-ca", &ca]].concat();
    let (good, said) = run(&program, &secure).await?.context("cofferctl")?;
    assert!(!good && said.contains("source and target are the same cluster"), "{said}");
    Ok(())
}

/// A stream load with curl, sent on from the frontend to a backend.
async fn load(cluster: &Cluster, certificates: &Path) -> Outcome {
    let (ca, file) = (certificates.join("ca.pem"), cluster.dir().join("rows.csv"));
    std::fs::write(&file, csv(3, 0, 2_000))?;
    let (ca, file) = (ca.display().to_string(), file.display().to_string());
    let url = format!("https://{}/api/d/t/_stream_load", cluster.frontend().http);
    let arguments = ["-sS", "--location-trusted", "-u", "root:", "--cacert", &ca, "-H", "column_separator:|", "-H"];
    let arguments = [&arguments[..], &["Expect: 100-continue", "-T", &file, &url]].concat();
    let Some((_, said)) = run("curl", &arguments).await? else { return Ok(()) };
    anyhow::ensure!(said.contains("\"Success\""), "{said}");
    Ok(())
}

async fn pages(cluster: &Cluster, ours: &Path, theirs: &Path) -> Outcome {
    let [ours, theirs] = [ours, theirs].map(|dir| dir.join("ca.pem").display().to_string());
    for node in cluster.nodes() {
        let [secure, plain] = ["https", "http"].map(|scheme| format!("{scheme}://{}/api/health", node.http));
        let Some((good, said)) = run("curl", &["-sS", "-f", "--cacert", &ours, &secure]).await? else { return Ok(()) };
        assert!(good && said.contains("ok"), "{}: {said}", node.name);
        let (good, said) = run("curl", &["-sS", "-f", "--cacert", &theirs, &secure]).await?.context("curl")?;
        assert!(!good && said.contains("certificate"), "{}: {said}", node.name);
        assert!(!run("curl", &["-sS", "-f", &plain]).await?.context("curl")?.0, "{} speaks HTTP", node.name);
    }
    Ok(())
}

async fn mysql(cluster: &Cluster, ours: &Path, theirs: &Path) -> Outcome {
    let (_, port) = cluster.frontend().mysql.rsplit_once(':').context("no port")?;
    let [ours, theirs] = [ours, theirs].map(|dir| format!("--ssl-ca={}", dir.join("ca.pem").display()));
    let client = ["--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", "--ssl-verify-server-cert"];
    let with = |more: &[&'static str], ca: &str| {
        let mut all: Vec<String> = client.iter().map(|text| (*text).to_owned()).collect();
        all.push(ca.to_owned());
        all.extend(more.iter().map(|text| (*text).to_owned()));
        all
    };
    let status = with(&["-e", "status; SELECT count(*) FROM d.t"], &ours);
    let status: Vec<&str> = status.iter().map(String::as_str).collect();
    let Some((good, said)) = run("mariadb", &status).await? else { return Ok(()) };
    assert!(good && said.contains("Cipher in use is TLS_") && said.contains("2000"), "{said}");
    let wrong = with(&["-e", "SELECT 1"], &theirs);
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    let (good, said) = run("mariadb", &wrong).await?.context("mariadb")?;
    assert!(!good && said.contains("certificate"), "{said}");
    let plain = ["--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", "--skip-ssl", "-e", "SELECT 1"];
    let (good, said) = run("mariadb", &plain).await?.context("mariadb")?;
    assert!(good, "a client may choose unless tls.mysql_required is set: {said}");
    Ok(())
}

/// gRPC ports: without TLS, without a certificate, with one of another authority.
async fn strangers(cluster: &Cluster, theirs: &Path) -> Outcome {
    let secret = std::fs::read_to_string(cluster.dir().join("cluster.secret"))?;
    let agent = format!("coffer/{}", secret.trim());
    let [cert, key] = ["node.pem", "node.key"].map(|name| theirs.join(name).display().to_string());
    for name in ["fe-1", "be-1", "broker-1"] {
        let address = &cluster.node(name).grpc;
        let mut plain = TcpStream::connect(address).await?;
        plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        // At most a TLS alert.
        assert!(answer.len() <= 7, "{name}: {answer:?}");
        let url = format!("https://{address}/coffer.v1.Broker/Ping");
        let call =
            ["-sS", "-i", "-k", "--max-time", "30", "--http2", "-A", &agent, "-H", "content-type: application/grpc"];
        for more in [&[][..], &["--cert", &cert, "--key", &key]] {
            let arguments = [&call[..], more, &["--data-binary", "x", &url]].concat();
            let Some((good, said)) = run("curl", &arguments).await? else { return Ok(()) };
            assert!(!good && !said.contains("grpc-status"), "{name}: {said}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_is_told_at_the_start() -> Outcome {
    let dir = tempfile::tempdir()?;
    let ours = certificates(&dir.path().join("ours")).await?;
    let theirs = certificates(&dir.path().join("theirs")).await?;
    let mixed = config(&ours, false)
        .replace(&ours.join("node.key").display().to_string(), &theirs.join("node.key").display().to_string());
    let gone = config(&ours, false).replace("ca.pem", "none.pem");
    for (text, says) in [(mixed, "node.pem and its key"), (gone, "none.pem")] {
        let path = dir.path().join("broker.toml");
        std::fs::write(&path, format!("listen = '127.0.0.1:0'\nhttp_listen = '127.0.0.1:0'\n{text}"))?;
        let program = coffer_tests::node::program("coffer-broker")?;
        let (good, said) = run(program, &["--config", &path.display().to_string()]).await?.context("coffer-broker")?;
        assert!(!good && said.contains(says), "{said}");
    }
    Ok(())
}
