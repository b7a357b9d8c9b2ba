//! CleanTrash: what lies in the trash goes at once.

use super::{blocking, tablets_done};
use crate::task::TaskContext;
use coffer_proto::v1::task_result::Output;
use coffer_stdx::Result;

/// Empty the trash of every disk.
pub async fn run(ctx: &TaskContext) -> Result<Output> {
    let store = ctx.store.clone();
    blocking(move || store.empty_trash()).await?;
    Ok(tablets_done(Vec::new()))
}
