//! A store in a real HDFS: one NameNode, three DataNodes, shared by all tests of this file.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../tests/servers/hdfs.rs"]
mod server;

use bytes::Bytes;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::{Error, ErrorKind, Result};
use coffer_store::suite::Suite;
use coffer_store::{ByteStream, LocalAccess, ObjectInfo, PutOptions, Store, from_bytes, open, read_all};
use futures::{StreamExt, TryStreamExt, stream};
use server::Hdfs;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

const ANY: PutOptions = PutOptions { create_new: false, length_hint: None };
/// No call may take longer; generous, because machines are slow.
const BOUND: Duration = Duration::from_secs(150);

static CLUSTER: OnceCell<Option<Hdfs>> = OnceCell::const_new();
/// Tests that stop processes or fill quotas run alone; a lock of its own keeps the others away.
static ALONE: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

async fn cluster(test: &str) -> Result<Option<&'static Hdfs>> {
    let started = CLUSTER.get_or_try_init(|| async { Ok::<_, Error>(Hdfs::start(test, "simple --datanodes 3")?) });
    Ok(started.await?.as_ref())
}

fn store_at(address: &str, folder: &str, properties: &[(&str, &str)]) -> Result<Arc<dyn Store>> {
    let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let location = format!("hdfs://{address}{folder}");
    open(&StorageSpec { location, properties, ..StorageSpec::default() }, &LocalAccess::default())
}

fn store(hdfs: &Hdfs, folder: &str, properties: &[(&str, &str)]) -> Result<Arc<dyn Store>> {
    store_at(hdfs.fact("nn1"), folder, properties)
}

/// Bytes without a short period.
fn pattern(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// A put as the layer above does it: a transient failure begins it anew.
async fn put_patiently(store: &dyn Store, path: &str, body: impl Fn() -> ByteStream) -> Result<ObjectInfo> {
    let begun = Instant::now();
    loop {
        match store.put(path, body(), ANY).await {
            Err(error) if error.kind().is_transient() && begun.elapsed() < BOUND => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn names(store: &dyn Store) -> Result<Vec<String>> {
    let listed: Vec<ObjectInfo> = store.list("").await?.try_collect().await?;
    Ok(listed.into_iter().map(|info| info.path).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hdfs_keeps_the_contract() -> Result<()> {
    let Some(hdfs) = cluster("hdfs_keeps_the_contract").await? else { return Ok(()) };
    let _shared = ALONE.read().await;
    // Small blocks, so that the big object has more of them than one of 5 GiB usually has.
    let properties = [("username", "root"), ("dfs.replication", "1"), ("dfs.blocksize", "1048576")];
    let contract = store(hdfs, "/contract/r", &properties)?;
    let stranger = store(hdfs, "/contract/r", &[("username", "bob")])?;
    Suite::new(contract, "suite").names(1_500).denied(stranger, false).run().await?;
    // The location may be the root, too, and the configuration may come from a folder.
    let access = LocalAccess { conf_dir: Some(hdfs.fact("conf").into()), ..LocalAccess::default() };
    let spec = StorageSpec { location: "hdfs:///".to_owned(), ..StorageSpec::default() };
    let root = open(&spec, &access)?;
    root.put("at-the-root/a b", from_bytes("x"), ANY).await?;
    assert_eq!(read_all(&*root, "at-the-root/a b", 1).await?, "x");
    let shown = hdfs.tell("web GET /at-the-root/a\\ b op=GETFILESTATUS")?;
    assert!(shown.contains("\"replication\":3"), "dfs.replication of the folder's hdfs-site.xml: {shown}");
    root.delete("at-the-root", true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datanode_that_dies_under_a_write_costs_no_byte() -> Result<()> {
    let Some(hdfs) = cluster("a_datanode_that_dies_under_a_write_costs_no_byte").await? else { return Ok(()) };
    let _alone = ALONE.write().await;
    for replication in ["2", "1"] {
        let store = store(hdfs, "/dying", &[("username", "root"), ("dfs.replication", replication)])?;
        let bytes = pattern(24 << 20);
        let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let (done, after) = tokio::sync::watch::channel(false);
        let body = || -> ByteStream {
            let (bytes, ask, after) = (bytes.clone(), ask.clone(), after.clone());
            let pieces = stream::iter((0..24).map(move |at| bytes.slice(at << 20..(at + 1) << 20)).enumerate());
            let pieces = pieces.then(move |(at, piece)| {
                let (ask, mut after) = (ask.clone(), after.clone());
                async move {
                    if at == 8 {
                        let _ = ask.send(());
                        let _ = after.wait_for(|done| *done).await;
                    }
                    Ok(piece)
                }
            });
            pieces.boxed()
        };
        let put = put_patiently(&*store, "object", body);
        let kill = async {
            asked.recv().await;
            // Whichever holds the block: with two replicas of three DataNodes, one of any two holds it.
            hdfs.tell("kill dn1").unwrap();
            if replication == "2" {
                assert!(names(&*store).await.unwrap().is_empty(), "nothing is visible before the end");
            } else {
                hdfs.tell("kill dn2").unwrap();
            }
            done.send(true).unwrap();
        };
        let (put, ()) = tokio::join!(put, kill);
        assert_eq!(put?.bytes, bytes.len() as u64);
        // While they are dead, more files: a NameNode goes on naming a dead DataNode for a while.
        for name in 0..4 {
            put_patiently(&*store, &format!("more/{name}"), || from_bytes(pattern(100_000))).await?;
        }
        assert_eq!(read_all(&*store, "object", u64::MAX).await?, bytes);
        hdfs.tell("start dn1")?;
        if replication == "1" {
            hdfs.tell("start dn2")?;
        }
        store.delete("object", false).await?;
        store.delete("more", true).await?;
        assert!(names(&*store).await?.is_empty());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_goes_on_at_another_replica() -> Result<()> {
    let Some(hdfs) = cluster("a_read_goes_on_at_another_replica").await? else { return Ok(()) };
    let _alone = ALONE.write().await;
    let store = store(hdfs, "/reading", &[("username", "root"), ("dfs.replication", "2")])?;
    let bytes = pattern(24 << 20);
    store.put("object", from_bytes(bytes.clone()), ANY).await?;
    let mut body = store.get("object", None).await?;
    let mut read = body.try_next().await?.unwrap().to_vec();
    hdfs.tell("kill dn2")?;
    while let Some(chunk) = body.try_next().await? {
        read.extend_from_slice(&chunk);
    }
    assert!(read == bytes, "{} bytes that differ", read.len());
    hdfs.tell("start dn2")?;
    store.delete("object", false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_who_what_and_what_to_do() -> Result<()> {
    let Some(hdfs) = cluster("refusals_say_who_what_and_what_to_do").await? else { return Ok(()) };
    let _alone = ALONE.write().await;
    hdfs.tell("web PUT /private op=MKDIRS&permission=700")?;
    hdfs.folder("/quota")?;
    hdfs.tell("admin -setSpaceQuota 1m /quota")?;
    let namenode = hdfs.fact("nn1");
    let says = |error: Error, kind: ErrorKind, parts: &[&str]| {
        assert_eq!(error.kind(), kind, "{error}");
        for part in parts.iter().chain([&namenode]) {
            assert!(error.message().contains(part), "{part}: {error}");
        }
    };
    let alice = store(hdfs, "/private", &[("username", "alice")])?;
    let error = alice.put("a", from_bytes("x"), ANY).await.unwrap_err();
    says(error, ErrorKind::Denied, &["Permission denied: user=alice", "property username", "/private/a"]);
    says(names(&*alice).await.unwrap_err(), ErrorKind::Denied, &["list hdfs://", "user=alice"]);
    let quota = store(hdfs, "/quota", &[("username", "alice"), ("dfs.replication", "1")])?;
    let error = quota.put("a", from_bytes(pattern(3 << 20)), ANY).await.unwrap_err();
    says(error, ErrorKind::NoSpace, &["quota exceeded", "/quota"]);
    assert!(names(&*quota).await?.is_empty());
    hdfs.tell("admin -safemode enter")?;
    let error = quota.put("b", from_bytes(""), ANY).await.unwrap_err();
    hdfs.tell("admin -safemode leave")?;
    says(error, ErrorKind::Unavailable, &["safe mode", "-safemode leave"]);
    // Not the RPC port but the one of the web page, as people try it.
    let web = store_at(hdfs.fact("nn1_http"), "/x", &[])?;
    let error = within(web.stat("a")).await;
    assert!(error.message().contains(hdfs.fact("nn1_http")) && error.message().contains("fs.defaultFS"), "{error}");
    Ok(())
}

/// The error of a call that must not hang.
async fn within<T: std::fmt::Debug>(call: impl Future<Output = Result<T>>) -> Error {
    tokio::time::timeout(BOUND, call).await.expect("the call hangs").unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namenode_that_is_dead_or_silent_is_named_in_time() -> Result<()> {
    let Some(hdfs) = cluster("a_namenode_that_is_dead_or_silent_is_named_in_time").await? else { return Ok(()) };
    let _alone = ALONE.write().await;
    let dead = store_at("127.0.0.1:1", "/x", &[])?;
    let error = within(names(&*dead)).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("127.0.0.1:1") && error.message().contains("nothing listens"), "{error}");
    let unknown = store_at("no-such-host.invalid", "/x", &[])?;
    let error = within(unknown.put("a", from_bytes("x"), ANY)).await;
    assert!(
        error.message().contains("no-such-host.invalid:8020") && error.message().contains("dfs.nameservices"),
        "{error}"
    );

    let store = store(hdfs, "/silent", &[("username", "root")])?;
    store.put("a", from_bytes("x"), ANY).await?;
    hdfs.tell("pause nn1")?;
    let error = within(store.stat("a")).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().contains(hdfs.fact("nn1")) && error.message().contains("no answer within"), "{error}");
    hdfs.tell("resume nn1")?;
    assert_eq!(store.stat("a").await?.bytes, 1);
    store.delete("a", false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datanode_that_cannot_be_reached_is_named_with_what_to_set() -> Result<()> {
    let Some(hdfs) = cluster("a_datanode_that_cannot_be_reached_is_named_with_what_to_set").await? else {
        return Ok(());
    };
    let _alone = ALONE.write().await;
    let store = store(hdfs, "/unreachable", &[("username", "root"), ("dfs.replication", "1")])?;
    // All DataNodes die at once, and the NameNode does not know it yet: what it looks like when no DataNode is reached.
    for name in ["dn1", "dn2", "dn3"] {
        hdfs.tell(&format!("kill {name}"))?;
    }
    let error = within(store.put("a", from_bytes(pattern(100_000)), ANY)).await;
    for name in ["dn1", "dn2", "dn3"] {
        hdfs.tell(&format!("start {name}"))?;
    }
    assert!(error.kind().is_transient() || error.kind() == ErrorKind::NoSpace, "{error}");
    // Which one, unless the NameNode itself has found out by now.
    assert!(error.message().contains("cannot be reached") || error.message().contains("minReplication"), "{error}");
    assert!(names(&*store).await?.is_empty());
    put_patiently(&*store, "a", || from_bytes("x")).await?;
    store.delete("a", false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_given_up_leaves_no_temporary_file() -> Result<()> {
    let Some(hdfs) = cluster("a_put_given_up_leaves_no_temporary_file").await? else { return Ok(()) };
    let _shared = ALONE.read().await;
    let store = store(hdfs, "/given-up", &[("username", "root")])?;
    store.put("kept", from_bytes("x"), ANY).await?;
    let (reached, mut waits) = tokio::sync::mpsc::channel(1);
    let body = stream::once(async { Ok(pattern(3 << 20)) }).chain(stream::once(async move {
        let _ = reached.send(()).await;
        std::future::pending().await
    }));
    let writer = Arc::clone(&store);
    let put = tokio::spawn(async move { writer.put("deep/a", body.boxed(), ANY).await });
    waits.recv().await.unwrap();
    put.abort();
    let begun = Instant::now();
    while hdfs.tell("web GET /given-up op=LISTSTATUS")?.contains("deep") {
        assert!(begun.elapsed() < BOUND, "the temporary file stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.delete("kept", false).await
}
