//! A cluster for one test: `Cluster::builder().backends(3).brokers(1).start().await`.

use crate::mysql::Sql;
use crate::node::{Node, program};
use crate::ports::PortBlock;
use crate::wait::eventually;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;
use toml::{Table, Value};

/// How long a cluster may take until it is whole.
pub const READY_LIMIT: Duration = Duration::from_secs(60);
/// The file with the secret of the cluster's processes.
const SECRET_FILE: &str = "cluster.secret";
/// The broker group's name.
pub const BROKER: &str = "local_broker";

/// What to start.
#[derive(Debug, Clone)]
pub struct Builder {
    frontends: usize,
    backends: usize,
    brokers: usize,
    join: bool,
    extra: Vec<(String, Table)>,
}

impl Builder {
    /// Number of frontends (default 1).
    pub fn frontends(mut self, frontends: usize) -> Builder {
        self.frontends = frontends;
        self
    }

    /// Number of backends (default 1).
    pub fn backends(mut self, backends: usize) -> Builder {
        self.backends = backends;
        self
    }

    /// Number of brokers (default 1).
    pub fn brokers(mut self, brokers: usize) -> Builder {
        self.brokers = brokers;
        self
    }

    /// Start the processes without telling the frontend about backends and brokers.
    pub fn strangers(mut self) -> Builder {
        self.join = false;
        self
    }

    /// More configuration, as TOML, for the nodes whose name starts with `prefix` (`fe`, `be-2`, `broker`).
    pub fn config(mut self, prefix: &str, text: &str) -> Builder {
        let table = toml::from_str(text).expect("the test's configuration is TOML");
        self.extra.push((prefix.to_owned(), table));
        self
    }

    /// Start the processes; return when all are alive and joined.
    pub async fn start(self) -> anyhow::Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("coffer-test-").tempdir()?;
        std::fs::create_dir_all(dir.path().join("repos"))?;
        write_secret(&dir.path().join(SECRET_FILE))?;
        let mut ports = PortBlock::take()?;
        let mut nodes = Vec::new();
        for n in 1..=self.frontends {
            nodes.push(self.node(dir.path(), &format!("fe-{n}"), &mut ports)?);
        }
        for other in &nodes[1..] {
            let mut table: Table = toml::from_str(&std::fs::read_to_string(&other.config)?)?;
            table.insert("helper".into(), nodes[0].grpc.clone().into());
            std::fs::write(&other.config, toml::to_string(&table)?)?;
        }
        for n in 1..=self.backends {
            nodes.push(self.node(dir.path(), &format!("be-{n}"), &mut ports)?);
        }
        for n in 1..=self.brokers {
            nodes.push(self.node(dir.path(), &format!("broker-{n}"), &mut ports)?);
        }
        let cluster = Cluster { nodes, dir: Some(dir), _ports: ports };
        // A frontend beside the first starts when it was added.
        for node in cluster.nodes.iter().filter(|node| node.mysql.is_empty() || node.name == "fe-1") {
            node.start()?;
        }
        if self.join {
            cluster.join().await?;
        }
        Ok(cluster)
    }

    fn node(&self, dir: &Path, name: &str, ports: &mut PortBlock) -> anyhow::Result<Node> {
        let role = name.split('-').next().unwrap_or(name);
        let data = dir.join(name);
        std::fs::create_dir_all(&data)?;
        let mysql = if role == "fe" { ports.address()? } else { String::new() };
        let (http, grpc) = (ports.address()?, ports.address()?);
        let node = Node {
            name: name.to_owned(),
            mysql,
            http,
            grpc,
            data,
            config: dir.join(format!("{name}.toml")),
            log: dir.join(format!("{name}.log")),
            program: program(&format!("coffer-{role}"))?,
            child: Mutex::new(None),
        };
        std::fs::write(&node.config, self.config_of(&node, role, &dir.join("repos"))?)?;
        Ok(node)
    }

    fn config_of(&self, node: &Node, role: &str, repos: &Path) -> anyhow::Result<String> {
        let mut table = Table::new();
        let data = node.data.display().to_string();
        let text = |text: &str| Value::from(text.to_owned());
        match role {
            "fe" => {
                table.insert("host".into(), text("127.0.0.1"));
                table.insert("meta_dir".into(), text(&data));
                let key = repos.with_file_name("metadata.key").display().to_string();
                table.insert("metadata_key_file".into(), text(&key));
                table.insert("mysql_listen".into(), text(&node.mysql));
                table.insert("grpc_listen".into(), text(&node.grpc));
            }
            "be" => {
                table.insert("metrics_public".into(), true.into());
                table.insert("data_dirs".into(), vec![text(&data)].into());
                table.insert("grpc_listen".into(), text(&node.grpc));
            }
            _ => {
                table.insert("metrics_public".into(), true.into());
                table.insert("listen".into(), text(&node.grpc));
            }
        }
        table.insert("http_listen".into(), text(&node.http));
        let secret = repos.with_file_name(SECRET_FILE);
        table.insert("cluster_secret_file".into(), text(&secret.display().to_string()));
        table.insert("local_roots".into(), vec![text(&repos.display().to_string())].into());
        for (prefix, extra) in self.extra.iter().filter(|(prefix, _)| node.name.starts_with(prefix.as_str())) {
            let _ = prefix;
            table.extend(extra.clone());
        }
        Ok(toml::to_string(&table)?)
    }
}

/// What the processes of the cluster share, for them alone.
fn write_secret(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let unique = path.display().to_string().bytes().fold(0_u64, |seen, byte| seen.wrapping_mul(31) + u64::from(byte));
    Ok(std::io::Write::write_all(&mut file, format!("test-secret-{unique:032x}").as_bytes())?)
}

/// A running cluster; everything ends and vanishes when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    dir: Option<TempDir>,
    _ports: PortBlock,
}

impl Cluster {
    /// One frontend, one backend, one broker unless said otherwise.
    pub fn builder() -> Builder {
        Builder { frontends: 1, backends: 1, brokers: 1, join: true, extra: Vec::new() }
    }

    /// The cluster's directory.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().map(TempDir::path).expect("the directory lives as long as the cluster")
    }

    /// Where local repositories may lie.
    pub fn repos(&self) -> PathBuf {
        self.dir().join("repos")
    }

    /// The location of a local repository.
    pub fn location(&self, name: &str) -> String {
        format!("file://{}", self.repos().join(name).display())
    }

    /// Every node.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by name, such as `be-2`.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The first frontend.
    pub fn frontend(&self) -> &Node {
        self.node("fe-1")
    }

    /// Nodes whose name starts so.
    pub fn of(&self, prefix: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.name.starts_with(prefix))
    }

    /// A session as root, with any frontend that answers.
    pub fn sql(&self) -> Sql {
        let all: Vec<&str> = self.of("fe-").map(|node| node.mysql.as_str()).collect();
        Sql::new(&all.join(","))
    }

    /// The frontend that leads, as seen by any that answers.
    pub async fn leader(&self) -> anyhow::Result<&Node> {
        eventually("a frontend leads", READY_LIMIT, || async {
            let rows = self.sql().query("SHOW FRONTENDS").await?;
            let leads = |row: &&crate::mysql::Row| row.get("IsMaster") == "true" && row.get("Alive") == "true";
            let port = rows.iter().find(leads).map(|row| format!(":{}", row.get("QueryPort")));
            let port = port.with_context(|| format!("{rows:?}"))?;
            self.of("fe-").find(|node| node.mysql.ends_with(&port)).with_context(|| format!("who has {port}"))
        })
        .await
    }

    /// Tell the frontend about every backend and broker, and wait until all are alive.
    pub async fn join(&self) -> anyhow::Result<()> {
        let mut sql = self.sql();
        eventually("the frontend answers", READY_LIMIT, || async {
            self.nobody_died()?;
            self.sql().query("SELECT 1").await
        })
        .await?;
        for node in self.of("fe-").filter(|node| node.pid().is_none()) {
            sql.run(&format!("ALTER SYSTEM ADD FOLLOWER \"{}\"", node.advertised()?)).await?;
            node.start()?;
        }
        for node in self.of("be-") {
            sql.run(&format!("ALTER SYSTEM ADD BACKEND \"{}\"", node.grpc)).await?;
        }
        for node in self.of("broker-") {
            sql.run(&format!("ALTER SYSTEM ADD BROKER {BROKER} \"{}\"", node.grpc)).await?;
        }
        self.until_alive().await
    }

    /// Wait until the frontend leads and reports every node of ours alive.
    pub async fn until_alive(&self) -> anyhow::Result<()> {
        eventually("every node is alive", READY_LIMIT, || async {
            self.nobody_died()?;
            let mut sql = self.sql();
            let rows = sql.query("SHOW FRONTENDS").await?;
            let up = |row: &crate::mysql::Row| row.get("Alive") == "true" && row.get("Votes") == "Yes";
            let voters = rows.iter().filter(|row| up(row)).count();
            anyhow::ensure!(rows.iter().any(|row| row.get("IsMaster") == "true"), "no frontend leads");
            anyhow::ensure!(voters >= self.of("fe-").count(), "frontends are missing: {rows:?}");
            let mut rows = sql.query("SHOW BACKENDS").await?;
            let alive = |row: &crate::mysql::Row, port: &str| {
                (row.get("Alive") == "true").then(|| format!("{}:{}", row.get("Host"), row.get(port)))
            };
            let mut seen: Vec<String> = rows.iter().filter_map(|row| alive(row, "HeartbeatPort")).collect();
            rows = sql.query("SHOW BROKER").await?;
            seen.extend(rows.iter().filter_map(|row| alive(row, "Port")));
            for node in self.nodes.iter().filter(|node| node.mysql.is_empty()) {
                anyhow::ensure!(seen.contains(&node.grpc), "{} is not alive: {rows:?}", node.name);
            }
            Ok(())
        })
        .await
    }

    /// kill -9 a node, start it again, wait until the cluster is whole.
    pub async fn crash(&self, name: &str) -> anyhow::Result<()> {
        self.node(name).kill();
        self.node(name).start()?;
        self.until_alive().await.with_context(|| format!("after kill -9 of {name}"))
    }

    fn nobody_died(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            if let Some(status) = node.exited() {
                anyhow::bail!("{} ended ({status}):\n{}", node.name, node.log_tail());
            }
        }
        Ok(())
    }

    /// Log tails of all nodes, for a failing test.
    pub fn logs(&self) -> String {
        let tails: Vec<String> =
            self.nodes.iter().map(|node| format!("--- {}\n{}", node.name, node.log_tail())).collect();
        tails.join("\n")
    }
}

impl Drop for Cluster {
    #[allow(clippy::print_stderr, reason = "what a failing test shows")]
    fn drop(&mut self) {
        for node in &self.nodes {
            node.kill();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        if std::env::var_os("COFFER_TEST_KEEP").is_some()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("kept {}", dir.keep().display());
        }
    }
}
