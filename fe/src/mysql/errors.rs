//! Our errors as MySQL clients see them: number, SQL state, sentence. The one table.

use crate::error::{Error, ErrorKind, number};
use coffer_mysql::ServerError;

/// Anything without a number of its own.
const OTHER: u16 = 1105;

/// The number of an error: its own, else the one of its kind.
pub fn number_of(error: &Error) -> u16 {
    match (error.number(), error.kind()) {
        (0, ErrorKind::NotSupported) => 1235,
        (0, ErrorKind::Cancelled) => number::INTERRUPTED,
        (0, ErrorKind::Timeout) => 3024,
        (
            0,
            ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Denied
            | ErrorKind::Conflict
            | ErrorKind::NotLeader
            | ErrorKind::Unavailable
            | ErrorKind::Limit
            | ErrorKind::NoSpace
            | ErrorKind::Corrupt
            | ErrorKind::Bug,
        ) => OTHER,
        (own, _) => own,
    }
}

/// The SQL state that belongs to a number; drivers choose exception classes by it.
fn state_of(number: u16) -> [u8; 5] {
    *match number {
        1040 => b"08004",
        1045 => b"28000",
        1046 => b"3D000",
        1050 => b"42S01",
        1051 | 1109 | 1146 => b"42S02",
        1054 => b"42S22",
        1060 => b"42S21",
        1044 | 1049 | 1064..=1067 | 1072 | 1102 | 1103 | 1113 | 1141 | 1142 | 1166 | 1203 | 1227 | 1231 | 1235 => {
            b"42000"
        }
        1048 | 1062 => b"23000",
        1136 => b"21S01",
        1264 | 1406 => b"22003",
        1317 => b"70100",
        1365 => b"22012",
        _ => b"HY000",
    }
}

/// An error for a client.
pub fn to_server_error(error: &Error) -> ServerError {
    let number = number_of(error);
    ServerError::new(number, state_of(number), error.message())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;

    #[test]
    fn known_errors_have_the_numbers_and_states_of_mysql() {
        let cases = [
            (error::unknown_database("d"), 1049, "42000"),
            (error::no_database(), 1046, "3D000"),
            (error::unknown_table("t"), 1051, "42S02"),
            (error::unknown_column("c", "t"), 1054, "42S22"),
            (error::database_exists("d"), 1007, "HY000"),
            (error::database_not_there("d"), 1008, "HY000"),
            (error::table_exists("t"), 1050, "42S01"),
            (error::syntax("x"), 1064, "42000"),
            (error::privilege_needed("ADMIN"), 1227, "42000"),
            (error::login_denied("u", "h", false), 1045, "28000"),
            (error::database_denied("u", "d"), 1044, "42000"),
            (error::table_denied("SELECT", "u", "t"), 1142, "42000"),
        ];
        for (error, number, state) in cases {
            let told = to_server_error(&error);
            assert_eq!((told.code, &told.state[..]), (number, state.as_bytes()), "{error}");
            assert_eq!(told.message, error.message());
        }
    }

    #[test]
    fn every_kind_has_a_number() {
        for kind in ErrorKind::ALL {
            let expected = match kind {
                ErrorKind::NotSupported => 1235,
                ErrorKind::Cancelled => 1317,
                ErrorKind::Timeout => 3024,
                _ => 1105,
            };
            assert_eq!(number_of(&Error::new(kind, "x")), expected, "{kind}");
        }
    }
}
