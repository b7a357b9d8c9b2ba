//! CREATE, ALTER and DROP REPOSITORY.
//!
//! Creating proves first, along the way that jobs will take, that the location can be written, read and deleted from; only
//! then is the repository known. A crash in between leaves an empty repository at the location, to which the next CREATE
//! attaches. READ ONLY attaches to a repository that exists and writes nothing. Altering proves the same with the new
//! properties, unless it changes nothing that the storage sees. `delete_if_exists` removes the folder of that name first; a
//! crash in between leaves a part of what was there, which the same statement removes. Dropping forgets; what is at the
//! location stays. Secrets are sealed before they go into the log.

use super::properties::{DELETE_IF_EXISTS, REMOTE_NAME, limits, removal};
use super::{overlap, store, target, within};
use crate::catalog::cluster::{Access, Repository};
use crate::error::{Context as _, Error, Result};
use crate::exec::answer::Answer;
use crate::exec::context::Context;
use crate::meta::command::{AlteredRepository, Command, NewRepository};
use crate::sql::ast::{CreateRepository, Properties, RepositoryAccess};
use coffer_proto::ids::RepositoryId;
use coffer_repo::Opened;
use coffer_stdx::time::now_ms;

/// CREATE [READ ONLY] REPOSITORY.
pub async fn create(context: &Context, statement: CreateRepository) -> Result<Answer> {
    let if_not_exists = statement.if_not_exists;
    let (mut wanted, given, removes) = wanted(statement)?;
    let is_known = context.meta.view(|state| {
        let known = state.find_repository(&wanted.name).is_some();
        match &wanted.access {
            Access::Broker(name) if !known => state.broker_group(name).map(|_| known),
            Access::Broker(_) | Access::S3 | Access::Hdfs | Access::Local => Ok(known),
        }
    })?;
    if is_known && if_not_exists {
        return Ok(Answer::ok());
    }
    if is_known {
        return Err(Error::already_exists(format!("repository with same name already exist: {}", wanted.name)));
    }
    wanted.created_ms = now_ms();
    if removes {
        context.meta.view(|state| overlap::check(&wanted, state.repositories.values()))?;
    }
    let proven = within("it", prove(context, &wanted, given, removes)).await;
    let (remote_name, opened) = proven.context(|| format!("Failed to create repository: {}", target(&wanted)))?;
    let info = match opened {
        Opened::Created => String::new(),
        Opened::Attached => format!("attached to repository '{remote_name}' that is at the location"),
    };
    let new = NewRepository {
        name: wanted.name.clone(),
        remote_name,
        read_only: wanted.read_only,
        access: wanted.access,
        location: wanted.location,
        properties: context.backends.vault().seal(&wanted.properties)?,
        now_ms: wanted.created_ms,
        limits: wanted.limits,
    };
    context.meta.propose(Command::CreateRepository(new)).await?;
    Ok(Answer::affected(0, info))
}

/// The repository a statement describes, the name that it says the repository has at its location, and whether what is
/// there under that name is to be removed first.
fn wanted(statement: CreateRepository) -> Result<(Repository, Option<String>, bool)> {
    coffer_repo::layout::check_name(&statement.name)?;
    let (limits, mut properties) = limits(statement.properties)?;
    let removes = removal(&mut properties)?;
    if removes {
        check_removal(&statement.access, statement.read_only)?;
    }
    // What is removed has the name that the statement says, never one that is found.
    let given = properties.remove(REMOTE_NAME).or_else(|| removes.then(|| statement.name.clone()));
    given.iter().try_for_each(|name| coffer_repo::layout::check_name(name))?;
    let access = match statement.access {
        RepositoryAccess::Broker(name) => Access::Broker(name),
        RepositoryAccess::S3 => Access::S3,
        RepositoryAccess::Hdfs => Access::Hdfs,
        RepositoryAccess::Local => Access::Local,
    };
    let location = statement.location.trim().to_owned();
    check_location(&access, &location)?;
    let wanted = Repository {
        id: RepositoryId(0),
        remote_name: given.clone().unwrap_or_else(|| statement.name.clone()),
        name: statement.name,
        read_only: statement.read_only,
        access,
        location,
        properties,
        created_ms: 0,
        limits: (!limits.is_empty()).then(|| limits.of(Default::default())),
    };
    Ok((wanted, given, removes))
}

/// Whether a statement of this kind can remove the repository that is there.
fn check_removal(access: &RepositoryAccess, read_only: bool) -> Result<()> {
    if *access != RepositoryAccess::S3 {
        return Err(Error::not_supported(format!(
            "property {DELETE_IF_EXISTS} is not supported but for WITH S3: remove the repository's folder by hand if you \
             mean it"
        )));
    }
    if read_only {
        return Err(Error::invalid(format!(
            "a READ ONLY repository writes and removes nothing: {DELETE_IF_EXISTS} cannot be true for it"
        )));
    }
    Ok(())
}

/// Which repository at the location is meant: the one that is named, else the one with the local name, else the only one
/// that is there, which another cluster may have made under its name.
fn choose(name: &str, found: &[String]) -> Result<String> {
    match found {
        _ if found.iter().any(|there| there == name) => Ok(name.to_owned()),
        [] => Ok(name.to_owned()),
        [only] => Ok(only.clone()),
        many => Err(Error::invalid(format!(
            "the location holds repositories {} and none named {name}; say with the property {REMOTE_NAME} which one you \
             mean, or that a new one named {name} should be made",
            many.join(", ")
        ))),
    }
}

/// No location holds a password. Without a broker the statement names the kind of storage, and the location must be of
/// that kind.
fn check_location(access: &Access, location: &str) -> Result<()> {
    // Locations show everywhere: the error does not repeat this one.
    let authority = location.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
    if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
        return Err(Error::invalid(
            "the location of a repository must not hold a password (scheme://user:password@...): locations are shown; give \
             credentials as properties, which are not",
        ));
    }
    let scheme = location.split_once("://").map_or("file", |(scheme, _)| scheme);
    let (kind, schemes): (&str, &[&str]) = match access {
        Access::Broker(_) => return Ok(()),
        Access::S3 => ("S3", &["s3", "s3a", "s3n", "bos"]),
        Access::Hdfs => ("HDFS", &["hdfs", "viewfs"]),
        Access::Local => ("LOCAL", &["file"]),
    };
    if schemes.contains(&scheme) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "location '{location}' does not fit WITH {kind}, which takes {}://",
        schemes.join(":// or ")
    )))
}

/// Create or attach, through the path that jobs take; the name it has there.
async fn prove(
    context: &Context,
    wanted: &Repository,
    given: Option<String>,
    removes: bool,
) -> Result<(String, Opened)> {
    let store = store(context, wanted)?;
    if removes {
        remove(&*store, &wanted.remote_name).await?;
    }
    let name = match given {
        Some(name) => name,
        None => choose(&wanted.name, &coffer_repo::repositories_at(&*store).await?)?,
    };
    let opened = match wanted.read_only {
        true => coffer_repo::Repository::open(store, &name).await.map(|_| Opened::Attached)?,
        false => coffer_repo::Repository::create(store, &name, wanted.created_ms).await?.1,
    };
    Ok((name, opened))
}

/// Remove the folder of the repository of that name, and nothing beside it. Repeating it is harmless.
async fn remove(store: &dyn coffer_store::Store, name: &str) -> Result<()> {
    let layout = coffer_repo::layout::Layout::new(name)?;
    let folder = layout.root();
    tracing::warn!(repository = %name, %folder, "{DELETE_IF_EXISTS}: removing what is there");
    store.delete(folder, true).await.context(|| format!("{DELETE_IF_EXISTS}: remove '{folder}'"))
}

/// ALTER REPOSITORY.
pub async fn alter(context: &Context, name: &str, properties: Properties) -> Result<Answer> {
    let found = context.meta.view(|state| state.find_repository(name).cloned());
    let repository = found.ok_or_else(|| Error::not_found(format!("Repository does not exist: {name}")))?;
    let (limits, mut properties) = limits(properties)?;
    if removal(&mut properties)? {
        return Err(Error::invalid(format!("{DELETE_IF_EXISTS} is of CREATE REPOSITORY: ALTER removes nothing")));
    }
    if properties.contains_key(REMOTE_NAME) {
        return Err(Error::invalid(format!(
            "{REMOTE_NAME} cannot be changed: DROP REPOSITORY {name} and create it again, which leaves what is there alone"
        )));
    }
    if !properties.is_empty() {
        let altered = altered(&repository, &properties);
        let proven = within("it", prove_again(context, &altered)).await;
        proven.context(|| format!("Repository ping failed with new properties: {}", target(&altered)))?;
    }
    let properties = context.backends.vault().seal(&properties)?;
    let change = AlteredRepository { repository: repository.id, properties, limits };
    context.meta.propose(Command::AlterRepository(change)).await?;
    Ok(Answer::ok())
}

/// The repository as it will be: an empty value removes a property.
fn altered(repository: &Repository, changes: &Properties) -> Repository {
    let mut properties = repository.properties.clone();
    properties.extend(changes.clone());
    properties.retain(|_, value| !value.is_empty());
    Repository { properties, ..repository.clone() }
}

/// It must be there already, and take what jobs do.
async fn prove_again(context: &Context, altered: &Repository) -> Result<()> {
    let store = store(context, altered)?;
    let name = &altered.remote_name;
    coffer_repo::Repository::open(std::sync::Arc::clone(&store), name).await?;
    if !altered.read_only {
        coffer_repo::Repository::create(store, name, altered.created_ms).await?;
    }
    Ok(())
}

/// DROP REPOSITORY.
pub async fn drop(context: &Context, name: &str, if_exists: bool) -> Result<Answer> {
    match context.meta.view(|state| state.find_repository(name).map(|repository| repository.id)) {
        Some(repository) => context.meta.propose(Command::DropRepository { repository }).await.map(|_| Answer::ok()),
        None if if_exists => Ok(Answer::ok()),
        None => Err(Error::not_found(format!("Repository does not exist: {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::repository;
    use super::*;
    use crate::catalog::rate::RateLimits;
    use futures::TryStreamExt as _;

    fn create(access: RepositoryAccess, location: &str, pairs: &[(&str, &str)]) -> CreateRepository {
        CreateRepository {
            name: "r".to_owned(),
            if_not_exists: false,
            read_only: true,
            access,
            location: location.to_owned(),
            properties: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn a_statement_describes_a_repository() {
        let pairs =
            [("k", "v"), ("max_bytes_per_second", "1K"), ("remote_name", "other"), ("delete_if_exists", "false")];
        let (found, given, removes) = wanted(create(RepositoryAccess::S3, " s3://b/p ", &pairs)).unwrap();
        assert!(!removes);
        assert_eq!(given.as_deref(), Some("other"));
        assert_eq!((found.location.as_str(), found.remote_name.as_str(), found.read_only), ("s3://b/p", "other", true));
        assert_eq!(found.limits, Some(RateLimits { upload: 1_024, download: 1_024 }));
        assert_eq!(found.properties.keys().collect::<Vec<_>>(), ["k"]);
        let (plain, given, _) = wanted(create(RepositoryAccess::Local, "/r", &[])).unwrap();
        assert_eq!((plain.limits, plain.remote_name.as_str(), given), (None, "r", None));
    }

    #[test]
    fn no_location_holds_a_password() {
        let access = Access::Broker("b".to_owned());
        for location in ["s3://u:hunter2@b/p", "hdfs://u:hunter2@x@nn:1/d"] {
            let error = check_location(&access, location).unwrap_err();
            assert!(error.message().contains("properties") && !error.message().contains("hunter2"), "{error}");
        }
        for location in ["hdfs://nn:8020/d@e:f", "hdfs://user@nn:8020/d", "s3://b/p"] {
            assert_eq!(check_location(&access, location), Ok(()), "{location}");
        }
    }

    #[test]
    fn the_only_repository_of_a_location_is_attached_under_any_name() {
        let found = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (there, chosen) in [(&[][..], "r"), (&["r", "s"], "r"), (&["other"], "other")] {
            assert_eq!(choose("r", &found(there)).unwrap(), chosen);
        }
        let error = choose("r", &found(&["a", "b"])).unwrap_err();
        assert!(error.message().contains("a, b") && error.message().contains("remote_name"), "{error}");
    }

    #[test]
    fn what_is_not_done_is_refused() {
        let s3 = |pairs| create(RepositoryAccess::S3, "s3://b/p", pairs);
        for (statement, says) in [
            (s3(&[("delete_if_exists", "true")]), "READ ONLY"),
            (s3(&[("delete_if_exists", "1")]), "not true or false"),
            (create(RepositoryAccess::Hdfs, "hdfs://n/p", &[("delete_if_exists", "true")]), "delete_if_exists is not"),
            (s3(&[("remote_name", "a/b")]), "a/b"),
            (CreateRepository { name: "a/b".to_owned(), ..s3(&[]) }, "a/b"),
            (create(RepositoryAccess::S3, "hdfs://n/p", &[]), "does not fit WITH S3"),
            (create(RepositoryAccess::Hdfs, "s3://b/p", &[]), "hdfs:// or viewfs://"),
            (create(RepositoryAccess::Local, "s3://b/p", &[]), "does not fit WITH LOCAL"),
        ] {
            let error = wanted(statement).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
        assert!(wanted(create(RepositoryAccess::Broker("b".to_owned()), "null://", &[])).is_ok());
    }

    #[tokio::test]
    async fn only_the_named_repository_is_removed() {
        let pairs = [("delete_if_exists", "true")];
        let statement = CreateRepository { read_only: false, ..create(RepositoryAccess::S3, "s3://b/p", &pairs) };
        let (found, given, removes) = wanted(statement).unwrap();
        assert_eq!((given.as_deref(), removes, found.properties.len()), (Some("r"), true, 0));
        let store = coffer_store::memory::MemoryStore::new();
        let kept = ["__coffer_repository_r2/__repo_info", "__coffer_repository_s/x", "r/x", "z"];
        for path in ["__coffer_repository_r/__repo_info", "__coffer_repository_r/packs/a/b"].iter().chain(&kept) {
            coffer_store::Store::put(&store, path, coffer_store::from_bytes("x"), Default::default()).await.unwrap();
        }
        for _ in 0..2 {
            remove(&store, "r").await.unwrap();
            let left: Vec<_> = coffer_store::Store::list(&store, "").await.unwrap().try_collect().await.unwrap();
            let mut left: Vec<_> = left.into_iter().map(|object: coffer_store::ObjectInfo| object.path).collect();
            left.sort();
            assert_eq!(left, kept);
        }
    }

    #[test]
    fn an_empty_value_removes_a_property() {
        let before = repository(Access::S3, "s3://b/p", &[("a", "1"), ("b", "2")]);
        let change = [("a", ""), ("c", "3")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let after = altered(&before, &change);
        assert_eq!(after.properties.keys().collect::<Vec<_>>(), ["b", "c"]);
    }
}
