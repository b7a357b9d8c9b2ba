//! The `Replicas` service: metas and files of healthy tablets, for backends that repair theirs.
//!
//! A file is hashed while it is sent, so damage is found at the source too: its replica becomes bad, and the other end is
//! told and throws away what it got.

use crate::tablet::{DataFile, Tablet, TabletStore, changed_bytes};
use crate::task::blocking;
use bytes::Bytes;
use coffer_proto::channel::MESSAGE_BYTES;
use coffer_proto::v1::replicas_server::Replicas;
use coffer_proto::{status, v1};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Messages waiting for the wire, per file.
const QUEUE: usize = 2;
/// Files read for other backends at the same time; others wait.
const READS: usize = 8;

/// The service.
#[derive(Debug, Clone)]
pub struct ReplicasService {
    store: Arc<TabletStore>,
    places: Arc<Semaphore>,
}

impl ReplicasService {
    /// Over these tablets.
    pub fn new(store: Arc<TabletStore>) -> ReplicasService {
        ReplicasService { store, places: Arc::new(Semaphore::new(READS)) }
    }

    fn find_file(&self, wanted: &v1::ReadTabletFile) -> Result<(Arc<Tablet>, DataFile)> {
        let tablet = self.store.find(wanted.tablet_id)?;
        // A replaced file is still good for a description that was given before.
        let file = tablet.find_file(&wanted.name).ok_or_else(|| {
            Error::not_found(format!("tablet {} has no file {} any more", wanted.tablet_id, wanted.name))
        })?;
        Ok((tablet, file))
    }

    /// Send a file and say how it went; a sender that is gone ends it.
    async fn send(self, tablet: Arc<Tablet>, file: DataFile, out: mpsc::Sender<Result<v1::FileBytes, Status>>) {
        // The semaphore is never closed.
        let Ok(_place) = self.places.clone().acquire_owned().await else { return };
        let (sender, source, name) = (out.clone(), tablet.clone(), file.name.clone());
        let sent =
            blocking(move || read(&source, &file, |data| sender.blocking_send(Ok(v1::FileBytes { data })).is_ok()));
        if let Err(error) = sent.await {
            if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) {
                self.store.mark_file_bad(&tablet, &name, error.message());
            }
            // A receiver that is gone needs no answer.
            let _ = out.send(Err(status::to_status(&error))).await;
        }
    }
}

/// Read a file in messages until `give` says that nobody wants more; Corrupt when it is not what was written.
fn read(tablet: &Tablet, file: &DataFile, give: impl Fn(Bytes) -> bool) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    let path = tablet.file_path(&file.name);
    let mut input = File::open(&path).context(|| format!("file {}", path.display()))?;
    loop {
        let mut buffer = Vec::with_capacity(MESSAGE_BYTES);
        let read = input.by_ref().take(MESSAGE_BYTES as u64).read_to_end(&mut buffer);
        if read.context(|| format!("file {}", path.display()))? == 0 {
            break;
        }
        hasher.update(&buffer);
        if !give(buffer.into()) {
            return Ok(());
        }
    }
    if hasher.finalize().to_hex().as_str() == file.blake3 { Ok(()) } else { Err(changed_bytes(&file.name)) }
}

#[tonic::async_trait]
impl Replicas for ReplicasService {
    type ReadStream = ReceiverStream<Result<v1::FileBytes, Status>>;

    async fn describe(&self, request: Request<v1::DescribeTablet>) -> Result<Response<v1::TabletDescription>, Status> {
        let meta = self.store.find(request.into_inner().tablet_id).and_then(|tablet| tablet.meta().encode());
        let answer = |meta: Vec<u8>| Response::new(v1::TabletDescription { meta: meta.into() });
        meta.map(answer).map_err(|error| status::to_status(&error))
    }

    async fn read(&self, request: Request<v1::ReadTabletFile>) -> Result<Response<Self::ReadStream>, Status> {
        let (tablet, file) = self.find_file(&request.into_inner()).map_err(|error| status::to_status(&error))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(self.clone().send(tablet, file, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
