//! Group commit: proposals that wait at the same time go into the log as one entry.
//!
//! openraft writes one entry per proposal and waits for its fsync before it looks at the next. Here the first proposal goes
//! at once; those that come while a few entries are on their way ([`limits::GROUPS_IN_FLIGHT`]) share the next one, and with
//! it one fsync on each frontend. Each proposal gets the outcome of its own command. Nothing here is durable: a group that
//! was not acknowledged may or may not be in the log, as any proposal.

use super::types::{NodeId, TypeConfig};
use crate::limits;
use crate::meta::command::{Command, Outcome};
use openraft::error::{ClientWriteError, Fatal, RaftError};
use openraft::{BasicNode, Raft};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Why a proposal has no outcome.
pub(super) type Refusal = RaftError<NodeId, ClientWriteError<NodeId, BasicNode>>;

/// Takes proposals; clones share the queue.
#[derive(Clone)]
pub(super) struct Proposer {
    queue: mpsc::Sender<Waiting>,
}

struct Waiting {
    command: Command,
    answer: oneshot::Sender<Result<Outcome, Refusal>>,
}

impl Proposer {
    /// Proposals go to this Raft. Ends when every clone is gone.
    pub(super) fn start(raft: Raft<TypeConfig>) -> Proposer {
        let (queue, waiting) = mpsc::channel(limits::MAX_WAITING_PROPOSALS);
        tokio::spawn(run(raft, waiting));
        Proposer { queue }
    }

    /// Wait until a command is durable and applied here.
    pub(super) async fn write(&self, command: Command) -> Result<Outcome, Refusal> {
        let (answer, answered) = oneshot::channel();
        let stopped = || RaftError::Fatal(Fatal::Stopped);
        self.queue.send(Waiting { command, answer }).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

async fn run(raft: Raft<TypeConfig>, mut waiting: mpsc::Receiver<Waiting>) {
    let slots = Arc::new(Semaphore::new(limits::GROUPS_IN_FLIGHT));
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (group, next) = collect(first, || waiting.try_recv().ok());
        left_over = next;
        let (commands, answers): (Vec<Command>, Vec<_>) =
            group.into_iter().map(|one| (one.command, one.answer)).unzip();
        match raft.client_write_ff(one_entry(commands)).await {
            Err(fatal) => refuse(answers, &RaftError::Fatal(fatal)),
            Ok(written) => {
                tokio::spawn(async move {
                    let outcome = match written.await {
                        Ok(outcome) => outcome.map(|done| done.data).map_err(RaftError::APIError),
                        Err(_) => Err(RaftError::Fatal(Fatal::Stopped)),
                    };
                    drop(slot);
                    deliver(answers, outcome);
                });
            }
        }
    }
}

/// The commands of one entry, and the first that did not fit.
fn collect(first: Waiting, mut next: impl FnMut() -> Option<Waiting>) -> (Vec<Waiting>, Option<Waiting>) {
    let mut bytes = first.command.weight();
    let mut group = vec![first];
    while group.len() < limits::GROUP_COMMANDS {
        let Some(one) = next() else { break };
        bytes += one.command.weight();
        if bytes > limits::GROUP_BYTES {
            return (group, Some(one));
        }
        group.push(one);
    }
    (group, None)
}

fn one_entry(mut commands: Vec<Command>) -> Command {
    match commands.pop() {
        Some(only) if commands.is_empty() => only,
        Some(last) => {
            commands.push(last);
            Command::Group(commands)
        }
        None => Command::Group(commands),
    }
}

fn deliver(mut answers: Vec<oneshot::Sender<Result<Outcome, Refusal>>>, outcome: Result<Outcome, Refusal>) {
    // Whoever does not wait any more has given up; the change is made all the same.
    match outcome {
        Ok(Outcome::Group(outcomes)) => {
            answers.into_iter().zip(outcomes).for_each(|(answer, outcome)| drop(answer.send(Ok(outcome))));
        }
        Ok(outcome) => {
            if let Some(answer) = answers.pop() {
                let _ = answer.send(Ok(outcome));
            }
        }
        Err(refusal) => refuse(answers, &refusal),
    }
}

fn refuse(answers: Vec<oneshot::Sender<Result<Outcome, Refusal>>>, refusal: &Refusal) {
    answers.into_iter().for_each(|answer| drop(answer.send(Err(refusal.clone()))));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(name: &str) -> (Waiting, oneshot::Receiver<Result<Outcome, Refusal>>) {
        let (answer, answered) = oneshot::channel();
        (Waiting { command: Command::CreateDatabase { name: name.to_owned() }, answer }, answered)
    }

    #[test]
    fn a_group_is_bounded_in_number_and_bytes() {
        let mut many = (0..2 * limits::GROUP_COMMANDS).map(|_| waiting("d").0);
        let (group, left) = collect(waiting("d").0, || many.next());
        assert_eq!((group.len(), left.is_some()), (limits::GROUP_COMMANDS, false));
        let (large, _) = waiting(&"x".repeat(limits::GROUP_BYTES));
        let mut next = Some(large);
        let (group, left) = collect(waiting("d").0, || next.take());
        assert_eq!((group.len(), left.is_some()), (1, true));
        let (group, left) = collect(waiting("d").0, || None);
        assert_eq!((group.len(), left.is_some()), (1, false));
    }

    #[tokio::test]
    async fn each_proposal_gets_its_own_outcome() {
        let alone = one_entry(vec![Command::CreateDatabase { name: "a".to_owned() }]);
        assert!(matches!(alone, Command::CreateDatabase { .. }));
        let (first, mut at_first) = waiting("a");
        let (second, mut at_second) = waiting("b");
        let outcomes = Outcome::Group(vec![Outcome::Created(1), Outcome::Done]);
        deliver(vec![first.answer, second.answer], Ok(outcomes));
        assert_eq!(at_first.try_recv().unwrap().unwrap(), Outcome::Created(1));
        assert_eq!(at_second.try_recv().unwrap().unwrap(), Outcome::Done);
        let (only, mut at_only) = waiting("a");
        deliver(vec![only.answer], Ok(Outcome::Created(7)));
        assert_eq!(at_only.try_recv().unwrap().unwrap(), Outcome::Created(7));
        let (lost, mut at_lost) = waiting("a");
        deliver(vec![lost.answer], Err(RaftError::Fatal(Fatal::Stopped)));
        assert!(at_lost.try_recv().unwrap().is_err());
    }
}
