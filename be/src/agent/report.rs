//! What the leader is told without asking: who we are, how the disks are, which tablets we hold.

use crate::limits::REPORT_TABLETS;
use crate::tablet::{Disk, TabletStore};
use crate::task::stat;
use coffer_proto::v1;
use coffer_stdx::Result;
use std::collections::HashMap;
use std::path::PathBuf;

/// Facts that do not change while the process lives.
#[derive(Debug, Clone)]
pub struct Process {
    /// When it started.
    pub start_time_ms: u64,
    /// Port of the HTTP service.
    pub http_port: u16,
}

/// The answer to a Hello. Blocking.
pub fn registered(process: &Process, store: &TabletStore) -> Result<v1::Registered> {
    Ok(v1::Registered {
        start_time_ms: process.start_time_ms,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        http_port: u32::from(process.http_port),
        cpu_cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        memory_bytes: memory_bytes(),
        staged_transactions: store.staged_transactions(),
        jobs: store.jobs()?,
    })
}

/// The machine's memory; 0 when the kernel does not tell.
fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}

/// One heartbeat. Blocking: asks the disks.
pub fn heartbeat(store: &TabletStore, running_tasks: usize) -> v1::BackendHeartbeat {
    let disk = |disk: &std::sync::Arc<Disk>| {
        let (total_bytes, available_bytes) = disk.space();
        v1::Disk {
            path: disk.root().display().to_string(),
            total_bytes,
            available_bytes,
            data_bytes: disk.data_bytes(),
            trash_bytes: disk.trash_bytes(),
            usable: disk.usable(),
        }
    };
    v1::BackendHeartbeat {
        tablet_count: store.count() as u64,
        disks: store.disks().iter().map(disk).collect(),
        running_tasks: running_tasks as u32,
    }
}

/// A full report in messages of bounded size; also brings the disks' data bytes up to date.
pub fn tablets(store: &TabletStore) -> Vec<v1::TabletReport> {
    let mut stats = Vec::new();
    let mut bytes: HashMap<PathBuf, u64> = HashMap::new();
    for tablet in store.tablets() {
        let stat = stat(&tablet);
        *bytes.entry(tablet.disk().root().to_owned()).or_default() += stat.bytes;
        stats.push(stat);
    }
    for (tablet_id, bad) in store.bad_tablets() {
        let path = bad.path.display().to_string();
        stats.push(v1::TabletStat { tablet_id, path, bad: true, ..Default::default() });
    }
    for disk in store.disks() {
        disk.set_data_bytes(bytes.get(disk.root()).copied().unwrap_or(0));
    }
    in_parts(stats)
}

fn in_parts(stats: Vec<v1::TabletStat>) -> Vec<v1::TabletReport> {
    let mut parts: Vec<v1::TabletReport> = stats
        .chunks(REPORT_TABLETS)
        .map(|part| v1::TabletReport { tablets: part.to_vec(), first: false, last: false })
        .collect();
    if parts.is_empty() {
        parts.push(v1::TabletReport::default());
    }
    if let Some(first) = parts.first_mut() {
        first.first = true;
    }
    if let Some(last) = parts.last_mut() {
        last.last = true;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_one_beginning_and_one_end() {
        let stats = |count: usize| vec![v1::TabletStat::default(); count];
        let marks = |count| -> Vec<(usize, bool, bool)> {
            in_parts(stats(count)).iter().map(|part| (part.tablets.len(), part.first, part.last)).collect()
        };
        assert_eq!(marks(0), [(0, true, true)]);
        assert_eq!(marks(REPORT_TABLETS), [(REPORT_TABLETS, true, true)]);
        assert_eq!(marks(REPORT_TABLETS + 1), [(REPORT_TABLETS, true, false), (1, false, true)]);
        assert!(memory_bytes() > 0);
    }
}
