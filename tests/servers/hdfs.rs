//! A real HDFS for tests, through `tests/servers/hdfs`, which says what it starts and how. Included by path into the
//! tests that need it. It ends with its test process in every case: the script stops everything when its standard input
//! closes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A running HDFS.
#[derive(Debug)]
pub(crate) struct Hdfs {
    facts: BTreeMap<String, String>,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    child: Child,
}

fn script() -> PathBuf {
    // Asked at run time: a cached test may run in another checkout than it was built in.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("run by cargo")).join("../tests/servers/hdfs")
}

#[allow(dead_code, reason = "each test uses a part of it")]
impl Hdfs {
    /// Start a variant with its options, `"simple --datanodes 3"`; `None` when HDFS is not installed on this machine,
    /// which is said, and is a failure where `CI` is set.
    pub(crate) fn start(test: &str, variant: &str) -> std::io::Result<Option<Hdfs>> {
        if !Command::new(script()).arg("installed").status()?.success() {
            let reason = "HDFS is not installed (tests/servers/hdfs install)";
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{test}: {reason}");
            coffer_stdx::testing::skip(test, reason);
            return Ok(None);
        }
        let mut child = Command::new(script())
            .arg("run")
            .args(variant.split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, mut output) = (input.expect("piped"), BufReader::new(output.expect("piped")));
        let mut facts = BTreeMap::new();
        loop {
            let mut line = String::new();
            if output.read_line(&mut line)? == 0 {
                return Err(Error::other("HDFS did not start; its script says why above"));
            }
            match line.trim_end().split_once('=') {
                Some((name, value)) => drop(facts.insert(name.to_owned(), value.to_owned())),
                None => break,
            }
        }
        Ok(Some(Hdfs { facts, pipes: Mutex::new((input, output)), child }))
    }

    /// What the script told about the cluster, such as the address of `nn1`.
    pub(crate) fn fact(&self, name: &str) -> &str {
        self.facts.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.facts))
    }

    /// A command of the script's `run`; what it answered.
    pub(crate) fn tell(&self, command: &str) -> std::io::Result<String> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, output) = &mut *pipes;
        writeln!(input, "{command}")?;
        let mut answer = String::new();
        output.read_line(&mut answer)?;
        match answer.trim_end().strip_prefix("ok") {
            Some(answer) => Ok(answer.trim().to_owned()),
            None => Err(Error::other(format!("{command}: {answer}"))),
        }
    }

    /// A folder that everybody may write to.
    pub(crate) fn folder(&self, path: &str) -> std::io::Result<()> {
        self.tell(&format!("web PUT {path} op=MKDIRS&permission=777")).map(drop)
    }
}

impl Drop for Hdfs {
    fn drop(&mut self) {
        // The script would stop by itself when this process ends; a test that drops one wants its memory back now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
