//! The contract suite against the stores that need no other process.

use coffer_proto::v1::StorageSpec;
use coffer_stdx::retry::Policy;
use coffer_stdx::{Error, Result};
use coffer_store::faulty::Faulty;
use coffer_store::memory::MemoryStore;
use coffer_store::retrying::Retrying;
use coffer_store::{LocalAccess, open, suite};
use std::sync::Arc;

#[tokio::test]
async fn memory() -> Result<()> {
    suite::run(Arc::new(MemoryStore::new()), "suite").await
}

#[tokio::test]
async fn local() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let spec = StorageSpec { location: format!("file://{}/r", dir.path().display()), ..StorageSpec::default() };
    let store = open(&spec, &LocalAccess { roots: vec![dir.path().to_owned()] })?;
    suite::run(store, "suite").await
}

#[tokio::test]
async fn memory_behind_a_network_that_drops_every_third_read() -> Result<()> {
    let faulty = Faulty::new(Arc::new(MemoryStore::new()), |call| {
        let repeated = !matches!(call.operation, "put" | "rename");
        (repeated && call.number % 3 == 0).then(|| Error::unavailable("dropped"))
    });
    let policy = Policy { attempts: 5, first_ms: 1, max_ms: 1 };
    suite::run(Arc::new(Retrying::new(Arc::new(faulty), policy)), "suite").await
}

/// Against a real service: `COFFER_TEST_S3` is its endpoint; the bucket `coffer-test` must exist. Keys come from
/// `COFFER_TEST_S3_KEY` and `COFFER_TEST_S3_SECRET`, `testkey` and `testsecret` when they are not set.
#[tokio::test]
async fn s3() -> Result<()> {
    let Ok(endpoint) = std::env::var("COFFER_TEST_S3") else {
        eprintln!("COFFER_TEST_S3 is not set: the contract is not tested against S3");
        return Ok(());
    };
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let properties = [
        ("s3.endpoint", endpoint),
        ("s3.access_key", variable("COFFER_TEST_S3_KEY", "testkey")),
        ("s3.secret_key", variable("COFFER_TEST_S3_SECRET", "testsecret")),
        ("use_path_style", "true".to_owned()),
    ];
    let spec = StorageSpec {
        location: format!("s3://coffer-test/{}", uuid::Uuid::new_v4()),
        properties: properties.map(|(key, value)| (key.to_owned(), value)).into(),
        brokers: Vec::new(),
    };
    suite::run(open(&spec, &LocalAccess::default())?, "suite").await
}
