//! CREATE, DROP and SHOW REPOSITORY.
//!
//! Creating proves first, along the way that jobs will take, that the location can be written, read and deleted from; only
//! then is the repository known. A crash in between leaves an empty repository at the location, to which the next CREATE
//! attaches. READ ONLY attaches to a repository that exists and writes nothing.

use crate::catalog::cluster::{Access, Repository};
use crate::error::{self, Context as _, Error, Result};
use crate::exec::answer::{Answer, RowSet};
use crate::exec::context::Context;
use crate::exec::privilege::need_admin;
use crate::exec::session::Session;
use crate::exec::text;
use crate::meta::command::{Command, NewRepository};
use crate::sql::ast::{CreateRepository, RepositoryAccess};
use coffer_proto::ids::RepositoryId;
use coffer_stdx::secret::masked;
use coffer_stdx::time::now_ms;
use coffer_store::LocalAccess;
use std::time::Duration;

/// How long a statement talks to a repository before it gives up.
pub const REPOSITORY_WITHIN: Duration = Duration::from_secs(18);
/// The MySQL number of errors without a number of their own.
const COMMON_ERROR: u16 = 1105;
const DELETE_IF_EXISTS: &str = "delete_if_exists";

/// CREATE [READ ONLY] REPOSITORY.
pub async fn create(context: &Context, statement: CreateRepository) -> Result<Answer> {
    let mut wanted = wanted(&statement)?;
    context.meta.view(|state| {
        if state.find_repository(&wanted.name).is_some() {
            let text = format!("repository with same name already exist: {}", wanted.name);
            return Err(Error::already_exists(text));
        }
        match &wanted.access {
            Access::Broker(name) => state.broker_group(name).map(|_| ()),
            Access::S3 | Access::Hdfs | Access::Local => Ok(()),
        }
    })?;
    wanted.created_ms = now_ms();
    let proven = within("the repository", prove(context, &wanted)).await;
    proven.context(|| "Failed to create repository")?;
    let new = NewRepository {
        name: wanted.name.clone(),
        remote_name: wanted.remote_name,
        read_only: wanted.read_only,
        access: wanted.access,
        location: wanted.location,
        properties: wanted.properties,
        now_ms: wanted.created_ms,
    };
    context.meta.propose(Command::CreateRepository(new)).await?;
    Ok(Answer::ok())
}

/// The repository a statement describes.
fn wanted(statement: &CreateRepository) -> Result<Repository> {
    coffer_repo::layout::check_name(&statement.name)?;
    let mut properties = statement.properties.clone();
    match properties.remove(DELETE_IF_EXISTS).as_deref() {
        None | Some("false") => {}
        Some(_) => {
            return Err(Error::not_supported(format!(
                "property {DELETE_IF_EXISTS} is not supported: remove the repository's folder by hand if you mean it"
            )));
        }
    }
    let access = match &statement.access {
        RepositoryAccess::Broker(name) => Access::Broker(name.clone()),
        RepositoryAccess::S3 => Access::S3,
        RepositoryAccess::Hdfs => return Err(Error::not_supported("CREATE REPOSITORY WITH HDFS is not supported yet")),
        RepositoryAccess::Local => Access::Local,
    };
    Ok(Repository {
        id: RepositoryId(0),
        name: statement.name.clone(),
        remote_name: statement.name.clone(),
        read_only: statement.read_only,
        access,
        location: statement.location.trim().to_owned(),
        properties,
        created_ms: 0,
    })
}

/// Create or attach, through the path that jobs take.
async fn prove(context: &Context, wanted: &Repository) -> Result<()> {
    let store = store(context, wanted)?;
    if wanted.read_only {
        return coffer_repo::Repository::open(store, &wanted.remote_name).await.map(|_| ());
    }
    coffer_repo::Repository::create(store, &wanted.remote_name, wanted.created_ms).await.map(|_| ())
}

fn store(context: &Context, repository: &Repository) -> Result<std::sync::Arc<dyn coffer_store::Store>> {
    let spec = context.meta.view(|state| context.backends.storage(state, repository, (&context.config.host, 0)))?;
    coffer_store::open(&spec, &LocalAccess { roots: context.config.local_roots.clone() })
}

/// Open a repository of the catalog. Callers put it [`within`] a limit.
pub async fn open(context: &Context, repository: &Repository) -> Result<coffer_repo::Repository> {
    coffer_repo::Repository::open(store(context, repository)?, &repository.remote_name).await
}

/// A statement must not hang on a storage that does not answer.
pub async fn within<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| {
        Error::timeout(format!(
            "{what} did not answer within {} s; check the location, its endpoint and SHOW BROKER",
            REPOSITORY_WITHIN.as_secs()
        ))
    };
    let outcome = tokio::time::timeout(REPOSITORY_WITHIN, work).await.map_err(late)?;
    // What a storage denies is not a privilege of this cluster that the user lacks.
    outcome.map_err(|error| if error.number() == 0 { error.numbered(COMMON_ERROR) } else { error })
}

/// DROP REPOSITORY. What is at the location stays.
pub async fn drop(context: &Context, name: &str) -> Result<Answer> {
    let found = context.meta.view(|state| state.find_repository(name).map(|repository| repository.id));
    let repository = found.ok_or_else(|| Error::not_found(format!("Repository does not exist: {name}")))?;
    context.meta.propose(Command::DropRepository { repository }).await?;
    Ok(Answer::ok())
}

/// SHOW REPOSITORIES.
pub fn show(context: &Context) -> Answer {
    let columns = ["RepoId", "RepoName", "CreateTime", "IsReadOnly", "Location", "Broker", "Type", "ErrMsg"];
    let mut set = RowSet::new(columns);
    context.meta.view(|state| {
        for repository in state.repositories.values() {
            let (broker, kind) = match &repository.access {
                Access::Broker(name) => (name.as_str(), "BROKER"),
                Access::S3 => ("-", "S3"),
                Access::Hdfs => ("-", "HDFS"),
                Access::Local => ("-", "LOCAL"),
            };
            let reachable = context.backends.storage(state, repository, (&context.config.host, 0));
            set.rows.push(vec![
                Some(repository.id.to_string()),
                Some(repository.name.clone()),
                Some(text::time(repository.created_ms)),
                Some(repository.read_only.to_string()),
                Some(repository.location.clone()),
                Some(broker.to_owned()),
                Some(kind.to_owned()),
                reachable.err().map(|error| error.message().to_owned()),
            ]);
        }
    });
    Answer::Rows(set)
}

/// SHOW CREATE REPOSITORY FOR. Secrets are masked.
pub fn show_create(context: &Context, session: &Session, name: &str) -> Result<Answer> {
    need_admin(context, session)?;
    context.meta.view(|state| {
        let repository = state.find_repository(name).ok_or_else(|| error::unknown_repository(name))?;
        let mut set = RowSet::new(["RepoName", "CreateStmt"]);
        set.push([repository.name.clone(), statement(repository)]);
        Ok(Answer::Rows(set))
    })
}

fn statement(repository: &Repository) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let read_only = if repository.read_only { "READ ONLY " } else { "" };
    let access = match &repository.access {
        Access::Broker(name) => format!("BROKER `{name}`"),
        Access::S3 => "S3".to_owned(),
        Access::Hdfs => "HDFS".to_owned(),
        Access::Local => "LOCAL".to_owned(),
    };
    let mut text = format!(
        "CREATE {read_only}REPOSITORY `{}`\nWITH {access}\nON LOCATION {}",
        repository.name,
        quoted(&repository.location)
    );
    if !repository.properties.is_empty() {
        let pairs = masked(&repository.properties);
        let pairs: Vec<String> =
            pairs.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value))).collect();
        text.push_str(&format!("\nPROPERTIES\n(\n{}\n)", pairs.join(",\n")));
    }
    text.push(';');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn create(access: RepositoryAccess, pairs: &[(&str, &str)]) -> CreateRepository {
        CreateRepository {
            name: "r".to_owned(),
            read_only: true,
            access,
            location: " s3://b/p ".to_owned(),
            properties: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn the_statement_is_shown_without_secrets() {
        let pairs = [("s3.secret_key", "hunter2"), ("s3.endpoint", "http://\"x\""), ("delete_if_exists", "false")];
        let repository = wanted(&create(RepositoryAccess::Broker("b".to_owned()), &pairs)).unwrap();
        assert_eq!(
            statement(&repository),
            "CREATE READ ONLY REPOSITORY `r`\nWITH BROKER `b`\nON LOCATION \"s3://b/p\"\nPROPERTIES\n(\n\
             \"s3.endpoint\" = \"http://\\\"x\\\"\",\n\"s3.secret_key\" = \"*XXX\"\n);"
        );
        let plain = Repository { properties: BTreeMap::new(), read_only: false, access: Access::S3, ..repository };
        assert_eq!(statement(&plain), "CREATE REPOSITORY `r`\nWITH S3\nON LOCATION \"s3://b/p\";");
    }

    #[test]
    fn what_is_not_done_is_refused() {
        for (statement, says) in [
            (create(RepositoryAccess::Hdfs, &[]), "WITH HDFS is not supported"),
            (create(RepositoryAccess::S3, &[("delete_if_exists", "true")]), "delete_if_exists is not supported"),
            (CreateRepository { name: "a/b".to_owned(), ..create(RepositoryAccess::S3, &[]) }, "a/b"),
        ] {
            let error = wanted(&statement).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }
}
