//! Repositories.

use super::ast::{CreateRepository, RepositoryAccess, Statement};
use super::cursor::Cursor;
use super::names;
use crate::error::{Error, Result};

/// Behind CREATE [READ ONLY] REPOSITORY.
pub(super) fn create(cursor: &mut Cursor<'_>, read_only: bool) -> Result<Statement> {
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
    Ok(Statement::CreateRepository(CreateRepository { name, read_only, access, location, properties }))
}

/// Behind DROP REPOSITORY.
pub(super) fn drop(cursor: &mut Cursor<'_>) -> Result<Statement> {
    cursor.name("a repository name").map(Statement::DropRepository)
}
