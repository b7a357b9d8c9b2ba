//! How to reach the storage of a repository, best way first.

use super::brokers::Brokers;
use crate::catalog::cluster::{Access, BrokerGroup, Repository};
use crate::error;
use coffer_proto::v1::StorageSpec;
use coffer_stdx::{Error, Result};
use std::collections::BTreeMap;

/// How good a broker is: dead ones are left out; those where requests wait for memory come after those that have some, and
/// those not tried yet last.
fn rank(brokers: &Brokers, name: &str, address: &str, near: &str) -> Option<(u8, u8)> {
    let tried = match brokers.status(name, address) {
        Some(status) if status.alive => u8::from(status.waiting > 0),
        None => 2,
        Some(_) => return None,
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    Some((tried, u8::from(host != near)))
}

/// Without properties, which the caller opens. `near`: the host of who will use it; `turn`: brokers that are as good as each other take turns.
pub(super) fn spec(
    brokers: &Brokers,
    groups: &BTreeMap<String, BrokerGroup>,
    repository: &Repository,
    (near, turn): (&str, u64),
) -> Result<StorageSpec> {
    let mut spec = StorageSpec { location: repository.location.clone(), ..StorageSpec::default() };
    let Access::Broker(name) = &repository.access else { return Ok(spec) };
    let group = groups.get(name).ok_or_else(|| error::unknown_broker(name))?;
    let ranked = group.addresses.iter().filter_map(|address| Some((rank(brokers, name, address, near)?, address)));
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    for equals in ranked.chunk_by_mut(|(one, _), (other, _)| one == other) {
        equals.rotate_left((turn % equals.len() as u64) as usize);
    }
    spec.brokers = ranked.into_iter().map(|(_, address)| address.clone()).collect();
    if spec.brokers.is_empty() {
        return Err(none_alive(brokers, name, &group.addresses));
    }
    Ok(spec)
}

fn none_alive(brokers: &Brokers, name: &str, addresses: &[String]) -> Error {
    let causes = addresses.iter().filter_map(|address| Some(brokers.status(name, address)?.error));
    let causes: Vec<String> = causes.collect();
    let why = if causes.is_empty() { "it has no address".to_owned() } else { causes.join("; ") };
    Error::unavailable(format!("failed to find alive broker: {name} ({why}); see SHOW BROKER"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_proto::ids::RepositoryId;
    use coffer_proto::v1::PingReply;

    fn repository(access: Access) -> Repository {
        Repository {
            id: RepositoryId(1),
            name: "r".to_owned(),
            remote_name: "r".to_owned(),
            read_only: false,
            access,
            location: "file:///x".to_owned(),
            properties: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            created_ms: 0,
            limits: None,
        }
    }

    fn reply(waiting: u32) -> PingReply {
        PingReply { start_time_ms: 1, waiting, ..PingReply::default() }
    }

    fn groups(addresses: &[&str]) -> BTreeMap<String, BrokerGroup> {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        BTreeMap::from([("b".to_owned(), BrokerGroup { addresses, ..BrokerGroup::default() })])
    }

    #[test]
    fn alive_brokers_come_first_and_the_near_one_before_others() {
        let brokers = Brokers::default();
        let groups = groups(&["new:1", "far:1", "dead:1", "near:1"]);
        for address in ["far:1", "near:1"] {
            brokers.pinged("b", address, Ok(reply(0)));
        }
        brokers.pinged("b", "dead:1", Err(Error::unavailable("broker dead:1: refused")));
        let access = Access::Broker("b".to_owned());
        let found = spec(&brokers, &groups, &repository(access.clone()), ("near", 0)).unwrap();
        assert_eq!(found.brokers, ["near:1", "far:1", "new:1"]);
        let firsts = [0, 1, 2].map(|turn| spec(&brokers, &groups, &repository(access.clone()), ("", turn)).unwrap());
        assert_eq!(firsts.map(|spec| spec.brokers[0].clone()), ["far:1", "near:1", "far:1"]);
        brokers.pinged("b", "near:1", Ok(reply(3)));
        let busy = spec(&brokers, &groups, &repository(access), ("near", 0)).unwrap();
        assert_eq!(busy.brokers, ["far:1", "near:1", "new:1"]);
    }

    #[test]
    fn without_a_broker_the_cause_is_named() {
        let brokers = Brokers::default();
        brokers.pinged("b", "dead:1", Err(Error::unavailable("broker dead:1: refused")));
        let repository = |name: &str| repository(Access::Broker(name.to_owned()));
        let error = spec(&brokers, &groups(&["dead:1"]), &repository("b"), ("", 0)).unwrap_err();
        assert!(error.message().starts_with("failed to find alive broker: b (broker dead:1: refused)"), "{error}");
        assert!(spec(&brokers, &groups(&[]), &repository("b"), ("", 0)).unwrap_err().message().contains("no address"));
        let error = spec(&brokers, &groups(&[]), &repository("c"), ("", 0)).unwrap_err();
        assert_eq!(error.message(), "broker does not exist: c");
    }

    #[test]
    fn direct_access_needs_no_broker() {
        let found = spec(&Brokers::default(), &BTreeMap::new(), &repository(Access::S3), ("", 0)).unwrap();
        assert!(found.brokers.is_empty());
    }
}
