//! HDFS behind the broker: the contract, and Kerberos, for which the broker runs as a process of its own, since the
//! Kerberos library reads its configuration from the environment.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../tests/servers/hdfs.rs"]
mod server;

use coffer_proto::v1::StorageSpec;
use coffer_stdx::{ErrorKind, Result};
use coffer_store::suite::Suite;
use coffer_store::{LocalAccess, PutOptions, Store, from_bytes, open, read_all};
use server::Hdfs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const ANY: PutOptions = PutOptions { create_new: false, length_hint: None };

/// A broker process; ends when dropped.
struct Broker {
    address: String,
    child: Child,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn broker(environment: &[(&str, &str)]) -> std::io::Result<Broker> {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("broker.toml");
    std::fs::write(&config, "memory_budget_mib = 64\n[log]\nformat = \"json\"\n")?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_coffer-broker"))
        .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let log = BufReader::new(child.stderr.take().unwrap());
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(std::io::Result::ok) {
            if let Some((_, rest)) = line.split_once("\"grpc\":\"") {
                let _ = told.send(rest.split('"').next().unwrap_or_default().to_owned());
            }
        }
    });
    let address = address.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    Ok(Broker { address, child })
}

fn behind(broker: &Broker, location: String, properties: &[(&str, &str)]) -> Result<Arc<dyn Store>> {
    let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    open(
        &StorageSpec { location, properties, brokers: vec![broker.address.clone()], ..StorageSpec::default() },
        &LocalAccess::default(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hdfs_behind_a_broker_keeps_the_contract() -> Result<()> {
    let Some(hdfs) = Hdfs::start("broker hdfs::hdfs_behind_a_broker_keeps_the_contract", "simple")? else {
        return Ok(());
    };
    let broker = broker(&[])?;
    let location = format!("hdfs://{}/contract/r", hdfs.fact("nn1"));
    let store = behind(&broker, location.clone(), &[("username", "root")])?;
    let stranger = behind(&broker, location, &[("hadoop.username", "bob")])?;
    Suite::new(store, "suite").names(1_100).big(16 << 20).denied(stranger, false).run().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kerberos_by_keytab() -> Result<()> {
    let Some(hdfs) = Hdfs::start("broker hdfs::kerberos_by_keytab", "kerberos")? else { return Ok(()) };
    let broker = broker(&[("KRB5_CONFIG", hdfs.fact("krb5_conf")), ("KRB5CCNAME", "FILE:/nonexistent/tickets")])?;
    hdfs.folder("/krb")?;
    let location = format!("hdfs://{}/krb/r", hdfs.fact("nn1"));
    let secure = ("hadoop.security.authentication", "kerberos");
    let principal = ("kerberos_principal", hdfs.fact("principal"));
    for keytab in [("kerberos_keytab", hdfs.fact("keytab")), ("kerberos_keytab_content", hdfs.fact("keytab_base64"))] {
        let protection = ("dfs.data.transfer.protection", "authentication");
        let store = behind(&broker, location.clone(), &[secure, principal, keytab, protection])?;
        let bytes = vec![7; 3 << 20];
        store.put("a/b", from_bytes(bytes.clone()), ANY).await?;
        assert!(read_all(&*store, "a/b", u64::MAX).await? == bytes);
        store.delete("a", true).await?;
    }
    let error = behind(&broker, location.clone(), &[])?.stat("a").await.unwrap_err();
    assert!(error.message().contains("wants Kerberos (set hadoop.security.authentication = kerberos"), "{error}");
    for (properties, says) in [
        (vec![secure], "set kerberos_principal and kerberos_keytab"),
        (
            vec![secure, principal, ("kerberos_keytab", "/no/such.keytab")],
            "kerberos_keytab '/no/such.keytab' cannot be read",
        ),
        (vec![("kerberos_principal", "nobody@T.LOCAL"), ("kerberos_keytab", hdfs.fact("keytab"))], "as nobody@T.LOCAL"),
    ] {
        let error = behind(&broker, location.clone(), &properties)?.stat("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.message().contains(says), "{says}: {error}");
    }
    Ok(())
}
