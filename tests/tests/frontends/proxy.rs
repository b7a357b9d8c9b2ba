//! A network between frontends that can be cut: every frontend advertises a proxy instead of its own port.
//!
//! A proxy finds out which process connects (the socket's inode in /proc/net/tcp, then the process that holds it), so that
//! a frontend can be cut off from the other frontends while backends still reach it. A cut swallows bytes in both
//! directions and keeps connections open, as a lost network does; when it heals, those connections end. A cut may also be
//! one of the calls to a frontend alone, as by a firewall: it still calls the others.

use anyhow::Context;
use coffer_tests::cluster::Builder;
use coffer_tests::{Cluster, Outcome};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The way to one frontend.
struct Way {
    name: String,
    address: String,
    target: Target,
}

/// Where a proxy leads to, when that is known.
type Target = Arc<Mutex<Option<String>>>;

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who is cut off.
#[derive(Debug, Clone)]
struct Cut {
    name: String,
    /// It does not reach the others either.
    both_ways: bool,
}

/// The proxies of one cluster.
pub(crate) struct Network {
    ways: Vec<Way>,
    cut: watch::Sender<Option<Cut>>,
    dir: Arc<Mutex<Option<PathBuf>>>,
}

impl Network {
    /// Proxies for this many frontends.
    pub(crate) async fn new(frontends: usize) -> anyhow::Result<Network> {
        let (cut, dir) = (watch::Sender::new(None), Arc::new(Mutex::new(None)));
        let mut ways = Vec::new();
        for n in 1..=frontends {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?.to_string();
            let target = Target::default();
            let proxy =
                Proxy { name: format!("fe-{n}"), target: target.clone(), cut: cut.subscribe(), dir: dir.clone() };
            ways.push(Way { name: proxy.name.clone(), address, target });
            tokio::spawn(proxy.run(listener));
        }
        Ok(Network { ways, cut, dir })
    }

    /// Have the frontends advertise the proxies.
    pub(crate) fn configure(&self, mut builder: Builder) -> Builder {
        for Way { name, address, .. } in &self.ways {
            builder = builder.config(name, &format!("grpc_advertise = \"{address}\""));
        }
        builder
    }

    /// Start a cluster behind the proxies.
    pub(crate) async fn start(&self, builder: Builder) -> anyhow::Result<Cluster> {
        let cluster = self.configure(builder).strangers().start().await?;
        *locked(&self.dir) = Some(cluster.dir().to_owned());
        for Way { name, target, .. } in &self.ways {
            *locked(target) = Some(cluster.node(name).grpc.clone());
        }
        cluster.join().await?;
        Ok(cluster)
    }

    /// Cut this frontend off from the others.
    pub(crate) fn cut(&self, name: &str) {
        self.cut.send_replace(Some(Cut { name: name.to_owned(), both_ways: true }));
    }

    /// The others cannot call this frontend; it can call them.
    pub(crate) fn cut_inwards(&self, name: &str) {
        self.cut.send_replace(Some(Cut { name: name.to_owned(), both_ways: false }));
    }

    /// Everybody reaches everybody again.
    pub(crate) fn heal(&self) {
        self.cut.send_replace(None);
    }
}

#[derive(Clone)]
struct Proxy {
    name: String,
    target: Target,
    cut: watch::Receiver<Option<Cut>>,
    dir: Arc<Mutex<Option<PathBuf>>>,
}

impl Proxy {
    async fn run(self, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let proxy = self.clone();
            // A connection that breaks is what this is for.
            tokio::spawn(async move { proxy.serve(client).await.ok() });
        }
    }

    async fn serve(mut self, mut client: TcpStream) -> Outcome {
        let ports = (client.peer_addr()?.port(), client.local_addr()?.port());
        let dir = locked(&self.dir).clone();
        let from = tokio::task::spawn_blocking(move || dir.and_then(|dir| frontend_with(ports, &dir))).await?;
        let target = locked(&self.target).clone().context("no target yet")?;
        let mut server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        loop {
            if self.is_cut(from.as_deref()) {
                // Nothing passes until the cut heals; then this connection is over.
                while self.is_cut(from.as_deref()) {
                    self.cut.changed().await?;
                }
                return Ok(());
            }
            tokio::select! {
                read = client.read(&mut up) => match read? {
                    0 => return Ok(()),
                    bytes if !self.is_cut(from.as_deref()) => server.write_all(&up[..bytes]).await?,
                    _ => {}
                },
                read = server.read(&mut down) => match read? {
                    0 => return Ok(()),
                    bytes if !self.is_cut(from.as_deref()) => client.write_all(&down[..bytes]).await?,
                    _ => {}
                },
                changed = self.cut.changed() => changed?,
            }
        }
    }

    /// Whether the frontend that connected does not reach the one behind this proxy.
    fn is_cut(&self, from: Option<&str>) -> bool {
        match (self.cut.borrow().as_ref(), from) {
            (Some(cut), Some(from)) => {
                from != self.name && (cut.name == self.name || cut.both_ways && cut.name == from)
            }
            _ => false,
        }
    }
}

/// Reads of the table of sockets, which may miss one while others come and go.
const TABLE_READS: usize = 10;

/// The inode of the socket that connects these local ports; a local port alone may belong to several.
fn inode_of(from: u16, to: u16) -> Option<String> {
    let port = |field: &str| u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok();
    (0..TABLE_READS).find_map(|_| {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let ends = (port(fields.get(1)?)?, port(fields.get(2)?)?);
            (ends == (from, to)).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
    })
}

/// The name of the frontend of the cluster in `dir` that connected from one local port to the other.
fn frontend_with((from, to): (u16, u16), dir: &Path) -> Option<String> {
    let inode = inode_of(from, to)?;
    let wanted = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(command) = std::fs::read_to_string(entry.path().join("cmdline")) else { continue };
        let config = command.split('\0').map(Path::new).find(|part| part.parent() == Some(dir));
        let Some(name) = config.and_then(|config| config.file_stem()?.to_str()).filter(|name| name.starts_with("fe-"))
        else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        if files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link == Path::new(&wanted))) {
            return Some(name.to_owned());
        }
    }
    None
}
