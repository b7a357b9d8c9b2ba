//! Other programs that carry files to the same storage: how each is called.

mod hdfs;
mod s3;

use super::leg::Load;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the storage.
    Up,
    /// From it.
    Down,
}

/// The arguments of one call.
type Arguments = fn(call: &Call<'_>) -> Vec<String>;

/// The storage, and where programs are looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The location.
    pub(crate) location: &'a str,
    /// Its properties.
    pub(crate) properties: &'a [(String, String)],
    /// Where programs are looked for, before PATH.
    pub(crate) peers_dir: &'a [PathBuf],
}

/// Another program.
#[derive(Debug)]
pub(crate) struct Peer {
    /// For the table.
    pub(crate) name: String,
    program: PathBuf,
    /// Its settings, credentials among them: never as arguments, which everybody on a machine may read.
    environment: Vec<(String, String)>,
    /// The location as it writes it.
    location: String,
    /// A call before the first upload to a folder.
    prepare: Option<Arguments>,
    arguments: Arguments,
}

/// What an argument list is made from.
#[derive(Debug)]
struct Call<'a> {
    way: Way,
    local: &'a Path,
    /// Location and folder.
    remote: String,
    streams: usize,
}

/// The wanted peers for the location's kind of storage.
pub(crate) fn find(names: &[String], args: &Place<'_>) -> Result<Vec<Peer>> {
    let scheme = args.location.split("://").next().unwrap_or_default();
    names
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| match scheme {
            "s3" => s3::peer(name, args),
            "hdfs" => hdfs::peer(name, args),
            _ => Err(Error::not_supported(format!("no peer is known for the location '{}'", args.location))),
        })
        .collect()
}

/// A program in `--peers-dir`, else on PATH.
fn program(name: &str, args: &Place<'_>) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = args.peers_dir.iter().cloned().chain(std::env::split_paths(&path));
    let found = dirs.map(|dir| dir.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        Error::not_found(format!(
            "program {name} is not there: tests/servers/peers DIR installs those of Python, tests/servers/hdfs up --dir DIR \
             makes hdfs; --peers-dir DIR/bin"
        ))
    })?;
    // It is called in another directory.
    std::path::absolute(&found).context(|| found.display().to_string())
}

/// rclone takes the storage from its environment, so that a call is the same for each.
fn rclone(call: &Call<'_>) -> Vec<String> {
    let local = call.local.display().to_string();
    let paths = match call.way {
        Way::Up => [local, call.remote.clone()],
        Way::Down => [call.remote.clone(), local],
    };
    let transfers = call.streams.to_string();
    let options = ["copy", "--transfers", &transfers, "--checkers", &transfers];
    options.into_iter().map(str::to_owned).chain(paths).collect()
}

impl Peer {
    /// Carry the files into `folder`.
    pub(crate) async fn upload(&self, load: &Load, folder: &str) -> Result<()> {
        self.call(Way::Up, &load.files.dir, folder, load.streams).await
    }

    /// Carry them back.
    pub(crate) async fn download(&self, load: &Load, folder: &str, target: &Path) -> Result<()> {
        self.call(Way::Down, target, folder, load.streams).await
    }

    /// What must be there before the first upload to a folder; not part of what is measured.
    pub(crate) async fn prepare(&self, folder: &str) -> Result<()> {
        match self.prepare {
            Some(arguments) => self.run(arguments, Way::Up, Path::new("."), (folder, 1)).await,
            None => Ok(()),
        }
    }

    /// Carry what is in the directory `local` to `folder`, or back.
    pub(crate) async fn call(&self, way: Way, local: &Path, folder: &str, streams: usize) -> Result<()> {
        self.run(self.arguments, way, local, (folder, streams)).await
    }

    async fn run(&self, arguments: Arguments, way: Way, local: &Path, (folder, streams): (&str, usize)) -> Result<()> {
        let local = std::path::absolute(local).context(|| local.display().to_string())?;
        let call = Call { way, local: &local, remote: format!("{}/{folder}", self.location), streams };
        let mut command = Command::new(&self.program);
        // Those that keep paths as they are given see short ones.
        command.args(arguments(&call)).envs(self.environment.iter().cloned()).current_dir(&local);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = command.output().await.context(|| format!("run {}", self.program.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Err(Error::unavailable(format!("{} ended with {}: {last}", self.name, output.status)))
    }
}
