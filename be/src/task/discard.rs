//! DiscardLoads: rows that will never be published go away.

use super::{blocking, tablets_done};
use crate::task::TaskContext;
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_stdx::Result;

/// Discard loads; unknown ones are fine.
pub async fn run(ctx: &TaskContext, work: v1::DiscardLoads) -> Result<Output> {
    let store = ctx.store.clone();
    blocking(move || store.discard(&work.transaction_ids)).await?;
    Ok(tablets_done(Vec::new()))
}
