//! TLS: who this process is, and whom it believes. Read once at the start.
//!
//! With a certificate, the ports for people (MySQL, HTTP) can speak TLS. With the certificate authority of the cluster
//! besides, processes speak TLS with each other and both sides show certificates of that authority: a stranger's connection
//! ends in the handshake, before gRPC reads a byte. `cofferctl certs` makes all of these files. A new certificate is in
//! force after a restart.

use coffer_stdx::{Error, Result};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What HTTP/2 is called in a handshake.
const H2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

static TLS: OnceLock<Tls> = OnceLock::new();

/// The section `[tls]` of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate of the authority of the cluster, PEM. With it, gRPC between processes is TLS with certificates on both
    /// sides. Default: none.
    pub ca_file: PathBuf,
    /// Certificate of this process, with what leads to the authority, PEM. Default: none.
    pub cert_file: PathBuf,
    /// Its key, PEM; only its owner may read it. Default: none.
    pub key_file: PathBuf,
    /// Whether the HTTP port speaks HTTPS, and nothing else. Default false.
    pub https: bool,
    /// Frontends: whether MySQL logins without TLS are refused. Default false: clients choose.
    pub mysql_required: bool,
}

impl TlsConfig {
    /// Whether processes prove themselves to each other with certificates.
    pub fn between_processes(&self) -> bool {
        !self.ca_file.as_os_str().is_empty()
    }

    fn has_certificate(&self) -> bool {
        !self.cert_file.as_os_str().is_empty()
    }

    fn check(&self) -> Result<()> {
        let empty = |path: &Path| path.as_os_str().is_empty();
        if empty(&self.cert_file) != empty(&self.key_file) {
            return Err(Error::invalid("config tls: cert_file and key_file belong together; one of them is empty"));
        }
        let needs =
            [("ca_file", !empty(&self.ca_file)), ("https", self.https), ("mysql_required", self.mysql_required)];
        match needs.iter().find(|(_, used)| *used && !self.has_certificate()) {
            Some((option, _)) => Err(Error::invalid(format!(
                "config tls.{option} needs a certificate: set tls.cert_file and tls.key_file"
            ))),
            None => Ok(()),
        }
    }
}

/// What this process shows and believes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    /// Accepts and opens connections between processes.
    pub(crate) between: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
    /// For ports for people.
    pub(crate) front: Option<Arc<ServerConfig>>,
    pub(crate) https: bool,
}

/// Read the files, for the whole process.
pub fn load(config: &TlsConfig) -> Result<()> {
    let tls = read(config)?;
    // A second start in one process (tests) keeps the first.
    let _ = TLS.set(tls);
    Ok(())
}

/// Refuse files that a process could not start with; for tools.
pub fn check(config: &TlsConfig) -> Result<()> {
    read(config).map(|_| ())
}

/// What was loaded; nothing before.
pub(crate) fn loaded() -> Tls {
    TLS.get().cloned().unwrap_or_default()
}

/// What the MySQL port shows, where there is a certificate.
pub fn mysql() -> Option<Arc<ServerConfig>> {
    loaded().front
}

/// `https` or `http`: what the HTTP ports of this process speak.
pub fn http_scheme() -> &'static str {
    if loaded().https { "https" } else { "http" }
}

fn read(config: &TlsConfig) -> Result<Tls> {
    config.check()?;
    if !config.has_certificate() {
        return Ok(Tls::default());
    }
    let certificates = certificates(&config.cert_file)?;
    let key = || key(&config.key_file);
    let provider = Arc::new(ring::default_provider());
    let wrong = |error: &dyn std::fmt::Display| {
        let file = config.cert_file.display();
        Error::invalid(format!("config tls: certificate {file} and its key: {error}"))
    };
    let mut front = server(&provider)?
        .with_no_client_auth()
        .with_single_cert(certificates.clone(), key()?)
        .map_err(|error| wrong(&error))?;
    front.alpn_protocols = vec![HTTP_1.to_vec()];
    let front = Some(Arc::new(front));
    if !config.between_processes() {
        return Ok(Tls { between: None, front, https: config.https });
    }
    let roots = Arc::new(roots(&config.ca_file)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let verifier = verifier.build().map_err(|error| Error::invalid(format!("config tls.ca_file: {error}")))?;
    let mut accepting = server(&provider)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates.clone(), key()?)
        .map_err(|error| wrong(&error))?;
    accepting.alpn_protocols = vec![H2.to_vec()];
    let mut opening = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::bug(format!("TLS versions: {error}")))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates, key()?)
        .map_err(|error| wrong(&error))?;
    opening.alpn_protocols = vec![H2.to_vec()];
    Ok(Tls { between: Some((Arc::new(accepting), Arc::new(opening))), front, https: config.https })
}

type ServerBuilder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn server(provider: &Arc<CryptoProvider>) -> Result<ServerBuilder> {
    ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::bug(format!("TLS versions: {error}")))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let failed = |error| Error::invalid(format!("certificate {shown}: {error}"));
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(Error::invalid(format!("certificate {shown}: it holds no certificate in PEM")));
    }
    Ok(found)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let shown = path.display();
    let readable = std::fs::metadata(path).is_ok_and(|seen| seen.permissions().mode() & 0o077 != 0);
    if readable {
        return Err(Error::invalid(format!("key {shown}: others can read it; chmod 600 {shown}")));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| Error::invalid(format!("key {shown}: {error}")))
}

pub(crate) fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| Error::invalid(format!("authority {}: {error}", path.display())))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_set_is_refused_by_name() {
        assert!(read(&TlsConfig::default()).unwrap().front.is_none());
        let some = PathBuf::from("/none");
        for (config, says) in [
            (TlsConfig { cert_file: some.clone(), ..TlsConfig::default() }, "belong together"),
            (TlsConfig { ca_file: some.clone(), ..TlsConfig::default() }, "tls.ca_file needs"),
            (TlsConfig { https: true, ..TlsConfig::default() }, "tls.https needs"),
            (TlsConfig { mysql_required: true, ..TlsConfig::default() }, "tls.mysql_required needs"),
            (TlsConfig { cert_file: some.clone(), key_file: some, ..TlsConfig::default() }, "certificate /none"),
        ] {
            let error = read(&config).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[test]
    fn keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(key(&path).unwrap_err().message().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(key(&path).is_err() && certificates(&path).unwrap_err().message().contains("no certificate"));
    }
}
