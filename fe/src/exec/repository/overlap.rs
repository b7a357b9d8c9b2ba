//! Whether removing a repository's folder would take something from a repository that this cluster knows. Pure.
//!
//! Locations are compared by bucket and path alone, whatever the scheme and the endpoint: two services may be one under two
//! names, and refusing too much costs a DROP REPOSITORY at most. Jobs hold their repository, so what no repository points
//! to no job uses.

use super::properties::DELETE_IF_EXISTS;
use crate::catalog::cluster::Repository;
use crate::error::{Error, Result};
use coffer_repo::layout::Layout;

/// Refuse to remove the folder of `wanted` while one of `known` lies in it, or it in one of them.
pub(super) fn check<'a>(wanted: &Repository, known: impl IntoIterator<Item = &'a Repository>) -> Result<()> {
    let folder = folder(wanted)?;
    for repository in known {
        let other = self::folder(repository)?;
        if other.starts_with(&folder) || folder.starts_with(&other) {
            return Err(Error::conflict(format!(
                "{DELETE_IF_EXISTS}: repository {} of this cluster lies in the folder '{folder}' that would be removed; DROP \
                 REPOSITORY {} first if you mean it",
                repository.name, repository.name
            )));
        }
    }
    Ok(())
}

/// `bucket/prefix/__coffer_repository_name/`.
fn folder(repository: &Repository) -> Result<String> {
    let layout = Layout::new(&repository.remote_name)?;
    let place = repository.location.split_once("://").map_or(repository.location.as_str(), |(_, rest)| rest);
    let segments = place.split('/').chain([layout.root()]).filter(|segment| !segment.is_empty());
    Ok(segments.map(|segment| format!("{segment}/")).collect())
}

#[cfg(test)]
mod tests {
    use super::super::sample::repository;
    use super::*;
    use crate::catalog::cluster::Access;
    use crate::error::ErrorKind;

    fn at(location: &str, remote_name: &str) -> Repository {
        Repository { remote_name: remote_name.to_owned(), ..repository(Access::S3, location, &[]) }
    }

    #[test]
    fn a_folder_in_use_is_not_removed() {
        let wanted = at("s3://b/p", "x");
        for other in [
            at("s3a://b//p/", "x"),
            at("s3://b/p/__coffer_repository_x", "y"),
            Repository { access: Access::Broker("k".to_owned()), ..at("s3://b/p", "x") },
        ] {
            let error = check(&wanted, [&at("s3://c", "x"), &other]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.message().contains("DROP REPOSITORY r"), "{error}");
        }
        assert!(check(&at("s3://b/__coffer_repository_o/p", "x"), [&at("s3://b", "o")]).is_err());
        let others = [at("s3://b/p", "x2"), at("s3://b/p", "X"), at("s3://b", "x"), at("s3://c/p", "x")];
        assert_eq!(check(&wanted, &others), Ok(()));
        assert_eq!(check(&wanted, []), Ok(()));
    }
}
