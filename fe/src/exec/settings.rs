//! ADMIN SHOW and SET FRONTEND CONFIG: the configuration of the frontend that is asked. What is set holds until it stops; the
//! file is the operator's.

use crate::error::Result;
use crate::exec::answer::{Answer, RowSet};
use crate::exec::context::Context;
use crate::exec::filter::like;
use crate::sql::ast::Properties;
use coffer_stdx::options;

/// ADMIN SHOW FRONTEND CONFIG.
pub(super) fn show(context: &Context, pattern: Option<&str>) -> Result<RowSet> {
    let mut set = RowSet::new(["Key", "Value", "Type", "IsMutable", "MasterOnly", "Comment"]);
    for option in options::list(&*context.config)? {
        if pattern.is_none_or(|pattern| like(pattern, &option.key)) {
            let (kind, mutable) = (option.kind.to_owned(), option.mutable.to_string());
            set.push([option.key, option.value, kind, mutable, "false".to_owned(), option.comment]);
        }
    }
    Ok(set)
}

/// ADMIN SET FRONTEND CONFIG: all of them, or none.
pub(super) fn set(context: &Context, wanted: &Properties) -> Result<Answer> {
    options::change(&*context.config, wanted)?;
    if wanted.contains_key("log.level") {
        context.config.log.apply()?;
    }
    Ok(Answer::ok())
}
