//! SHOW BACKENDS and BROKER.

use crate::backends::{BackendStatus, BrokerStatus};
use crate::catalog::cluster::Backend;
use crate::catalog::rate::RateLimits;
use crate::exec::answer::RowSet;
use crate::exec::cluster::drain::in_the_way;
use crate::exec::context::Context;
use crate::exec::text::{NONE, share, size, time};
use crate::meta::state::State;
use coffer_proto::ids::BackendId;
use std::collections::BTreeMap;

const BACKEND_COLUMNS: [&str; 28] = [
    "BackendId",
    "Host",
    "HeartbeatPort",
    "BePort",
    "HttpPort",
    "BrpcPort",
    "ArrowFlightSqlPort",
    "LastStartTime",
    "LastHeartbeat",
    "Alive",
    "SystemDecommissioned",
    "TabletNum",
    "DataUsedCapacity",
    "TrashUsedCapacity",
    "AvailCapacity",
    "TotalCapacity",
    "UsedPct",
    "MaxDiskUsedPct",
    "RemoteUsedCapacity",
    "Tag",
    "ErrMsg",
    "Version",
    "Status",
    "HeartbeatFailureCounter",
    "CpuCores",
    "Memory",
    "RunningTasks",
    "NodeRole",
];

const BROKER_COLUMNS: [&str; 14] = [
    "Name",
    "Host",
    "Port",
    "Alive",
    "LastStartTime",
    "LastUpdateTime",
    "ErrMsg",
    "Version",
    "Running",
    "Waiting",
    "MemoryUsed",
    "MemoryLimit",
    "MaxUploadBytesPerSecond",
    "MaxDownloadBytesPerSecond",
];

/// SHOW BACKENDS, by host.
pub(super) fn backends(context: &Context) -> RowSet {
    let alive = |backend| context.backends.alive(backend);
    let (mut known, placed, leaving) = context.meta.view(|state| {
        let leaving = state.backends.values().filter(|backend| backend.decommissioned);
        let leaving: BTreeMap<BackendId, String> =
            leaving.map(|backend| (backend.id, departure(state, backend.id, alive))).collect();
        (state.backends.values().cloned().collect::<Vec<_>>(), placed_replicas(state), leaving)
    });
    known.sort_by(|left, right| (&left.host, left.port).cmp(&(&right.host, right.port)));
    let mut set = RowSet::new(BACKEND_COLUMNS);
    for backend in known {
        let mut status = context.backends.status(backend.id).unwrap_or_default();
        if let Some(left) = leaving.get(&backend.id) {
            status.error = [status.error.as_str(), left].join(if status.error.is_empty() { "" } else { "; " });
        }
        let placed = placed.get(&backend.id).copied().unwrap_or_default();
        set.push(backend_row(&backend, &status, placed));
    }
    set
}

/// What a backend that is to leave waits for.
fn departure(state: &State, backend: BackendId, alive: impl Fn(BackendId) -> bool) -> String {
    let left = state.leftovers(backend);
    let waits = left.describe().unwrap_or_else(|| "nothing".to_owned());
    let moves = left.replicas + left.in_bin > 0;
    match in_the_way(state, &[backend], alive).filter(|_| moves) {
        Some(reason) => format!("decommissioned, left to move: {waits}; {reason}"),
        None => format!("decommissioned, left to move: {waits}"),
    }
}

/// Replicas that the catalog gives to each backend.
fn placed_replicas(state: &State) -> BTreeMap<BackendId, u64> {
    let mut placed = BTreeMap::new();
    for table in state.databases.values().flat_map(|database| database.tables.values()) {
        for (_, tablet) in table.tablets() {
            for backend in &tablet.replicas {
                *placed.entry(*backend).or_default() += 1;
            }
        }
    }
    placed
}

fn backend_row(backend: &Backend, status: &BackendStatus, placed: u64) -> Vec<String> {
    let fixed = |text: &str| text.to_owned();
    let sum = |of: fn(&coffer_proto::v1::Disk) -> u64| status.disks.iter().map(of).sum::<u64>();
    let (total, available) = (sum(|disk| disk.total_bytes), sum(|disk| disk.available_bytes));
    let fullest = status
        .disks
        .iter()
        .max_by_key(|disk| {
            let used = disk.total_bytes.saturating_sub(disk.available_bytes);
            used.saturating_mul(10_000).checked_div(disk.total_bytes).unwrap_or_default()
        })
        .map_or((0, 0), |disk| (disk.total_bytes.saturating_sub(disk.available_bytes), disk.total_bytes));
    let details = serde_json::json!({
        "lastSuccessReportTabletsTime": if status.report_ms == 0 { "N/A".to_owned() } else { time(status.report_ms) },
        "lastStreamLoadTime": -1,
        "isQueryDisabled": false,
        "isLoadDisabled": false,
    });
    vec![
        backend.id.to_string(),
        backend.host.clone(),
        backend.port.to_string(),
        backend.port.to_string(),
        status.http_port.to_string(),
        backend.port.to_string(),
        backend.port.to_string(),
        time(status.start_ms),
        time(status.heartbeat_ms),
        status.alive.to_string(),
        backend.decommissioned.to_string(),
        placed.to_string(),
        size(sum(|disk| disk.data_bytes)),
        size(sum(|disk| disk.trash_bytes)),
        size(available),
        size(total),
        share(total.saturating_sub(available), total),
        share(fullest.0, fullest.1),
        size(0),
        fixed("{\"location\" : \"default\"}"),
        status.error.clone(),
        status.version.clone(),
        details.to_string(),
        status.failures.to_string(),
        status.cpu_cores.to_string(),
        size(status.memory_bytes),
        status.running_tasks.to_string(),
        fixed(if status.alive { "mix" } else { "" }),
    ]
}

/// SHOW BROKER, by name and in the order added.
pub(super) fn brokers(context: &Context) -> RowSet {
    let groups = context.meta.view(|state| state.brokers.clone());
    let mut set = RowSet::new(BROKER_COLUMNS);
    for (name, group) in groups {
        for address in &group.addresses {
            let status = context.backends.broker_status(&name, address);
            let limits = group.limits.get(address).copied().unwrap_or_default();
            set.push(broker_row(&name, address, status.as_ref(), limits));
        }
    }
    set
}

fn broker_row(name: &str, address: &str, status: Option<&BrokerStatus>, limits: RateLimits) -> Vec<String> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let mut row = vec![name.to_owned(), host.to_owned(), port.to_owned()];
    match status {
        Some(status) => row.extend([
            status.alive.to_string(),
            time(status.last_start_ms),
            time(status.last_update_ms),
            status.error.clone(),
            status.version.clone(),
            status.running.to_string(),
            status.waiting.to_string(),
            size(status.memory.0),
            size(status.memory.1),
        ]),
        None => {
            let never = ["false", NONE, NONE, "not reached yet", "", "0", "0"].map(str::to_owned);
            row.extend(never.into_iter().chain([size(0), size(0)]));
        }
    }
    row.extend([limits.upload.to_string(), limits.download.to_string()]);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::sample;
    use coffer_proto::v1::Disk;

    #[test]
    fn a_backend_has_28_columns_and_sums_its_disks() {
        let state = sample::state();
        let placed = placed_replicas(&state);
        let backend = state.backends.values().next().unwrap();
        assert_eq!(placed[&backend.id], 7);
        let disk = |total, available, data| Disk {
            total_bytes: total,
            available_bytes: available,
            data_bytes: data,
            ..Disk::default()
        };
        let status = BackendStatus {
            alive: true,
            disks: vec![disk(1_000, 900, 10), disk(1_000, 100, 14)],
            ..BackendStatus::default()
        };
        let row = backend_row(backend, &status, 7);
        assert_eq!(row.len(), BACKEND_COLUMNS.len());
        let cell = |name: &str| row[BACKEND_COLUMNS.iter().position(|column| *column == name).unwrap()].as_str();
        assert_eq!((cell("Alive"), cell("TabletNum"), cell("NodeRole")), ("true", "7", "mix"));
        assert_eq!((cell("UsedPct"), cell("MaxDiskUsedPct")), ("50.00 %", "90.00 %"));
        assert_eq!((cell("DataUsedCapacity"), cell("TotalCapacity")), ("24.000 B", "1.953 KB"));
        assert_eq!(cell("LastHeartbeat"), "NULL");
        assert_eq!(backend_row(backend, &BackendStatus::default(), 0).len(), 28);
    }

    #[test]
    fn a_backend_that_leaves_says_what_it_waits_for() {
        let mut state = sample::state();
        let plain = BackendId(10_001);
        state.backends.get_mut(&plain).unwrap().decommissioned = true;
        let text = departure(&state, plain, |_| true);
        assert!(text.starts_with("decommissioned, left to move: 7 tablets of tables; table 'db.t' has 2"), "{text}");
        let row = backend_row(&state.backends[&plain], &BackendStatus::default(), 7);
        assert_eq!(row[BACKEND_COLUMNS.iter().position(|column| *column == "SystemDecommissioned").unwrap()], "true");
        state.databases.clear();
        assert_eq!(departure(&state, plain, |_| true), "decommissioned, left to move: nothing");
    }

    #[test]
    fn a_broker_has_every_column_whether_it_answered_or_not() {
        let status = BrokerStatus { alive: true, waiting: 3, memory: (1 << 20, 4 << 20), ..BrokerStatus::default() };
        let limits = RateLimits { upload: 5, download: 0 };
        let row = broker_row("b", "h:8000", Some(&status), limits);
        assert_eq!(row.len(), BROKER_COLUMNS.len());
        assert_eq!(row[..4], ["b", "h", "8000", "true"].map(str::to_owned));
        assert_eq!(row[9..], ["3", "1.000 MB", "4.000 MB", "5", "0"].map(str::to_owned));
        assert_eq!(broker_row("b", "h:8000", None, limits).len(), BROKER_COLUMNS.len());
    }
}
