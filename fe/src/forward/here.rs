//! A statement at the leader, whoever sent it.

use super::Tried;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::{self, Answer, Context, Session};
use crate::meta::command::Outcome;
use crate::raft::{Leader, Request};
use crate::sql::ast::Statement;
use coffer_proto::ids::BackendId;
use std::time::Duration;

/// How long the first statements of a new leader wait until its backends answered.
const ACQUAINTED_WITHIN: Duration = Duration::from_secs(2);

/// Run it under its request id, up to date with everything acknowledged; what was done before is answered, not done again.
/// It waits no longer than `wait` until this frontend is up to date.
pub(super) async fn run(
    context: &Context,
    session: &mut Session,
    (request, wait): (&str, Duration),
    statement: Statement,
) -> Tried {
    if let Err(error) = context.meta.barrier_within(wait).await {
        return Tried::NotBegun(error);
    }
    if context.meta.leader() != Leader::Here {
        return Tried::NotBegun(Error::not_leader("this frontend does not lead"));
    }
    let backends: Vec<BackendId> = context.meta.view(|state| state.backends.keys().copied().collect());
    context.backends.acquainted(&backends, ACQUAINTED_WITHIN).await;
    if !super::place::is_repeatable(&statement) {
        return end(exec::execute(context, session, statement).await);
    }
    let request = Request::new(request);
    if let Some(outcome) = context.meta.view(|state| request.answer(state)) {
        return Tried::Answered(answer(outcome));
    }
    end(request.scope(exec::execute(context, session, statement)).await)
}

fn answer(outcome: Outcome) -> Result<Answer> {
    outcome.into_result().map(|_| Answer::ok())
}

/// What a proposal says that lost its leader or its time.
fn end(answer: Result<Answer>) -> Tried {
    match answer {
        Err(error) if error.kind() == ErrorKind::NotLeader => Tried::Lost(error),
        answer => Tried::Answered(answer),
    }
}
