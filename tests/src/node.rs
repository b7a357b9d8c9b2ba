//! One real process: start, stop, kill, freeze. It ends with its test in every case.
//!
//! Three nets catch a process: [`Node`]'s drop kills it, also when the test panics; and a watchdog shell, fed with
//! process ids over a pipe, kills what is left when the test process itself dies (even by SIGKILL), because the pipe
//! then closes. The watchdog stands in a process group of its own, so that Ctrl-C does not reach it first.

use anyhow::Context;
use rustix::process::{Pid, Signal};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long a clean stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Log lines shown when a test fails.
const LOG_LINES: usize = 40;

/// A process of a test cluster.
#[derive(Debug)]
pub struct Node {
    /// `fe-1`, `be-2`, `broker-1`.
    pub name: String,
    /// MySQL address; frontends only.
    pub mysql: String,
    /// HTTP address.
    pub http: String,
    /// gRPC address.
    pub grpc: String,
    /// Where its data lies.
    pub data: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// The program.
    pub program: PathBuf,
    pub(crate) child: Mutex<Option<Child>>,
}

impl Node {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Start it; returns at once.
    pub fn start(&self) -> anyhow::Result<()> {
        let mut child = self.child();
        anyhow::ensure!(child.is_none(), "{} runs already", self.name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let started = Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        tell_watchdog("add", started.id());
        *child = Some(started);
        Ok(())
    }

    /// Under which address others reach its gRPC service.
    pub fn advertised(&self) -> anyhow::Result<String> {
        let table: toml::Table = toml::from_str(&std::fs::read_to_string(&self.config)?)?;
        let other = table.get("grpc_advertise").and_then(toml::Value::as_str);
        Ok(other.unwrap_or(&self.grpc).to_owned())
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// How it ended, when it ended by itself.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child().as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// kill -9, and wait until it is gone.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
            tell_watchdog("del", child.id());
        }
    }

    /// Send a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid as i32)).context("the process does not run")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Freeze it (SIGSTOP): connections stay open, nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Let it go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ask it to stop (SIGTERM) and wait; returns how it ended.
    pub async fn stop(&self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let what = format!("{} stops after SIGTERM", self.name);
        let status = crate::eventually(&what, STOP_LIMIT, || async { self.exited().context("it still runs") }).await?;
        if let Some(child) = self.child().take() {
            tell_watchdog("del", child.id());
        }
        Ok(status)
    }

    /// A figure of `/proc/<pid>/status` in KiB, such as `VmHWM`.
    pub fn memory_kib(&self, field: &str) -> anyhow::Result<u64> {
        let pid = self.pid().context("the process does not run")?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_ascii_whitespace().next()).context("no such field")?;
        Ok(number.parse()?)
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program cargo built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let dir = match std::env::var_os("COFFER_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let own = std::env::current_exe()?;
            own.parent().and_then(Path::parent).context("the test runs outside a target directory")?.to_owned()
        }
    };
    let path = dir.join(name);
    anyhow::ensure!(path.is_file(), "no {}: run `cargo build --workspace --bins` first", path.display());
    Ok(path)
}

const WATCHDOG: &str = r#"
trap '' INT TERM HUP
pids=' '
while read -r verb pid; do
  case $verb in
    add) pids="$pids$pid " ;;
    del) pids="${pids%% $pid *} ${pids#* $pid }" ;;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
"#;

fn tell_watchdog(verb: &str, pid: u32) {
    static PIPE: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(WATCHDOG).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        Some(Mutex::new(shell.spawn().ok()?.stdin.take()?))
    });
    if let Some(pipe) = pipe {
        let _ = writeln!(pipe.lock().unwrap_or_else(PoisonError::into_inner), "{verb} {pid}");
    }
}
