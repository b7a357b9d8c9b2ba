//! A snapshot of the state as bytes: what the snapshot file holds, what goes to other frontends, and what export writes.
//!
//! ```text
//! image     "COFFERSM" | version (4) | sections, the last one of kind End
//! section   kind (1) | length (4) | CRC32C of kind and body (4) | body
//! End       number of sections before it (8) | BLAKE3 of every byte before this section (32)
//! ```
//! All numbers are little-endian. Bodies are JSON; those of tables begin with the id of their database (8), those of
//! the recycle bin with the id of what was dropped (8). One table, load or
//! job is one section, so that writing and reading take the memory of the state and of one section. Nothing is skipped:
//! whatever does not match its checksum is an error that names the file and the place.

use super::types::SnapshotMeta;
use crate::catalog::database::Database;
use crate::catalog::map::Map;
use crate::error::{Context, Error, Result};
use crate::meta::state::State;
use coffer_proto::ids::DbId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"COFFERSM";
const VERSION: u32 = 2;
const SECTION_HEAD_BYTES: usize = 9;
/// Room made before it is known whether a section is as long as it says.
const FIRST_ROOM_BYTES: usize = 1 << 20;

/// What a section is. The numbers are in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// Up to which entry, and who votes.
    Head = 1,
    /// The state without what the other kinds hold.
    Core = 2,
    /// A database without its tables.
    Database = 3,
    /// A table.
    Table = 4,
    /// A load.
    Transaction = 5,
    /// A backup job.
    Backup = 6,
    /// A restore job.
    Restore = 7,
    /// Something in the recycle bin.
    Bin = 8,
    /// Nothing follows.
    End = 255,
}

/// Write an image; returns its length.
pub(super) fn write(out: impl Write, meta: &SnapshotMeta, state: &State) -> Result<u64> {
    let mut writer = Writer { out, hash: blake3::Hasher::new(), bytes: 0, sections: 0, section: Vec::new() };
    writer.raw(MAGIC)?;
    writer.raw(&VERSION.to_le_bytes())?;
    writer.json(Kind::Head, &[], meta)?;
    let core = State {
        databases: Map::new(),
        transactions: Map::new(),
        backups: Map::new(),
        restores: Map::new(),
        bin: Map::new(),
        ..state.clone()
    };
    writer.json(Kind::Core, &[], &core)?;
    for database in state.databases.values() {
        writer.json(Kind::Database, &[], &Database { tables: Map::new(), ..database.clone() })?;
        let prefix = database.id.0.to_le_bytes();
        database.tables.values().try_for_each(|table| writer.json(Kind::Table, &prefix, table))?;
    }
    state.transactions.values().try_for_each(|one| writer.json(Kind::Transaction, &[], one))?;
    state.backups.values().try_for_each(|one| writer.json(Kind::Backup, &[], one))?;
    state.restores.values().try_for_each(|one| writer.json(Kind::Restore, &[], one))?;
    state.bin.iter().try_for_each(|(id, one)| writer.json(Kind::Bin, &id.to_le_bytes(), one))?;
    writer.end()
}

struct Writer<W> {
    out: W,
    hash: blake3::Hasher,
    bytes: u64,
    sections: u64,
    section: Vec<u8>,
}

impl<W: Write> Writer<W> {
    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(self.out.write_all(bytes)?)
    }

    fn json(&mut self, kind: Kind, prefix: &[u8], value: &impl Serialize) -> Result<()> {
        let mut section = std::mem::take(&mut self.section);
        section.clear();
        section.extend_from_slice(prefix);
        let encoded = serde_json::to_writer(&mut section, value);
        encoded.map_err(|error| Error::bug(format!("encode the state: {error}")))?;
        let written = self.put(kind, &section);
        self.section = section;
        written
    }

    fn put(&mut self, kind: Kind, body: &[u8]) -> Result<()> {
        let length = u32::try_from(body.len()).map_err(|_| Error::limit("an object of the catalog is over 4 GiB"))?;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&[kind as u8]), body);
        self.raw(&[kind as u8])?;
        self.raw(&length.to_le_bytes())?;
        self.raw(&sum.to_le_bytes())?;
        self.raw(body)?;
        self.sections += 1;
        Ok(())
    }

    fn end(mut self) -> Result<u64> {
        let mut body = self.sections.to_le_bytes().to_vec();
        body.extend_from_slice(self.hash.finalize().as_bytes());
        self.put(Kind::End, &body)?;
        self.out.flush()?;
        Ok(self.bytes)
    }
}

/// Read an image. `path` names it in errors.
pub(super) fn read(input: impl Read, path: &Path) -> Result<(SnapshotMeta, State)> {
    let mut reader = Reader::open(input, path)?;
    let meta = reader.head()?;
    let (kind, body) = reader.section()?;
    if kind != Kind::Core as u8 {
        return Err(reader.broken("the state is not where it should be"));
    }
    let mut state: State = reader.json(&body)?;
    loop {
        let hashed = *reader.hash.finalize().as_bytes();
        let (kind, body) = reader.section()?;
        if kind == Kind::End as u8 {
            reader.check_end(&body, &hashed)?;
            return Ok((meta, state));
        }
        add(&mut state, kind, &body, &reader)?;
    }
}

/// What an image reaches to and who votes, without the rest of it.
pub(super) fn read_meta(input: impl Read, path: &Path) -> Result<SnapshotMeta> {
    Reader::open(input, path)?.head()
}

fn add<R: Read>(state: &mut State, kind: u8, body: &[u8], reader: &Reader<'_, R>) -> Result<()> {
    if kind == Kind::Database as u8 {
        let database: Database = reader.json(body)?;
        state.databases.insert(database.id, database);
    } else if kind == Kind::Table as u8 {
        let (db, json) = body.split_first_chunk::<8>().ok_or_else(|| reader.broken("a table is cut off"))?;
        let table: crate::catalog::table::Table = reader.json(json)?;
        let database = state.databases.get_mut(&DbId(u64::from_le_bytes(*db)));
        database.ok_or_else(|| reader.broken("a table has no database"))?.tables.insert(table.id, table);
    } else if kind == Kind::Transaction as u8 {
        let one: crate::catalog::transaction::Transaction = reader.json(body)?;
        state.transactions.insert(one.id, one);
    } else if kind == Kind::Backup as u8 {
        let one: crate::catalog::job::BackupJob = reader.json(body)?;
        state.backups.insert(one.id, one);
    } else if kind == Kind::Restore as u8 {
        let one: crate::catalog::job::RestoreJob = reader.json(body)?;
        state.restores.insert(one.id, one);
    } else if kind == Kind::Bin as u8 {
        let (id, json) = body.split_first_chunk::<8>().ok_or_else(|| reader.broken("a dropped object is cut off"))?;
        state.bin.insert(u64::from_le_bytes(*id), reader.json(json)?);
    } else {
        return Err(reader.broken("a section is of an unknown kind"));
    }
    Ok(())
}

struct Reader<'a, R> {
    input: R,
    path: &'a Path,
    hash: blake3::Hasher,
    /// Where the section at hand begins.
    start: u64,
    next: u64,
    sections: u64,
}

impl<'a, R: Read> Reader<'a, R> {
    fn open(input: R, path: &'a Path) -> Result<Reader<'a, R>> {
        let mut reader = Reader { input, path, hash: blake3::Hasher::new(), start: 0, next: 0, sections: 0 };
        let first = reader.take(MAGIC.len() + 4)?;
        if !first.starts_with(MAGIC) {
            return Err(reader.broken("it does not start as a snapshot does"));
        }
        let version = u32_at(&first, MAGIC.len());
        if version != VERSION {
            return Err(Error::not_supported(format!(
                "metadata snapshot {} has format {version}, this program reads {VERSION}",
                path.display()
            )));
        }
        Ok(reader)
    }

    fn head(&mut self) -> Result<SnapshotMeta> {
        match self.section()? {
            (kind, body) if kind == Kind::Head as u8 => self.json(&body),
            _ => Err(self.broken("its head is not where it should be")),
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length.min(FIRST_ROOM_BYTES));
        let read = (&mut self.input).take(length as u64).read_to_end(&mut bytes);
        read.context(|| format!("read metadata snapshot {}", self.path.display()))?;
        if bytes.len() < length {
            return Err(self.broken("it is cut off"));
        }
        self.hash.update(&bytes);
        self.next += length as u64;
        Ok(bytes)
    }

    fn section(&mut self) -> Result<(u8, Vec<u8>)> {
        self.start = self.next;
        let head = self.take(SECTION_HEAD_BYTES)?;
        let body = self.take(u32_at(&head, 1) as usize)?;
        if crc32c::crc32c_append(crc32c::crc32c(&head[..1]), &body) != u32_at(&head, 5) {
            return Err(self.broken("a section does not match its checksum"));
        }
        self.sections += 1;
        Ok((head[0], body))
    }

    fn json<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|error| self.broken(&format!("a section cannot be read: {error}")))
    }

    fn check_end(&mut self, body: &[u8], hashed: &[u8; 32]) -> Result<()> {
        let number = (self.sections - 1).to_le_bytes();
        if body.len() != 40 || body[..8] != number || body[8..] != hashed[..] {
            return Err(self.broken("it does not match its checksum"));
        }
        if self.input.read(&mut [0])? != 0 {
            return Err(self.broken("something follows its end"));
        }
        Ok(())
    }

    fn broken(&self, why: &str) -> Error {
        let path = self.path.display();
        Error::corrupt(format!("metadata snapshot {path} is damaged at byte {}: {why}", self.start))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod image_tests;
