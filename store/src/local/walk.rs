//! Listing a directory tree page by page: memory holds one open directory per level and one page.
//!
//! What appears or goes during the walk may be listed or not; files that are no objects (temporary, special, or with
//! names no object path can have) are passed over.

use super::info;
use crate::{Child, path};
use coffer_stdx::Result;
use coffer_stdx::error::Context;
use std::fs::{self, DirEntry, ReadDir};
use std::io;
use std::path::{Path, PathBuf};

/// Entries of one page.
const PAGE: usize = 1_000;

/// How far a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Objects at any depth; no folders.
    All,
    /// One directory: its objects and its folders, looked into no further than to see that they are not empty.
    One,
}

/// A walk that has got somewhere.
#[derive(Debug)]
pub(super) struct Walk {
    root: PathBuf,
    depth: Depth,
    // Open directories, outermost first, with their path below the root.
    open: Vec<(String, ReadDir)>,
}

impl Walk {
    /// At the beginning of the folder `prefix`.
    pub(super) fn start(root: &Path, prefix: &str, depth: Depth) -> Result<Walk> {
        let mut walk = Walk { root: root.to_owned(), depth, open: Vec::new() };
        walk.enter(prefix.to_owned())?;
        Ok(walk)
    }

    /// The next entries; none at the end.
    pub(super) fn page(&mut self) -> Result<Vec<Child>> {
        let mut page = Vec::new();
        while page.len() < PAGE {
            let Some((folder, entries)) = self.open.last_mut() else { break };
            match entries.next() {
                None => drop(self.open.pop()),
                Some(entry) => {
                    let entry = entry.context(|| format!("list {}", self.root.join(&*folder).display()))?;
                    let Some(path) = object_path(folder, &entry) else { continue };
                    self.visit(path, &entry, &mut page)?;
                }
            }
        }
        Ok(page)
    }

    fn visit(&mut self, path: String, entry: &DirEntry, page: &mut Vec<Child>) -> Result<()> {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() && self.depth == Depth::All => self.enter(path),
            Ok(meta) if meta.is_dir() => {
                // What an operator made by hand, or a put is about to fill, is no folder yet.
                let filled = match fs::read_dir(entry.path()) {
                    Ok(mut inside) => inside.any(|entry| entry.is_ok_and(|entry| is_entry(&entry))),
                    Err(error) => !is_gone(&error),
                };
                if filled {
                    page.push(Child::Folder(path));
                }
                Ok(())
            }
            Ok(meta) if meta.is_file() => {
                page.push(Child::Object(info(&path, &meta)));
                Ok(())
            }
            Err(error) if !is_gone(&error) => Err(error).context(|| format!("look at {}", entry.path().display())),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn enter(&mut self, folder: String) -> Result<()> {
        let dir = self.root.join(&folder);
        match fs::read_dir(&dir) {
            Ok(entries) => self.open.push((folder, entries)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error).context(|| format!("list {}", dir.display())),
        }
        Ok(())
    }
}

fn object_path(folder: &str, entry: &DirEntry) -> Option<String> {
    let path = path::join(folder, entry.file_name().to_str()?);
    path::check(&path).ok().map(|()| path)
}

/// Whether this is something that may be shown.
fn is_entry(entry: &DirEntry) -> bool {
    entry.file_name().to_str().is_some_and(|name| path::check(name).is_ok())
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
