//! Telling systemd how we are, where it asks (`Type=notify`, `WatchdogSec=`): ready, stopping, and still alive.
//!
//! Outside of systemd the variables are not set and nothing happens.

use crate::shutdown::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Tell that the process serves, keep telling that it lives, and tell when it stops. Returns at once.
pub fn ready(shutdown: &Shutdown) {
    let Some(socket) = Socket::from_environment() else { return };
    socket.say("READY=1");
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let period = watchdog_period(std::env::var("WATCHDOG_USEC").ok().as_deref());
        loop {
            let tick = async {
                match period {
                    Some(period) => tokio::time::sleep(period).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.begun() => break socket.say("STOPPING=1"),
                () = tick => socket.say("WATCHDOG=1"),
            }
        }
    });
}

/// Half of the time after which systemd loses patience.
fn watchdog_period(microseconds: Option<&str>) -> Option<Duration> {
    let microseconds = microseconds?.parse::<u64>().ok().filter(|number| *number > 0)?;
    Some(Duration::from_micros(microseconds / 2))
}

#[derive(Debug)]
struct Socket {
    socket: UnixDatagram,
}

impl Socket {
    fn from_environment() -> Option<Socket> {
        Socket::at(&std::env::var("NOTIFY_SOCKET").ok()?)
    }

    /// A path, or `@` and a name without a file.
    fn at(address: &str) -> Option<Socket> {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        let address = match address.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(address),
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect_addr(&address.ok()?).ok()?;
        Some(Socket { socket })
    }

    fn say(&self, text: &str) {
        if let Err(error) = self.socket.send(text.as_bytes()) {
            tracing::debug!(%error, "tell systemd {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_and_nobody_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        Socket::at(path.to_str().unwrap()).unwrap().say("READY=1");
        let mut buffer = [0; 32];
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        assert!(Socket::at(dir.path().join("nobody").to_str().unwrap()).is_none());
    }

    #[test]
    fn the_watchdog_is_fed_twice_per_period() {
        assert_eq!(watchdog_period(Some("30000000")), Some(Duration::from_secs(15)));
        assert_eq!((watchdog_period(None), watchdog_period(Some("0")), watchdog_period(Some("x"))), (None, None, None));
    }
}
