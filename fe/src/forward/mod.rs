//! Any frontend takes any statement: here it is decided where one runs, and it is brought there and back.
//!
//! What only looks at the catalog runs here after a barrier ([`crate::raft::Meta::barrier`]), or at once when the session
//! is content with what this frontend has. What changes something, or needs what only the leader knows, runs at the leader,
//! with the session of the client ([`remote`]; the leader's side is [`service`]). When the leader is lost meanwhile, the
//! statement is sent again to the next one under the same request id, so that it takes effect once ([`crate::raft::Request`]).
//! Without a leader a statement waits a bounded time, the same for all its tries together (`patience`).
//!
//! Nothing is durable here. A crash of this frontend in the middle leaves the statement done or not done at the leader.
//!
//! Modules, bottom to top: `patience`, `place` | `here`, `remote` | this file, `service`, `hints`.

mod here;
mod hints;
mod patience;
mod place;
mod remote;
mod service;

pub use hints::follow;
pub use service::service;

use crate::error::{Error, Result};
use crate::exec::{self, Answer, Context, Session, privilege};
use crate::limits;
use crate::raft::Leader;
use crate::sql::ast::Statement;
use patience::Patience;
use place::Place;
use tokio::time::Instant;

/// What operators know, and look for.
const NOT_READY: &str = "Node catalog is not ready, please wait for a while.";

/// How one try to run a statement at the leader ended.
enum Tried {
    /// With an answer.
    Answered(Result<Answer>),
    /// Before it was begun.
    NotBegun(Error),
    /// With the loss of the leader; it may have taken effect.
    Lost(Error),
}

/// Run a statement; `text` is what it was parsed from.
pub async fn run(context: &Context, session: &mut Session, text: &str, statement: Statement) -> Result<Answer> {
    match place::of(&statement) {
        Place::Here => exec::execute(context, session, statement).await,
        Place::Reader => {
            if place::wants_newest(session) {
                context.meta.barrier().await?;
            }
            exec::execute(context, session, statement).await
        }
        Place::Leader => {
            let answer = at_leader(context, session, text, statement).await?;
            // A session that reads without a barrier sees at least what it did itself.
            if !place::wants_newest(session)
                && let Err(error) = context.meta.barrier().await
            {
                tracing::debug!(%error, "a statement is done; this frontend has not heard of it yet");
            }
            Ok(answer)
        }
    }
}

/// USE as a command of the protocol.
pub async fn use_database(context: &Context, session: &mut Session, name: &str) -> Result<()> {
    run(context, session, "", Statement::Use(name.to_owned())).await.map(drop)
}

/// A statement is checked where it was taken. The right that is missing may be one that this frontend has not heard of yet.
async fn allowed(context: &Context, session: &Session, statement: &Statement, patience: &mut Patience) -> Result<()> {
    if privilege::check(context, session, statement).is_ok() {
        return Ok(());
    }
    let begun = Instant::now();
    context.meta.barrier_within(patience.left()).await?;
    patience.waited(begun.elapsed());
    privilege::check(context, session, statement)
}

async fn at_leader(context: &Context, session: &mut Session, text: &str, statement: Statement) -> Result<Answer> {
    let mut patience = Patience::new();
    allowed(context, session, &statement, &mut patience).await?;
    let repeatable = place::is_repeatable(&statement);
    // The same statement again after an unclear end is the same request.
    let earlier = session.unclear.take().filter(|(unclear, _)| repeatable && unclear == text);
    let request = earlier.map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), |(_, request)| request);
    let mut statement = Some(statement);
    let mut lost = None;
    loop {
        let (begun, wait) = (Instant::now(), patience.left());
        let tried = match context.meta.leader() {
            Leader::Unknown => Tried::NotBegun(Error::not_leader("no frontend leads")),
            Leader::At(id, address) => remote::run(context, session, text, (&request, wait), (id, &address)).await,
            Leader::Here => match if repeatable { statement.clone() } else { statement.take() } {
                Some(statement) => here::run(context, session, (&request, wait), statement).await,
                None => Tried::Lost(Error::not_leader("this frontend stopped leading")),
            },
        };
        let error = match tried {
            Tried::Answered(answer) => return answer,
            Tried::NotBegun(error) => {
                patience.waited(begun.elapsed());
                error
            }
            Tried::Lost(error) if repeatable => {
                patience.lost(begun.elapsed());
                lost = Some(error.clone());
                error
            }
            Tried::Lost(error) => return Err(unclear(&error, false)),
        };
        if patience.left().is_zero() {
            return Err(match lost {
                Some(error) => {
                    session.unclear = Some((text.to_owned(), request));
                    unclear(&error, true)
                }
                None => nobody(&error),
            });
        }
        tokio::time::sleep(limits::LEADER_AGAIN).await;
        patience.waited(limits::LEADER_AGAIN);
    }
}

fn nobody(error: &Error) -> Error {
    // Who waited for a read barrier says the same already.
    if error.message().starts_with(NOT_READY) {
        return Error::unavailable(format!("{}; the statement was not begun", error.message()));
    }
    Error::unavailable(format!(
        "{NOT_READY} No frontend led the cluster within {} s ({error}); the statement was not begun",
        limits::LEADER_WAIT.as_secs()
    ))
}

fn unclear(error: &Error, repeatable: bool) -> Error {
    let advice = if repeatable {
        "give the same statement again in this session: it is not done twice"
    } else {
        "look before you give it again"
    };
    Error::unavailable(format!(
        "the leader was lost while it ran the statement ({error}); it may or may not have taken effect, {advice}"
    ))
}
