//! Elections: who hears no leader asks the voters, and stands when a majority would vote for it ([`super::canvass`]). Who
//! leads gives signs of life: openraft would do so as rarely as it lets a message take.
//!
//! Nothing is durable here; votes are openraft's, and so is everything after [`openraft::raft::Trigger::elect`]. A crash in
//! the middle of asking leaves nothing.

use super::canvass::{LOOK_EVERY, Next, No, Standing};
use super::core::Core;
use super::hearing::{Hearing, last};
use super::leadership::Seen;
use super::peers::Peers;
use super::types::{LogId, NodeId, TypeConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use coffer_proto::v1;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::{BasicNode, Raft, RaftMetrics, ServerState};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the voters are asked; then the answers are too old.
const CANVASS_LASTS: Duration = Duration::from_millis(1_500);
/// How long one of them may take to answer; it calls back meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_200);
/// How long a voter tries to reach the one that asks.
const REACH_WITHIN: Duration = Duration::from_millis(800);
/// Before somebody who said no is asked again, milliseconds.
const AGAIN_MS: (u64, u64) = (50, 150);
/// Between complaints that nobody would vote for this frontend.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// The answer to a frontend that wants to stand.
pub(super) async fn answer(core: &Core, request: &v1::PreVoteRequest) -> Result<v1::PreVoteReply> {
    let asker = request.peer.as_ref().map_or(0, |peer| peer.from);
    let theirs: Option<LogId> = serde_json::from_slice(&request.last)
        .map_err(|error| Error::invalid(format!("a question for a vote cannot be read: {error}")))?;
    let judged = match core.hearing.judge(&core.raft, (asker, theirs)) {
        Ok(()) => {
            let reached = core.peers.reaches((asker, &request.address), REACH_WITHIN).await;
            reached.map_err(|error| No::Unreached(error.message().to_owned()))
        }
        Err(no) => Err(no),
    };
    let reason = judged.as_ref().err().map(No::to_string).unwrap_or_default();
    Ok(v1::PreVoteReply { yes: judged.is_ok(), reason })
}

/// Asks a voter whether it would vote for this frontend; an error says why not.
pub(super) trait Ask: Send + Sync + 'static {
    /// Once.
    fn ask(&self, voter: (NodeId, &str), last: Option<LogId>) -> impl Future<Output = Result<()>> + Send;
}

/// Asks other processes.
pub(super) struct OverPeers {
    /// The way to them.
    pub(super) peers: Peers,
    /// Under which address they reach this frontend.
    pub(super) address: String,
}

impl Ask for OverPeers {
    async fn ask(&self, voter: (NodeId, &str), last: Option<LogId>) -> Result<()> {
        let last = serde_json::to_vec(&last).map_err(|error| Error::bug(format!("encode a question: {error}")))?;
        understood(self.peers.pre_vote(voter, (last, self.address.clone()), ANSWER_WITHIN).await)
    }
}

/// What an answer means.
fn understood(answer: Result<v1::PreVoteReply>) -> Result<()> {
    match answer {
        Ok(reply) if reply.yes => Ok(()),
        Ok(reply) => Err(Error::conflict(reply.reason)),
        // A frontend of before stands for election itself and cannot be asked.
        Err(error) if error.kind() == ErrorKind::NotSupported => Ok(()),
        Err(error) => Err(error),
    }
}

/// Why voters said no, last.
type Refusals = Mutex<BTreeMap<NodeId, String>>;

/// Stands for election when it should.
pub(super) struct Candidate<A> {
    pub(super) raft: Raft<TypeConfig>,
    pub(super) hearing: Hearing,
    pub(super) ask: A,
}

fn between((from, to): (Duration, Duration)) -> Duration {
    rand::rng().random_range(from..to)
}

fn standing(metrics: &RaftMetrics<NodeId, BasicNode>) -> Standing {
    Standing {
        id: metrics.id,
        leads: metrics.state == ServerState::Leader,
        stands: metrics.state == ServerState::Candidate,
        voters: metrics.membership_config.membership().get_joint_config().clone(),
    }
}

impl<A: Ask> Candidate<A> {
    /// Look after elections until Raft stops.
    pub(super) async fn run(self) {
        let mut metrics = self.raft.metrics();
        let mut seen = Seen::of(&metrics.borrow_and_update());
        let (mut wait, mut led, mut complained) = (between(limits::ELECTION_WAIT), false, None);
        let (mut not_before, mut beat) = (Instant::now(), Instant::now());
        while !seen.stopped {
            match metrics.has_changed() {
                Ok(true) => seen = Seen::of(&metrics.borrow_and_update()),
                Ok(false) => {}
                Err(_) => return,
            }
            if seen.leads() || seen.leads && !led {
                self.hearing.majority_spoke();
            }
            led = seen.leads;
            if led && beat.elapsed() >= limits::HEARTBEAT {
                beat = Instant::now();
                if self.raft.trigger().heartbeat().await.is_err() {
                    return;
                }
            }
            let silent = self.hearing.silent();
            let now = standing(&metrics.borrow());
            let stand = match now.next(silent, wait) {
                Next::Stand => true,
                Next::Canvass if Instant::now() >= not_before => {
                    wait = between(limits::ELECTION_WAIT);
                    self.canvass(&now, &mut complained).await
                }
                Next::Canvass | Next::Rest => false,
            };
            if stand {
                tracing::info!(silent_ms = silent.as_millis() as u64, "this frontend stands for election");
                self.hearing.voted(Some(now.id));
                not_before = Instant::now() + between(limits::ELECTION_PAUSE);
                if self.raft.trigger().elect().await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether a majority would vote for this frontend. Ends as soon as a leader speaks.
    async fn canvass(&self, standing: &Standing, complained: &mut Option<Instant>) -> bool {
        let refusals = Refusals::default();
        let mut asking: FuturesUnordered<_> =
            standing.others().into_iter().map(|voter| self.until_yes(voter, &refusals)).collect();
        let mut yes = BTreeSet::from([standing.id]);
        let deadline = Instant::now() + CANVASS_LASTS;
        while !standing.carried_by(&yes) {
            let silent = self.hearing.silent();
            if silent < limits::LEADER_LEASE {
                return false;
            }
            if Instant::now() >= deadline {
                drop(asking);
                complain(refusals, complained);
                return false;
            }
            match tokio::time::timeout(LOOK_EVERY, asking.next()).await {
                Ok(Some(voter)) => drop(yes.insert(voter)),
                Ok(None) => return false,
                Err(_) => {}
            }
        }
        true
    }

    /// Ask one voter again and again; answers with its id when it says yes.
    async fn until_yes(&self, voter: NodeId, refusals: &Refusals) -> NodeId {
        let node = |metrics: &RaftMetrics<NodeId, BasicNode>| {
            metrics.membership_config.membership().get_node(&voter).map(|node| node.addr.clone())
        };
        loop {
            let address = node(&self.raft.metrics().borrow());
            if let Some(address) = address {
                match self.ask.ask((voter, &address), last(&self.raft)).await {
                    Ok(()) => return voter,
                    Err(error) => {
                        let mut refusals = refusals.lock().unwrap_or_else(PoisonError::into_inner);
                        refusals.insert(voter, error.message().to_owned());
                    }
                }
            }
            let again = rand::rng().random_range(AGAIN_MS.0..AGAIN_MS.1);
            tokio::time::sleep(Duration::from_millis(again)).await;
        }
    }
}

fn complain(refusals: Refusals, last: &mut Option<Instant>) {
    if last.is_some_and(|last| last.elapsed() < COMPLAIN_EVERY) {
        return;
    }
    *last = Some(Instant::now());
    let refusals = refusals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let answers: Vec<String> = refusals.into_iter().map(|(id, said)| format!("fe_{id}: {said}")).collect();
    tracing::warn!(
        answers = answers.join("; "),
        "no leader is heard here, and no majority would vote for this frontend; it does not stand for election"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_proto::status::from_status;

    #[test]
    fn a_frontend_that_does_not_know_the_question_counts_as_willing_one_that_is_away_does_not() {
        let reply = |yes| Ok(v1::PreVoteReply { yes, reason: "it hears a leader".to_owned() });
        understood(reply(true)).unwrap();
        assert_eq!(understood(reply(false)).unwrap_err().message(), "it hears a leader");
        understood(Err(from_status(&tonic::Status::unimplemented(""), "frontend h:1"))).unwrap();
        understood(Err(from_status(&tonic::Status::unavailable("refused"), "frontend h:1"))).unwrap_err();
        understood(Err(Error::timeout("no answer"))).unwrap_err();
    }

    #[test]
    fn complaints_are_rare() {
        let mut last = None;
        complain(Refusals::default(), &mut last);
        let first = last.unwrap();
        complain(Refusals::default(), &mut last);
        assert_eq!(last, Some(first));
    }
}
