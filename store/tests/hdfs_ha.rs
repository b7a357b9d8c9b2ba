//! A store in an HDFS with two NameNodes, when the active one dies, and when it falls silent.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../tests/servers/hdfs.rs"]
mod server;

use bytes::Bytes;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::Result;
use coffer_store::{LocalAccess, ObjectInfo, PutOptions, Store, from_bytes, open, read_all};
use futures::{StreamExt, TryStreamExt, stream};
use server::Hdfs;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ANY: PutOptions = PutOptions { create_new: false, length_hint: None };
const BOUND: Duration = Duration::from_secs(240);

fn store(hdfs: &Hdfs) -> Result<Arc<dyn Store>> {
    let properties = [
        ("username", "root"),
        ("dfs.nameservices", "ns"),
        ("dfs.ha.namenodes.ns", "nn1, nn2"),
        ("dfs.namenode.rpc-address.ns.nn1", hdfs.fact("nn1")),
        ("dfs.namenode.rpc-address.ns.nn2", hdfs.fact("nn2")),
        (
            "dfs.client.failover.proxy.provider.ns",
            "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider",
        ),
    ];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    open(
        &StorageSpec { location: "hdfs://ns/ha".to_owned(), properties, ..StorageSpec::default() },
        &LocalAccess::default(),
    )
}

/// A call as the layer above makes it: what may succeed later is done again.
async fn patiently<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    let begun = Instant::now();
    loop {
        match call().await {
            Err(error) if error.kind().is_transient() && begun.elapsed() < BOUND => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            outcome => return outcome,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_namenode_takes_over() -> Result<()> {
    let Some(hdfs) = Hdfs::start("store hdfs_ha::the_other_namenode_takes_over", "ha --datanodes 1")? else {
        return Ok(());
    };
    let store = store(&hdfs)?;
    store.put("before", from_bytes("x"), ANY).await?;

    // The active NameNode dies in the middle of a file; calls go on while the other takes over.
    let bytes = Bytes::from(vec![7; 12 << 20]);
    let (reached, mut waits) = tokio::sync::mpsc::unbounded_channel();
    let (over, after) = tokio::sync::watch::channel(false);
    let body = || {
        let (reached, after, bytes) = (reached.clone(), after.clone(), bytes.clone());
        let pieces = (0..12).map(move |at| bytes.slice(at << 20..(at + 1) << 20));
        let pieces = stream::iter(pieces.enumerate()).then(move |(at, piece)| {
            let (reached, mut after) = (reached.clone(), after.clone());
            async move {
                if at == 6 {
                    let _ = reached.send(());
                    let _ = after.wait_for(|over| *over).await;
                }
                Ok(piece)
            }
        });
        pieces.boxed()
    };
    let put = patiently(|| store.put("during", body(), ANY));
    let take_over = async {
        waits.recv().await.unwrap();
        hdfs.tell("kill nn1").unwrap();
        let looking = tokio::spawn({
            let store = Arc::clone(&store);
            async move { patiently(|| store.stat("before")).await }
        });
        hdfs.tell("active nn2").unwrap();
        over.send(true).unwrap();
        looking.await.unwrap()
    };
    let (put, looked) = tokio::join!(put, take_over);
    assert_eq!((put?.bytes, looked?.bytes), (12 << 20, 1));
    assert!(read_all(&*store, "during", u64::MAX).await? == bytes);

    // The active one falls silent with its connections open, and the first one, back again, takes over.
    hdfs.tell("start nn1")?;
    hdfs.tell("pause nn2")?;
    hdfs.tell("active nn1")?;
    assert_eq!(patiently(|| store.stat("before")).await?.bytes, 1);
    patiently(|| store.put("after", from_bytes("y"), ANY)).await?;
    let listed: Vec<ObjectInfo> = patiently(|| async { store.list("").await?.try_collect().await }).await?;
    let mut names: Vec<&str> = listed.iter().map(|info| info.path.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["after", "before", "during"]);
    Ok(())
}
