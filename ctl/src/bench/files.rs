//! The tablet files of a cluster, and copying them as a person would.

use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How long dropped tablets may take to go.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// Every file below the backends' tablet directories.
#[derive(Debug)]
pub(crate) struct Files {
    roots: Vec<PathBuf>,
    /// The files.
    pub(crate) paths: Vec<PathBuf>,
    /// Their size in all.
    pub(crate) bytes: u64,
}

impl Files {
    /// Look for them once what was dropped is gone, so that about `bytes` are left.
    pub(crate) async fn find_settled(roots: &[PathBuf], bytes: u64) -> Result<Files> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            match Files::find(roots) {
                Ok(files) if files.bytes <= bytes + bytes / 50 => return Ok(files),
                // A file that vanished while we looked is what we wait for.
                other if Instant::now() >= deadline => return other,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Look for them.
    pub(crate) fn find(roots: &[PathBuf]) -> Result<Files> {
        let (mut paths, mut bytes) = (Vec::new(), 0);
        let mut folders = roots.to_vec();
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(&folder).context(|| format!("list {}", folder.display()))?;
            for entry in entries {
                let entry = entry.context(|| format!("list {}", folder.display()))?;
                let meta = entry.metadata().context(|| format!("look at {}", entry.path().display()))?;
                if meta.is_dir() {
                    folders.push(entry.path());
                } else {
                    bytes += meta.len();
                    paths.push(entry.path());
                }
            }
        }
        Ok(Files { roots: roots.to_vec(), paths, bytes })
    }

    /// `cp -r` everything to `target`, `sync`, and remove it again; the time of the first two. What others wrote before
    /// is synced first, so that its cost is not counted here.
    pub(crate) async fn copy(&self, target: &Path) -> Result<Duration> {
        run("sync", &[]).await?;
        let begun = Instant::now();
        for (number, root) in self.roots.iter().enumerate() {
            let target = target.join(number.to_string());
            std::fs::create_dir_all(&target).context(|| format!("create {}", target.display()))?;
            run("cp", &["-r".as_ref(), root.as_ref(), target.as_ref()]).await?;
        }
        run("sync", &[]).await?;
        let took = begun.elapsed();
        fsx::remove(target)?;
        run("sync", &[]).await?;
        Ok(took)
    }
}

async fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status().await;
    let status = status.context(|| format!("run {program}"))?;
    if status.success() { Ok(()) } else { Err(Error::unavailable(format!("{program} ended with {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_found_and_copied_away() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        std::fs::create_dir_all(root.join("7")).unwrap();
        std::fs::write(root.join("7/meta"), b"abc").unwrap();
        std::fs::write(root.join("x"), b"de").unwrap();
        let files = Files::find(&[root]).unwrap();
        assert_eq!((files.paths.len(), files.bytes), (2, 5));
        files.copy(&dir.path().join("copy")).await.unwrap();
        assert!(!dir.path().join("copy").exists());
    }
}
