//! Every bound in this process, with its unit.

use std::time::Duration;

/// Rows of one Parquet row group.
pub const ROW_GROUP_ROWS: usize = 256 << 10;
/// Encoded bytes of a Parquet row group in memory; more begin the next one.
pub const ROW_GROUP_BYTES: usize = 64 << 20;
/// Bytes of one Parquet data page before compression.
pub const PAGE_BYTES: usize = 1 << 20;
/// Bytes of rows in memory of one tablet in one load; more become a file.
pub const TABLET_BUFFER_BYTES: usize = 32 << 20;
/// Bytes of rows that one load gathers before it sends them to the tablets.
pub const ROUTE_BUFFER_BYTES: usize = 16 << 20;
/// Rows parsed from text before they become a batch.
pub const PARSE_ROWS: usize = 16 << 10;
/// Bytes parsed from text before they become a batch.
pub const PARSE_BYTES: usize = 4 << 20;
/// Bytes of Arrow data in one message between processes; more are cut into several.
pub const BATCH_BYTES: usize = 4 << 20;
/// Messages waiting for one backend of a load.
pub const WRITE_QUEUE: usize = 4;
/// Bytes of one line of a load file.
pub const LINE_BYTES: usize = 16 << 20;
/// Filtered rows whose reason is kept, per load.
pub const KEPT_REASONS: usize = 100;
/// Load error lists that are kept for `/api/_load_error_log`.
pub const KEPT_ERROR_LOGS: usize = 200;
/// Rows of one batch of a scan.
pub const SCAN_BATCH_ROWS: usize = 8 << 10;
/// Rowsets of a tablet that loads wait for compaction with.
pub const MAX_ROWSETS: usize = 1_000;
/// Time between looks at all tablets for rowsets to merge and for replaced ones to remove.
pub const COMPACTION_LOOK_EVERY: Duration = Duration::from_secs(30);
/// Bytes of decoded rows in memory of one merge of files, about.
pub const MERGE_BYTES: usize = 32 << 20;
/// Batches waiting for a slow reader of a scan.
pub const SCAN_QUEUE: usize = 4;
/// Scans that read files at the same moment; others wait for their turn.
pub const SCANS: usize = 32;
/// Tasks known at once, running, waiting, or done and not told; the leader waits with more.
pub const TASKS: usize = 4_096;
/// Results of finished tasks that are kept for a leader that asks again.
pub const KEPT_RESULTS: usize = 4_096;
/// Messages waiting for the control stream.
pub const CONTROL_QUEUE: usize = 64;
/// Tablets in one message of a report.
pub const REPORT_TABLETS: usize = 2_000;
/// Time between progress messages of one task.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// Longest time without a full tablet report.
pub const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Changes of tablets within this time make one report.
pub const REPORT_AFTER: Duration = Duration::from_millis(500);
/// Time between looks at the disks and the trash.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Time given to one call of the leading frontend, beyond the wait it was asked for.
pub const FRONTEND_CALL: Duration = Duration::from_secs(30);
