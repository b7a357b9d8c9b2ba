//! CloneTablet: this backend's replica becomes a copy of another backend's.
//!
//! Files that the old replica has with the same bytes are linked, the others come over the wire and are checked against
//! the BLAKE3 in the meta. Nothing of the old replica is touched before the new one is complete (see `tablet::replace`).
//! A source that fails is followed by the next.

use crate::tablet::replace::{Replacement, check_description};
use crate::tablet::{DataFile, TabletMeta, changed_bytes};
use crate::task::{TaskContext, blocking, changed_tablets, stat};
use coffer_proto::channel::{self, MAX_MESSAGE_BYTES};
use coffer_proto::v1::replicas_client::ReplicasClient;
use coffer_proto::v1::task_result::Output;
use coffer_proto::{status, v1};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tonic::transport::Channel;

/// Run the task.
pub async fn run(ctx: &TaskContext, work: v1::CloneTablet) -> Result<Output> {
    let id = work.tablet_id;
    let mut last = Error::unavailable(format!("tablet {id} has no replica to copy from"));
    for source in &work.sources {
        ctx.check()?;
        match clone_from(ctx, &work, source).await {
            Ok(()) => {
                tracing::info!(tablet = id, source, "replica repaired");
                return Ok(changed_tablets(
                    Vec::new(),
                    ctx.store.tablet(id).iter().map(|tablet| stat(tablet)).collect(),
                ));
            }
            Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::NoSpace) => return Err(error),
            Err(error) => {
                tracing::warn!(tablet = id, source, %error, "cannot copy a replica");
                last = error;
            }
        }
    }
    Err(last).context(|| format!("copy tablet {id}"))
}

async fn clone_from(ctx: &TaskContext, work: &v1::CloneTablet, source: &str) -> Result<()> {
    if ctx.store.tablet(work.tablet_id).is_some_and(|tablet| tablet.meta().version >= work.version) {
        return Ok(());
    }
    let peer = format!("backend {source}");
    let mut client = ReplicasClient::new(channel::connect(source)?).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let described = client.describe(v1::DescribeTablet { tablet_id: work.tablet_id }).await;
    let described = described.map_err(|error| status::from_status(&error, &peer))?.into_inner();
    let meta = TabletMeta::decode(&described.meta).context(|| format!("{peer}: description of the tablet"))?;
    check_description(&meta, (work.tablet_id, work.table_id, work.partition_id), work.version)
        .context(|| peer.clone())?;
    let files: Vec<DataFile> = meta.files().cloned().collect();
    ctx.progress.set_total(meta.bytes(), files.len() as u64);
    let (store, run) = (ctx.store.clone(), uuid::Uuid::new_v4().simple().to_string());
    let copy = blocking(move || Replacement::begin(&store, meta, &run)).await?;
    let copy = Arc::new(copy);
    for file in files {
        ctx.check()?;
        let (old, wanted) = (copy.clone(), file.clone());
        if !blocking(move || old.reuse(&wanted)).await? {
            fetch(ctx, &mut client, (work.tablet_id, &peer), &file, &copy).await?;
        }
        ctx.progress.add(file.bytes, 1);
    }
    let copy = Arc::into_inner(copy).ok_or_else(|| Error::bug("a copy of a tablet is still being written"))?;
    blocking(move || copy.commit()).await
}

/// Bring one file.
async fn fetch(
    ctx: &TaskContext,
    client: &mut ReplicasClient<Channel>,
    (tablet_id, peer): (u64, &str),
    file: &DataFile,
    copy: &Replacement,
) -> Result<()> {
    let failed = |error: &tonic::Status| status::from_status(error, peer);
    let request = v1::ReadTabletFile { tablet_id, name: file.name.clone() };
    let mut stream = client.read(request).await.map_err(|error| failed(&error))?.into_inner();
    let path = copy.path(&file.name);
    let name = || format!("write {}", path.display());
    let mut out = File::create(&path).await.context(name)?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    while let Some(message) = stream.message().await.map_err(|error| failed(&error))? {
        ctx.check()?;
        bytes += message.data.len() as u64;
        if bytes > file.bytes {
            break;
        }
        hasher.update(&message.data);
        out.write_all(&message.data).await.context(name)?;
    }
    out.flush().await.context(name)?;
    if bytes == file.bytes && hasher.finalize().to_hex().as_str() == file.blake3 {
        return Ok(());
    }
    Err(changed_bytes(&file.name)).context(|| peer.to_owned())
}
