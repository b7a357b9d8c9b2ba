//! Who is connected and what they do, for SHOW PROCESSLIST and the connection limit.

use crate::error::{Error, Result, number};
use crate::sql::mask::masked_head;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The open connections; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    open: Arc<Mutex<BTreeMap<u32, Process>>>,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Process {
    /// The user; empty before the login is complete.
    pub user: String,
    /// Where the client is.
    pub host: String,
    /// Current database.
    pub database: Option<String>,
    /// The statement at hand, masked.
    pub statement: Option<String>,
    /// Since when it runs, or since when there is none.
    pub since: Instant,
    /// Ends the connection.
    pub stop: CancellationToken,
    /// Ends the statement at hand.
    pub interrupt: Arc<Notify>,
}

/// Longest statement text kept for SHOW FULL PROCESSLIST, bytes.
const MAX_KEPT_BYTES: usize = 4_096;

impl Processes {
    /// A connection was opened. The answers say when it should end, and when its statement should.
    pub fn open(&self, connection: u32, host: &str) -> (CancellationToken, Arc<Notify>) {
        let (stop, interrupt) = (CancellationToken::new(), Arc::new(Notify::new()));
        let process = Process {
            user: String::new(),
            host: host.to_owned(),
            database: None,
            statement: None,
            since: Instant::now(),
            stop: stop.clone(),
            interrupt: Arc::clone(&interrupt),
        };
        self.lock().insert(connection, process);
        (stop, interrupt)
    }

    /// What [`Processes::open`] answered for this connection.
    pub fn handles(&self, connection: u32) -> Option<(CancellationToken, Arc<Notify>)> {
        self.lock().get(&connection).map(|process| (process.stop.clone(), Arc::clone(&process.interrupt)))
    }

    /// KILL: a user may end connections of its own name, and `any` where it has the privilege.
    pub fn kill(&self, connection: u32, user: &str, any: bool, query_only: bool) -> Result<()> {
        let processes = self.lock();
        let process = processes.get(&connection).ok_or_else(|| {
            Error::not_found(format!("Unknown thread id: {connection}")).numbered(number::UNKNOWN_THREAD)
        })?;
        if process.user != user && !any {
            return Err(
                Error::denied(format!("You are not owner of thread {connection}")).numbered(number::KILL_DENIED)
            );
        }
        if process.statement.is_some() {
            process.interrupt.notify_waiters();
        }
        if !query_only {
            process.stop.cancel();
        }
        Ok(())
    }

    /// It is gone.
    pub fn close(&self, connection: u32) {
        self.lock().remove(&connection);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// A statement begins, or the connection falls idle.
    pub fn update(&self, connection: u32, user: &str, database: Option<&str>, statement: Option<&str>) {
        if let Some(process) = self.lock().get_mut(&connection) {
            user.clone_into(&mut process.user);
            process.database = database.map(str::to_owned);
            process.statement = statement.map(|text| masked_head(text, MAX_KEPT_BYTES));
            process.since = Instant::now();
        }
    }

    /// All of them, by number.
    pub fn list(&self) -> Vec<(u32, Process)> {
        self.lock().iter().map(|(connection, process)| (*connection, process.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Process>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_work_and_go() {
        let processes = Processes::default();
        processes.open(1, "h");
        processes.update(1, "root", Some("db"), Some(&"x".repeat(5_000)));
        processes.update(2, "nobody", None, None);
        let list = processes.list();
        assert_eq!((list.len(), processes.count()), (1, 1));
        assert_eq!(list[0].1.user, "root");
        assert_eq!(list[0].1.statement.as_ref().map(String::len), Some(MAX_KEPT_BYTES + 3));
        processes.close(1);
        assert_eq!(processes.count(), 0);
    }

    #[test]
    fn kill_ends_connections_of_the_same_user() {
        let processes = Processes::default();
        let (stop, _) = processes.open(1, "h");
        processes.update(1, "eve", None, Some("select"));
        assert_eq!(processes.kill(2, "root", true, false).unwrap_err().number(), 1094);
        assert_eq!(processes.kill(1, "bob", false, false).unwrap_err().number(), 1095);
        processes.kill(1, "eve", false, true).unwrap();
        assert!(!stop.is_cancelled());
        processes.kill(1, "root", true, false).unwrap();
        assert!(stop.is_cancelled() && processes.handles(1).is_some() && processes.handles(2).is_none());
    }
}
