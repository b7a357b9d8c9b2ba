//! Repositories: where backups lie.

use super::ast::{CreateRepository, RepositoryAccess, Statement};
use super::cursor::Cursor;
use super::names;
use crate::error::{Error, Result};

/// Behind CREATE [READ ONLY] REPOSITORY: `[IF NOT EXISTS] name WITH ... ON LOCATION "..." [PROPERTIES (...)]`.
pub(super) fn create(cursor: &mut Cursor<'_>, read_only: bool) -> Result<Statement> {
    let if_not_exists = cursor.if_not_exists();
    let name = cursor.name("a repository name")?;
    names::check_common("repository", &name)?;
    cursor.need("WITH")?;
    let access = match cursor.need_one_of(&["BROKER", "S3", "HDFS", "LOCAL"])? {
        "BROKER" => RepositoryAccess::Broker(cursor.name("a broker name")?),
        "S3" => RepositoryAccess::S3,
        "HDFS" => RepositoryAccess::Hdfs,
        _ => RepositoryAccess::Local,
    };
    cursor.need("ON")?;
    cursor.need("LOCATION")?;
    let location = cursor.string("a quoted location")?;
    if location.trim().is_empty() {
        return Err(Error::invalid(format!("the location of repository {name} is empty")));
    }
    let properties = cursor.optional_properties()?;
    Ok(Statement::CreateRepository(CreateRepository { name, if_not_exists, read_only, access, location, properties }))
}

/// Behind ALTER REPOSITORY: `name [SET] PROPERTIES (...)`.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let name = cursor.name("a repository name")?;
    cursor.eat("SET");
    cursor.need("PROPERTIES")?;
    let properties = cursor.properties()?;
    if properties.is_empty() {
        return Err(Error::invalid(format!("ALTER REPOSITORY {name}: no property to change is given")));
    }
    Ok(Statement::AlterRepository { name, properties })
}

/// Behind DROP REPOSITORY: `[IF EXISTS] name`.
pub(super) fn drop(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let if_exists = cursor.if_exists();
    Ok(Statement::DropRepository { name: cursor.name("a repository name")?, if_exists })
}
