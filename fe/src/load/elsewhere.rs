//! Loads that reach a frontend which does not lead are passed on to the one that does, once.

use crate::error::{Error, Result};
use crate::raft::{Leader, Meta};
use coffer_proto::channel::MAX_MESSAGE_BYTES;
use coffer_proto::v1::frontend_client::FrontendClient;
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Extensions, Request};

/// How long the leader may take, when who asked did not say.
const LEADER_WITHIN: Duration = Duration::from_secs(60);
/// Marks what was passed on.
const PASSED_ON: &str = "coffer-passed-on";

/// The leader's service, when this frontend does not lead.
pub(super) fn leader<T>(meta: &Meta, request: &Request<T>) -> Result<Option<FrontendClient<Channel>>> {
    let address = match meta.leader() {
        Leader::Here => return Ok(None),
        Leader::At(_, address) if request.metadata().get(PASSED_ON).is_none() => address,
        Leader::At(_, address) => return Err(Error::not_leader(format!("the leader is {address}"))),
        Leader::Unknown => return Err(Error::not_leader("no frontend leads, try again")),
    };
    let peers = meta.peers().ok_or_else(|| Error::bug("this frontend has no way to others"))?;
    let client = FrontendClient::new(peers.channel(&address)?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Ok(Some(client))
}

/// The request as it is passed on.
pub(super) fn marked<T>(request: Request<T>) -> Request<T> {
    let (metadata, _, message) = request.into_parts();
    let mut marked = Request::from_parts(metadata, Extensions::default(), message);
    if marked.metadata().get("grpc-timeout").is_none() {
        marked.set_timeout(LEADER_WITHIN);
    }
    marked.metadata_mut().insert(PASSED_ON, MetadataValue::from_static("1"));
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_passes_nothing_on_and_a_mark_stays() {
        let meta = Meta::in_memory();
        assert!(leader(&meta, &Request::new(1)).unwrap().is_none());
        let mut request = Request::new(1);
        request.metadata_mut().insert("own", MetadataValue::from_static("x"));
        let marked = marked(request);
        assert!(marked.metadata().get("own").is_some() && marked.metadata().get("grpc-timeout").is_some());
        assert!(marked.metadata().get(PASSED_ON).is_some());
        assert!(leader(&meta, &marked).unwrap().is_none());
    }
}
