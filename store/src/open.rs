//! A storage description becomes a store: the only place that names backends.

use crate::hdfs::HdfsStore;
use crate::limited::Limited;
use crate::local::LocalStore;
use crate::rate::Limits;
use crate::remote::RemoteStore;
use crate::retrying::Retrying;
use crate::s3::S3Store;
use crate::{Budget, LocalAccess, Store};
use coffer_proto::v1::StorageSpec;
use coffer_stdx::retry::Policy;
use coffer_stdx::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Memory for the parts of uploads of one store that shares no budget.
const PARTS_BYTES: u64 = 64 << 20;

/// Open the store that `spec` describes. Nothing is connected yet, so a wrong address shows on first use; a wrong
/// description shows here. Call it within a tokio runtime.
pub fn open(spec: &StorageSpec, access: &LocalAccess) -> Result<Arc<dyn Store>> {
    open_within(spec, access, &Budget::new(PARTS_BYTES))
}

/// [`open`], with the parts of uploads taken from a budget that other stores share.
pub fn open_within(spec: &StorageSpec, access: &LocalAccess, parts: &Budget) -> Result<Arc<dyn Store>> {
    if !spec.brokers.is_empty() {
        let remote = RemoteStore::open(spec)?;
        return Ok(Arc::new(Retrying::new(Arc::new(remote), Policy::CALL)));
    }
    let store = direct(spec, access, parts)?;
    Ok(match &spec.limit {
        Some(limit) => Arc::new(Limited::new(store, [Limits::of_process().learn(limit)])),
        None => store,
    })
}

/// The store of a location, opened here.
fn direct(spec: &StorageSpec, access: &LocalAccess, parts: &Budget) -> Result<Arc<dyn Store>> {
    let location = spec.location.as_str();
    match location.split_once("://") {
        Some(("file", path)) => local(spec, path, access),
        None if location.starts_with('/') => local(spec, location, access),
        Some(("s3" | "bos", _)) => {
            let s3 = S3Store::open(spec, parts)?;
            Ok(Arc::new(Retrying::new(Arc::new(s3), S3Store::RETRY)))
        }
        Some(("hdfs", _)) => {
            let hdfs = HdfsStore::open(spec, access, parts)?;
            Ok(Arc::new(Retrying::new(Arc::new(hdfs), HdfsStore::RETRY)))
        }
        Some(("null", _)) => Err(Error::not_supported(format!(
            "location '{location}' is for measurements; a broker serves it when its option allow_null is true"
        ))),
        Some((scheme, _)) => Err(Error::not_supported(format!("location '{location}': {scheme} is not supported yet"))),
        None => Err(Error::invalid(format!(
            "location '{location}' is not understood; write file:///directory, s3://bucket/prefix or hdfs://host:port/folder"
        ))),
    }
}

fn local(spec: &StorageSpec, path: &str, access: &LocalAccess) -> Result<Arc<dyn Store>> {
    if !path.starts_with('/') {
        return Err(Error::invalid(format!(
            "location '{}' must name an absolute path, as in file:///directory",
            spec.location
        )));
    }
    if let Some(name) = spec.properties.keys().min() {
        return Err(Error::invalid(format!("property '{name}' is unknown for location '{}'", spec.location)));
    }
    Ok(Arc::new(LocalStore::open(Path::new(path), access)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    fn spec(location: &str, properties: &[(&str, &str)]) -> StorageSpec {
        let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        StorageSpec { location: location.to_owned(), properties, ..StorageSpec::default() }
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let access = LocalAccess { roots: vec![dir.path().to_owned()], ..LocalAccess::default() };
        let inside = format!("file://{}/r", dir.path().display());
        open(&spec(&inside, &[]), &access).unwrap();
        open(&spec(inside.trim_start_matches("file://"), &[]), &access).unwrap();
        for (spec, kind, says) in [
            (spec(&inside, &[("username", "u")]), ErrorKind::Invalid, "property 'username' is unknown"),
            (spec("file://host/dir", &[]), ErrorKind::Invalid, "absolute path"),
            (spec("/etc", &[]), ErrorKind::Denied, "local_roots"),
            (spec("gs://bucket/x", &[]), ErrorKind::NotSupported, "gs is not supported yet"),
            (spec("hdfs://nn:x/", &[]), ErrorKind::Invalid, "malformed port 'x'"),
            (spec("s3://bucket", &[("s3.nonsense", "1")]), ErrorKind::Invalid, "'s3.nonsense' is unknown"),
            (spec("null://", &[]), ErrorKind::NotSupported, "allow_null"),
            (spec("nonsense", &[]), ErrorKind::Invalid, "not understood"),
        ] {
            let error = open(&spec, &access).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(says), "{error}");
        }
    }
}
