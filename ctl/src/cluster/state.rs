//! What a cluster directory remembers: `cluster.json`, replaced as a whole whenever a process was started.
//!
//! ```text
//! DIR/cluster.json   nodes, addresses, process ids        DIR/conf/<node>.toml   their configuration
//! DIR/cluster.lock   held while a command works           DIR/logs/<node>.log    their logs
//! DIR/<node>/        their data                           DIR/repos/             local repositories
//! ```
//! A crash of cofferctl between starting a process and writing the file leaves a process that the file does not
//! know; the next `start` then finds its ports taken and names it.

use crate::cluster::process::Identity;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, ErrorKind, Result, fsx};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Version of the file's shape.
const FORMAT: u32 = 1;

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// `coffer-fe`.
    Frontend,
    /// `coffer-be`.
    Backend,
    /// `coffer-broker`.
    Broker,
}

impl Role {
    /// The word in node names.
    fn short(self) -> &'static str {
        match self {
            Role::Frontend => "fe",
            Role::Backend => "be",
            Role::Broker => "broker",
        }
    }

    /// The word in answers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Frontend => "frontend",
            Role::Backend => "backend",
            Role::Broker => "broker",
        }
    }

    /// The file name of the program.
    pub(crate) fn program(self) -> String {
        format!("coffer-{}", self.short())
    }
}

/// Where a process answers, each as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    /// MySQL protocol; frontends only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mysql: Option<String>,
    /// Health, metrics, stream load.
    pub(crate) http: String,
    /// Among processes.
    pub(crate) grpc: String,
}

impl Addresses {
    /// Every address with its name.
    pub(crate) fn all(&self) -> Vec<(&'static str, &str)> {
        let mysql = self.mysql.as_deref().map(|address| ("mysql", address));
        mysql.into_iter().chain([("http", self.http.as_str()), ("grpc", self.grpc.as_str())]).collect()
    }
}

/// One process of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// `fe-1`, `be-2`, `broker-1`; also the names of its files.
    pub(crate) name: String,
    /// What it is.
    pub(crate) role: Role,
    /// Where it answers.
    #[serde(flatten)]
    pub(crate) addresses: Addresses,
    /// The process, once it was started.
    #[serde(flatten)]
    pub(crate) process: Option<Identity>,
}

impl Node {
    /// A node that was never started.
    pub(crate) fn new(role: Role, number: u16, addresses: Addresses) -> Node {
        Node { name: format!("{}-{number}", role.short()), role, addresses, process: None }
    }

    /// Whether its process exists.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some_and(Identity::is_running)
    }
}

/// A cluster, as its directory remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    format: u32,
    /// The name of the broker group.
    pub(crate) broker_name: String,
    /// Directories below which local repositories may lie.
    pub(crate) local_roots: Vec<PathBuf>,
    /// The processes.
    pub(crate) processes: Vec<Node>,
}

impl State {
    /// A cluster that was never started.
    pub(crate) fn new(local_roots: Vec<PathBuf>, processes: Vec<Node>) -> State {
        State { format: FORMAT, broker_name: "local_broker".to_owned(), local_roots, processes }
    }

    /// The nodes of a role.
    pub(crate) fn of_role(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.processes.iter().filter(move |node| node.role == role)
    }

    /// The MySQL address of the first frontend.
    pub(crate) fn mysql(&self) -> Result<&str> {
        let first = self.of_role(Role::Frontend).find_map(|node| node.addresses.mysql.as_deref());
        first.ok_or_else(|| Error::corrupt("cluster.json names no frontend"))
    }
}

/// A cluster's directory.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    dir: PathBuf,
}

impl Home {
    /// The directory as an absolute path; it need not exist.
    pub(crate) fn new(dir: &Path) -> Result<Home> {
        let dir = std::path::absolute(dir).context(|| format!("directory {}", dir.display()))?;
        Ok(Home { dir })
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Local repositories.
    pub(crate) fn repos(&self) -> PathBuf {
        self.dir.join("repos")
    }

    /// The secret that the processes share.
    pub(crate) fn secret(&self) -> PathBuf {
        self.dir.join("cluster.secret")
    }

    /// The key of secrets in the metadata, for all frontends.
    pub(crate) fn metadata_key(&self) -> PathBuf {
        self.dir.join("metadata.key")
    }

    /// A node's configuration file.
    pub(crate) fn config(&self, node: &str) -> PathBuf {
        self.dir.join("conf").join(format!("{node}.toml"))
    }

    /// A node's log.
    pub(crate) fn log(&self, node: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{node}.log"))
    }

    /// A node's data.
    pub(crate) fn data(&self, node: &str) -> PathBuf {
        self.dir.join(node)
    }

    fn state_file(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    /// Whether a cluster was created here.
    pub(crate) fn has_cluster(&self) -> bool {
        self.state_file().is_file()
    }

    /// Read the cluster.
    pub(crate) fn load(&self) -> Result<State> {
        let path = self.state_file();
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::invalid(format!(
                "no cluster in {}: create one with `cofferctl cluster up --dir {0}`",
                self.dir.display()
            )),
            _ => Error::new(Error::from(error).kind(), format!("read {}", path.display())),
        })?;
        let state: State =
            serde_json::from_str(&text).map_err(|error| Error::corrupt(format!("{}: {error}", path.display())))?;
        if state.format != FORMAT {
            let found = state.format;
            return Err(Error::not_supported(format!("{} has format {found}, this is {FORMAT}", path.display())));
        }
        self.check_place(&state)?;
        Ok(state)
    }

    /// A directory that was moved or copied is refused: its configuration files name the old place, where its processes
    /// would find nothing, or the data of another cluster.
    fn check_place(&self, state: &State) -> Result<()> {
        // The first root is that of the local repositories, in the directory as it was when the cluster was made.
        let Some(made) = state.local_roots.first().and_then(|repos| repos.parent()) else { return Ok(()) };
        let same = |old: PathBuf| std::fs::canonicalize(&self.dir).is_ok_and(|new| new == old);
        if made == self.dir || std::fs::canonicalize(made).is_ok_and(same) {
            return Ok(());
        }
        let (new, old) = (self.dir.display(), made.display());
        Err(Error::invalid(format!(
            "the cluster in {new} was made in {old}, which the files in {new}/conf name: move it back, or put {new} in the \
             place of {old} in {new}/conf/*.toml and in {new}/cluster.json (a cluster whose processes run is stopped first, \
             where it was)"
        )))
    }

    /// Write the cluster; the old file or the new one is there, whatever happens.
    pub(crate) fn save(&self, state: &State) -> Result<()> {
        let text = serde_json::to_string_pretty(state).map_err(|error| Error::bug(format!("cluster.json: {error}")))?;
        fsx::write_durably(&self.state_file(), text.as_bytes())
    }

    /// Keep other cofferctl commands out of this cluster while the file lives.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.dir.join("cluster.lock");
        let file = File::create(&path).context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                let text = format!("another cofferctl works on {}: wait for it", self.dir.display());
                Err(Error::new(ErrorKind::Conflict, text))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(error).context(|| format!("lock {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path()).unwrap();
        assert_eq!(home.load().unwrap_err().kind(), ErrorKind::Invalid);
        let addresses = Addresses { mysql: Some("127.0.0.1:1".into()), http: "127.0.0.1:2".into(), grpc: "h:3".into() };
        let mut node = Node::new(Role::Frontend, 1, addresses);
        let mut state = State::new(vec![home.repos()], vec![node.clone()]);
        home.save(&state).unwrap();
        assert_eq!(home.load().unwrap(), state);
        node.process = Some(Identity { pid: 1, start_ticks: 2 });
        state.processes = vec![node];
        home.save(&state).unwrap();
        assert_eq!(home.load().unwrap(), state);
        assert_eq!(state.mysql().unwrap(), "127.0.0.1:1");
    }

    #[test]
    fn a_directory_that_was_moved_is_refused_and_one_seen_through_a_link_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new, link) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("link"));
        std::fs::create_dir(&old).unwrap();
        let home = Home::new(&old).unwrap();
        home.save(&State::new(vec![home.repos()], Vec::new())).unwrap();
        home.load().unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        Home::new(&link).unwrap().load().unwrap();
        std::fs::rename(&old, &new).unwrap();
        let moved = || Home::new(&new).unwrap().load().unwrap_err();
        let error = moved();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        for path in [&old, &new] {
            assert!(error.message().contains(&path.display().to_string()), "{error}");
        }
        // Also when something else is there by now.
        std::fs::create_dir(&old).unwrap();
        assert_eq!(moved().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn only_one_command_works_on_a_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path()).unwrap();
        let held = home.lock().unwrap();
        assert_eq!(home.lock().unwrap_err().kind(), ErrorKind::Conflict);
        drop(held);
        home.lock().unwrap();
    }
}
