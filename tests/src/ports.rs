//! Ports that no other test takes: blocks below the kernel's ephemeral range, each guarded by a locked file for as long
//! as the cluster lives, so that a restarted node finds its port free.

use anyhow::Context;
use std::fs::File;
use std::net::TcpListener;

/// Ports per block; a cluster of five frontends, seven backends and three brokers fits.
const BLOCK: u16 = 36;
/// First port of the first block.
const FIRST: u16 = 20_000;
/// End of the last block; Linux hands out ephemeral ports from 32768 on.
const END: u16 = 32_000;

/// A block of ports, ours until dropped.
#[derive(Debug)]
pub struct PortBlock {
    next: u16,
    end: u16,
    _guard: File,
}

impl PortBlock {
    /// Take a block whose ports are all free.
    pub fn take() -> anyhow::Result<PortBlock> {
        let dir = std::env::temp_dir().join("coffer-test-ports");
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let blocks = (END - FIRST) / BLOCK;
        let offset = (std::process::id() % u32::from(blocks)) as u16;
        for n in 0..blocks {
            let first = FIRST + (n + offset) % blocks * BLOCK;
            let guard = File::create(dir.join(first.to_string())).context("create a port lock")?;
            let free = || (first..first + BLOCK).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
            if guard.try_lock().is_ok() && free() {
                return Ok(PortBlock { next: first, end: first + BLOCK, _guard: guard });
            }
        }
        anyhow::bail!("no free block of {BLOCK} ports between {FIRST} and {END}")
    }

    /// The next loopback address of the block.
    pub fn address(&mut self) -> anyhow::Result<String> {
        anyhow::ensure!(self.next < self.end, "a test cluster has at most {BLOCK} ports");
        self.next += 1;
        Ok(format!("127.0.0.1:{}", self.next - 1))
    }
}
