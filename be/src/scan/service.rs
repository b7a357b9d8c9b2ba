//! Arrow Flight with one method, `DoGet` of a [`v1::ScanTicket`]; all others are not supported.

use crate::limits::{SCAN_QUEUE, SCANS};
use crate::metrics::Metrics;
use crate::scan::read::Scan;
use crate::tablet::TabletStore;
use crate::task::blocking;
use arrow::array::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use coffer_proto::channel::MESSAGE_BYTES;
use coffer_proto::{status, v1};
use coffer_stdx::{Error, Result};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Batches read at a time.
const READ_AHEAD: usize = 4;

/// The Flight service.
#[derive(Debug, Clone)]
pub struct ScanService {
    store: Arc<TabletStore>,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
}

impl ScanService {
    /// Scans of these tablets.
    pub fn new(store: Arc<TabletStore>, metrics: Arc<Metrics>) -> ScanService {
        ScanService { store, metrics, places: Arc::new(Semaphore::new(SCANS)) }
    }

    async fn scan(&self, ticket: Ticket) -> Result<BoxStream<'static, Result<FlightData, Status>>> {
        let ticket = v1::ScanTicket::decode(ticket.ticket)
            .map_err(|error| Error::invalid(format!("the ticket of a scan cannot be read: {error}")))?;
        let scan = Scan::open(&self.store, &ticket)?;
        self.metrics.scans.inc();
        let (schema, (batches, receiver)) = (scan.schema(), mpsc::channel(SCAN_QUEUE));
        tokio::spawn(self.clone().pump(scan, batches));
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_max_flight_data_size(MESSAGE_BYTES)
            .build(ReceiverStream::new(receiver));
        Ok(encoded.map_err(Status::from).boxed())
    }
}

type Batches = mpsc::Sender<Result<RecordBatch, FlightError>>;

impl ScanService {
    /// Read a few batches at a time and hand them on. A slow reader holds neither a thread nor a place, so scans that
    /// wait for each other at the frontend cannot block one another here.
    async fn pump(self, mut scan: Scan, batches: Batches) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = self.places.clone().acquire_owned().await else { return };
            let read = blocking(move || {
                let some: Vec<_> = std::iter::from_fn(|| scan.next_batch().transpose()).take(READ_AHEAD).collect();
                Ok((scan, some))
            });
            let read = read.await;
            drop(place);
            let (back, some) = match read {
                Ok(read) => read,
                Err(error) => return fail(&batches, &error).await,
            };
            let ended = some.len() < READ_AHEAD;
            scan = back;
            for batch in some {
                match batch {
                    Ok(batch) => {
                        self.metrics.scan_rows.inc_by(batch.num_rows() as u64);
                        if batches.send(Ok(batch)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => return fail(&batches, &error).await,
                }
            }
            if ended {
                return;
            }
        }
    }
}

async fn fail(batches: &Batches, error: &Error) {
    tracing::warn!(%error, "scan failed");
    // A reader that went away does not want to know.
    let _ = batches.send(Err(FlightError::Tonic(Box::new(status::to_status(error))))).await;
}

fn not_supported<T>(what: &str) -> Result<T, Status> {
    Err(status::to_status(&Error::not_supported(format!("Flight {what} is not supported by backends"))))
}

#[tonic::async_trait]
impl FlightService for ScanService {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        self.scan(request.into_inner()).await.map(Response::new).map_err(|error| status::to_status(&error))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        not_supported("Handshake")
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_supported("ListFlights")
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        not_supported("GetFlightInfo")
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        not_supported("PollFlightInfo")
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        not_supported("GetSchema")
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        not_supported("DoPut")
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        not_supported("DoExchange")
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        not_supported("DoAction")
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        not_supported("ListActions")
    }
}
