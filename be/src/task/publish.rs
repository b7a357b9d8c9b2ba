//! PublishVersion: see `tablet::publish` for what happens to files.

use super::{blocking, changed_tablets, stat};
use crate::limits::REPORT_TABLETS;
use crate::tablet::{Publish, PublishTablet};
use crate::task::TaskContext;
use coffer_proto::v1;
use coffer_proto::v1::task_result::Output;
use coffer_stdx::{Error, Result};
use coffer_table::Schema;

/// Publish one load; tablets that fail are named in the output.
pub async fn run(ctx: &TaskContext, work: v1::PublishVersion) -> Result<Output> {
    let schema: Schema = serde_json::from_str(&work.schema)
        .map_err(|error| Error::invalid(format!("schema of table {}: {error}", work.table_id)))?;
    let delete = match work.delete.as_str() {
        "" => None,
        text => Some(serde_json::from_str(text).map_err(|error| Error::bug(format!("conditions of DELETE: {error}")))?),
    };
    let tablet = |tablet: &v1::PublishTablet| PublishTablet {
        tablet_id: tablet.tablet_id,
        partition_id: tablet.partition_id,
        version: tablet.version,
        rows_expected: tablet.rows_expected,
    };
    let publish = Publish {
        transaction_id: work.transaction_id,
        table_id: work.table_id,
        schema,
        delete,
        tablets: work.tablets.iter().map(tablet).collect(),
    };
    let store = ctx.store.clone();
    let (failures, stats) = blocking(move || {
        let failures = store.publish(&publish);
        // Of more tablets than a message of a report has, the report that follows tells the rest.
        let published = publish.tablets.iter().filter_map(|tablet| store.tablet(tablet.tablet_id));
        let stats = published.take(REPORT_TABLETS).map(|tablet| stat(&tablet)).collect();
        Ok((failures, stats))
    })
    .await?;
    for (tablet, error) in &failures {
        tracing::warn!(tablet, transaction = work.transaction_id, %error, "publish failed");
    }
    Ok(changed_tablets(failures, stats))
}
