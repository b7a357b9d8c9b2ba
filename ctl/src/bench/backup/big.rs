//! TPC-H in few big tablets: BACKUP and RESTORE beside what other tools need for the same files.

use super::report::Wanted;
use super::stage::{DATABASE, Stage};
use super::tree::Tree;
use crate::bench::median;
use crate::screen;
use crate::tour::load::Part;
use crate::tour::progress;
use crate::tour::tables::Table;
use coffer_stdx::{Result, fsx};
use std::time::Duration;

/// Bytes of tablet files at scale factor 1, about.
const BYTES_AT_ONE: f64 = 160_000_000.0;
/// Text of one load, bytes.
const LOAD_BYTES: u64 = 512 << 20;

/// One contender.
#[derive(Debug, Default)]
struct Times {
    up: Vec<Duration>,
    down: Vec<Duration>,
}

/// One way of the two.
type Of = fn(&Times) -> &Vec<Duration>;

/// Load, measure, report.
pub(super) async fn measure(stage: &mut Stage<'_>) -> Result<()> {
    let tree = load(stage).await?;
    let mut ours = Times::default();
    let mut theirs: Vec<Times> = stage.peers.iter().map(|_| Times::default()).collect();
    for round in 1..=stage.args.rounds {
        let label = format!("big_{round}");
        ours.up.push(stage.backup(&label, Table::LineItem.name(), tree.files).await?);
        for (peer, times) in stage.peers.iter().zip(&mut theirs) {
            let folder = format!("{}-{round}", peer.name);
            times.up.push(stage.peer_up(peer, &tree, &folder, stage.args.streams).await?);
        }
        ours.down.push(stage.restore(&label, (Table::LineItem.name(), "big_back"), tree.files).await?);
        for (peer, times) in stage.peers.iter().zip(&mut theirs) {
            let folder = format!("{}-{round}", peer.name);
            times.down.push(stage.peer_down(peer, &tree, &folder, stage.args.streams).await?);
        }
        let columns: Vec<&str> = Table::LineItem.columns().iter().map(|(name, _)| *name).collect();
        stage.compare(Table::LineItem.name(), "big_back", &columns).await?;
        stage.drop_table("big_back").await?;
        stage.drop_snapshot(&label).await?;
    }
    report(stage, &ours, &theirs, &tree);
    fsx::remove(&tree.dir)?;
    stage.drop_table(Table::LineItem.name()).await
}

async fn load(stage: &mut Stage<'_>) -> Result<Tree> {
    let table = Table::LineItem;
    let scale = stage.args.big.0 as f64 / BYTES_AT_ONE;
    progress::chapter(&format!("load TPC-H {} scale factor {scale:.3}", table.name()));
    stage.session.query(&table.create_whole(DATABASE, stage.args.buckets, 1)).await?;
    let text = table.text_bytes(scale);
    let parts = u32::try_from(text.div_ceil(LOAD_BYTES)).unwrap_or(u32::MAX).max(1);
    let bar = progress::of_bytes(table.name(), text);
    for part in 1..=parts {
        let label = format!("big_{part}");
        stage.loader.load(Part { table, scale, part, parts, label: &label }, &bar).await?;
    }
    bar.finish_and_clear();
    let (data, dir) = (stage.data(), stage.dir("big"));
    let tree = Tree::link(&mut stage.session, &format!("{DATABASE}.{}", table.name()), &data, &dir).await?;
    screen::line(&format!(
        "table {}: {} tablets, {} files, {:.1} MB",
        table.name(),
        stage.args.buckets,
        tree.files,
        tree.bytes as f64 / 1e6
    ));
    Ok(tree)
}

fn report(stage: &mut Stage<'_>, ours: &Times, theirs: &[Times], tree: &Tree) {
    let size = (tree.bytes, tree.files);
    let names: Vec<String> = stage.peers.iter().map(|peer| peer.name.clone()).collect();
    let ways: [(&str, Of, &str); 2] = [("up", |times| &times.up, "BACKUP"), ("down", |times| &times.down, "RESTORE")];
    for (way, of, statement) in ways {
        stage.report.time(&format!("{statement}, big tablets"), of(ours), size);
        for (name, times) in names.iter().zip(theirs) {
            stage.report.time(&format!("{name}, {way}"), of(times), size);
        }
        let best = names.iter().zip(theirs).min_by_key(|(_, times)| median(of(times)));
        if let Some((name, times)) = best {
            let hdfs = stage.args.location.starts_with("hdfs://");
            let wanted = Wanted::AtLeast(if hdfs { 1.0 } else { 0.9 });
            let what = format!("{name} {way} (the fastest) / {statement} of big tablets");
            stage.report.ratio(&what, (of(times), of(ours)), wanted);
        }
    }
}
