//! The one HTTP question every process answers: is it well?

use coffer_proto::authority::Authority;
use coffer_proto::tls::TlsConfig;
use coffer_stdx::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest time a healthy process takes to say so.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);
/// Longest answer about health, bytes.
const MAX_ANSWER_BYTES: u64 = 16 << 10;

/// A client for `/api/health` and `/api/ready`.
pub(crate) fn probe() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(HEALTH_LIMIT)
        .no_proxy()
        .build()
        .map_err(|error| Error::bug(format!("build the HTTP client: {error}")))
}

/// Whether the process at `address` (`host:port`) says that it is ready, over TLS where its configuration file asks for it.
pub(crate) async fn is_healthy(client: &reqwest::Client, address: &str, config: &Path) -> bool {
    if let Some(tls) = tls_of(config).filter(|tls| tls.https) {
        let secure = tokio::time::timeout(HEALTH_LIMIT, secure(&tls, address)).await;
        return secure.ok().flatten().is_some_and(|answer| answer.starts_with(b"HTTP/1.1 200 "));
    }
    let asked = client.get(format!("http://{address}/api/ready")).send().await;
    asked.is_ok_and(|reply| reply.status().is_success())
}

/// Whose certificate a frontend shows to MySQL clients, where its configuration file lets no others in.
pub(crate) fn mysql_authority(config: &Path) -> Option<PathBuf> {
    let tls = tls_of(config).filter(|tls| tls.mysql_required)?;
    Some(authority(&tls).clone())
}

/// One without an authority is its own.
fn authority(tls: &TlsConfig) -> &PathBuf {
    if tls.between_processes() { &tls.ca_file } else { &tls.cert_file }
}

fn tls_of(config: &Path) -> Option<TlsConfig> {
    let table: toml::Table = toml::from_str(&std::fs::read_to_string(config).ok()?).ok()?;
    table.get("tls")?.clone().try_into().ok()
}

/// What a process with this configuration answers.
async fn secure(tls: &TlsConfig, address: &str) -> Option<Vec<u8>> {
    let trusted = Authority::read(authority(tls)).ok()?;
    let (host, _) = address.rsplit_once(':')?;
    let stream = trusted.greet(host, TcpStream::connect(address).await.ok()?).await.ok()?;
    ask(stream, address, "/api/ready").await
}

/// The answer to a GET over an open connection, its beginning when it is long; `None` when there is none in time.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, host: &str, path: &str) -> Option<Vec<u8>> {
    let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answered = async {
        stream.write_all(question.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // One that ends TLS without saying so has answered all the same.
        let _ = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await;
        (!answer.is_empty()).then_some(answer)
    };
    tokio::time::timeout(HEALTH_LIMIT, answered).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_or_its_bound() {
        for (text, bytes) in [("HTTP/1.1 200 OK\r\n\r\n".to_owned(), Some(19)), ("x".repeat(20_000), Some(16_384))] {
            let (near, mut far) = tokio::io::duplex(64 << 10);
            far.write_all(text.as_bytes()).await.unwrap();
            drop(tokio::spawn(async move {
                let mut question = [0; 64];
                let _ = far.read(&mut question).await;
            }));
            assert_eq!(ask(near, "h:1", "/api/health").await.map(|answer| answer.len()), bytes);
        }
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        assert_eq!(ask(near, "h:1", "/api/health").await, None);
    }

    #[test]
    fn a_configuration_without_tls_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("be.toml");
        assert!(tls_of(&file).is_none());
        std::fs::write(&file, "http_listen = 'h:1'").unwrap();
        assert!(tls_of(&file).is_none());
        std::fs::write(&file, "[tls]\nhttps = true\ncert_file = '/c'").unwrap();
        assert!(tls_of(&file).unwrap().https && mysql_authority(&file).is_none());
        std::fs::write(&file, "[tls]\nmysql_required = true\ncert_file = '/c'").unwrap();
        assert_eq!(mysql_authority(&file), Some(PathBuf::from("/c")));
    }
}
