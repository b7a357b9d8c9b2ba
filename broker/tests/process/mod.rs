//! A broker as a process of its own.

use coffer_proto::v1::StorageSpec;
use coffer_stdx::Result;
use coffer_store::{LocalAccess, Store, open};
use rustix::process::{Pid, Signal};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What anything may take on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A broker process; ends when dropped.
pub(crate) struct Broker {
    pub(crate) address: String,
    child: Child,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A location behind the broker at this address.
pub(crate) fn behind(address: &str, location: String, properties: &[(&str, &str)]) -> Result<Arc<dyn Store>> {
    let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let brokers = vec![address.to_owned()];
    open(&StorageSpec { location, properties, brokers, ..StorageSpec::default() }, &LocalAccess::default())
}

impl Broker {
    /// With these variables, and these lines of configuration besides a budget of 64 MiB.
    pub(crate) fn start(environment: &[(&str, &str)], more: &str) -> std::io::Result<Broker> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("broker.toml");
        std::fs::write(&config, format!("memory_budget_mib = 64\n{more}\n[log]\nformat = \"json\"\n"))?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_coffer-broker"))
            .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (told, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(std::io::Result::ok) {
                if let Some((_, rest)) = line.split_once("\"grpc\":\"") {
                    let _ = told.send(rest.split('"').next().unwrap_or_default().to_owned());
                }
            }
        });
        let address = address.recv_timeout(LIMIT).expect("the broker says where it serves");
        Ok(Broker { address, child })
    }

    /// A location behind it.
    pub(crate) fn store(&self, location: String, properties: &[(&str, &str)]) -> Result<Arc<dyn Store>> {
        behind(&self.address, location, properties)
    }

    /// Ask it to stop (SIGTERM).
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process id");
        rustix::process::kill_process(pid, Signal::TERM).expect("the broker runs");
    }

    /// How it ended.
    #[allow(dead_code, reason = "each test uses a part of it")]
    pub(crate) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            assert!(begun.elapsed() < LIMIT, "the broker does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
