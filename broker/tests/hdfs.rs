//! HDFS behind the broker: the contract, and Kerberos, for which the broker runs as a process of its own, since the
//! Kerberos library reads its configuration from the environment.
#![allow(clippy::unwrap_used, reason = "tests")]

mod process;
#[path = "../../tests/servers/hdfs.rs"]
mod server;

use coffer_stdx::{ErrorKind, Result};
use coffer_store::suite::Suite;
use coffer_store::suite::wire::Wire;
use coffer_store::{PutOptions, from_bytes, read_all};
use process::{Broker, behind};
use server::Hdfs;
use std::sync::Arc;

const ANY: PutOptions = PutOptions { create_new: false, length_hint: None };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hdfs_behind_a_broker_keeps_the_contract() -> Result<()> {
    let Some(hdfs) = Hdfs::start("broker hdfs::hdfs_behind_a_broker_keeps_the_contract", "simple")? else {
        return Ok(());
    };
    let broker = Broker::start(&[], "")?;
    let location = format!("hdfs://{}/contract/r", hdfs.fact("nn1"));
    let wire = Arc::new(Wire::to(&broker.address).await?);
    let store = behind(wire.address(), location.clone(), &[("username", "root")])?;
    let stranger = broker.store(location, &[("hadoop.username", "bob")])?;
    Suite::new(store, "suite").names(1_100).big(16 << 20).wire(wire, true).denied(stranger, false).run().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kerberos_by_keytab() -> Result<()> {
    let Some(hdfs) = Hdfs::start("broker hdfs::kerberos_by_keytab", "kerberos")? else { return Ok(()) };
    let surroundings = [("KRB5_CONFIG", hdfs.fact("krb5_conf")), ("KRB5CCNAME", "FILE:/nonexistent/tickets")];
    let broker = Broker::start(&surroundings, "")?;
    hdfs.folder("/krb")?;
    let location = format!("hdfs://{}/krb/r", hdfs.fact("nn1"));
    let secure = ("hadoop.security.authentication", "kerberos");
    let principal = ("kerberos_principal", hdfs.fact("principal"));
    for keytab in [("kerberos_keytab", hdfs.fact("keytab")), ("kerberos_keytab_content", hdfs.fact("keytab_base64"))] {
        let protection = ("dfs.data.transfer.protection", "authentication");
        let store = broker.store(location.clone(), &[secure, principal, keytab, protection])?;
        let bytes = vec![7; 3 << 20];
        store.put("a/b", from_bytes(bytes.clone()), ANY).await?;
        assert!(read_all(&*store, "a/b", u64::MAX).await? == bytes);
        store.delete("a", true).await?;
    }
    let error = broker.store(location.clone(), &[])?.stat("a").await.unwrap_err();
    assert!(error.message().contains("wants Kerberos (set hadoop.security.authentication = kerberos"), "{error}");
    for (properties, says) in [
        (vec![secure], "set kerberos_principal and kerberos_keytab"),
        (
            vec![secure, principal, ("kerberos_keytab", "/no/such.keytab")],
            "kerberos_keytab '/no/such.keytab' cannot be read",
        ),
        (vec![("kerberos_principal", "nobody@T.LOCAL"), ("kerberos_keytab", hdfs.fact("keytab"))], "as nobody@T.LOCAL"),
    ] {
        let error = broker.store(location.clone(), &properties)?.stat("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.message().contains(says), "{says}: {error}");
    }
    Ok(())
}
