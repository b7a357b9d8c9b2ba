//! Who may do what: for now, ADMIN or not.

use crate::error::{Result, privilege_needed};
use crate::exec::context::Context;
use crate::exec::session::Session;

/// Refuse a user without ADMIN.
pub fn need_admin(context: &Context, session: &Session) -> Result<()> {
    let admin = context.meta.view(|state| state.users.get(&session.user).is_some_and(|user| user.admin));
    if admin { Ok(()) } else { Err(privilege_needed("ADMIN")) }
}
