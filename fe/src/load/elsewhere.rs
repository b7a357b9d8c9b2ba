//! Loads that reach a frontend which does not lead are passed on to the one that does, once.

use crate::error::{Error, Result};
use crate::raft::{Leader, Meta};
use coffer_proto::channel::MAX_MESSAGE_BYTES;
use coffer_proto::v1::frontend_client::FrontendClient;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

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
    let mut marked = Request::new(request.into_inner());
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
        let marked = marked(Request::new(1));
        assert!(marked.metadata().get(PASSED_ON).is_some());
        assert!(leader(&meta, &marked).unwrap().is_none());
    }
}
