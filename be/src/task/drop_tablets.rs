//! DropTablets: tablets move to the trash.

use super::{blocking, tablets_done};
use crate::task::TaskContext;
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_stdx::Result;

/// Drop tablets; unknown ones are fine.
pub async fn run(ctx: &TaskContext, work: v1::DropTablets) -> Result<Output> {
    let store = ctx.store.clone();
    let failures = blocking(move || Ok(store.drop_tablets(&work.tablet_ids))).await?;
    Ok(tablets_done(failures))
}
