//! A store in an HDFS whose one disk fills up in the middle of a file.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../tests/servers/hdfs.rs"]
mod server;

use coffer_proto::v1::StorageSpec;
use coffer_stdx::{ErrorKind, Result, testing};
use coffer_store::{LocalAccess, ObjectInfo, PutOptions, from_bytes, open};
use futures::TryStreamExt;
use server::Hdfs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ANY: PutOptions = PutOptions { create_new: false, length_hint: None };
/// No call may take longer; generous, because machines are slow.
const BOUND: Duration = Duration::from_secs(120);

/// A file system of 24 MiB, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).ok()?;
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(at).status();
        status.is_ok_and(|status| status.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "the sentence is for people")]
async fn a_disk_that_fills_up_is_named_and_nothing_of_the_object_is_seen() -> Result<()> {
    let test = "store hdfs_full::a_disk_that_fills_up_is_named_and_nothing_of_the_object_is_seen";
    let dir = tempfile::tempdir()?;
    let Some(_disk) = SmallDisk::mount(&dir.path().join("data/dn1")) else {
        testing::skip(test, "this user may not mount a small file system");
        return Ok(());
    };
    let options = format!("simple --set dfs.blocksize=1048576 --dir {}", dir.path().display());
    let Some(hdfs) = Hdfs::start(test, &options)? else { return Ok(()) };
    let properties = [("username", "root"), ("dfs.replication", "1"), ("dfs.blocksize", "1048576")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let location = format!("hdfs://{}/full", hdfs.fact("nn1"));
    let store = open(&StorageSpec { location, properties, ..StorageSpec::default() }, &LocalAccess::default())?;
    store.put("kept", from_bytes("x"), ANY).await?;
    for round in 0..2 {
        let put = store.put("large", from_bytes(vec![7; 48 << 20]), ANY);
        let error = tokio::time::timeout(BOUND, put).await.expect("it hangs").unwrap_err();
        println!("round {round}: {error}");
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        for part in ["/full/large: ", "room for", "free space or add DataNodes"] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
        assert!(!error.message().contains('\n'), "{error}");
        let listed: Vec<ObjectInfo> = store.list("").await?.try_collect().await?;
        assert_eq!(listed.iter().map(|info| info.path.as_str()).collect::<Vec<_>>(), ["kept"]);
    }
    // What was written of it is given back.
    let begun = Instant::now();
    while let Err(error) = store.put("small", from_bytes(vec![7; 3 << 20]), ANY).await {
        assert!(begun.elapsed() < BOUND, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
