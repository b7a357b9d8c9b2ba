//! Whether brokers live: every frontend pings each broker of the catalog.
//!
//! A broker that was just added is pinged at once. One failed ping makes it dead, one good one alive; the text of the
//! failure stays for SHOW BROKER.

use super::hub::Hub;
use crate::catalog::cluster::BrokerGroup;
use crate::raft::Meta;
use coffer_proto::v1::PingRequest;
use coffer_proto::v1::broker_client::BrokerClient;
use coffer_proto::{channel, status};
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Between pings of one broker.
const PING_EVERY: Duration = Duration::from_secs(2);
/// A broker that takes longer is dead.
const PING_WITHIN: Duration = Duration::from_secs(3);

/// What SHOW BROKER prints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Whether the last ping was answered.
    pub alive: bool,
    /// When its process started, milliseconds since the epoch; 0 when it never answered.
    pub last_start_ms: u64,
    /// When it last answered, likewise.
    pub last_update_ms: u64,
    /// Why the last ping failed; empty when it did not.
    pub error: String,
}

type Name = (String, String);

/// All brokers this frontend pings, by group and address.
#[derive(Debug, Default)]
pub struct Brokers {
    known: Mutex<BTreeMap<Name, BrokerStatus>>,
}

impl Brokers {
    fn known(&self) -> MutexGuard<'_, BTreeMap<Name, BrokerStatus>> {
        // Nothing panics while it holds the lock with an entry half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a broker answers; `None` while it was never tried.
    pub fn status(&self, name: &str, address: &str) -> Option<BrokerStatus> {
        self.known().get(&(name.to_owned(), address.to_owned())).cloned()
    }

    /// Take in the answer to a ping. True when it came or went.
    pub fn pinged(&self, name: &str, address: &str, answer: Result<u64>) -> bool {
        let mut known = self.known();
        let broker = known.entry((name.to_owned(), address.to_owned())).or_default();
        let was = broker.alive;
        match answer {
            Ok(start_ms) => {
                *broker = BrokerStatus {
                    alive: true,
                    last_start_ms: start_ms,
                    last_update_ms: now_ms(),
                    error: String::new(),
                };
            }
            Err(error) => {
                broker.alive = false;
                error.message().clone_into(&mut broker.error);
            }
        }
        was != broker.alive
    }

    fn remove(&self, name: &Name) {
        self.known().remove(name);
    }
}

/// Keep one pinger per broker of the catalog until shutdown.
pub(super) async fn supervise(meta: Meta, hub: Arc<Hub>, shutdown: Shutdown) {
    let mut applied = meta.applied();
    let mut pingers: BTreeMap<Name, CancellationToken> = BTreeMap::new();
    let mut groups: BTreeMap<String, BrokerGroup> = BTreeMap::new();
    loop {
        applied.borrow_and_update();
        let changed =
            meta.view(|state| (state.brokers != groups).then(|| (state.cluster_id.clone(), state.brokers.clone())));
        if let Some((cluster_id, now)) = changed {
            follow(&mut pingers, &now, &cluster_id, &hub, &shutdown);
            groups = now;
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { break },
            () = shutdown.begun() => break,
        }
    }
}

fn follow(
    pingers: &mut BTreeMap<Name, CancellationToken>,
    groups: &BTreeMap<String, BrokerGroup>,
    cluster_id: &str,
    hub: &Arc<Hub>,
    shutdown: &Shutdown,
) {
    let of = |(name, group): (&String, &BrokerGroup)| {
        group.addresses.iter().map(|address| (name.clone(), address.clone())).collect::<Vec<Name>>()
    };
    let wanted: BTreeSet<Name> = groups.iter().flat_map(of).collect();
    pingers.retain(|name, token| {
        let stays = wanted.contains(name);
        if !stays {
            token.cancel();
            hub.brokers.remove(name);
        }
        stays
    });
    for name in wanted {
        pingers.entry(name.clone()).or_insert_with(|| {
            let token = shutdown.token();
            let pinger = keep_pinging(name, cluster_id.to_owned(), Arc::clone(hub));
            let stop = token.clone();
            shutdown.spawn(async move { stop.run_until_cancelled(pinger).await });
            token
        });
    }
}

async fn keep_pinging((name, address): Name, cluster_id: String, hub: Arc<Hub>) {
    let channel = channel::connect(&address);
    loop {
        let answer = match &channel {
            Ok(channel) => ping(channel.clone(), &cluster_id, &address).await,
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &answer {
            tracing::debug!(broker = %name, %address, %error, "a broker does not answer");
        }
        if hub.brokers.pinged(&name, &address, answer) {
            hub.registry.touch();
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}

async fn ping(channel: Channel, cluster_id: &str, address: &str) -> Result<u64> {
    let peer = format!("broker {address}");
    let request = PingRequest { cluster_id: cluster_id.to_owned(), ..PingRequest::default() };
    let late = |_| Error::timeout(format!("{peer}: no answer to a ping within {} s", PING_WITHIN.as_secs()));
    let reply = tokio::time::timeout(PING_WITHIN, BrokerClient::new(channel).ping(request)).await.map_err(late)?;
    Ok(reply.map_err(|error| status::from_status(&error, &peer))?.into_inner().start_time_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_what_its_last_ping_said() {
        let brokers = Brokers::default();
        assert_eq!(brokers.status("b", "h:1"), None);
        assert!(brokers.pinged("b", "h:1", Ok(5)));
        assert!(!brokers.pinged("b", "h:1", Ok(5)));
        assert!(brokers.pinged("b", "h:1", Err(Error::unavailable("refused"))));
        let status = brokers.status("b", "h:1").unwrap();
        assert_eq!((status.alive, status.last_start_ms, status.error.as_str()), (false, 5, "refused"));
        assert!(status.last_update_ms > 0);
    }
}
