//! Are the ports free, and if not, who has them?
//!
//! The owner is found as `ss -ltnp` does: the listening socket's inode in `/proc/net/tcp*`, then the process that has it
//! open. Other users' processes cannot be seen without root; the message then names the port alone.

use coffer_stdx::{Error, Result};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// Refuse unless every address can be bound now. `wanted` pairs an address with what it is for.
pub(crate) fn require_free(wanted: &[(String, String)], hint: &str) -> Result<()> {
    let mut taken = Vec::new();
    for (address, purpose) in wanted {
        let socket: SocketAddr =
            address.parse().map_err(|error| Error::invalid(format!("address {address:?}: {error}")))?;
        if let Err(error) = TcpListener::bind(socket) {
            let port = socket.port();
            let why = match error.kind() {
                std::io::ErrorKind::AddrInUse => format!("is used by {}", owner_of(port)),
                _ => format!("cannot be bound: {error}"),
            };
            taken.push(format!("port {port} ({purpose}) {why}"));
        }
    }
    if taken.is_empty() { Ok(()) } else { Err(Error::invalid(format!("{}; {hint}", taken.join("; ")))) }
}

/// The process that listens on a port, in words.
fn owner_of(port: u16) -> String {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|text| text.lines().filter_map(|line| listener(line, port)).collect::<Vec<_>>())
        .collect();
    let owner = inodes.iter().find_map(|inode| process_with(inode));
    owner.unwrap_or_else(|| "another process (of another user, or not visible from here)".to_owned())
}

/// The inode of the socket when this line of `/proc/net/tcp` listens on `port`.
fn listener(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let local_port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    (local_port == port && *fields.get(3)? == LISTEN).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

fn process_with(inode: &str) -> Option<String> {
    let target = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        for file in files.flatten() {
            if std::fs::read_link(file.path()).is_ok_and(|link| link == Path::new(&target)) {
                let command = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                return Some(format!("process {pid} ({})", command.trim()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let wanted = vec![(address.to_string(), "MySQL of fe-1".to_owned())];
        let error = require_free(&wanted, "choose others").unwrap_err();
        assert!(error.message().contains(&format!("port {} (MySQL of fe-1) is used by", address.port())), "{error}");
        assert!(error.message().contains(&format!("process {}", std::process::id())), "{error}");
        drop(listener);
        require_free(&wanted, "").unwrap();
    }

    #[test]
    fn only_listening_sockets_count() {
        let line =
            "   1: 0100007F:2346 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 x";
        assert_eq!(listener(line, 0x2346).as_deref(), Some("4242"));
        assert_eq!(listener(line, 9031), None);
        assert_eq!(listener(&line.replace(" 0A ", " 01 "), 0x2346), None);
        assert_eq!(listener("  sl  local_address rem_address", 9030), None);
    }
}
