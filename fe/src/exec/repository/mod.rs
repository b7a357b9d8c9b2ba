//! Statements about repositories, and opening one for a statement.
//!
//! A statement never hangs on a storage: calls through a broker end after [`PATIENCE_MS`] with the cause that the broker
//! met, and everything together after [`REPOSITORY_WITHIN`]. Errors name the repository, its location and endpoint, and
//! the broker.
//!
//! Modules: `properties` | `overlap` | `change`, `show`.

mod change;
mod overlap;
pub mod properties;
#[cfg(test)]
mod sample;
mod show;

pub use change::{alter, create, drop};
pub use show::{show, show_create};

use crate::catalog::cluster::{Access, Repository};
use crate::error::{Context as _, Error, Result};
use crate::exec::context::Context;
use coffer_stdx::retry;
use coffer_store::{LocalAccess, Store};
use std::sync::Arc;
use std::time::Duration;

/// How long a statement talks to a repository before it gives up.
pub const REPOSITORY_WITHIN: Duration = Duration::from_secs(18);
/// How long one call through a broker may take, milliseconds.
const PATIENCE_MS: u32 = 12_000;
/// The MySQL number of errors without a number of their own.
const COMMON_ERROR: u16 = 1105;
/// Properties that say where a storage answers.
const ENDPOINTS: [&str; 6] =
    ["s3.endpoint", "AWS_ENDPOINT", "bos_endpoint", "aws.s3.endpoint", "fs.defaultFS", "s3.region"];

/// The way to a repository's storage, for a statement that somebody waits for.
fn store(context: &Context, repository: &Repository) -> Result<Arc<dyn Store>> {
    let mut spec = context.meta.view(|state| context.backends.storage(state, repository, (&context.config.host, 0)))?;
    spec.patience_ms = PATIENCE_MS;
    spec.leader = Some(context.meta.mark()?);
    coffer_store::open(
        &spec,
        &LocalAccess { roots: context.config.local_roots.clone(), conf_dir: context.config.conf_dir.clone() },
    )
}

/// Open a repository of the catalog. Callers put it [`within`] a limit.
pub async fn open(context: &Context, repository: &Repository) -> Result<coffer_repo::Repository> {
    let opening = async { coffer_repo::Repository::open(store(context, repository)?, &repository.remote_name).await };
    opening.await.context(|| target(repository))
}

/// A statement must not hang on a storage that does not answer; out of time it says what the last try met.
pub async fn within<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || {
        Error::timeout(format!(
            "{what} did not answer within {} s; check that the location and its endpoint are right and can be reached, \
             and see SHOW BROKER",
            REPOSITORY_WITHIN.as_secs()
        ))
    };
    let outcome = retry::within(REPOSITORY_WITHIN, late, work).await;
    // What a storage denies is not a privilege of this cluster that the user lacks.
    outcome.map_err(|error| if error.number() == 0 { error.numbered(COMMON_ERROR) } else { error })
}

/// A repository as errors name it: `repository r (s3://b/p at http://host:9000 through broker b)`.
fn target(repository: &Repository) -> String {
    let endpoint = ENDPOINTS.iter().find_map(|key| repository.properties.get(*key));
    let at = endpoint.map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
    let through = match &repository.access {
        Access::Broker(name) => format!(" through broker {name}"),
        Access::S3 | Access::Hdfs | Access::Local => String::new(),
    };
    format!("repository {} ({}{at}{through})", repository.name, repository.location)
}

#[cfg(test)]
mod tests {
    use super::sample::repository;
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn errors_name_location_endpoint_and_broker() {
        let pairs = [("s3.endpoint", "http://h:9000"), ("s3.region", "x"), ("s3.secret_key", "hunter2")];
        let through = target(&repository(Access::Broker("b".to_owned()), "s3://b/p", &pairs));
        assert_eq!(through, "repository r (s3://b/p at http://h:9000 through broker b)");
        assert_eq!(target(&repository(Access::Local, "/r", &[])), "repository r (/r)");
    }

    #[tokio::test]
    async fn a_storage_error_is_not_a_missing_privilege() {
        let denied = std::future::ready(Err::<(), _>(Error::denied("access key is wrong")));
        let error = within("r", denied).await.unwrap_err();
        assert_eq!((error.kind(), error.number()), (ErrorKind::Denied, COMMON_ERROR));
    }
}
