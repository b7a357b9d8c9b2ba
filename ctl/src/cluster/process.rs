//! Processes as the kernel sees them: is this one still the one we started, how much memory did it ever use.
//!
//! A process id alone may be reused, so a process is known by its id and the kernel's start time together.

use coffer_stdx::Result;
use coffer_stdx::error::Context;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a stopping process is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A process we started: its id and when the kernel says it began (clock ticks since boot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Process id.
    pub(crate) pid: u32,
    /// Field 22 of `/proc/<pid>/stat`.
    pub(crate) start_ticks: u64,
}

impl Identity {
    /// The identity of a process that was just started.
    pub(crate) fn of(pid: u32) -> Identity {
        Identity { pid, start_ticks: stat_of(pid).map_or(0, |stat| stat.start_ticks) }
    }

    /// Whether it still runs. A process that ended but was not reaped does not.
    pub(crate) fn is_running(self) -> bool {
        stat_of(self.pid).is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.ended)
    }

    /// Send a signal, when it still runs.
    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match pid {
            Some(pid) if self.is_running() => match rustix::process::kill_process(pid, signal) {
                Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
                Err(error) => Err(std::io::Error::from(error)).context(|| format!("signal process {}", self.pid)),
            },
            _ => Ok(()),
        }
    }

    /// A figure of `/proc/<pid>/status` in bytes: `VmRSS` now, `VmHWM` at most.
    pub(crate) fn memory(self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Let `VmHWM` begin anew.
    pub(crate) fn forget_peak(self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.pid);
        std::fs::write(&path, "5").context(|| format!("write {path}"))
    }

    /// Wait until it ended, at most `limit`. True when it did.
    pub(crate) async fn ended_within(self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }
}

struct Stat {
    ended: bool,
    start_ticks: u64,
}

fn stat_of(pid: u32) -> Option<Stat> {
    let mut stat = parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    // A killed process is a zombie as soon as its first thread is gone; the others may hold its ports a little longer.
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat.ended = stat.ended && threads() <= 1;
    Some(stat)
}

/// The name in parentheses may hold anything, also parentheses: the fields follow its last one.
fn parse_stat(line: &str) -> Option<Stat> {
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat { ended, start_ticks })
}

/// The program's file: beside cofferctl, else on PATH.
pub(crate) fn find_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context(|| "find the path of cofferctl itself")?;
    let beside = own.parent().unwrap_or(Path::new(".")).join(name);
    if beside.is_file() {
        return Ok(beside);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        coffer_stdx::Error::not_found(format!(
            "program {name} is neither beside cofferctl ({}) nor on PATH: build it with `cargo build --release`",
            beside.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_strange_name_is_understood() {
        let line = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        let stat = parse_stat(line).unwrap();
        assert!(!stat.ended);
        assert_eq!(stat.start_ticks, 777);
    }

    #[test]
    fn we_run_and_our_pid_with_another_start_does_not() {
        let me = Identity::of(std::process::id());
        assert!(me.is_running());
        assert!(!Identity { start_ticks: me.start_ticks + 1, ..me }.is_running());
    }
}
