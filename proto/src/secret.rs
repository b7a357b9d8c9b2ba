//! The secret that the processes of one cluster share, so that a stranger who reaches a port gets nothing.
//!
//! The secret itself never leaves the process. Two things are derived from it, which tell neither the secret nor each other: a
//! token that every gRPC request carries in the one header that a channel sets by itself, the user agent; and a token that
//! `/metrics` takes (`Authorization: Bearer`). Every service refuses requests without the first one before they are read. It proves who calls, it does not hide what is
//! said: that takes TLS ([`tls`](crate::tls)).
//!
//! A process without a secret and without TLS between the processes listens on loopback only, unless the option
//! `trust_network` says that the network keeps strangers out. With both, requests carry the token but those without one are
//! served: so a running cluster gets a secret one process after the other.

use coffer_stdx::{Error, Result};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;
use tonic::service::{Interceptor, InterceptorLayer};
use tonic::{Request, Status};

/// Fewest and most characters of a secret.
const LENGTH: std::ops::RangeInclusive<usize> = 32..=512;
/// The longest secret file that is read, bytes.
const MAX_FILE_BYTES: u64 = 4 << 10;
const PREFIX: &str = "coffer/";
const CALLS: &str = "coffer 2026-11 token of calls between processes";
const METRICS: &str = "coffer 2026-11 token of metrics pages";

static KEYS: OnceLock<Keys> = OnceLock::new();

/// What is derived from the secret.
struct Keys {
    calls: String,
    metrics: String,
    /// Whether requests without the token are served as well.
    lenient: bool,
}

impl Keys {
    fn of(secret: &str, lenient: bool) -> Keys {
        let derived = |purpose: &str| blake3::Hash::from_bytes(blake3::derive_key(purpose, secret.as_bytes()));
        let token = |purpose: &str| derived(purpose).to_hex().to_string();
        Keys { calls: token(CALLS), metrics: token(METRICS), lenient }
    }
}

/// What a process is told about whom to trust.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Option `cluster_secret_file`; empty: none.
    pub secret_file: &'a Path,
    /// Option `trust_network`.
    pub network: bool,
    /// Whether the processes prove themselves with certificates.
    pub certificates: bool,
    /// Where gRPC listens, "host:port".
    pub listen: &'a str,
}

/// Read the secret of this process, and refuse to serve everybody.
pub fn establish(trust: Trust<'_>) -> Result<()> {
    if !trust.secret_file.as_os_str().is_empty() {
        return keep(read(trust.secret_file)?, trust.network);
    }
    if trust.network || trust.certificates || is_loopback(trust.listen) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "config cluster_secret_file: it is empty, and gRPC would listen on {}, where others than this machine reach it. Make \
         a secret with `cofferctl secret new --to FILE`, copy it to every machine of the cluster (mode 600) and name it in \
         cluster_secret_file of every process; or listen on 127.0.0.1; or, where the network keeps strangers out, say \
         trust_network = true",
        trust.listen
    )))
}

/// Read the secret from a file that only its owner may read, for calls of this process.
pub fn load(path: &Path) -> Result<()> {
    keep(read(path)?, false)
}

/// What `/metrics` of backends and brokers takes, of the secret in a file.
pub fn metrics_token_of(path: &Path) -> Result<String> {
    Ok(Keys::of(&read(path)?, false).metrics)
}

fn keep(secret: String, lenient: bool) -> Result<()> {
    // A second start in one process (tests) keeps the first.
    let _ = KEYS.set(Keys::of(&secret, lenient));
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    let shown = path.display();
    let failed = |error: std::io::Error| Error::invalid(unreadable(path, &error));
    let seen = std::fs::metadata(path).map_err(failed)?;
    if seen.permissions().mode() & 0o077 != 0 {
        return Err(Error::invalid(format!("cluster secret {shown}: others can read it; chmod 600 {shown}")));
    }
    if seen.len() > MAX_FILE_BYTES {
        return Err(Error::invalid(format!("cluster secret {shown}: more than {MAX_FILE_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    checked(text.trim()).map_err(|error| Error::invalid(format!("cluster secret {shown}: {error}")))
}

/// What is to be done about a secret that cannot be read.
fn unreadable(path: &Path, error: &std::io::Error) -> String {
    let shown = path.display();
    let advice = match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "; make it once with `cofferctl secret new --to {shown}` and copy it to every machine of the cluster, mode 600, \
             owned by the user that this process runs as"
        ),
        std::io::ErrorKind::PermissionDenied => "; it must belong to the user that this process runs as".to_owned(),
        _ => String::new(),
    };
    format!("cluster secret {shown} (option cluster_secret_file): {error}{advice}")
}

fn checked(text: &str) -> std::result::Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !LENGTH.contains(&text.len()) || !text.bytes().all(good) {
        return Err(format!("{} to {} letters, digits, - and _ are needed", LENGTH.start(), LENGTH.end()));
    }
    Ok(text.to_owned())
}

fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What a channel says of itself.
pub(crate) fn user_agent() -> Option<String> {
    KEYS.get().map(|keys| format!("{PREFIX}{}", keys.calls))
}

/// Whether this process has a secret.
pub fn is_known() -> bool {
    KEYS.get().is_some()
}

/// Whether this `Authorization` header bears the metrics token of the cluster; without a secret none does.
pub fn is_metrics_token(authorization: Option<&str>) -> bool {
    KEYS.get().zip(authorization).is_some_and(|(keys, given)| bears(given, &keys.metrics))
}

fn bears(authorization: &str, token: &str) -> bool {
    match authorization.split_once(' ') {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => same(given.trim(), token),
        _ => false,
    }
}

/// Refuses requests without the token of this process.
#[derive(Debug, Clone, Copy)]
pub struct Guard;

/// To be put around every service of a server.
pub fn guard() -> InterceptorLayer<Guard> {
    InterceptorLayer::new(Guard)
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> std::result::Result<Request<()>, Status> {
        let Some(keys) = KEYS.get().filter(|keys| !keys.lenient) else { return Ok(request) };
        let given = request.metadata().get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if carries(given, &keys.calls) {
            return Ok(request);
        }
        Err(Status::unauthenticated("the caller does not have the secret of this cluster (option cluster_secret_file)"))
    }
}

/// Whether the first word of a user agent is the token.
fn carries(agent: &str, token: &str) -> bool {
    let word = agent.split(' ').next().unwrap_or_default();
    word.strip_prefix(PREFIX).is_some_and(|given| same(given, token))
}

/// Equality in a time that tells nothing: of hashes, which compare in constant time whatever their origin.
fn same(given: &str, wanted: &str) -> bool {
    blake3::hash(given.as_bytes()) == blake3::hash(wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_stdx::ErrorKind;

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn secrets_are_long_plain_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let long = "x".repeat(32);
        for (text, mode, says) in [
            (long.as_str(), 0o644, "chmod 600"),
            ("short", 0o600, "32 to 512"),
            (&"x y".repeat(20), 0o600, "32 to 512"),
            (&"x".repeat(5_000), 0o600, "4096 bytes"),
        ] {
            write(&path, text, mode);
            let error = read(&path).unwrap_err();
            assert!(error.message().contains(says) && !error.message().contains(text), "{error}");
        }
        let none = read(&dir.path().join("none")).unwrap_err();
        assert!(none.kind() == ErrorKind::Invalid && none.message().contains("cofferctl secret new --to"), "{none}");
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert!(unreadable(&path, &denied).contains("must belong to the user"));
        write(&path, &format!("{long}\n"), 0o600);
        assert_eq!(read(&path).unwrap(), long);
        let token = metrics_token_of(&path).unwrap();
        assert!(token.len() == 64 && token != Keys::of(&long, false).calls);
    }

    #[test]
    fn without_a_secret_only_this_machine_is_served_unless_somebody_says_otherwise() {
        let none = |network, certificates, listen| {
            establish(Trust { secret_file: Path::new(""), network, certificates, listen })
        };
        for listen in ["127.0.0.1:9050", "localhost:1", "[::1]:9050", "127.8.0.1:1"] {
            assert_eq!(none(false, false, listen), Ok(()), "{listen}");
        }
        for listen in ["0.0.0.0:9050", "[::]:9050", "10.0.0.7:9050", "db.example.com:1"] {
            let error = none(false, false, listen).unwrap_err();
            assert!(error.message().contains(listen) && error.message().contains("cofferctl secret new"), "{error}");
            assert_eq!((none(true, false, listen), none(false, true, listen)), (Ok(()), Ok(())));
        }
        assert!(user_agent().is_none() && !is_known() && !is_metrics_token(Some("Bearer x")));
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = "0123456789abcdef0123456789abcdef";
        assert!(carries(&format!("coffer/{token} tonic/0.14"), token));
        for wrong in
            ["", "coffer/", "tonic/0.14", token, &format!("coffer/{token}x"), &format!("coffer/{}", &token[1..])]
        {
            assert!(!carries(wrong, token), "{wrong}");
        }
        assert!(bears(&format!("Bearer {token}"), token) && bears(&format!("bearer  {token} "), token));
        for wrong in ["", "Bearer", "Bearer ", token, &format!("Basic {token}"), &format!("Bearer {}", &token[1..])] {
            assert!(!bears(wrong, token), "{wrong}");
        }
    }
}
