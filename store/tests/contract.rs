//! The contract suite against the stores of this crate, S3 on a real server among them.

use coffer_proto::v1::StorageSpec;
use coffer_stdx::retry::Policy;
use coffer_stdx::{Error, Result, testing};
use coffer_store::faulty::Faulty;
use coffer_store::memory::MemoryStore;
use coffer_store::retrying::Retrying;
use coffer_store::suite::wire::Wire;
use coffer_store::suite::{self, Suite};
use coffer_store::{LocalAccess, Store, open};
use std::path::PathBuf;
use std::sync::Arc;

#[tokio::test]
async fn memory() -> Result<()> {
    suite::run(Arc::new(MemoryStore::new()), "suite").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |location: String, root: PathBuf| {
        let spec = StorageSpec { location, ..StorageSpec::default() };
        open(&spec, &LocalAccess { roots: vec![root], ..LocalAccess::default() })
    };
    let store = at(format!("file://{}/r", dir.path().display()), dir.path().to_owned())?;
    // The kernel lets nobody make files here, not even root.
    let denied = at("file:///sys/kernel".to_owned(), PathBuf::from("/sys/kernel"))?;
    Suite::new(store, "suite").denied(denied, false).run().await
}

#[tokio::test]
async fn memory_behind_a_network_that_drops_every_third_read() -> Result<()> {
    let faulty = Faulty::new(Arc::new(MemoryStore::new()), |call| {
        let repeated = !matches!(call.operation, "put" | "rename");
        (repeated && call.number % 3 == 0).then(|| Error::unavailable("dropped"))
    });
    let policy = Policy { attempts: 20, first_ms: 1, max_ms: 1 };
    suite::run(Arc::new(Retrying::new(Arc::new(faulty), policy)), "suite").await
}

fn s3(endpoint: &str, login: &str, prefix: &str) -> Result<Arc<dyn Store>> {
    let variable = |name: &str| std::env::var(format!("COFFER_TEST_S3_{login}{name}")).unwrap_or_default();
    let properties = [
        ("s3.endpoint", endpoint.to_owned()),
        ("s3.access_key", variable("KEY")),
        ("s3.secret_key", variable("SECRET")),
        ("use_path_style", "true".to_owned()),
    ];
    let bucket = std::env::var("COFFER_TEST_S3_BUCKET").unwrap_or_default();
    let spec = StorageSpec {
        location: format!("s3://{bucket}/{prefix}"),
        properties: properties.map(|(key, value)| (key.to_owned(), value)).into(),
        ..StorageSpec::default()
    };
    open(&spec, &LocalAccess::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_on_a_real_server() -> Result<()> {
    let Some(endpoint) = testing::server("COFFER_TEST_S3", "store contract::s3_on_a_real_server") else {
        return Ok(());
    };
    let wire = Arc::new(Wire::to(endpoint.trim_start_matches("http://")).await?);
    let prefix = uuid::Uuid::new_v4().to_string();
    let store = s3(&format!("http://{}", wire.address()), "", &prefix)?;
    let stranger = s3(&endpoint, "STRANGER_", &prefix)?;
    Suite::new(store, "suite").wire(wire, false).denied(stranger, true).run().await
}
