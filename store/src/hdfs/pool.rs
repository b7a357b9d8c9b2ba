//! Connections to HDFS clusters, shared by all stores of this process.
//!
//! A client of hdfs-native that has written a file keeps a task and a connection until its runtime ends, so clients are
//! not made for each store but kept here: one per cluster and identity, on a runtime of its own that lives as long as
//! the process. That runtime also keeps what blocks inside (Kerberos libraries talk to a KDC with blocking calls) and
//! what panics inside away from the caller.

use super::failure;
use super::settings::{ClusterSettings, Kerberos};
use base64::Engine;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use hdfs_native::{Client, ClientBuilder, HdfsError};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};
use tokio::task::{JoinError, JoinHandle};

/// Clusters and identities kept; the one unused for longest goes first.
const MOST_CLUSTERS: usize = 64;
/// Threads for the bytes of all clusters; some may wait for a KDC.
const THREADS: usize = 4;
/// How long a NameNode may take to answer.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// For calls that make a NameNode work through many files.
pub(super) const WORK_WITHIN: Duration = Duration::from_secs(60);
/// How long to go on trying while one of several NameNodes takes over.
const TAKE_OVER: Duration = Duration::from_secs(12);
/// How long to go on trying when there is only one.
const PATIENCE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Where hdfs-native must not find files: ours are read already.
const NO_FOLDER: &str = "/dev/null";

/// The runtime of all clients.
pub(super) fn io() -> Result<Handle> {
    static IO: OnceLock<Result<Runtime>> = OnceLock::new();
    let made = IO.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let built = builder.worker_threads(THREADS).thread_name("hdfs").enable_all().build();
        built.context(|| "start threads for HDFS")
    });
    made.as_ref().map(|runtime| runtime.handle().clone()).map_err(Error::clone)
}

/// A task that ends with whoever waits for it.
pub(super) struct Tied<T>(JoinHandle<T>);

impl<T> Tied<T> {
    /// Wait for its end.
    pub(super) async fn ended(&mut self) -> Result<T> {
        (&mut self.0).await.map_err(|error| broke(&error))
    }
}

impl<T> Drop for Tied<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begin `work` on the runtime of the clients.
pub(super) fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<Tied<T>> {
    Ok(Tied(io()?.spawn(work)))
}

/// Run `work` on the runtime of the clients.
pub(super) async fn on_io<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    spawn(work)?.ended().await
}

fn broke(error: &JoinError) -> Error {
    match error.is_panic() {
        true => Error::bug("the HDFS client came upon something it does not know"),
        false => Error::cancelled("the HDFS client stopped"),
    }
}

/// A cluster as one identity.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) settings: ClusterSettings,
    // Open as long as the cluster, because its path leads to it.
    _keytab: Option<File>,
    keytab_path: Option<String>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    client: Client,
    number: u64,
}

type Pool = Mutex<BTreeMap<ClusterSettings, (Arc<Cluster>, Instant)>>;

/// The cluster of these settings, connected on first use.
pub(super) fn cluster(settings: &ClusterSettings) -> Result<Arc<Cluster>> {
    static POOL: OnceLock<Pool> = OnceLock::new();
    let mut pool = locked(POOL.get_or_init(Mutex::default));
    if let Some((cluster, used)) = pool.get_mut(settings) {
        *used = Instant::now();
        return Ok(Arc::clone(cluster));
    }
    let cluster = Arc::new(Cluster::new(settings.clone())?);
    if pool.len() >= MOST_CLUSTERS {
        let oldest = pool.iter().min_by_key(|(_, (_, used))| *used).map(|(settings, _)| settings.clone());
        oldest.and_then(|settings| pool.remove(&settings));
    }
    pool.insert(settings.clone(), (Arc::clone(&cluster), Instant::now()));
    Ok(cluster)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    fn new(settings: ClusterSettings) -> Result<Cluster> {
        let keytab = settings.kerberos.as_ref().map(keytab).transpose()?.flatten();
        let path = keytab.as_ref().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()));
        let given = settings.kerberos.as_ref().and_then(|kerberos| kerberos.keytab.clone());
        let keytab_path = given.or(path);
        let client = connect(&settings, keytab_path.as_deref(), 0)?;
        Ok(Cluster { settings, _keytab: keytab, keytab_path, current: Mutex::new(Current { client, number: 0 }) })
    }

    pub(super) fn client(&self) -> Client {
        locked(&self.current).client.clone()
    }

    /// Ask the NameNodes for something until they answer: lost connections, roles that change and silence are tried
    /// again, for a while. `ask` must do no harm when it is done twice.
    pub(super) async fn ask<T, F>(&self, doing: &str, within: Duration, ask: impl Fn(Client) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, HdfsError>> + Send + 'static,
    {
        let patience = if self.settings.namenodes.len() > 1 { TAKE_OVER } else { PATIENCE };
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            match self.ask_once(doing, within, &ask).await {
                Err(error) if error.kind().is_transient() && begun.elapsed() + pause < patience => {
                    tracing::debug!(%error, "asking again");
                }
                outcome => return outcome,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// [`Cluster::ask`] with a single try.
    pub(super) async fn ask_once<T, F>(&self, doing: &str, within: Duration, ask: impl Fn(Client) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, HdfsError>> + Send + 'static,
    {
        let (client, number) = {
            let current = locked(&self.current);
            (current.client.clone(), current.number)
        };
        match tokio::time::timeout(within, on_io(ask(client))).await {
            Ok(outcome) => outcome?.map_err(|error| failure::failed(doing, &self.settings, error)),
            Err(_) => {
                self.renew(number);
                Err(failure::silent(doing, &self.settings, within.as_secs()))
            }
        }
    }

    /// Connect anew after silence, beginning with the next NameNode: hdfs-native itself would stay with the silent one.
    fn renew(&self, number: u64) {
        let mut current = locked(&self.current);
        if current.number != number {
            return;
        }
        match connect(&self.settings, self.keytab_path.as_deref(), number as usize + 1) {
            Ok(client) => *current = Current { client, number: number + 1 },
            Err(error) => tracing::warn!(%error, "HDFS client is not renewed"),
        }
    }
}

/// A client that tries the NameNodes from the `first` on.
fn connect(settings: &ClusterSettings, keytab: Option<&str>, first: usize) -> Result<Client> {
    let mut properties = settings.properties.clone();
    if let Some(name) = &settings.nameservice {
        let mut ids: Vec<&str> = settings.namenodes.iter().map(|node| node.id.as_str()).collect();
        let first = first % ids.len().max(1);
        ids.rotate_left(first);
        properties.insert(format!("dfs.ha.namenodes.{name}"), ids.join(","));
    }
    let mut builder = ClientBuilder::new()
        .with_url(&settings.url)
        .with_config_dir(NO_FOLDER)
        .with_config(properties)
        .with_io_runtime(io()?);
    if let Some(user) = &settings.user {
        builder = builder.with_user(user);
    }
    if let Some(kerberos) = &settings.kerberos {
        if let Some(principal) = &kerberos.principal {
            builder = builder.with_kerberos_principal(expanded(principal));
        }
        if let Some(cache) = &kerberos.cache {
            builder = builder.with_kerberos_cache(cache);
        }
        if let Some(keytab) = keytab {
            builder = builder.with_kerberos_keytab(keytab);
        }
    }
    builder.build().map_err(|error| failure::failed("connect to HDFS", settings, error))
}

/// `_HOST` in a principal stands for this machine.
fn expanded(principal: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    principal.replace("_HOST", &host.trim().to_ascii_lowercase())
}

/// A keytab that came as text, in memory: it touches no disk and ends with this process.
fn keytab(kerberos: &Kerberos) -> Result<Option<File>> {
    if let Some(path) = &kerberos.keytab {
        let opened = File::open(path).map(drop);
        opened.map_err(|error| Error::denied(format!("kerberos_keytab '{path}' cannot be read here: {error}")))?;
    }
    let Some(content) = &kerberos.keytab_content else { return Ok(None) };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(content.0.reveal())
        .map_err(|_| Error::invalid("property 'kerberos_keytab_content' must be base64"))?;
    let memory = rustix::fs::memfd_create("keytab", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(memory.map_err(std::io::Error::from).context(|| "keep a keytab in memory")?);
    file.write_all(&bytes).context(|| "keep a keytab in memory")?;
    Ok(Some(file))
}
