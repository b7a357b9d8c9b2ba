//! The files of the log: `<dir>/<number of the first batch, 16 hex digits>.log`, oldest first.
//!
//! A new file comes into being whole (written, synced, renamed, directory synced); the one before it is synced first. Its
//! first batch repeats the marks (vote, purged), so that older files can go as soon as no entry in them is needed.
//! A crash leaves at most a `*.tmp`, removed at the next start, and a torn batch at the end of the newest file, cut then.

use super::book::Book;
use super::frame::{self, Batch, Damage, HEAD_BYTES, Head, Kind, MARK_BYTES};
use crate::error::{Context, Error, Result};
use crate::limits;
use coffer_stdx::fsx;
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUFFIX: &str = "log";
const FIRST_BATCH: u64 = 1;

/// One file, open for reading as long as anybody may need it.
#[derive(Debug)]
pub(in crate::raft) struct Segment {
    path: PathBuf,
    file: File,
}

/// Where a record is.
#[derive(Debug, Clone)]
pub(in crate::raft) struct Place {
    segment: Arc<Segment>,
    offset: u64,
    length: usize,
}

impl Place {
    /// The payload, checked.
    pub(in crate::raft) fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.length];
        let path = &self.segment.path;
        let read = self.segment.file.read_exact_at(&mut bytes, self.offset);
        read.context(|| format!("read metadata log {} at byte {}", path.display(), self.offset))?;
        match frame::read_record(&bytes) {
            Ok((Kind::Entry, payload)) => Ok(payload.to_vec()),
            Ok(_) => Err(self.damaged("another record is there")),
            Err(why) => Err(self.damaged(why)),
        }
    }

    pub(in crate::raft) fn damaged(&self, why: &str) -> Error {
        damaged(&self.segment.path, self.offset, why)
    }
}

fn damaged(path: &Path, offset: u64, why: &str) -> Error {
    Error::corrupt(format!(
        "metadata log {} is damaged at byte {offset}: {why}; restore the file, or make this frontend anew: ALTER SYSTEM \
         DROP FOLLOWER and ADD FOLLOWER at another one, empty this metadata directory, start with --helper",
        path.display()
    ))
}

/// The files, open for writing.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Older files with the last entry in each.
    older: VecDeque<(Arc<Segment>, u64)>,
    newest: Arc<Segment>,
    salt: u64,
    /// Where the next batch goes.
    end: u64,
    /// Up to where the newest file has zeros.
    filled: u64,
    /// The last entry in the newest file.
    last_entry: u64,
    /// The number of the next batch.
    next: u64,
    /// The next batch repeats the marks.
    pub(super) fresh: bool,
}

/// Read all files; nothing is written, and a torn tail is passed over.
pub(super) fn read(dir: &Path) -> Result<Book<Place>> {
    match dir.try_exists().context(|| format!("look at {}", dir.display()))? {
        true => load(dir, false).map(|(book, _)| book),
        false => Ok(Book::default()),
    }
}

type Loaded = (Book<Place>, Option<Files>);

/// Read all files. With `cut`, a torn tail is removed.
fn load(dir: &Path, cut: bool) -> Result<Loaded> {
    let mut book = Book::default();
    let mut files: Option<Files> = None;
    let paths = list(dir, cut)?;
    for (at, path) in paths.iter().enumerate() {
        let last = at + 1 == paths.len();
        let file = File::options().read(true).write(cut).open(path);
        let file = file.context(|| format!("open metadata log {}", path.display()))?;
        let bytes = std::fs::read(path).context(|| format!("read metadata log {}", path.display()))?;
        let head = frame::read_head(&bytes, &path.display().to_string())?;
        check_number(path, head, files.as_ref())?;
        let scanned = frame::scan(&bytes, head, last).map_err(|Damage { offset, why }| damaged(path, offset, why))?;
        if scanned.torn && cut {
            cut_tail(&file, path, (scanned.end, bytes.len()))?;
        }
        let segment = Arc::new(Segment { path: path.clone(), file });
        let mut last_entry = 0;
        for record in &scanned.records {
            let length = frame::RECORD_HEAD_BYTES + record.payload.len();
            let place = Place { segment: Arc::clone(&segment), offset: record.offset, length };
            if record.kind == Kind::Entry {
                last_entry = last_entry.max(frame::numbered(record.payload).map_or(0, |(index, _)| index));
            }
            book.replay(record.kind, record.payload, place).map_err(|why| damaged(path, record.offset, why))?;
        }
        let older = files.take().map(Files::into_older).unwrap_or_default();
        files = Some(Files {
            dir: dir.to_owned(),
            older,
            newest: segment,
            salt: head.salt,
            end: scanned.end,
            filled: if scanned.torn { scanned.end } else { bytes.len() as u64 },
            last_entry,
            next: scanned.next,
            fresh: scanned.records.is_empty(),
        });
    }
    if let Some(gap) = book.gap() {
        return Err(Error::corrupt(format!("metadata log {}: {gap}", dir.display())));
    }
    Ok((book, files))
}

/// The files by age. With `clean`, what a crash left half-made is removed.
fn list(dir: &Path, clean: bool) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).context(|| format!("list {}", dir.display()))? {
        let path = entry.context(|| format!("list {}", dir.display()))?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(SUFFIX) => paths.push(path),
            Some(fsx::TMP_SUFFIX) if clean => fsx::remove(&path)?,
            _ => {}
        }
    }
    paths.sort();
    Ok(paths)
}

fn check_number(path: &Path, head: Head, before: Option<&Files>) -> Result<()> {
    let name = path.file_stem().and_then(|name| name.to_str()).and_then(|name| u64::from_str_radix(name, 16).ok());
    if name != Some(head.first) {
        return Err(damaged(path, 0, "it has the name of another file"));
    }
    match before {
        Some(before) if before.next != head.first => {
            Err(damaged(path, 0, "the file before it is missing or was cut short"))
        }
        _ => Ok(()),
    }
}

fn cut_tail(file: &File, path: &Path, (end, length): (u64, usize)) -> Result<()> {
    tracing::warn!(path = %path.display(), from = end, bytes = length as u64 - end, "torn tail of the metadata log cut");
    let cut = file.set_len(end).and_then(|()| file.sync_all());
    cut.context(|| format!("cut metadata log {}", path.display()))
}

impl Files {
    /// Open a directory of files, or begin the first one.
    pub(super) fn open(dir: &Path) -> Result<(Book<Place>, Files)> {
        match load(dir, true)? {
            (book, Some(files)) => Ok((book, files)),
            (book, None) => {
                let (newest, salt) = create(dir, FIRST_BATCH)?;
                let files = Files {
                    dir: dir.to_owned(),
                    older: VecDeque::new(),
                    newest,
                    salt,
                    end: HEAD_BYTES as u64,
                    filled: HEAD_BYTES as u64,
                    last_entry: 0,
                    next: FIRST_BATCH,
                    fresh: true,
                };
                Ok((book, files))
            }
        }
    }

    fn into_older(self) -> VecDeque<(Arc<Segment>, u64)> {
        let mut older = self.older;
        older.push_back((self.newest, self.last_entry));
        older
    }

    /// Begin another file when the newest is long enough.
    pub(super) fn rotate(&mut self) -> Result<()> {
        if self.end < limits::LOG_SEGMENT_BYTES {
            return Ok(());
        }
        let old = &self.newest;
        // Without the zeros; with the last acknowledgement durable.
        let closed = old.file.set_len(self.end).and_then(|()| old.file.sync_all());
        closed.map_err(|error| failed(&old.path, &error))?;
        let (newest, salt) = create(&self.dir, self.next)?;
        self.older.push_back((std::mem::replace(&mut self.newest, newest), self.last_entry));
        (self.salt, self.last_entry, self.fresh) = (salt, 0, true);
        (self.end, self.filled) = (HEAD_BYTES as u64, HEAD_BYTES as u64);
        Ok(())
    }

    /// Write a batch; durable when this returns. Returns where it begins. `last_entry`: the last entry in it.
    pub(super) fn write(&mut self, batch: Batch, last_entry: Option<u64>) -> Result<u64> {
        let start = self.end;
        let bytes = batch.seal(self.salt, self.next);
        self.fill(start + (bytes.len() + MARK_BYTES) as u64)?;
        let file = &self.newest.file;
        let acknowledged_at = start + bytes.len() as u64;
        let acknowledgement = frame::acknowledgement(self.salt, self.next);
        file.write_all_at(&bytes, start)
            .and_then(|()| file.sync_data())
            .and_then(|()| file.write_all_at(&acknowledgement, acknowledged_at))
            .map_err(|error| failed(&self.newest.path, &error))?;
        (self.end, self.next, self.fresh) = (acknowledged_at + MARK_BYTES as u64, self.next + 1, false);
        self.last_entry = self.last_entry.max(last_entry.unwrap_or(0));
        Ok(start)
    }

    /// Have zeros ahead of what is written: a sync of bytes that are overwritten costs no change of the file's length.
    fn fill(&mut self, needed: u64) -> Result<()> {
        static PIECE: [u8; 64 << 10] = [0; 64 << 10];
        if needed <= self.filled {
            return Ok(());
        }
        let target = needed + limits::LOG_FILL_BYTES;
        while self.filled < target {
            let piece = &PIECE[..(target - self.filled).min(PIECE.len() as u64) as usize];
            let written = self.newest.file.write_all_at(piece, self.filled);
            written.map_err(|error| failed(&self.newest.path, &error))?;
            self.filled += piece.len() as u64;
        }
        Ok(())
    }

    /// The place of a record of a batch that was written at `start`.
    pub(super) fn place(&self, start: u64, (offset, length): (usize, usize)) -> Place {
        Place { segment: Arc::clone(&self.newest), offset: start + offset as u64, length }
    }

    /// Remove the oldest files, as far as nothing in them is needed.
    pub(super) fn remove_up_to(&mut self, purged: u64) -> Result<()> {
        while let Some((segment, _)) = self.older.front().filter(|(_, last)| *last <= purged) {
            fsx::remove(&segment.path)?;
            self.older.pop_front();
        }
        Ok(())
    }
}

fn create(dir: &Path, first: u64) -> Result<(Arc<Segment>, u64)> {
    let path = dir.join(format!("{first:016x}.{SUFFIX}"));
    let salt = rand::random();
    fsx::write_durably(&path, &frame::head(Head { salt, first }))?;
    let file = File::options().read(true).write(true).open(&path);
    let file = file.context(|| format!("open metadata log {}", path.display()))?;
    Ok((Arc::new(Segment { path, file }), salt))
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Error::no_space(format!("metadata log {path}: no space left; free space and start again"))
        }
        _ => Error::unavailable(format!("metadata log {path}: {error}")),
    }
}
