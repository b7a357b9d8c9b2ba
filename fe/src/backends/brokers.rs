//! Whether brokers live: every frontend pings each broker of the catalog.
//!
//! A broker that was just added is pinged at once. One failed ping makes it dead, one good one alive; the text of the
//! failure stays for SHOW BROKER. The leader's pings carry how fast bytes may pass, so that a broker knows it again soon
//! after it started; when an operator changes that, or another frontend leads, all are pinged at once. They also carry the term of
//! the leader: a broker refuses what an earlier one still wants to write.

use super::hub::Hub;
use crate::catalog::cluster::{Access, BrokerGroup};
use crate::meta::state::State;
use crate::raft::Meta;
use coffer_proto::v1::broker_client::BrokerClient;
use coffer_proto::v1::{PingReply, PingRequest, RateLimit};
use coffer_proto::{channel, status};
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::time::now_ms;
use coffer_stdx::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
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
    /// Its version.
    pub version: String,
    /// Bytes of its budget in use, and all of it.
    pub memory: (u64, u64),
    /// Requests being served.
    pub running: u32,
    /// Requests that wait for memory.
    pub waiting: u32,
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
    pub fn pinged(&self, name: &str, address: &str, answer: Result<PingReply>) -> bool {
        let mut known = self.known();
        let broker = known.entry((name.to_owned(), address.to_owned())).or_default();
        let was = broker.alive;
        match answer {
            Ok(reply) => {
                *broker = BrokerStatus {
                    alive: true,
                    last_start_ms: reply.start_time_ms,
                    last_update_ms: now_ms(),
                    error: String::new(),
                    version: reply.version,
                    memory: (reply.memory_used, reply.memory_total),
                    running: reply.running,
                    waiting: reply.waiting,
                };
            }
            Err(error) => {
                *broker = BrokerStatus {
                    alive: false,
                    error: error.message().to_owned(),
                    memory: (0, 0),
                    running: 0,
                    waiting: 0,
                    ..std::mem::take(broker)
                };
            }
        }
        was != broker.alive
    }

    /// Brokers of a name that are alive.
    pub fn alive(&self, name: &str) -> u64 {
        let first = (name.to_owned(), String::new());
        let of_name = self.known();
        let of_name = of_name.range(first..).take_while(|((of, _), _)| of == name);
        of_name.filter(|(_, status)| status.alive).count() as u64
    }

    fn remove(&self, name: &Name) {
        self.known().remove(name);
    }
}

/// Keep one pinger per broker of the catalog until shutdown.
pub(super) async fn supervise(meta: Meta, hub: Arc<Hub>, shutdown: Shutdown) {
    let (mut applied, mut leadership) = (meta.applied(), meta.leadership());
    let mut pingers = Pingers {
        meta: meta.clone(),
        hub: Arc::clone(&hub),
        shutdown: shutdown.clone(),
        running: BTreeMap::new(),
        news: watch::Sender::new(()),
    };
    let mut known = None;
    loop {
        applied.borrow_and_update();
        let leading = *leadership.borrow_and_update();
        hub.rates.lead(leading.leading.then_some(leading.term));
        let now = meta.view(|state| {
            let limits: Vec<_> = state.repositories.values().map(|one| (one.id, one.limits)).collect();
            (leading, limits, state.brokers.clone())
        });
        if known.as_ref() != Some(&now) {
            pingers.follow(&now.2);
            // Who pings already says the news at once.
            pingers.news.send_replace(());
            known = Some(now);
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { break },
            changed = leadership.changed() => if changed.is_err() { break },
            () = shutdown.begun() => break,
        }
    }
}

struct Pingers {
    meta: Meta,
    hub: Arc<Hub>,
    shutdown: Shutdown,
    running: BTreeMap<Name, CancellationToken>,
    news: watch::Sender<()>,
}

impl Pingers {
    fn follow(&mut self, groups: &BTreeMap<String, BrokerGroup>) {
        let of = |(name, group): (&String, &BrokerGroup)| {
            group.addresses.iter().map(|address| (name.clone(), address.clone())).collect::<Vec<Name>>()
        };
        let wanted: BTreeSet<Name> = groups.iter().flat_map(of).collect();
        self.running.retain(|name, token| {
            let stays = wanted.contains(name);
            if !stays {
                token.cancel();
                self.hub.brokers.remove(name);
            }
            stays
        });
        for name in wanted {
            if !self.running.contains_key(&name) {
                let token = self.shutdown.token();
                let pinger = Pinger {
                    name: name.clone(),
                    meta: self.meta.clone(),
                    hub: Arc::clone(&self.hub),
                    news: self.news.subscribe(),
                };
                let stop = token.clone();
                self.shutdown.spawn(async move { stop.run_until_cancelled(pinger.keep_pinging()).await });
                self.running.insert(name, token);
            }
        }
    }
}

/// Pings one broker.
struct Pinger {
    name: Name,
    meta: Meta,
    hub: Arc<Hub>,
    news: watch::Receiver<()>,
}

impl Pinger {
    async fn keep_pinging(mut self) {
        let (name, address) = self.name.clone();
        let channel = channel::connect(&address);
        loop {
            self.news.borrow_and_update();
            let request = self.meta.view(|state| self.request(state));
            let answer = match &channel {
                Ok(channel) => ping(channel.clone(), request, &address).await,
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = &answer {
                tracing::debug!(broker = %name, %address, %error, "a broker does not answer");
            }
            if self.hub.brokers.pinged(&name, &address, answer) {
                self.hub.registry.touch();
            }
            tokio::select! {
                () = tokio::time::sleep(PING_EVERY) => (),
                changed = self.news.changed() => if changed.is_err() { return },
            }
        }
    }

    /// What to say: term and limits only when this frontend leads.
    fn request(&self, state: &State) -> PingRequest {
        let leadership = *self.meta.leadership().borrow();
        let term = if leadership.leading { leadership.term } else { 0 };
        let mut request = PingRequest { cluster_id: state.cluster_id.clone(), term, ..PingRequest::default() };
        let (name, address) = &self.name;
        if !self.hub.rates.leads() {
            return request;
        }
        let behind = state.repositories.values().filter(|one| matches!(&one.access, Access::Broker(of) if of == name));
        request.limits = behind.filter_map(|repository| self.hub.limit(state, repository)).collect();
        let own = state.brokers.get(name).and_then(|group| group.limits.get(address));
        // A key of its own per address: brokers keep versions by key, and each has its own limit.
        request.own = own.map(|limits| {
            let said = self.hub.rates.say(format!("{}/{name}/{address}", state.cluster_id), *limits);
            RateLimit { key: state.cluster_id.clone(), ..said }
        });
        request
    }
}

async fn ping(channel: Channel, request: PingRequest, address: &str) -> Result<PingReply> {
    let peer = format!("broker {address}");
    let late = |_| Error::timeout(format!("{peer}: no answer to a ping within {} s", PING_WITHIN.as_secs()));
    let reply = tokio::time::timeout(PING_WITHIN, BrokerClient::new(channel).ping(request)).await.map_err(late)?;
    Ok(reply.map_err(|error| status::from_status(&error, &peer))?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_what_its_last_ping_said() {
        let brokers = Brokers::default();
        let reply = PingReply { start_time_ms: 5, waiting: 2, ..PingReply::default() };
        assert_eq!(brokers.status("b", "h:1"), None);
        assert!(brokers.pinged("b", "h:1", Ok(reply.clone())));
        assert!(!brokers.pinged("b", "h:1", Ok(reply.clone())));
        brokers.pinged("b", "i:1", Ok(reply.clone()));
        brokers.pinged("c", "h:1", Ok(reply));
        assert_eq!(brokers.alive("b"), 2);
        assert!(brokers.pinged("b", "h:1", Err(Error::unavailable("refused"))));
        let status = brokers.status("b", "h:1").unwrap();
        assert_eq!((status.alive, status.last_start_ms, status.error.as_str()), (false, 5, "refused"));
        assert!(status.last_update_ms > 0 && status.waiting == 0);
        assert_eq!((brokers.alive("b"), brokers.alive("x")), (1, 0));
    }
}
