//! A repository for the tests beside it.

use crate::catalog::cluster::{Access, Repository};
use coffer_proto::ids::RepositoryId;

pub(super) fn repository(access: Access, location: &str, pairs: &[(&str, &str)]) -> Repository {
    Repository {
        id: RepositoryId(7),
        name: "r".to_owned(),
        remote_name: "r".to_owned(),
        read_only: false,
        access,
        location: location.to_owned(),
        properties: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        created_ms: 0,
        limits: None,
    }
}
