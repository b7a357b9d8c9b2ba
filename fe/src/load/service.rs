//! The gRPC service that backends call for loads they coordinate, at any frontend.

use super::elsewhere::{leader, marked};
use super::{Begin, Loads};
use crate::audit::Record;
use crate::error::Error;
use crate::login::host_of;
use coffer_proto::channel::MAX_MESSAGE_BYTES;
use coffer_proto::ids::TransactionId;
use coffer_proto::status::to_status;
use coffer_proto::v1;
use coffer_proto::v1::frontend_client::FrontendClient;
use coffer_proto::v1::frontend_server::{Frontend, FrontendServer};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// The service, ready to be added to a server.
pub fn service(loads: Loads) -> FrontendServer<Service> {
    FrontendServer::new(Service { loads })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Answers [`Frontend`] calls.
pub struct Service {
    loads: Loads,
}

impl Service {
    /// A load begins, or is refused, for the audit log; its end is in the log of the frontend.
    fn note(&self, user: &str, host: &str, begin: &Begin, error: Option<&Error>) {
        let statement = format!("STREAM LOAD INTO {}.{} LABEL {}", begin.database, begin.table, begin.label);
        let database = Some(begin.database.as_str());
        let record = Record { kind: "load", user, host, database, statement: &statement, error, ..Record::default() };
        self.loads.shared.audit.write(&record);
    }

    /// The second half of a two-phase load, likewise.
    fn note_end(&self, request: &v1::EndLoadRequest, host: &str, error: Option<&Error>) {
        let deed = if request.commit { "COMMIT" } else { "ABORT" };
        let which = match request.transaction_id {
            0 => format!("LABEL {}", request.label),
            id => format!("TRANSACTION {id}"),
        };
        let statement = format!("STREAM LOAD {deed} {which}");
        let (user, database) = (request.user.as_str(), Some(request.database.as_str()));
        let record = Record { kind: "load", user, host, database, statement: &statement, error, ..Record::default() };
        self.loads.shared.audit.write(&record);
    }

    #[allow(clippy::result_large_err, reason = "the trait's own error type")]
    fn elsewhere<T>(&self, request: &Request<T>) -> Result<Option<FrontendClient<Channel>>, Status> {
        leader(self.loads.meta(), request).map_err(|error| to_status(&error))
    }
}

#[tonic::async_trait]
impl Frontend for Service {
    async fn begin_load(&self, request: Request<v1::BeginLoadRequest>) -> Result<Response<v1::LoadPlan>, Status> {
        if let Some(mut leader) = self.elsewhere(&request)? {
            return leader.begin_load(marked(request)).await;
        }
        self.loads.newest().await.map_err(|error| to_status(&error))?;
        let request = request.into_inner();
        let host = host_of(&request.client);
        let login = (request.user.as_str(), request.password.as_str(), host.as_str());
        let place = (request.database.as_str(), request.table.as_str());
        let checked = self.loads.check_login(login, place).await;
        let begin = Begin {
            database: request.database,
            table: request.table,
            label: request.label,
            timeout_s: request.timeout_s,
        };
        let begun = match checked {
            Ok(_) => self.loads.begin(&begin).await,
            Err(error) => Err(error),
        };
        self.note(&request.user, &host, &begin, begun.as_ref().err());
        let plan = begun.map_err(|error| to_status(&error))?;
        tracing::info!(
            transaction = plan.transaction_id,
            label = begin.label,
            table = format!("{}.{}", begin.database, begin.table),
            client = request.client,
            "load begins"
        );
        Ok(Response::new(plan))
    }

    async fn finish_load(
        &self,
        request: Request<v1::FinishLoadRequest>,
    ) -> Result<Response<v1::FinishLoadReply>, Status> {
        if let Some(mut leader) = self.elsewhere(&request)? {
            return leader.finish_load(marked(request)).await;
        }
        self.loads.newest().await.map_err(|error| to_status(&error))?;
        let request = request.into_inner();
        let visible = self.loads.finish(&request).await.map_err(|error| to_status(&error))?;
        tracing::info!(transaction = request.transaction_id, rows = request.rows, visible, "load committed");
        Ok(Response::new(v1::FinishLoadReply { visible }))
    }

    async fn end_load(&self, request: Request<v1::EndLoadRequest>) -> Result<Response<v1::EndLoadReply>, Status> {
        if let Some(mut leader) = self.elsewhere(&request)? {
            return leader.end_load(marked(request)).await;
        }
        self.loads.newest().await.map_err(|error| to_status(&error))?;
        let request = request.into_inner();
        let host = host_of(&request.client);
        let login = self.loads.shared.login.check(&request.user, &request.password, &host).await;
        let ended = match login {
            Ok(who) => self.loads.end_precommitted(&who, &request).await,
            Err(error) => Err(error),
        };
        self.note_end(&request, &host, ended.as_ref().err());
        let id = ended.map_err(|error| to_status(&error))?;
        tracing::info!(transaction = %id, commit = request.commit, client = request.client, "second half of a load");
        Ok(Response::new(v1::EndLoadReply { transaction_id: id.0 }))
    }

    async fn abort_load(&self, request: Request<v1::AbortLoadRequest>) -> Result<Response<v1::AbortLoadReply>, Status> {
        if let Some(mut leader) = self.elsewhere(&request)? {
            return leader.abort_load(marked(request)).await;
        }
        self.loads.newest().await.map_err(|error| to_status(&error))?;
        let request = request.into_inner();
        let id = TransactionId(request.transaction_id);
        self.loads.abort(id, &request.reason).await.map_err(|error| to_status(&error))?;
        tracing::info!(transaction = request.transaction_id, reason = request.reason, "load aborted");
        Ok(Response::new(v1::AbortLoadReply {}))
    }
}
