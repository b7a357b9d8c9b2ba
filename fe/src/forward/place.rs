//! Where each statement runs. Pure.

use crate::exec::Session;
use crate::exec::variables::CONSISTENT_READS;
use crate::sql::ast::{Show, Statement};

/// Where a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Here: it looks at this process alone.
    Here,
    /// Here, up to date with the cluster: it reads the catalog.
    Reader,
    /// At the leader: it changes something, or shows what only the leader knows.
    Leader,
}

pub(super) fn of(statement: &Statement) -> Place {
    match statement {
        Statement::Set(_)
        | Statement::Transaction
        | Statement::Kill { .. }
        | Statement::SetFrontendConfig(_)
        | Statement::Help(_) => Place::Here,
        // What names no table needs no catalog: drivers ask for variables before anything else.
        Statement::Query(sql) if !sql.to_ascii_uppercase().contains("FROM") => Place::Here,
        Statement::Use(_) | Statement::Describe(_) | Statement::Query(_) | Statement::NodeConfig(_) => Place::Reader,
        Statement::Show(show) => of_show(show),
        _ => Place::Leader,
    }
}

fn of_show(show: &Show) -> Place {
    match show {
        Show::Variables { .. }
        | Show::Status { .. }
        | Show::Warnings
        | Show::Errors
        | Show::ProcessList { .. }
        | Show::FrontendConfig { .. }
        | Show::Engines
        | Show::Collation
        | Show::CharacterSet
        | Show::Empty { .. }
        // Asks every frontend itself, and must work without a leader.
        | Show::Frontends => Place::Here,
        Show::Databases { .. }
        | Show::Tables { .. }
        | Show::CreateTable(_)
        | Show::CreateDatabase(_)
        | Show::Columns { .. } => Place::Reader,
        _ => Place::Leader,
    }
}

/// Whether a second run under the same request id does what the first did or nothing.
pub(super) fn is_repeatable(statement: &Statement) -> bool {
    !matches!(statement, Statement::Insert(_))
}

/// Whether reads of this session wait until they see everything acknowledged before.
pub(super) fn wants_newest(session: &Session) -> bool {
    session.variables.get(CONSISTENT_READS).is_none_or(|value| value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse;

    #[test]
    fn every_kind_of_statement_has_its_place() {
        let cases: [(Place, &[&str]); 3] = [
            (Place::Here, &["SET a_b = 1", "COMMIT", "KILL 7", "SHOW VARIABLES", "SELECT @@x", "SHOW FRONTENDS"]),
            (
                Place::Reader,
                &["USE d", "SELECT 1 FROM t", "DESC t", "SHOW DATABASES", "SHOW TABLES", "SHOW CREATE TABLE t"],
            ),
            (
                Place::Leader,
                &[
                    "CREATE DATABASE d",
                    "DROP TABLE t",
                    "INSERT INTO t VALUES (1)",
                    "SHOW BACKENDS",
                    "SHOW BACKUP",
                    "SHOW PARTITIONS FROM t",
                    "ALTER SYSTEM ADD BACKEND \"h:1\"",
                ],
            ),
        ];
        for (place, texts) in cases {
            for text in texts {
                assert_eq!(of(&parse(text).unwrap()), place, "{text}");
            }
        }
        assert!(is_repeatable(&parse("DROP TABLE t").unwrap()));
        assert!(!is_repeatable(&parse("INSERT INTO t VALUES (1)").unwrap()));
    }

    #[test]
    fn a_session_may_be_content_with_what_is_here() {
        let mut session = Session::new(1, "root", "h");
        assert!(wants_newest(&session));
        session.variables.insert(CONSISTENT_READS.to_owned(), "0".to_owned());
        assert!(!wants_newest(&session));
    }
}
