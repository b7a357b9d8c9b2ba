//! ADMIN CLEAN TRASH: backends empty their trash at once, instead of when what lies there is old enough.
//!
//! What a kill -9 in the middle leaves in a trash goes later, or when it is asked for again.

use super::find_backends;
use crate::error::{Error, Result};
use crate::exec::answer::Answer;
use crate::exec::context::Context;
use coffer_proto::ids::BackendId;
use coffer_proto::v1;
use coffer_proto::v1::task::Work;
use std::time::Duration;

/// A backend that takes longer goes on without being waited for.
const EMPTY_WITHIN: Duration = Duration::from_secs(300);

/// Have these backends empty their trash; none: all that live.
pub(in crate::exec) async fn clean(context: &Context, named: &[String]) -> Result<Answer> {
    let backends = match named.is_empty() {
        true => context.meta.view(|state| state.backends.keys().copied().collect::<Vec<_>>()),
        false => context.meta.view(|state| find_backends(state, named))?,
    };
    let wanted = |backend: &BackendId| !named.is_empty() || context.backends.alive(*backend);
    let tasks = backends.into_iter().filter(wanted).map(|backend| clean_one(context, backend));
    let failed: Vec<String> = futures::future::join_all(tasks).await.into_iter().filter_map(Result::err).collect();
    match failed.is_empty() {
        true => Ok(Answer::ok()),
        false => Err(Error::unavailable(format!("not every trash was emptied: {}", failed.join("; ")))),
    }
}

async fn clean_one(context: &Context, backend: BackendId) -> std::result::Result<(), String> {
    let id = format!("trash/{backend}/{}", context.backends.unique());
    let run = context.backends.run(backend, id, Work::CleanTrash(v1::CleanTrash {}));
    match tokio::time::timeout(EMPTY_WITHIN, run).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("backend {backend}: {error}")),
        Err(_) => Err(format!("backend {backend}: not within {} s", EMPTY_WITHIN.as_secs())),
    }
}
