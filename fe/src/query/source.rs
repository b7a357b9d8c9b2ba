//! Where scans get their batches: Arrow Flight from backends, or memory in tests.

use crate::backends::Backends;
use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use async_trait::async_trait;
use coffer_proto::channel::{Channels, MAX_MESSAGE_BYTES, connect_scans};
use coffer_proto::ids::{BackendId, TabletId};
use coffer_proto::status::from_status;
use coffer_proto::v1::ScanTicket;
use coffer_stdx::{Error, ErrorKind, Result};
use datafusion::arrow::array::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::fmt;

/// Channels kept; more backends than any cluster has, so it is only reached when addresses keep changing.
const MAX_CHANNELS: usize = 2 * crate::limits::MAX_BACKENDS;

/// Batches of a scan as they come.
pub(crate) type Batches = BoxStream<'static, Result<RecordBatch>>;

/// A replica, as last reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) version: u64,
    pub(crate) rows: u64,
}

/// Reads tablets.
#[async_trait]
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// Whether a backend is worth asking first.
    fn alive(&self, backend: BackendId) -> bool;

    /// What a backend last reported about a tablet; it may be ahead of that by now.
    fn reported(&self, tablet: TabletId, backend: BackendId) -> Option<Reported>;

    /// Start reading from the backend at this address.
    async fn open(&self, address: &str, ticket: ScanTicket) -> Result<Batches>;
}

/// The backends of the cluster.
pub(crate) struct Flight {
    backends: Backends,
    channels: Channels,
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flight")
    }
}

impl Flight {
    pub(crate) fn new(backends: Backends) -> Flight {
        Flight { backends, channels: Channels::new(connect_scans, MAX_CHANNELS) }
    }
}

#[async_trait]
impl Source for Flight {
    fn alive(&self, backend: BackendId) -> bool {
        self.backends.alive(backend)
    }

    fn reported(&self, tablet: TabletId, backend: BackendId) -> Option<Reported> {
        let stat = self.backends.tablet_stat(tablet, backend)?;
        Some(Reported { version: stat.version, rows: stat.rows })
    }

    async fn open(&self, address: &str, ticket: ScanTicket) -> Result<Batches> {
        let mut client =
            FlightServiceClient::new(self.channels.to(address)?).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let peer = format!("backend {address}");
        let ticket = Ticket { ticket: ticket.encode_to_vec().into() };
        let messages = client.do_get(ticket).await.map_err(|status| from_status(&status, &peer))?.into_inner();
        let messages = messages.map_err(|status| arrow_flight::error::FlightError::Tonic(Box::new(status)));
        let batches = FlightRecordBatchStream::new_from_flight_data(messages);
        Ok(batches.map_err(move |error| from_flight(&error, &peer)).boxed())
    }
}

fn from_flight(error: &arrow_flight::error::FlightError, peer: &str) -> Error {
    match error {
        arrow_flight::error::FlightError::Tonic(status) => from_status(status, peer),
        other => Error::new(ErrorKind::Corrupt, format!("{peer}: {other}")),
    }
}
