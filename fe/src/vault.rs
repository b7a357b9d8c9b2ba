//! Secrets of repositories are sealed before they go into the metadata, with a key that is not part of it.
//!
//! The key lies in a file of its own (option `metadata_key_file`), is never replicated, exported or shown, and is the same on
//! all frontends of a cluster: a new cluster makes it, the operator copies it to frontends that join, as the cluster secret. A
//! file may hold several keys, one per line: the first seals, all open. So the log, its snapshots, what goes between
//! frontends, dumps and exports hold sealed text only: `sealed:1:<id of the key>:<nonce and ChaCha20-Poly1305 in base64>`,
//! bound to the name of the property. Text that is not sealed, from before there was a key, is read as it is.
//!
//! The file is written aside, synced and renamed: a crash leaves the old one or the new one. Who loses every copy of the key
//! loses the sealed secrets, and nothing else: ALTER REPOSITORY gives them again.

use crate::error::{Context, Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coffer_stdx::fsx;
use coffer_stdx::secret::is_secret_key;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Keys in one file.
const MAX_KEYS: usize = 64;
const SEALED: &str = "sealed:1:";
const ID: &str = "coffer 2026-11 id of a metadata key";

/// The keys of this frontend.
pub struct Vault {
    path: PathBuf,
    keys: RwLock<Vec<Key>>,
}

/// A key and what it is called.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    id: String,
    bytes: [u8; KEY_BYTES],
}

/// Keys stay out.
impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Key {
    fn new(bytes: [u8; KEY_BYTES]) -> Key {
        let id = blake3::Hash::from_bytes(blake3::derive_key(ID, &bytes)).to_hex()[..8].to_owned();
        Key { id, bytes }
    }

    fn cipher(&self) -> Result<LessSafeKey> {
        let key =
            UnboundKey::new(&CHACHA20_POLY1305, &self.bytes).map_err(|_| Error::bug("a key of another length"))?;
        Ok(LessSafeKey::new(key))
    }
}

impl Vault {
    /// With the keys of this file, once they are [loaded](Vault::load).
    pub fn at(path: PathBuf) -> Vault {
        Vault { path, keys: RwLock::default() }
    }

    /// Read the file; false when there is none.
    pub fn load(&self) -> Result<bool> {
        let shown = self.path.display();
        let seen = match std::fs::metadata(&self.path) {
            Ok(seen) => seen,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).context(|| format!("metadata key {shown}")),
        };
        if seen.permissions().mode() & 0o077 != 0 {
            return Err(Error::invalid(format!("metadata key {shown}: others can read it; chmod 600 {shown}")));
        }
        let text = std::fs::read_to_string(&self.path).context(|| format!("metadata key {shown}"))?;
        let keys = parse(&text).ok_or_else(|| {
            Error::corrupt(format!("metadata key {shown}: each line must be {} hexadecimal digits", KEY_BYTES * 2))
        })?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(true)
    }

    /// Make a key, durably, for a cluster that has none.
    pub fn create(&self) -> Result<()> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| Error::unavailable("the system gives no random bytes"))?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.is_empty() {
            let key = Key::new(bytes);
            write(&self.path, &key)?;
            keys.push(key);
            tracing::info!(file = %self.path.display(), "made a key for secrets in the metadata; keep a copy of it");
        }
        Ok(())
    }

    /// Where the missing key comes from.
    pub fn advice(&self) -> String {
        format!(
            "copy {} from a frontend that has it (mode 600, owned by the user of the process), adding its lines where the file is \
             there already; it is read at once",
            self.path.display()
        )
    }

    /// Whether there is a key to seal with.
    pub fn is_ready(&self) -> bool {
        !self.keys.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The properties with every secret sealed. Empty values stay: they remove a property.
    pub fn seal(&self, properties: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        let sealed = |(name, value): (&String, &String)| {
            let value = if is_plain_secret(name, value) { self.sealed(name, value)? } else { value.clone() };
            Ok((name.clone(), value))
        };
        properties.iter().map(sealed).collect()
    }

    /// The properties as they were given.
    pub fn open(&self, properties: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        let opened = |(name, value): (&String, &String)| {
            let value = match value.strip_prefix(SEALED).filter(|_| is_secret_key(name)) {
                Some(sealed) => self.opened(name, sealed)?,
                None => value.clone(),
            };
            Ok((name.clone(), value))
        };
        properties.iter().map(opened).collect()
    }

    /// Whether one of the properties is sealed with a key that is not here.
    pub fn lacks_key_of(&self, properties: &BTreeMap<String, String>) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = properties.iter().filter(|(name, _)| is_secret_key(name)).filter_map(|(_, value)| id_of(value));
        sealed.into_iter().any(|id| !keys.iter().any(|key| key.id == id))
    }

    fn sealed(&self, name: &str, value: &str) -> Result<String> {
        let key = self.keys.read().unwrap_or_else(PoisonError::into_inner).first().cloned();
        let key = key.ok_or_else(|| {
            Error::unavailable(format!(
                "the leading frontend has no key for secrets in the metadata: {}. If no frontend has one: `cofferctl secret new --to \
                 FILE` makes it",
                self.advice()
            ))
        })?;
        Ok(format!(
            "{SEALED}{}:{}",
            key.id,
            STANDARD.encode(seal_bytes(&key.bytes, name.as_bytes(), value.as_bytes())?)
        ))
    }

    fn opened(&self, name: &str, sealed: &str) -> Result<String> {
        let damaged = || Error::corrupt(format!("property {name} of a repository is sealed, but damaged"));
        let (id, encoded) = sealed.split_once(':').ok_or_else(damaged)?;
        let key = self.keys.read().unwrap_or_else(PoisonError::into_inner).iter().find(|key| key.id == id).cloned();
        let key = key.ok_or_else(|| {
            Error::unavailable(format!(
                "property {name} of a repository is sealed with metadata key {id}, which this frontend does not have: {}. If it is \
                 lost, give the property again with ALTER REPOSITORY",
                self.advice()
            ))
        })?;
        let bytes = STANDARD.decode(encoded).map_err(|_| damaged())?;
        let plain = open_bytes(&key.bytes, name.as_bytes(), bytes).ok_or_else(damaged)?;
        String::from_utf8(plain).map_err(|_| damaged())
    }
}

/// Whether a property is a secret that is not sealed.
pub fn is_plain_secret(name: &str, value: &str) -> bool {
    is_secret_key(name) && !value.is_empty() && id_of(value).is_none()
}

fn id_of(value: &str) -> Option<&str> {
    value.strip_prefix(SEALED)?.split_once(':').map(|(id, _)| id)
}

/// Nonce and sealed bytes, bound to `about`.
fn seal_bytes(key: &[u8; KEY_BYTES], about: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| Error::unavailable("the system gives no random bytes"))?;
    let mut sealed = plain.to_vec();
    let cipher = Key::new(*key).cipher()?;
    cipher
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), &mut sealed)
        .map_err(|_| Error::limit("a secret is too long to be sealed"))?;
    Ok([&nonce[..], &sealed].concat())
}

/// What [`seal_bytes`] sealed; `None` when it is not that, or the key or `about` is another.
fn open_bytes(key: &[u8; KEY_BYTES], about: &[u8], sealed: Vec<u8>) -> Option<Vec<u8>> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut rest = rest.to_vec();
    let cipher = Key::new(*key).cipher().ok()?;
    let plain = cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(about), &mut rest).ok()?;
    Some(plain.to_vec())
}

fn parse(text: &str) -> Option<Vec<Key>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Option<Vec<Key>> =
        lines.take(MAX_KEYS).map(|line| Some(Key::new(*blake3::Hash::from_hex(line).ok()?.as_bytes()))).collect();
    keys.filter(|keys| !keys.is_empty())
}

fn write(path: &Path, key: &Key) -> Result<()> {
    let line = blake3::Hash::from_bytes(key.bytes).to_hex();
    let text = format!("# Opens the secrets in the metadata. Keep a copy.\n{line}\n");
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", fsx::TMP_SUFFIX));
    let aside = PathBuf::from(aside);
    let written = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.context(|| format!("write metadata key {}", path.display()))?;
    fsx::rename_durably(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn secrets_are_sealed_and_opened_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::at(dir.path().join("metadata.key"));
        let plain = properties(&[("s3.secret_key", "hunter2"), ("s3.region", "sealed:1:x"), ("password", "")]);
        assert!(!vault.load().unwrap() && vault.seal(&plain).unwrap_err().message().contains("metadata.key"));
        vault.create().unwrap();
        let mode = std::fs::metadata(&vault.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let sealed = vault.seal(&plain).unwrap();
        assert!(sealed["s3.secret_key"].starts_with(SEALED) && !format!("{sealed:?}").contains("hunter2"));
        assert_eq!((sealed["s3.region"].as_str(), sealed["password"].as_str()), ("sealed:1:x", ""));
        assert_ne!(vault.seal(&plain).unwrap(), sealed, "a nonce is used once");
        assert_eq!(vault.seal(&sealed).unwrap(), sealed, "what is sealed stays");
        assert_eq!(vault.open(&sealed).unwrap(), plain);
        assert_eq!(vault.open(&plain).unwrap(), plain, "from before there was a key");
        let again = Vault::at(vault.path.clone());
        assert!(again.load().unwrap() && again.open(&sealed).unwrap() == plain);
        let text = std::fs::read_to_string(&vault.path).unwrap();
        assert!(!format!("{vault:?}").contains(text.lines().last().unwrap()));
        vault.create().unwrap();
        assert_eq!(std::fs::read_to_string(&vault.path).unwrap(), text, "a key is made once");
    }

    #[test]
    fn other_keys_names_and_bytes_open_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| Vault::at(dir.path().join(name)));
        one.create().unwrap();
        other.create().unwrap();
        let sealed = one.seal(&properties(&[("token", "hunter2")])).unwrap();
        assert!(other.lacks_key_of(&sealed) && !one.lacks_key_of(&sealed));
        let error = other.open(&sealed).unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.message().contains("does not have"), "{error}");
        let text = sealed["token"].clone();
        let (head, encoded) = text.rsplit_once(':').unwrap();
        let mut bytes = STANDARD.decode(encoded).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let flipped = format!("{head}:{}", STANDARD.encode(bytes));
        for wrong in [("password", text.as_str()), ("token", flipped.as_str())] {
            assert_eq!(one.open(&properties(&[wrong])).unwrap_err().kind(), ErrorKind::Corrupt, "{wrong:?}");
        }
        let cut = properties(&[("token", &format!("{}{}", &text[..18], "AAAA"))]);
        assert_eq!(one.open(&cut).unwrap_err().kind(), ErrorKind::Corrupt);
        let both = [&other, &one].map(|vault| std::fs::read_to_string(&vault.path).unwrap()).concat();
        std::fs::write(&other.path, both).unwrap();
        assert!(other.load().unwrap() && !other.lacks_key_of(&sealed));
        assert_eq!(other.open(&sealed).unwrap(), properties(&[("token", "hunter2")]));
        let own = other.seal(&properties(&[("token", "hunter3")])).unwrap();
        assert!(one.lacks_key_of(&own), "the first key of a file seals");
    }

    #[test]
    fn a_key_file_is_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::at(dir.path().join("k"));
        vault.create().unwrap();
        std::fs::set_permissions(&vault.path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(vault.load().unwrap_err().message().contains("chmod 600"));
        std::fs::set_permissions(&vault.path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for text in ["", "# x\n", "abc\n"] {
            std::fs::write(&vault.path, text).unwrap();
            assert_eq!(vault.load().unwrap_err().kind(), ErrorKind::Corrupt, "{text:?}");
        }
    }
}
