//! What is ours of the replication, simulated: the bytes of the log, the state and its function, images, under a small Raft
//! on a network that loses, doubles and reorders, with crashes in the middle of writes. One seed is one run, always the same.
//!
//! In every run: no two frontends apply different entries at the same index; equal prefixes make equal states; what was
//! acknowledged is in every log in the end; snapshot plus log is the same as the log alone; the catalog keeps its own rules.

mod catalog;
mod disk;
mod node;
mod world;

use world::World;

/// Runs of the ordinary test; `COFFER_SIMULATION_SEEDS` asks for more.
const SEEDS: u64 = 300;

#[test]
fn every_run_keeps_every_promise() {
    let wanted = std::env::var("COFFER_SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let (mut acknowledged, mut crashes, mut snapshots) = (0, 0, 0);
    for seed in 0..wanted.unwrap_or(SEEDS) {
        let done = World::new(seed).run();
        acknowledged += done.acknowledged;
        crashes += done.crashes;
        snapshots += done.installed;
    }
    // The runs did what they are for.
    assert!(
        acknowledged > 5 * SEEDS && crashes > SEEDS && snapshots > SEEDS / 10,
        "{acknowledged} {crashes} {snapshots}"
    );
}

#[test]
fn a_seed_is_always_the_same_run() {
    assert_eq!(World::new(7).run(), World::new(7).run());
}
