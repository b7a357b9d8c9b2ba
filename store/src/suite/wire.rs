//! A TCP relay that hurts what passes through it when it is told to: the bad network of the tests.
//!
//! It listens on a loopback port and passes everything on to a target. Harm is armed once: after so many bytes in one
//! direction, over all connections, it breaks the connection, or changes one byte. A wire that is down refuses everybody
//! until it is healed.

use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Bytes passed on at once.
const CHUNK: usize = 64 << 10;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What to do to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Break the connection that carries the byte; others, and new ones, work.
    Cut,
    /// Break all connections and refuse new ones until healed.
    Down,
    /// Change the byte.
    Garble,
}

#[derive(Debug, Clone, Copy)]
struct Armed {
    way: Way,
    harm: Harm,
    // Bytes that still pass unharmed.
    left: u64,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<Armed>,
    harmed: u64,
    is_down: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    // Counts up whenever all connections must end.
    broken: watch::Sender<u64>,
}

/// A relay in front of one server.
#[derive(Debug)]
pub struct Wire {
    address: String,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Wire {
    /// A relay to `target`, "host:port".
    pub async fn to(target: &str) -> Result<Wire> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context(|| "listen for the relay")?;
        let address = listener.local_addr().context(|| "look at the relay's port")?.to_string();
        let shared = Arc::new(Shared { state: Mutex::default(), broken: watch::Sender::new(0) });
        let (target, ours) = (target.to_owned(), Arc::clone(&shared));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !ours.state().is_down {
                    tokio::spawn(relay(client, target.clone(), Arc::clone(&ours)));
                }
            }
        });
        Ok(Wire { address, shared, accepting: accepting.abort_handle() })
    }

    /// Where it listens, "127.0.0.1:port".
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Do `harm` to the byte after the next `after` that go this way.
    pub fn arm(&self, way: Way, after: u64, harm: Harm) {
        let mut state = self.shared.state();
        state.armed = Some(Armed { way, harm, left: after });
        state.harmed = 0;
    }

    /// Whether what was armed has happened.
    pub fn has_harmed(&self) -> bool {
        self.shared.state().harmed > 0
    }

    /// Everything passes again.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.armed = None;
        state.is_down = false;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.broken.send_modify(|count| *count += 1);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics inside.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Do what is armed to these bytes; how many of them still pass, when the connection must end after them.
    fn pass(&self, way: Way, bytes: &mut [u8]) -> Option<usize> {
        let mut state = self.state();
        let armed = state.armed.as_mut().filter(|armed| armed.way == way)?;
        let length = bytes.len() as u64;
        if armed.left >= length {
            armed.left -= length;
            return None;
        }
        let (at, harm) = (armed.left as usize, armed.harm);
        state.armed = None;
        state.harmed += 1;
        if harm == Harm::Garble {
            bytes[at] ^= 0x55;
            return None;
        }
        state.is_down = harm == Harm::Down;
        drop(state);
        if harm == Harm::Down {
            self.broken.send_modify(|count| *count += 1);
        }
        Some(at)
    }
}

/// One connection, until either side ends it or the wire breaks.
async fn relay(client: TcpStream, target: String, shared: Arc<Shared>) -> Result<()> {
    let mut broken = shared.broken.subscribe();
    let server = TcpStream::connect(&target).await.context(|| format!("relay to {target}"))?;
    for socket in [&client, &server] {
        socket.set_nodelay(true).context(|| "relay")?;
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let both = async {
        tokio::try_join!(
            pump(from_client, to_server, Way::Up, &shared),
            pump(from_server, to_client, Way::Down, &shared),
        )
    };
    tokio::select! {
        // Dropping both sockets ends both sides, in the middle of whatever they were saying.
        outcome = both => outcome.map(|_| ()),
        _ = broken.changed() => Ok(()),
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, shared: &Shared) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await.context(|| "relay")?;
        if read == 0 {
            return to.shutdown().await.context(|| "relay");
        }
        let cut = shared.pass(way, &mut buffer[..read]);
        to.write_all(&buffer[..cut.unwrap_or(read)]).await.context(|| "relay")?;
        if cut.is_some() {
            return Err(Error::cancelled("the wire was cut"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that echoes, and a client of it through a wire.
    async fn echo() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let wire = Wire::to(&address).await.unwrap();
        let client = TcpStream::connect(wire.address()).await.unwrap();
        (wire, client)
    }

    async fn said(client: &mut TcpStream, text: &str) -> String {
        client.write_all(text.as_bytes()).await.unwrap();
        let mut heard = vec![0; text.len()];
        let mut length = 0;
        while length < heard.len() {
            match client.read(&mut heard[length..]).await {
                Ok(0) | Err(_) => break,
                Ok(more) => length += more,
            }
        }
        String::from_utf8_lossy(&heard[..length]).into_owned()
    }

    #[tokio::test]
    async fn it_passes_cuts_garbles_and_heals() {
        let (wire, mut client) = echo().await;
        assert_eq!(said(&mut client, "hello").await, "hello");
        wire.arm(Way::Up, 2, Harm::Garble);
        assert_eq!(said(&mut client, "hello").await, "he9lo");
        wire.arm(Way::Down, 3, Harm::Cut);
        assert_eq!(said(&mut client, "hello").await, "hel");
        assert!(wire.has_harmed());
        let mut client = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(said(&mut client, "again").await, "again");
        wire.arm(Way::Up, 0, Harm::Down);
        assert_eq!(said(&mut client, "hello").await, "");
        wire.heal();
        let mut client = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(said(&mut client, "hello").await, "hello");
    }
}
