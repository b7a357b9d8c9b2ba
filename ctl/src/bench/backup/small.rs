//! Many tablets of three small files each: BACKUP beside that of the same bytes in ten tablets and beside rclone with the
//! same files; RESTORE beside rclone's copy back. Then hard links of many files beside `cp -al`.

use super::report::Wanted;
use super::rows::{self, ROWS_PER_TABLET, Rows};
use super::stage::{DATABASE, Stage, run, settle};
use super::tree::Tree;
use crate::bench::median;
use crate::screen;
use crate::tour::progress;
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use std::time::{Duration, Instant};

/// Files of each tablet.
const LOADS: u64 = 3;
/// Tablets of the table beside it.
const FEW: u32 = 10;
/// What rclone is called with.
const TRANSFERS: usize = 32;
const COLUMNS: [&str; 3] = ["k", "id", "payload"];

/// The table with many tablets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    partitions: u32,
    buckets: u32,
}

impl Shape {
    /// At least so many tablets.
    fn of(tablets: u32) -> Shape {
        let buckets = if tablets >= 1_000 { 100 } else { tablets.clamp(1, 10) };
        Shape { partitions: tablets.div_ceil(buckets).max(1), buckets }
    }

    fn tablets(self) -> u64 {
        u64::from(self.partitions) * u64::from(self.buckets)
    }

    fn rows(self, payload: usize, seed: u64) -> Rows {
        Rows { partitions: self.partitions, per_partition: ROWS_PER_TABLET * u64::from(self.buckets), payload, seed }
    }
}

#[derive(Debug, Default)]
struct Times {
    few: Vec<Duration>,
    many: Vec<Duration>,
    many_back: Vec<Duration>,
    peer: Vec<Duration>,
    peer_back: Vec<Duration>,
}

/// Both measurements.
pub(super) async fn measure(stage: &mut Stage<'_>) -> Result<()> {
    let shape = Shape::of(stage.args.tablets);
    let payload = rows::payload(stage.args.file.0);
    progress::chapter(&format!("{} tablets of {LOADS} files", shape.tablets()));
    stage.session.query(&rows::create(&format!("{DATABASE}.many"), shape.partitions, shape.buckets)).await?;
    for load in 1..=LOADS {
        fill(stage, "many", shape.rows(payload, load)).await?;
    }
    let tree = link(stage, "many").await?;
    let few = fill_few(stage, &tree, payload).await?;
    for (name, tree) in [("many", &tree), ("few", &few)] {
        let mean = tree.bytes / tree.files.max(1);
        screen::line(&format!("table {name}: {} files, {} bytes, {mean} each", tree.files, tree.bytes));
    }
    let mut times = Times::default();
    for round in 1..=stage.args.rounds {
        one_round(stage, round, (&tree, &few), &mut times).await?;
    }
    report(stage, &times, (&tree, &few), shape);
    fsx::remove(&tree.dir)?;
    fsx::remove(&few.dir)?;
    stage.drop_table("few").await?;
    links(stage, shape).await
}

async fn fill(stage: &Stage<'_>, table: &str, rows: Rows) -> Result<u64> {
    let bytes = u64::from(rows.partitions) * rows.per_partition * (rows.payload as u64 + 24);
    let bar = progress::of_bytes(table, bytes);
    let label = format!("{table}_{}", rows.seed);
    let loaded = stage.loader.load_rows((table, &label), &bar, move |give| Ok(rows.write(give))).await;
    bar.finish_and_clear();
    loaded
}

async fn link(stage: &mut Stage<'_>, table: &str) -> Result<Tree> {
    let (data, dir) = (stage.data(), stage.dir(table));
    Tree::link(&mut stage.session, &format!("{DATABASE}.{table}"), &data, &dir).await
}

/// The same bytes in few tablets: the last load has as many rows as are missing.
async fn fill_few(stage: &mut Stage<'_>, many: &Tree, payload: usize) -> Result<Tree> {
    stage.session.query(&rows::create(&format!("{DATABASE}.few"), 1, FEW)).await?;
    let shape = Shape::of(stage.args.tablets);
    let all = shape.tablets() * ROWS_PER_TABLET;
    for load in 1..LOADS {
        fill(stage, "few", Rows { partitions: 1, per_partition: all, payload, seed: load }).await?;
    }
    let sofar = link(stage, "few").await?;
    let per_row = sofar.bytes as f64 / (all * (LOADS - 1)) as f64;
    let missing = many.bytes.saturating_sub(sofar.bytes) as f64 / per_row.max(1.0);
    fill(stage, "few", Rows { partitions: 1, per_partition: (missing as u64).max(1), payload, seed: LOADS }).await?;
    link(stage, "few").await
}

async fn one_round(stage: &mut Stage<'_>, round: u32, (tree, few): (&Tree, &Tree), times: &mut Times) -> Result<()> {
    let (few_label, label) = (format!("few_{round}"), format!("many_{round}"));
    times.few.push(stage.backup(&few_label, "few", few.files).await?);
    times.many.push(stage.backup(&label, "many", tree.files).await?);
    let folder = format!("small-{round}");
    if let Some(rclone) = stage.peers.iter().find(|peer| peer.name == "rclone") {
        times.peer.push(stage.peer_up(rclone, tree, &folder, TRANSFERS).await?);
    }
    times.many_back.push(stage.restore(&label, ("many", "many_back"), tree.files).await?);
    if let Some(rclone) = stage.peers.iter().find(|peer| peer.name == "rclone") {
        times.peer_back.push(stage.peer_down(rclone, tree, &folder, TRANSFERS).await?);
    }
    stage.compare("many", "many_back", &COLUMNS).await?;
    stage.drop_table("many_back").await?;
    stage.drop_snapshot(&few_label).await?;
    stage.drop_snapshot(&label).await
}

fn report(stage: &mut Stage<'_>, times: &Times, (tree, few): (&Tree, &Tree), shape: Shape) {
    let (size, few_size) = ((tree.bytes, tree.files), (few.bytes, few.files));
    let report = &mut stage.report;
    let many = format!("{} tablets", shape.tablets());
    report.time(&format!("BACKUP, {FEW} tablets"), &times.few, few_size);
    report.time(&format!("BACKUP, {many}"), &times.many, size);
    report.time(&format!("RESTORE, {many}"), &times.many_back, size);
    report.ratio(&format!("BACKUP of {many} / of {FEW}"), (&times.many, &times.few), Wanted::AtMost(1.5));
    if times.peer.is_empty() {
        return;
    }
    report.time(&format!("rclone copy --transfers {TRANSFERS}, up"), &times.peer, size);
    report.time(&format!("rclone copy --transfers {TRANSFERS}, down"), &times.peer_back, size);
    report.ratio(&format!("rclone up / BACKUP of {many}"), (&times.peer, &times.many), Wanted::AtLeast(10.0));
    report.ratio(
        &format!("rclone down / RESTORE of {many}"),
        (&times.peer_back, &times.many_back),
        Wanted::AtLeast(5.0),
    );
}

/// Snapshots of the table after as many loads as make the wanted number of files.
async fn links(stage: &mut Stage<'_>, shape: Shape) -> Result<()> {
    if stage.args.links == 0 {
        return stage.drop_table("many").await;
    }
    progress::chapter(&format!("hard links of {} files", stage.args.links));
    for load in LOADS + 1..=stage.args.links.div_ceil(shape.tablets()) {
        fill(stage, "many", shape.rows(1, load)).await?;
    }
    let (mut ours, mut theirs, mut synced) = (Vec::new(), Vec::new(), Vec::new());
    let tree = link(stage, "many").await?;
    for round in 1..=stage.args.rounds {
        ours.push(stage.snapshot(&format!("links_{round}"), "many").await?);
        gone(stage).await?;
        let target = stage.dir("copied");
        settle().await?;
        let begun = Instant::now();
        run("cp", &["-al".as_ref(), tree.dir.as_ref(), target.as_ref()]).await?;
        theirs.push(begun.elapsed());
        run("sync", &[]).await?;
        synced.push(begun.elapsed());
        fsx::remove(&target)?;
    }
    let size = (tree.bytes, tree.files);
    stage.report.time("BACKUP until all files are linked, durably", &ours, size);
    stage.report.time("cp -al", &theirs, size);
    stage.report.time("cp -al and sync", &synced, size);
    let what = format!("linking {} files / cp -al ({:.2} s)", tree.files, median(&theirs).as_secs_f64());
    stage.report.ratio(&what, (&ours, &theirs), Wanted::AtMost(1.3));
    fsx::remove(&tree.dir)?;
    stage.drop_table("many").await
}

/// Wait until backends have let go of the cancelled job.
async fn gone(stage: &Stage<'_>) -> Result<()> {
    let folders: Vec<_> = stage.data().iter().filter_map(|data| Some(data.parent()?.join("snapshot"))).collect();
    let deadline = Instant::now() + Duration::from_secs(stage.args.limit);
    loop {
        let mut left = 0;
        for folder in &folders {
            left += std::fs::read_dir(folder).context(|| format!("list {}", folder.display()))?.count();
        }
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::timeout("backends keep the links of a cancelled job"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_tablets_as_wanted() {
        for (tablets, partitions, buckets) in [(10_000, 100, 100), (1_000, 10, 100), (60, 6, 10), (3, 1, 3), (0, 1, 1)]
        {
            assert_eq!(Shape::of(tablets), Shape { partitions, buckets }, "{tablets}");
        }
        assert_eq!(Shape::of(60).rows(7, 1).per_partition, 10 * ROWS_PER_TABLET);
    }
}
