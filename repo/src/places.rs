//! Which repositories lie at a location.

use crate::layout::{check_name, repository_of};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use coffer_store::{Child, Store};
use futures::TryStreamExt;

/// Entries of a location that are looked at: a location may hold much else, and then a name must be given.
const MAX_ENTRIES: usize = 100_000;

/// The names of all repositories directly at the location of `store`, in order. One listing of one level.
pub async fn repositories_at(store: &dyn Store) -> Result<Vec<String>> {
    let mut entries = store.children("").await.context(|| "list the location")?;
    let (mut names, mut seen) = (Vec::new(), 0);
    while let Some(entry) = entries.try_next().await.context(|| "list the location")? {
        seen += 1;
        if seen > MAX_ENTRIES {
            return Err(Error::limit(format!(
                "the location has more than {MAX_ENTRIES} entries; choose a folder below it"
            )));
        }
        if let Child::Folder(path) = entry
            && let Some(name) = repository_of(&path)
            && check_name(name).is_ok()
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_store::memory::MemoryStore;
    use coffer_store::{PutOptions, from_bytes};

    #[tokio::test]
    async fn folders_of_repositories_are_told_from_others() {
        let store = MemoryStore::new();
        assert!(repositories_at(&store).await.unwrap().is_empty());
        let objects = ["__coffer_repository_b/x", "__coffer_repository_a/y/z", "else/x", "__coffer_repository_c"];
        for path in objects.into_iter().chain(["__coffer_repository_/x", "__coffer_repository_a b/x"]) {
            store.put(path, from_bytes("x"), PutOptions::default()).await.unwrap();
        }
        assert_eq!(repositories_at(&store).await.unwrap(), ["a", "b"]);
    }
}
