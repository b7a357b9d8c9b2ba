//! SELECT, EXPLAIN and the like: handed to the query engine with what the session says.

use crate::error::Result;
use crate::exec::answer::Answer;
use crate::exec::context::Context;
use crate::exec::session::Session;
use crate::exec::variables;
use crate::query::Caller;

/// SELECT.
pub async fn query(context: &Context, session: &Session, sql: &str) -> Result<Answer> {
    context.engine.query(&caller(session), sql).await.map(Answer::Stream)
}

/// The session as the query engine wants it.
pub(super) fn caller(session: &Session) -> Caller {
    Caller {
        who: session.who(),
        database: session.database.clone(),
        connection: session.connection,
        version: variables::SERVER_VERSION,
        variables: variables::effective(session),
    }
}
