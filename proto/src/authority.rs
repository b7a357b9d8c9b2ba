//! The authority of a cluster as somebody outside sees it: whether a port shows a certificate of it. For tools; processes of
//! the cluster read theirs with [`tls`](crate::tls).

use crate::tls;
use coffer_stdx::{Error, Result};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Certificates that are believed.
#[derive(Clone)]
pub struct Authority(TlsConnector);

impl std::fmt::Debug for Authority {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_tuple("Authority").finish()
    }
}

/// Why there is no TLS with a port.
#[derive(Debug)]
pub enum Refused {
    /// It shows a certificate that is not believed: of another authority, for another name, out of its time.
    Certificate(String),
    /// It speaks something else, or ended the connection.
    Other(String),
}

impl Authority {
    /// Read the certificate of an authority, PEM.
    pub fn read(file: &Path) -> Result<Authority> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::bug(format!("TLS versions: {error}")))?
            .with_root_certificates(tls::roots(file)?)
            .with_no_client_auth();
        Ok(Authority(TlsConnector::from(Arc::new(config))))
    }

    /// TLS with the port of `host`, up to the first byte that is ours to send.
    pub async fn greet(&self, host: &str, port: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|error| Refused::Other(format!("host {host}: {error}")))?;
        self.0.connect(name, port).await.map_err(|error| why(&error))
    }
}

fn why(error: &io::Error) -> Refused {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Refused::Certificate(error.to_string())
        }
        _ => Refused::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_speaks_something_else_is_told_from_a_wrong_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, "no certificate").unwrap();
        assert!(Authority::read(&file).unwrap_err().message().contains("ca.pem"));
        let wrong = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert!(matches!(why(&io::Error::other(wrong)), Refused::Certificate(_)));
        assert!(matches!(why(&io::Error::other("closed")), Refused::Other(_)));
    }
}
