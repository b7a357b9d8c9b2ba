//! `cofferctl secret`: the secret that the processes of a cluster share, and what is derived from it. What `new` makes is also
//! good as a line of `metadata.key`.

use crate::cli::SecretCommand;
use crate::screen;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Random bytes of a secret.
const BYTES: usize = 32;

/// Run one `secret` command.
pub(crate) fn run(command: &SecretCommand) -> Result<()> {
    match command {
        SecretCommand::New { to } => {
            make(to)?;
            screen::line(&format!(
                "{} is made: copy it to every machine of the cluster (mode 600, owned by the user of the processes) and name \
                 it in cluster_secret_file",
                to.display()
            ));
        }
        SecretCommand::MetricsToken { of } => screen::line(&coffer_proto::secret::metrics_token_of(of)?),
    }
    Ok(())
}

/// A new secret in a new file for its owner alone.
pub(crate) fn make(path: &Path) -> Result<()> {
    let shown = path.display();
    let mut random = [0_u8; BYTES];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random));
    read.context(|| "read random bytes from /dev/urandom")?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = private(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.context(|| format!("write {shown}"))
}

/// A new file that only its owner may read.
pub(crate) fn private(path: &Path) -> Result<std::fs::File> {
    let shown = path.display();
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::already_exists(format!("{shown} exists; it is left as it is")),
            _ => Error::unavailable(format!("make {shown}: {error}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_new_private_and_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        make(&one).unwrap();
        make(&other).unwrap();
        assert_ne!(std::fs::read(&one).unwrap(), std::fs::read(&other).unwrap());
        assert_eq!(std::fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&one).unwrap();
        let hexadecimal = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(hexadecimal, "it is good as a line of a frontend's metadata.key, too");
        assert_eq!(coffer_proto::secret::metrics_token_of(&one).unwrap().len(), 64);
        assert!(make(&one).unwrap_err().message().contains("left as it is"));
    }
}
