//! Who writes a temporary file: its name says it, so that what a dead process left can be told from what a living one
//! is about to finish.
//!
//! ```text
//! .coffer-tmp-<boot>.<pid namespace>.<pid>-<random>
//! ```
//! The boot id is another one on every machine and after every start of it; a process id means something only in its
//! namespace. So a writer is known to be dead only where all three say so. That of another machine or container, which
//! may share the directory over a network, is never judged: its files go when nobody wrote to them for [`LEFT_AFTER`].

use crate::path::TEMPORARY;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::LazyLock;
use std::time::Duration;
use uuid::Uuid;

/// A temporary file that nobody wrote to for so long was left by a crash, whoever wrote it.
pub(super) const LEFT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// This process; `None` where the kernel does not tell.
static OWN: LazyLock<Option<Writer>> = LazyLock::new(Writer::own);

/// A process, among all that may share a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Writer {
    boot: String,
    namespace: u64,
    pid: i32,
}

impl Writer {
    fn own() -> Option<Writer> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let boot: String = boot.chars().filter(char::is_ascii_hexdigit).collect();
        let namespace = fs::metadata("/proc/self/ns/pid").ok()?.ino();
        let pid = i32::try_from(std::process::id()).ok()?;
        (boot.len() == 32).then_some(Writer { boot, namespace, pid })
    }

    /// As [`Writer::text`] wrote it, with what follows.
    fn parse(name: &str) -> Option<Writer> {
        let (writer, _random) = name.strip_prefix(TEMPORARY)?.rsplit_once('-')?;
        let mut parts = writer.split('.');
        let boot = parts.next()?.to_owned();
        let (namespace, pid) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Writer { boot, namespace, pid })
    }

    fn text(&self) -> String {
        format!("{}.{}.{}", self.boot, self.namespace, self.pid)
    }

    /// Whether it ended, as far as `own` can tell. An id that was given out again only delays that.
    fn is_dead(&self, own: &Writer) -> bool {
        let judged = (&self.boot, self.namespace) == (&own.boot, own.namespace);
        judged && Pid::from_raw(self.pid).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
    }
}

/// The name of a new temporary file.
pub(super) fn name() -> String {
    let random = Uuid::new_v4().simple();
    match &*OWN {
        Some(own) => format!("{TEMPORARY}{}-{random}", own.text()),
        None => format!("{TEMPORARY}{random}"),
    }
}

/// Whether a temporary file of this name, last written to so long ago, was left by a crash.
pub(super) fn is_left(name: &str, age: Option<Duration>) -> bool {
    if age.is_some_and(|age| age > LEFT_AFTER) {
        return true;
    }
    match (Writer::parse(name), &*OWN) {
        (Some(writer), Some(own)) => writer.is_dead(own),
        _ => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The name of a temporary file of a process that has ended, here.
    pub(in crate::local) fn name_of_a_dead_writer() -> String {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        named(&Writer { pid, ..OWN.clone().unwrap() })
    }

    fn named(writer: &Writer) -> String {
        format!("{TEMPORARY}{}-{}", writer.text(), Uuid::new_v4().simple())
    }

    #[test]
    fn only_a_writer_that_is_surely_dead_is_called_so() {
        let own = OWN.clone().unwrap();
        assert_eq!(Writer::parse(&name()), Some(own.clone()));
        assert!(!is_left(&name(), None), "this process lives");
        let dead = name_of_a_dead_writer();
        assert!(is_left(&dead, None));
        let writer = Writer::parse(&dead).unwrap();
        let young = Some(LEFT_AFTER);
        // The same numbers on another machine, after another boot, or in another container.
        let elsewhere = Writer { boot: "0".repeat(32), ..writer.clone() };
        let container = Writer { namespace: own.namespace + 1, ..writer.clone() };
        for other in [elsewhere, container, Writer { pid: 1, ..writer.clone() }] {
            assert!(!is_left(&named(&other), young), "{other:?}");
            assert!(is_left(&named(&other), Some(LEFT_AFTER + Duration::from_secs(1))));
        }
        for strange in [".coffer-tmp-1", ".coffer-tmp-0123-4", ".coffer-tmp-a.b.c-d", ".coffer-tmp-a.1.2.3-d"] {
            assert!(!is_left(strange, young), "{strange}");
        }
        assert!(name().len() < 200);
    }
}
