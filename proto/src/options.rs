//! The service through which frontends show and change the options of a backend or broker.
//!
//! What is changed is in memory only: a process that dies starts again with what its file says.

use crate::status::to_status;
use crate::v1::options_server::{Options as Served, OptionsServer};
use crate::v1::{ChangeOptions, OptionList, ProcessOption};
use coffer_stdx::Result;
use coffer_stdx::options::{self, Changes, Options};
use std::fmt;
use std::sync::Arc;
use tonic::{Request, Response, Status};

type Follow<C> = dyn Fn(&C, &Changes) -> Result<()> + Send + Sync;

/// The service over a configuration; `follow` hears of changes that are made.
pub fn service<C: Options + Send + Sync + 'static>(
    config: Arc<C>,
    follow: impl Fn(&C, &Changes) -> Result<()> + Send + Sync + 'static,
) -> OptionsServer<Service<C>> {
    OptionsServer::new(Service { config, follow: Box::new(follow) })
}

/// See [`service`].
pub struct Service<C> {
    config: Arc<C>,
    follow: Box<Follow<C>>,
}

impl<C> fmt::Debug for Service<C> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Service").finish_non_exhaustive()
    }
}

impl<C: Options> Service<C> {
    fn apply(&self, wanted: &Changes) -> Result<OptionList> {
        if !wanted.is_empty() {
            options::change(&*self.config, wanted)?;
            (self.follow)(&self.config, wanted)?;
        }
        let options = options::list(&*self.config)?.into_iter().map(|option| ProcessOption {
            key: option.key,
            value: option.value,
            kind: option.kind.to_owned(),
            mutable: option.mutable,
            comment: option.comment,
        });
        Ok(OptionList { options: options.collect() })
    }
}

#[tonic::async_trait]
impl<C: Options + Send + Sync + 'static> Served for Service<C> {
    async fn change(&self, request: Request<ChangeOptions>) -> Result<Response<OptionList>, Status> {
        let wanted: Changes = request.into_inner().set.into_iter().collect();
        self.apply(&wanted).map(Response::new).map_err(|error| to_status(&error))
    }
}
