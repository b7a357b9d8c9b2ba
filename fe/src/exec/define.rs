//! ALTER TABLE, views, RECOVER and the recycle bin: which file does it, and what it needs.

use super::context::Context;
use super::session::Session;
use super::{Answer, bin, ddl, view};
use crate::error::Result;
use crate::sql::define_ast::Define;

/// Do it.
pub(super) async fn change(context: &Context, session: &mut Session, define: Define) -> Result<Answer> {
    match define {
        Define::AlterTable { table, change } => ddl::partition::alter(context, session, &table, &change).await,
        Define::RenameDatabase { name, to } => {
            let answer = ddl::partition::rename_database(context, &name, &to).await?;
            if session.database.as_deref() == Some(name.as_str()) {
                session.database = Some(to);
            }
            Ok(answer)
        }
        Define::CreateView(create) => view::create(context, session, &create).await,
        Define::DropView { view, if_exists } => view::drop(context, session, &view, if_exists).await,
        Define::Recover(recover) => bin::recover(context, session, &recover).await,
        Define::EraseBin { kind, id } => bin::erase(context, kind, id).await,
    }
}
