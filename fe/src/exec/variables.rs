//! System and session variables: what drivers ask for and set on connect.
//!
//! Most have no effect here; they are remembered, so that a client reads back what it has set. What would change the
//! meaning of statements is followed (`time_zone`) or refused (modes of `sql_mode`). Values are kept as
//! `SELECT @@name` shows them; switches are 1 and 0 there, ON and OFF in SHOW VARIABLES.

use crate::error::{Error, Result, number};
use crate::exec::session::Session;
use crate::limits;
use crate::query::zone;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What clients are told our version is; drivers choose their ways by its number.
pub const SERVER_VERSION: &str = concat!("8.0.33-Coffer-", env!("CARGO_PKG_VERSION"));
/// For people.
pub const VERSION_COMMENT: &str = concat!("Coffer version ", env!("CARGO_PKG_VERSION"));

/// Whether reads see everything that was acknowledged before them, or at once what this frontend has.
pub const CONSISTENT_READS: &str = "enable_strong_consistency_read";

/// Seconds that a query may take.
pub const QUERY_TIMEOUT: &str = "query_timeout";
/// Milliseconds that it may.
pub const MAX_EXECUTION_TIME: &str = "max_execution_time";
/// Modes of `sql_mode` in which texts would mean something else than they do here.
const OTHER_MEANINGS: [&str; 11] = [
    "ANSI",
    "ANSI_QUOTES",
    "DB2",
    "HIGH_NOT_PRECEDENCE",
    "MAXDB",
    "MSSQL",
    "NO_BACKSLASH_ESCAPES",
    "ORACLE",
    "PAD_CHAR_TO_FULL_LENGTH",
    "POSTGRESQL",
    "REAL_AS_FLOAT",
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// ON or OFF.
    Switch,
    /// A whole number.
    Number,
    /// Anything.
    Text,
    /// Not to be set.
    Fixed,
}

use Kind::{Fixed, Number, Switch, Text};

/// Name, kind, default.
const KNOWN: &[(&str, Kind, &str)] = &[
    ("auto_increment_increment", Number, "1"),
    ("auto_increment_offset", Number, "1"),
    ("autocommit", Switch, "1"),
    ("character_set_client", Text, "utf8mb4"),
    ("character_set_connection", Text, "utf8mb4"),
    ("character_set_database", Text, "utf8mb4"),
    ("character_set_filesystem", Text, "binary"),
    ("character_set_results", Text, "utf8mb4"),
    ("character_set_server", Text, "utf8mb4"),
    ("character_set_system", Fixed, "utf8mb4"),
    ("collation_connection", Text, "utf8mb4_0900_bin"),
    ("collation_database", Text, "utf8mb4_0900_bin"),
    ("collation_server", Text, "utf8mb4_0900_bin"),
    ("connect_timeout", Number, "10"),
    ("default_storage_engine", Text, "OLAP"),
    ("delete_without_partition", Switch, "0"),
    ("div_precision_increment", Number, "4"),
    ("enable_fallback_to_original_planner", Switch, "0"),
    ("enable_insert_strict", Switch, "1"),
    ("enable_nereids_dml", Switch, "1"),
    ("enable_nereids_planner", Switch, "1"),
    ("enable_profile", Switch, "0"),
    ("enable_sql_cache", Switch, "0"),
    (CONSISTENT_READS, Switch, "1"),
    ("enable_unicode_name_support", Fixed, "0"),
    ("enable_vectorized_engine", Switch, "1"),
    ("event_scheduler", Fixed, "OFF"),
    ("exec_mem_limit", Number, "2147483648"),
    ("experimental_enable_nereids_planner", Switch, "1"),
    ("foreign_key_checks", Switch, "1"),
    ("group_concat_max_len", Number, "1048576"),
    ("have_openssl", Fixed, "DISABLED"),
    ("have_profiling", Fixed, "NO"),
    ("have_query_cache", Fixed, "NO"),
    ("have_ssl", Fixed, "DISABLED"),
    ("hostname", Fixed, ""),
    ("init_connect", Text, ""),
    ("innodb_lock_wait_timeout", Number, "50"),
    ("insert_max_filter_ratio", Text, "1.0"),
    ("insert_timeout", Number, "14400"),
    ("interactive_timeout", Number, "28800"),
    ("is_report_success", Switch, "0"),
    ("language", Fixed, "/"),
    ("license", Fixed, "Apache-2.0"),
    ("lock_wait_timeout", Number, "31536000"),
    ("lower_case_file_system", Fixed, "OFF"),
    ("lower_case_table_names", Fixed, "0"),
    ("max_allowed_packet", Number, "67108864"),
    ("max_connections", Fixed, "1024"),
    ("max_execution_time", Number, "0"),
    ("max_statement_time", Text, "0"),
    ("net_buffer_length", Number, "16384"),
    ("net_read_timeout", Number, "60"),
    ("net_write_timeout", Number, "600"),
    ("optimizer_switch", Text, ""),
    ("parallel_fragment_exec_instance_num", Number, "0"),
    ("parallel_pipeline_task_num", Number, "0"),
    ("performance_schema", Fixed, "0"),
    ("port", Fixed, "9030"),
    ("profiling", Switch, "0"),
    ("protocol_version", Fixed, "10"),
    ("query_cache_size", Number, "0"),
    ("query_cache_type", Number, "0"),
    ("query_timeout", Number, "900"),
    ("read_only", Fixed, "0"),
    ("session_track_gtids", Text, "OFF"),
    ("session_track_schema", Switch, "1"),
    ("session_track_state_change", Switch, "0"),
    ("session_track_system_variables", Text, ""),
    ("session_track_transaction_info", Text, "OFF"),
    ("socket", Fixed, ""),
    ("sql_auto_is_null", Switch, "0"),
    ("sql_log_bin", Switch, "0"),
    ("sql_mode", Text, "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"),
    ("sql_notes", Switch, "1"),
    ("sql_quote_show_create", Switch, "1"),
    ("sql_safe_updates", Switch, "0"),
    ("sql_select_limit", Text, "18446744073709551615"),
    ("sql_warnings", Switch, "0"),
    ("storage_engine", Text, "OLAP"),
    ("super_read_only", Fixed, "0"),
    ("system_time_zone", Fixed, "UTC"),
    ("time_zone", Text, "+00:00"),
    ("timestamp", Text, "0"),
    ("transaction_isolation", Text, "READ-COMMITTED"),
    ("transaction_read_only", Switch, "0"),
    ("tx_isolation", Text, "READ-COMMITTED"),
    ("tx_read_only", Switch, "0"),
    ("unique_checks", Switch, "1"),
    ("version", Fixed, SERVER_VERSION),
    ("version_comment", Fixed, VERSION_COMMENT),
    ("version_compile_machine", Fixed, std::env::consts::ARCH),
    ("version_compile_os", Fixed, std::env::consts::OS),
    ("wait_timeout", Number, "28800"),
];

/// Those that SET NAMES sets.
const NAMES: [&str; 3] = ["character_set_client", "character_set_connection", "character_set_results"];
/// Longest value of a variable, bytes.
const MAX_VALUE_BYTES: usize = 16 << 10;

fn find(name: &str) -> Option<&'static (&'static str, Kind, &'static str)> {
    KNOWN.binary_search_by(|(known, _, _)| (*known).cmp(name)).ok().map(|at| &KNOWN[at])
}

/// SET: all assignments or, at the first that is wrong, those before it.
pub fn set(session: &mut Session, assignments: &[(String, String)]) -> Result<()> {
    for (name, value) in assignments {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "names" | "character_set" | "charset" => set_names(session, value)?,
            "transaction" => set_transaction(session, value),
            _ => set_one(session, name, value)?,
        }
    }
    Ok(())
}

fn set_names(session: &mut Session, charset: &str) -> Result<()> {
    let charset = charset.to_ascii_lowercase();
    if !["utf8mb4", "utf8", "utf8mb3", "binary", "ascii", "latin1", "default"].contains(&charset.as_str()) {
        return Err(Error::not_supported(format!("character set '{charset}' is not supported: use utf8mb4")));
    }
    for name in NAMES {
        if charset == "default" {
            session.variables.remove(name);
        } else {
            session.variables.insert(name.to_owned(), charset.clone());
        }
    }
    Ok(())
}

/// `ISOLATION LEVEL x` and `READ ONLY`: every statement is a transaction of its own whatever is set.
fn set_transaction(session: &mut Session, text: &str) {
    let text = text.to_ascii_uppercase();
    if let Some(level) = text.split("LEVEL").nth(1) {
        let level = level.split(',').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join("-");
        for name in ["transaction_isolation", "tx_isolation"] {
            session.variables.insert(name.to_owned(), level.clone());
        }
    }
}

fn set_one(session: &mut Session, name: String, value: &str) -> Result<()> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(Error::limit(format!("the value of variable '{name}' is longer than {MAX_VALUE_BYTES} bytes")));
    }
    let value = resolve(session, value);
    if !name.starts_with('@') {
        let (_, kind, _) = find(&name).ok_or_else(|| {
            Error::not_found(format!("Unknown system variable '{name}'")).numbered(number::UNKNOWN_VARIABLE)
        })?;
        if value.eq_ignore_ascii_case("default") {
            session.variables.remove(&name);
            return Ok(());
        }
        let value = checked(&name, *kind, &value)?;
        check_meaning(&name, &value)?;
        return keep(session, name, value);
    }
    keep(session, name, value)
}

/// What would be remembered but not done is refused.
fn check_meaning(name: &str, value: &str) -> Result<()> {
    match name {
        "time_zone" => zone(value).map(|_| ()),
        "sql_mode" => {
            let words = value.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            let refused =
                words.into_iter().find(|word| OTHER_MEANINGS.iter().any(|mode| word.eq_ignore_ascii_case(mode)));
            refused.map_or(Ok(()), |mode| {
                let text =
                    format!("sql_mode {mode} is not supported: it would change what statements mean; leave it out");
                Err(Error::not_supported(text))
            })
        }
        _ => Ok(()),
    }
}

fn keep(session: &mut Session, name: String, value: String) -> Result<()> {
    if session.variables.len() >= limits::MAX_SESSION_VARIABLES && !session.variables.contains_key(&name) {
        return Err(Error::limit(format!("a session has at most {} variables", limits::MAX_SESSION_VARIABLES)));
    }
    session.variables.insert(name, value);
    Ok(())
}

fn checked(name: &str, kind: Kind, value: &str) -> Result<String> {
    let wrong = || {
        Error::invalid(format!("Variable '{name}' can't be set to the value of '{value}'"))
            .numbered(number::BAD_VARIABLE_VALUE)
    };
    match kind {
        Fixed => {
            Err(Error::denied(format!("Variable '{name}' is a read only variable"))
                .numbered(number::READ_ONLY_VARIABLE))
        }
        Text => Ok(value.to_owned()),
        Number => value.trim().parse::<i64>().map(|number| number.to_string()).map_err(|_| wrong()),
        Switch => match value.to_ascii_lowercase().as_str() {
            "1" | "on" | "true" => Ok("1".to_owned()),
            "0" | "off" | "false" => Ok("0".to_owned()),
            _ => Err(wrong()),
        },
    }
}

/// A value that names another variable stands for that one's value: tools save settings and put them back.
fn resolve(session: &Session, value: &str) -> String {
    let text = value.trim();
    if let Some(system) = text.strip_prefix("@@") {
        let name = system.to_ascii_lowercase();
        let name = ["session.", "global.", "local."].iter().find_map(|scope| name.strip_prefix(scope)).unwrap_or(&name);
        return value_of(session, name).unwrap_or_default();
    }
    if text.starts_with('@') && text[1..].chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.') {
        return session.variables.get(&text.to_ascii_lowercase()).cloned().unwrap_or_default();
    }
    value.to_owned()
}

fn value_of(session: &Session, name: &str) -> Option<String> {
    session.variables.get(name).cloned().or_else(|| find(name).map(|(_, _, default)| (*default).to_owned()))
}

/// Every variable as `SELECT @@name` shows it, those of the user with an `@` before the name.
pub fn effective(session: &Session) -> Arc<BTreeMap<String, String>> {
    let mut all: BTreeMap<String, String> =
        KNOWN.iter().map(|(name, _, default)| ((*name).to_owned(), (*default).to_owned())).collect();
    all.extend(session.variables.iter().map(|(name, value)| (name.clone(), value.clone())));
    Arc::new(all)
}

/// How long a query may take, and the variable that says so: seconds of `query_timeout`, milliseconds of
/// `max_execution_time`; 0 is for ever.
pub fn time_limit(session: &Session) -> Option<(&'static str, Duration)> {
    let number =
        |name| value_of(session, name).and_then(|value| value.parse::<u64>().ok()).filter(|number| *number > 0);
    let seconds = number(QUERY_TIMEOUT).map(|seconds| (QUERY_TIMEOUT, Duration::from_secs(seconds)));
    let millis = number(MAX_EXECUTION_TIME).map(|millis| (MAX_EXECUTION_TIME, Duration::from_millis(millis)));
    seconds.into_iter().chain(millis).min_by_key(|(_, after)| *after)
}

/// Every system variable as SHOW VARIABLES shows it.
pub fn shown(session: &Session) -> Vec<(String, String)> {
    let show = |(name, kind, default): &(&str, Kind, &str)| {
        let value = session.variables.get(*name).map_or(*default, String::as_str);
        let value = match (kind, value) {
            (Switch, "1") => "ON",
            (Switch, _) => "OFF",
            (Number | Text | Fixed, value) => value,
        };
        ((*name).to_owned(), value.to_owned())
    };
    KNOWN.iter().map(show).collect()
}

/// Whether a warning should be given: transactions are not what the client may think.
pub fn autocommit_is_off(session: &Session) -> bool {
    session.variables.get("autocommit").is_some_and(|value| value == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(pairs: &[(&str, &str)]) -> Result<Session> {
        let mut session = Session::new(1, "root", "h");
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        set(&mut session, &pairs).map(|()| session)
    }

    fn read(session: &Session, name: &str) -> String {
        effective(session).get(name).cloned().unwrap_or_default()
    }

    #[test]
    fn the_list_is_sorted_for_the_search() {
        assert!(KNOWN.is_sorted_by_key(|(name, _, _)| *name));
    }

    #[test]
    fn what_is_set_is_read_back() {
        let changed =
            session(&[("AUTOCOMMIT", "off"), ("sql_mode", "TRADITIONAL"), ("@x", "7"), ("wait_timeout", " 9 ")])
                .unwrap();
        assert_eq!(read(&changed, "autocommit"), "0");
        assert!(autocommit_is_off(&changed));
        assert_eq!(read(&changed, "sql_mode"), "TRADITIONAL");
        assert_eq!(read(&changed, "@x"), "7");
        assert_eq!(read(&changed, "wait_timeout"), "9");
        assert!(shown(&changed).contains(&("autocommit".to_owned(), "OFF".to_owned())));
        let back = session(&[("autocommit", "0"), ("autocommit", "DEFAULT")]).unwrap();
        assert_eq!(read(&back, "autocommit"), "1");
        assert!(shown(&back).contains(&("autocommit".to_owned(), "ON".to_owned())));
    }

    #[test]
    fn values_may_name_other_variables() {
        let saved = session(&[
            ("sql_mode", "TRADITIONAL"),
            ("@old", "@@sql_mode"),
            ("sql_mode", ""),
            ("sql_mode", "@OLD"),
            ("time_zone", "@@session.time_zone"),
            ("@mail", "a@b"),
        ]);
        let saved = saved.unwrap();
        assert_eq!(read(&saved, "sql_mode"), "TRADITIONAL");
        assert_eq!(read(&saved, "time_zone"), "+00:00");
        assert_eq!(read(&saved, "@mail"), "a@b");
    }

    #[test]
    fn names_and_isolation_are_understood() {
        let one =
            session(&[("names", "latin1"), ("transaction", "ISOLATION LEVEL REPEATABLE READ, READ ONLY")]).unwrap();
        assert_eq!(read(&one, "character_set_results"), "latin1");
        assert_eq!(read(&one, "transaction_isolation"), "REPEATABLE-READ");
        let back = session(&[("names", "utf8"), ("names", "default")]).unwrap();
        assert_eq!(read(&back, "character_set_client"), "utf8mb4");
        assert_eq!(session(&[("names", "big5")]).unwrap_err().kind(), crate::error::ErrorKind::NotSupported);
    }

    #[test]
    fn settings_that_would_not_be_followed_are_refused() {
        for value in ["ANSI_QUOTES", "STRICT_TRANS_TABLES,ansi", "concat(@@sql_mode, ',NO_BACKSLASH_ESCAPES')"] {
            let error = session(&[("sql_mode", value)]).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::NotSupported, "{value}");
        }
        assert!(session(&[("sql_mode", "concat(@@sql_mode, ',STRICT_TRANS_TABLES')"), ("sql_mode", "")]).is_ok());
        for zone in ["SYSTEM", "+02:00", "-03:30", "UTC", "default"] {
            assert!(session(&[("time_zone", zone)]).is_ok(), "{zone}");
        }
        assert_eq!(session(&[("time_zone", "Mars/Base")]).unwrap_err().number(), 1298);
    }

    #[test]
    fn the_first_limit_counts() {
        let limit = |pairs: &[(&str, &str)]| time_limit(&session(pairs).unwrap());
        let seconds = |number| Some((QUERY_TIMEOUT, Duration::from_secs(number)));
        let both = [("query_timeout", "2"), ("max_execution_time", "1500")];
        assert_eq!(limit(&[]), seconds(900));
        assert_eq!(limit(&[("query_timeout", "0")]), None);
        assert_eq!(limit(&both), Some((MAX_EXECUTION_TIME, Duration::from_millis(1_500))));
        assert_eq!(limit(&[("query_timeout", "1"), both[1]]), seconds(1));
    }

    #[test]
    fn wrong_settings_are_refused_with_known_numbers() {
        for (name, value, number) in
            [("no_such", "1", 1193), ("version", "9", 1238), ("autocommit", "2", 1231), ("wait_timeout", "x", 1231)]
        {
            assert_eq!(session(&[(name, value)]).unwrap_err().number(), number, "{name}");
        }
        assert!(session(&[("@x", &"x".repeat(MAX_VALUE_BYTES + 1))]).is_err());
        let many: Vec<(String, String)> =
            (0..=limits::MAX_SESSION_VARIABLES).map(|n| (format!("@v{n}"), String::new())).collect();
        let error = set(&mut Session::new(1, "root", "h"), &many).unwrap_err();
        assert!(error.message().contains("at most"));
    }
}
