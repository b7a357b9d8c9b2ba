//! The properties of an HDFS location, read and checked: pure.
//!
//! What a property of the repository says goes before what the configuration folder says. Names of Hadoop's own
//! (`dfs.`, `hadoop.`, `fs.`, `ipc.`) are all accepted, because an operator copies them from a cluster's files;
//! `HDFS.md` lists those that have an effect.

use coffer_stdx::secret::Secret;
use coffer_stdx::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;

/// The port of a NameNode that is named without one.
const DEFAULT_PORT: u16 = 8020;
/// Largest replication factor HDFS takes by default.
const MOST_REPLICAS: u32 = 512;
/// Names that begin so are Hadoop's.
const HADOOP: [&str; 4] = ["dfs.", "hadoop.", "fs.", "ipc."];
/// What hdfs-native waits for a DataNode that sends nothing, milliseconds, unless told otherwise.
const DATANODE_SILENCE_MS: &str = "20000";
/// Rounds through the NameNodes of a nameservice within one call; what takes longer is tried again by us.
const ROUNDS: usize = 2;

/// A location, ready to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// How to reach the cluster; two locations with the same one share a connection.
    pub(super) cluster: ClusterSettings,
    /// The folder in HDFS, `/a/b`; empty for the root.
    pub(super) folder: String,
    /// Replicas of a file; what the cluster says when not set.
    pub(super) replication: Option<u32>,
    /// Size of a block; what the cluster says when not set.
    pub(super) block_bytes: Option<u64>,
}

/// A cluster and who we are there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClusterSettings {
    /// `hdfs://nameservice` or `hdfs://host:port`.
    pub(super) url: String,
    /// The NameNodes, `host:port`, in the order in which they are tried.
    pub(super) namenodes: Vec<Namenode>,
    /// The nameservice, when the location names one.
    pub(super) nameservice: Option<String>,
    /// Hadoop properties, merged.
    pub(super) properties: BTreeMap<String, String>,
    /// With simple authentication: who to be; the user of this process when not set.
    pub(super) user: Option<String>,
    /// With Kerberos: how to log in.
    pub(super) kerberos: Option<Kerberos>,
    /// Part of the identity only: HDFS does not check it.
    password: Option<Hidden>,
}

impl fmt::Debug for ClusterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Properties may hold secrets.
        write!(f, "{} as {:?} {:?}", self.name(), self.user, self.kerberos)
    }
}

/// A NameNode: its id in the nameservice and its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Namenode {
    /// Its id; empty outside of a nameservice.
    pub(super) id: String,
    /// `host:port`.
    pub(super) address: String,
}

/// How to log in with Kerberos. Without keytab and cache the tickets of this process's user count.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kerberos {
    pub(super) principal: Option<String>,
    pub(super) keytab: Option<String>,
    /// Base64.
    pub(super) keytab_content: Option<Hidden>,
    pub(super) cache: Option<String>,
}

/// What is never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hidden(pub(super) Secret);

impl PartialOrd for Hidden {
    fn partial_cmp(&self, other: &Hidden) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Hidden {
    fn cmp(&self, other: &Hidden) -> std::cmp::Ordering {
        self.0.reveal().cmp(other.0.reveal())
    }
}

impl Settings {
    /// Read `location` with its `properties`, below which lie those of the configuration folder, `site`.
    pub(super) fn parse<'a>(
        location: &str,
        properties: impl IntoIterator<Item = (&'a String, &'a String)>,
        site: BTreeMap<String, String>,
    ) -> Result<Settings> {
        let mut given = Given::default();
        for (name, value) in properties {
            given.take(location, name, value.trim())?;
        }
        let from_site = site.clone();
        let mut merged = site;
        merged.extend(given.hadoop.clone());
        let (authority, folder) = split(location, &merged)?;
        let mut namenodes = Names { location, given: &given.hadoop, merged: &merged, site: &from_site };
        let (url, nameservice, namenodes) = namenodes.find(&authority)?;
        let kerberos = given.kerberos(&merged, location)?;
        let replication = number(&merged, "dfs.replication")?;
        if replication.is_some_and(|copies| copies == 0 || copies > u64::from(MOST_REPLICAS)) {
            return Err(Error::invalid(format!("property 'dfs.replication' must be from 1 to {MOST_REPLICAS}")));
        }
        let block_bytes = number(&merged, "dfs.blocksize")?.or(number(&merged, "dfs.block.size")?);
        let user = given.user.filter(|_| kerberos.is_none());
        complete(&mut merged, nameservice.as_deref(), &namenodes, kerberos.is_some());
        let password = given.password;
        let cluster = ClusterSettings { url, namenodes, nameservice, properties: merged, user, kerberos, password };
        Ok(Settings { cluster, folder, replication: replication.map(|copies| copies as u32), block_bytes })
    }
}

impl ClusterSettings {
    /// Whether DataNodes are reached by the names they announce.
    pub(super) fn by_hostname(&self) -> bool {
        self.properties.get("dfs.client.use.datanode.hostname").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// What to call the cluster in a message.
    pub(super) fn name(&self) -> String {
        let addresses: Vec<&str> = self.namenodes.iter().map(|node| node.address.as_str()).collect();
        match &self.nameservice {
            Some(name) => format!("nameservice {name} (NameNodes {})", addresses.join(", ")),
            None => format!("NameNode {}", addresses.join(", ")),
        }
    }
}

/// The properties of the repository, sorted out.
#[derive(Debug, Default)]
struct Given {
    hadoop: BTreeMap<String, String>,
    user: Option<String>,
    password: Option<Hidden>,
    principal: Option<String>,
    keytab: Option<String>,
    keytab_content: Option<String>,
}

impl Given {
    fn take(&mut self, location: &str, name: &str, value: &str) -> Result<()> {
        let place = match name {
            "username" | "hadoop.username" => &mut self.user,
            "kerberos_principal" | "hadoop.kerberos.principal" => &mut self.principal,
            "kerberos_keytab" | "hadoop.kerberos.keytab" => &mut self.keytab,
            "kerberos_keytab_content" => &mut self.keytab_content,
            "password" => {
                self.password = Some(Hidden(Secret::new(value)));
                return Ok(());
            }
            hadoop if HADOOP.iter().any(|prefix| hadoop.starts_with(prefix)) => {
                self.hadoop.insert(name.to_owned(), value.to_owned());
                return Ok(());
            }
            _ => {
                return Err(Error::invalid(format!(
                    "property '{name}' is unknown for location '{location}'; known are username, kerberos_principal, \
                     kerberos_keytab, kerberos_keytab_content and Hadoop's own: dfs.*, hadoop.*, fs.*, ipc.*"
                )));
            }
        };
        if value.is_empty() {
            return Err(Error::invalid(format!("property '{name}' is empty")));
        }
        match place.replace(value.to_owned()) {
            Some(other) if other != value => {
                Err(Error::invalid(format!("property '{name}' contradicts another property of the same meaning")))
            }
            _ => Ok(()),
        }
    }

    fn kerberos(&self, merged: &BTreeMap<String, String>, location: &str) -> Result<Option<Kerberos>> {
        let named = self.keytab.is_some() || self.keytab_content.is_some() || self.principal.is_some();
        let secure = match merged.get("hadoop.security.authentication").map(|value| value.to_ascii_lowercase()) {
            None => named,
            Some(value) if value == "simple" && self.hadoop.contains_key("hadoop.security.authentication") => {
                if named {
                    return Err(Error::invalid(format!(
                        "location '{location}': a Kerberos principal or keytab contradicts \
                         hadoop.security.authentication = simple"
                    )));
                }
                false
            }
            Some(value) if value == "simple" => named,
            Some(value) if value == "kerberos" => true,
            Some(value) => {
                return Err(Error::invalid(format!(
                    "invalid authentication:{value}; hadoop.security.authentication must be simple or kerberos"
                )));
            }
        };
        if !secure {
            return Ok(None);
        }
        if self.keytab.is_some() && self.keytab_content.is_some() {
            return Err(Error::invalid("kerberos_keytab and kerberos_keytab_content exclude each other"));
        }
        let cache = merged.get("hadoop.security.kerberos.ticket.cache.path").cloned();
        let keyed = self.keytab.is_some() || self.keytab_content.is_some();
        if self.principal.is_none() && (keyed || cache.is_some()) {
            return Err(Error::invalid("principal is required for kerberos authentication: set kerberos_principal"));
        }
        let keytab_content = self.keytab_content.clone().map(|content| Hidden(Secret::new(content)));
        let cache = cache.filter(|_| !keyed);
        Ok(Some(Kerberos { principal: self.principal.clone(), keytab: self.keytab.clone(), keytab_content, cache }))
    }
}

/// The authority and the folder of a location; `hdfs:///folder` takes the authority of `fs.defaultFS`.
fn split(location: &str, merged: &BTreeMap<String, String>) -> Result<(String, String)> {
    let malformed = |cause: &str| {
        Error::invalid(format!(
            "location '{location}' {cause}; write hdfs://host:port/folder or hdfs://nameservice/folder"
        ))
    };
    let rest = location.strip_prefix("hdfs://").ok_or_else(|| malformed("is no HDFS location"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let folder = path.trim_matches('/');
    if !folder.is_empty() {
        crate::path::check(folder).map_err(|error| malformed(&format!("is malformed ({error})")))?;
        if folder.contains(':') {
            return Err(malformed("has a ':', which HDFS does not allow in names"));
        }
    }
    let folder = if folder.is_empty() { String::new() } else { format!("/{folder}") };
    if !authority.is_empty() {
        check_authority(authority).map_err(|cause| malformed(&cause))?;
        return Ok((authority.to_owned(), folder));
    }
    let Some(default) = merged.get("fs.defaultFS") else {
        return Err(malformed("names no NameNode (invalid hdfs path. authority is null) and fs.defaultFS is not set"));
    };
    let authority = default.strip_prefix("hdfs://").map(|rest| rest.trim_end_matches('/')).unwrap_or_default();
    match check_authority(authority) {
        Ok(()) => Ok((authority.to_owned(), folder)),
        Err(cause) => Err(Error::invalid(format!("fs.defaultFS = '{default}' {cause}; write hdfs://host:port"))),
    }
}

fn check_authority(authority: &str) -> Result<(), String> {
    let (host, port) = host_and_port(authority);
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'));
    if host.is_empty() || host.contains(odd) || (host.contains(':') && !host.starts_with('[')) {
        return Err(format!("has the malformed host '{host}'"));
    }
    match port {
        Some(port) if port.parse::<u16>().map_or(true, |port| port == 0) => {
            Err(format!("has the malformed port '{port}'"))
        }
        _ => Ok(()),
    }
}

fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Finds the NameNodes of an authority.
struct Names<'a> {
    location: &'a str,
    given: &'a BTreeMap<String, String>,
    merged: &'a BTreeMap<String, String>,
    site: &'a BTreeMap<String, String>,
}

type Found = (String, Option<String>, Vec<Namenode>);

impl Names<'_> {
    fn find(&mut self, authority: &str) -> Result<Found> {
        let single = |address: String| {
            let node = Namenode { id: String::new(), address: address.clone() };
            (format!("hdfs://{address}"), None, vec![node])
        };
        if host_and_port(authority).1.is_some() {
            return Ok(single(authority.to_owned()));
        }
        if self.merged.contains_key(&format!("dfs.ha.namenodes.{authority}")) {
            return self.nameservice(authority);
        }
        let known = |properties: &BTreeMap<String, String>| {
            properties.get("dfs.nameservices").map(|list| listed(list)).filter(|list| !list.is_empty())
        };
        let listed = |list: Option<Vec<String>>| list.is_some_and(|list| list.iter().any(|name| name == authority));
        if listed(known(self.merged)) || listed(known(self.site)) {
            return match self.merged.get(&format!("dfs.namenode.rpc-address.{authority}")) {
                Some(address) => checked(&format!("dfs.namenode.rpc-address.{authority}"), address).map(single),
                None => Err(self.missing(&format!("dfs.ha.namenodes.{authority}"))),
            };
        }
        if let Some(others) = known(self.given) {
            return Err(Error::invalid(format!(
                "location '{}' names '{authority}', which is not among dfs.nameservices = {}; to name a host, add its \
                 port",
                self.location,
                others.join(",")
            )));
        }
        Ok(single(format!("{authority}:{DEFAULT_PORT}")))
    }

    fn nameservice(&self, name: &str) -> Result<Found> {
        let key = format!("dfs.ha.namenodes.{name}");
        let ids = listed(self.merged.get(&key).map(String::as_str).unwrap_or_default());
        if ids.is_empty() {
            return Err(self.missing(&key));
        }
        let nodes = ids.into_iter().map(|id| {
            let key = format!("dfs.namenode.rpc-address.{name}.{id}");
            let address = self.merged.get(&key).ok_or_else(|| self.missing(&key))?;
            Ok(Namenode { id, address: checked(&key, address)? })
        });
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        Ok((format!("hdfs://{name}"), Some(name.to_owned()), nodes))
    }

    fn missing(&self, key: &str) -> Error {
        Error::invalid(format!("location '{}' needs the property '{key}': missed {key} configuration", self.location))
    }
}

fn checked(key: &str, address: &str) -> Result<String> {
    let fault = |cause: String| Error::invalid(format!("property '{key}' = '{address}' {cause}; write host:port"));
    check_authority(address).map_err(fault)?;
    match host_and_port(address).1 {
        Some(_) => Ok(address.to_owned()),
        None => Ok(format!("{address}:{DEFAULT_PORT}")),
    }
}

fn listed(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A number of bytes or copies; Hadoop's suffixes k, m and g are understood.
fn number(properties: &BTreeMap<String, String>, key: &str) -> Result<Option<u64>> {
    let Some(text) = properties.get(key) else { return Ok(None) };
    let lower = text.trim().to_ascii_lowercase();
    let (digits, unit) = match lower.char_indices().last() {
        Some((at, 'k')) => (&lower[..at], 1 << 10),
        Some((at, 'm')) => (&lower[..at], 1 << 20),
        Some((at, 'g')) => (&lower[..at], 1 << 30),
        _ => (lower.as_str(), 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    number.map(Some).ok_or_else(|| Error::invalid(format!("property '{key}' = '{text}' must be a number")))
}

/// What hdfs-native must find in the properties, in the form it needs.
fn complete(properties: &mut BTreeMap<String, String>, nameservice: Option<&str>, nodes: &[Namenode], secure: bool) {
    let authentication = if secure { "kerberos" } else { "simple" };
    properties.insert("hadoop.security.authentication".to_owned(), authentication.to_owned());
    if let Some(name) = nameservice {
        let ids: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        properties.insert(format!("dfs.ha.namenodes.{name}"), ids.join(","));
        for node in nodes {
            properties.insert(format!("dfs.namenode.rpc-address.{name}.{}", node.id), node.address.clone());
        }
    }
    // The tries within hdfs-native are short, because a silent NameNode makes it wait without an end.
    let attempts = (nodes.len() * ROUNDS).saturating_sub(1).to_string();
    for (key, value) in [
        ("dfs.client.failover.max.attempts", attempts.as_str()),
        ("dfs.client.failover.sleep.base.millis", "200"),
        ("dfs.client.failover.sleep.max.millis", "1000"),
        ("dfs.client.socket-timeout", DATANODE_SILENCE_MS),
    ] {
        properties.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
