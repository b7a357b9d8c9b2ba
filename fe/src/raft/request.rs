//! The statement on whose behalf changes are proposed.
//!
//! A statement that may be sent again carries an id. While it runs ([`Request::scope`]), each of its changes goes into the
//! log under that id and a number ([`Command::Once`]), so that a second run finds what the first has done: the leader may
//! die after a change is durable and before anybody hears of it.

use crate::meta::command::{Command, Outcome};
use crate::meta::state::State;
use coffer_stdx::time::now_ms;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

tokio::task_local! {
    static CURRENT: Arc<Request>;
}

/// A statement that may be sent again.
#[derive(Debug)]
pub struct Request {
    id: String,
    step: AtomicU32,
}

impl Request {
    /// The statement with this id.
    pub fn new(id: impl Into<String>) -> Request {
        Request { id: id.into(), step: AtomicU32::new(0) }
    }

    /// Run `work` on behalf of the statement. Tasks that it spawns do not count.
    pub async fn scope<R>(self, work: impl Future<Output = R>) -> R {
        CURRENT.scope(Arc::new(self), work).await
    }

    /// What the first change of the statement was answered, if it was made before.
    pub fn answer(&self, state: &State) -> Option<Outcome> {
        state.requests.answer(&name(&self.id, 0)).cloned()
    }
}

fn name(id: &str, step: u32) -> String {
    format!("{id}/{step}")
}

/// A change as it goes into the log.
pub(super) fn stamped(command: Command) -> Command {
    let request = CURRENT.try_with(|request| name(&request.id, request.step.fetch_add(1, Ordering::Relaxed)));
    match request {
        Ok(request) => Command::Once { request, now_ms: now_ms(), command: Box::new(command) },
        Err(_) => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create() -> Command {
        Command::CreateDatabase { name: "d".to_owned() }
    }

    #[tokio::test]
    async fn changes_carry_the_statement_and_are_told_apart() {
        assert_eq!(stamped(create()), create());
        let commands = Request::new("r").scope(async { [stamped(create()), stamped(create())] }).await;
        let names = commands.map(|command| match command {
            Command::Once { request, .. } => request,
            other => panic!("{other:?}"),
        });
        assert_eq!(names, ["r/0", "r/1"]);
    }
}
