//! What of a cluster answers from here, and whose clock goes wrong.
//!
//! A clock is read from the `Date` of an answer over HTTP, which has whole seconds; what is told is how far it is off at
//! least.

use super::finding::Finding;
use crate::http;
use coffer_proto::authority::{Authority, Refused};
use futures::StreamExt;
use futures::stream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long a port may take to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Ports tried at a time.
const AT_ONCE: usize = 32;
/// A clock that is off by more is to be known, milliseconds.
const CLOCK_WARNING_MS: i64 = 2_000;
/// A clock that is off by more is a problem, milliseconds: signatures of S3 fail from 15 minutes on.
const CLOCK_PROBLEM_MS: i64 = 60_000;

/// A port of a node.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    /// Whose, such as `backend h:9050`.
    pub(crate) node: String,
    /// What for: `MySQL`, `HTTP`, `gRPC`.
    pub(crate) purpose: &'static str,
    /// `host:port`.
    pub(crate) address: String,
}

/// Try every port, and ask those of HTTP for the time. With an authority, look at the certificates too.
pub(crate) async fn look(ports: Vec<Port>, authority: Option<Authority>) -> Vec<Finding> {
    let tried = stream::iter(ports).map(|port| look_at(port, authority.as_ref())).buffered(AT_ONCE);
    tried.collect::<Vec<_>>().await.into_iter().flatten().collect()
}

async fn look_at(port: Port, authority: Option<&Authority>) -> Vec<Finding> {
    let about = format!("{} {} {}", port.node, port.purpose, port.address);
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(&port.address)).await;
    let open = match connected {
        Ok(Ok(open)) => Ok(open),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            Err(format!("no answer in {} s: a firewall drops it, or the machine is away", CONNECT_LIMIT.as_secs()))
        }
    };
    let open = match open {
        Ok(open) => open,
        Err(error) => {
            let advice = "start the process, open the port, or correct the address with which the node was added";
            return vec![Finding::problem("ports", &about, error, advice)];
        }
    };
    let mut findings = vec![Finding::ok("ports", &about, "answers")];
    match (port.purpose, authority) {
        // A frontend showed its certificate when it was asked; the other way begins in plain text.
        ("MySQL", _) => {}
        (_, Some(authority)) => findings.extend(secure(&port, &about, open, authority).await),
        ("HTTP", None) => findings.extend(plain(&port, &about).await),
        (_, None) => {}
    }
    findings
}

/// The certificate of a port, and of one for HTTP the clock.
async fn secure(port: &Port, about: &str, open: TcpStream, authority: &Authority) -> Vec<Finding> {
    let host = port.address.rsplit_once(':').map_or(port.address.as_str(), |(host, _)| host);
    let greeted = match tokio::time::timeout(CONNECT_LIMIT, authority.greet(host, open)).await {
        Ok(greeted) => greeted,
        Err(_) => Err(Refused::Other(format!("no TLS within {} s", CONNECT_LIMIT.as_secs()))),
    };
    let stream = match greeted {
        Ok(stream) => stream,
        Err(Refused::Certificate(error)) => {
            let advice =
                "make one for the name that the node was added with: cofferctl certs; then restart the process";
            return vec![Finding::problem("tls", about, error, advice)];
        }
        Err(Refused::Other(error)) => {
            let advice = "set ca_file, cert_file and key_file below [tls] on every machine, and https for HTTP ports";
            let mut findings = vec![Finding::warning("tls", about, format!("speaks no TLS: {error}"), advice)];
            if port.purpose == "HTTP" {
                findings.extend(plain(port, about).await);
            }
            return findings;
        }
    };
    let mut findings = vec![Finding::ok("tls", about, "shows a certificate of the authority")];
    if port.purpose == "HTTP" {
        findings.push(judge_answer(port, about, health(&port.address, stream).await));
    }
    findings
}

/// The clock behind a port for HTTP without TLS.
async fn plain(port: &Port, about: &str) -> Option<Finding> {
    let open = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(&port.address)).await.ok()?.ok()?;
    Some(judge_answer(port, about, health(&port.address, open).await))
}

fn judge_answer(port: &Port, about: &str, off_ms: Option<i64>) -> Finding {
    let advice = "a port that speaks HTTPS is looked at with --ca; else see the journal of the process";
    off_ms.map_or_else(
        || Finding::warning("clocks", about, "/api/health gives no answer with a date", advice),
        |off_ms| judge_clock(&port.node, off_ms),
    )
}

/// How far the clock behind a connection is ahead of ours, milliseconds; 0 as long as it may be right.
async fn health<S: AsyncRead + AsyncWrite + Unpin>(address: &str, stream: S) -> Option<i64> {
    let before = now_ms();
    let answer = http::ask(stream, address, "/api/health").await?;
    let after = now_ms();
    Some(off_by(before, after, http_date(header_date(&answer)?)?.checked_mul(1_000)?))
}

/// The date among the headers of an answer.
fn header_date(answer: &[u8]) -> Option<&str> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let headers = std::str::from_utf8(&answer[..end]).ok()?;
    let mut pairs = headers.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.eq_ignore_ascii_case("date")).map(|(_, date)| date.trim())
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The other clock showed the second that begins at `shown` at some time between `before` and `after`.
fn off_by(before: i64, after: i64, shown: i64) -> i64 {
    if shown > after {
        shown - after
    } else if shown + 1_000 < before {
        shown + 1_000 - before
    } else {
        0
    }
}

fn judge_clock(node: &str, off_ms: i64) -> Finding {
    let way = if off_ms > 0 { "ahead of" } else { "behind" };
    let found = format!("{:.1} s {way} this machine", off_ms.abs() as f64 / 1e3);
    let advice = "run chrony or systemd-timesyncd on every machine";
    match off_ms.abs() {
        off if off >= CLOCK_PROBLEM_MS => Finding::problem("clocks", node, found, advice),
        off if off >= CLOCK_WARNING_MS => Finding::warning("clocks", node, found, advice),
        _ => Finding::ok("clocks", node, "goes as this one"),
    }
}

/// Seconds since 1970 of `Sun, 22 Nov 2026 20:17:51 GMT`.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month = i64::try_from(MONTHS.find(words.next()?)? / 3).ok()?;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days from 1970-01-01, years beginning in March so that leap days are last.
    let (shifted, march) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * march + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(http_date("Sun, 22 Nov 2026 20:17:51 GMT"), Some(1_795_378_671));
        for wrong in ["", "today", "Thu, x Jan 1970 00:00:00 GMT", "Thu, 01 Foo 1970 00:00:00 GMT"] {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_date_is_found_among_headers() {
        let answer = b"HTTP/1.1 200 OK\r\nX: date\r\nDATE: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nDate: x";
        assert_eq!(header_date(answer), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        for without in [&b"HTTP/1.1 200 OK\r\n\r\nDate: x"[..], b"", b"\x15\x03\x01", b"Date: x"] {
            assert_eq!(header_date(without), None);
        }
    }

    #[test]
    fn only_what_is_certain_counts_against_a_clock() {
        assert_eq!(off_by(10_500, 10_600, 10_000), 0);
        assert_eq!(off_by(10_500, 11_100, 11_000), 0);
        assert_eq!(off_by(10_500, 10_600, 15_000), 4_400);
        assert_eq!(off_by(10_500, 10_600, 5_000), -4_500);
        let level = |off| judge_clock("n", off).level;
        assert_eq!(
            (level(0), level(1_999), level(-2_000), level(60_000)),
            (Level::Ok, Level::Ok, Level::Warning, Level::Problem)
        );
        assert!(judge_clock("n", -4_500).found.contains("4.5 s behind"));
    }

    #[tokio::test]
    async fn a_closed_port_is_a_problem_and_an_open_one_is_not() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = |address: String| Port { node: "broker b".to_owned(), purpose: "gRPC", address };
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let findings = look(vec![port(open.local_addr().unwrap().to_string()), port(closed.to_string())], None).await;
        assert_eq!(findings.iter().map(|f| f.level).collect::<Vec<_>>(), [Level::Ok, Level::Problem]);
    }
}
