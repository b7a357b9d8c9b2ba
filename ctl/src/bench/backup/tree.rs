//! The files of a table as other tools see them: a directory of hard links, without the metas of tablets.

use crate::sql::Session;
use coffer_stdx::error::Context;
use coffer_stdx::{Result, fsx};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Name of a tablet's meta file: no rows, and no tool needs it.
const META: &str = "meta";

/// Files in `dir/<tablet>/`.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) dir: PathBuf,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Tree {
    /// Link the files of `table` below `dir`, from the data directories of all backends.
    pub(super) async fn link(session: &mut Session, table: &str, data: &[PathBuf], dir: &Path) -> Result<Tree> {
        let rows = session.query(&format!("SHOW TABLETS FROM {table}")).await?;
        let tablets: HashSet<String> = rows.iter().map(|row| row.get("TabletId").to_owned()).collect();
        fsx::remove(dir)?;
        let mut tree = Tree { dir: dir.to_owned(), files: 0, bytes: 0 };
        for root in data {
            for tablet in entries(root)? {
                let name = tablet.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if tablets.contains(&name) {
                    tree.add(&tablet, &dir.join(name))?;
                }
            }
        }
        Ok(tree)
    }

    fn add(&mut self, from: &Path, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to).context(|| format!("create {}", to.display()))?;
        for file in entries(from)? {
            let name = file.file_name().unwrap_or_default();
            if name != META {
                fsx::link(&file, &to.join(name))?;
                self.files += 1;
                self.bytes += std::fs::metadata(&file).context(|| format!("look at {}", file.display()))?.len();
            }
        }
        Ok(())
    }

    /// Whether `dir` holds as many files and bytes, at any depth.
    pub(super) fn is_in(&self, dir: &Path) -> Result<bool> {
        let (mut files, mut bytes) = (0, 0);
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            for path in entries(&folder)? {
                let meta = std::fs::metadata(&path).context(|| format!("look at {}", path.display()))?;
                if meta.is_dir() {
                    folders.push(path);
                } else {
                    files += 1;
                    bytes += meta.len();
                }
            }
        }
        Ok((files, bytes) == (self.files, self.bytes))
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(dir).context(|| format!("list {}", dir.display()))?;
    listed.map(|entry| Ok(entry.context(|| format!("list {}", dir.display()))?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_linked_without_metas_and_compared() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("data/7");
        std::fs::create_dir_all(&from).unwrap();
        for (name, content) in [("meta", "m"), ("a.parquet", "abc"), ("b.parquet", "de")] {
            std::fs::write(from.join(name), content).unwrap();
        }
        let mut tree = Tree { dir: dir.path().join("links"), files: 0, bytes: 0 };
        tree.add(&from, &tree.dir.join("7")).unwrap();
        assert_eq!((tree.files, tree.bytes), (2, 5));
        assert!(tree.is_in(&tree.dir).unwrap());
        std::fs::write(tree.dir.join("more"), "x").unwrap();
        assert!(!tree.is_in(&tree.dir).unwrap());
    }
}
