//! The files that go up and must come down the same.

use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes written or compared at once.
const BLOCK: usize = 1 << 20;

/// Files of one size in one directory.
#[derive(Debug)]
pub(crate) struct Files {
    /// Where they lie.
    pub(crate) dir: PathBuf,
    /// How many.
    pub(crate) count: usize,
    /// Bytes of each.
    pub(crate) size: u64,
    /// Bytes in all.
    pub(crate) bytes: u64,
}

impl Files {
    /// Make them: bytes that do not compress, another file for each number.
    pub(crate) fn make(dir: &Path, count: usize, size: u64) -> Result<Files> {
        std::fs::create_dir_all(dir).context(|| format!("create {}", dir.display()))?;
        let mut random = std::fs::File::open("/dev/urandom").context(|| "open /dev/urandom")?;
        let mut block = vec![0; BLOCK];
        random.read_exact(&mut block).context(|| "read /dev/urandom")?;
        for number in 0..count {
            let mut bytes = Vec::with_capacity(BLOCK);
            let mut left = size;
            let path = dir.join(name(number));
            let mut file = std::fs::File::create(&path).context(|| format!("create {}", path.display()))?;
            while left > 0 {
                let length = left.min(BLOCK as u64) as usize;
                // The same block, but no two the same.
                bytes.clear();
                bytes.extend_from_slice(&block[..length]);
                let mark = (number as u64) << 32 | (left / BLOCK as u64);
                let marked = length.min(8);
                bytes[..marked].copy_from_slice(&mark.to_le_bytes()[..marked]);
                std::io::Write::write_all(&mut file, &bytes).context(|| format!("write {}", path.display()))?;
                left -= length as u64;
            }
        }
        Ok(Files { dir: dir.to_owned(), count, size, bytes: count as u64 * size })
    }

    /// The names.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.count).map(name)
    }

    /// For people.
    pub(crate) fn shown(&self) -> String {
        let (count, size) = (self.count, self.size);
        if size.is_multiple_of(1 << 20) {
            format!("{count} x {} MiB", size >> 20)
        } else {
            format!("{count} x {size} B")
        }
    }

    /// Whether `other` holds the same files.
    pub(crate) fn compare(&self, other: &Path) -> Result<()> {
        for name in self.names() {
            let (ours, theirs) = (self.dir.join(&name), other.join(&name));
            if !same(&ours, &theirs)? {
                return Err(Error::corrupt(format!("{} is not what went up", theirs.display())));
            }
        }
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("{number:06}.bin")
}

fn same(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| std::fs::File::open(path).context(|| format!("open {}", path.display()));
    let (mut one, mut other) = (open(one)?, open(other)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut one).take(BLOCK as u64).read_to_end(&mut left).context(|| "compare")?;
        (&mut other).take(BLOCK as u64).read_to_end(&mut right).context(|| "compare")?;
        if left != right || left.is_empty() {
            return Ok(left == right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_and_a_changed_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        let files = Files::make(&one, 3, BLOCK as u64 + 5).unwrap();
        std::fs::create_dir(&two).unwrap();
        for name in files.names() {
            std::fs::copy(one.join(&name), two.join(&name)).unwrap();
        }
        files.compare(&two).unwrap();
        assert_eq!(files.bytes, 3 * (BLOCK as u64 + 5));
        std::fs::write(two.join(name(2)), "x").unwrap();
        assert!(files.compare(&two).is_err());
    }
}
