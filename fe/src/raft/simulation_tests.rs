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

/// Runs of the ordinary test; `COFFER_SIMULATION_SEEDS=5000..9000` asks for others.
const SEEDS: std::ops::Range<u64> = 0..1_000;
const THREADS: u64 = 2;

fn wanted() -> std::ops::Range<u64> {
    let Ok(wanted) = std::env::var("COFFER_SIMULATION_SEEDS") else { return SEEDS };
    let (from, to) = wanted.split_once("..").expect("COFFER_SIMULATION_SEEDS is FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

/// Acknowledged changes, crashes, installed snapshots.
fn run(seeds: impl Iterator<Item = u64>) -> [u64; 3] {
    seeds.fold([0; 3], |sum, seed| {
        let done = std::panic::catch_unwind(|| World::new(seed).run());
        let done = done.unwrap_or_else(|_| panic!("it was seed {seed}"));
        [sum[0] + done.acknowledged, sum[1] + done.crashes, sum[2] + done.installed]
    })
}

#[test]
fn every_run_keeps_every_promise() {
    let seeds = wanted();
    let sums: Vec<[u64; 3]> = std::thread::scope(|scope| {
        let part = |nth| seeds.clone().filter(move |seed| seed % THREADS == nth);
        let threads: Vec<_> = (0..THREADS)
            .map(|nth| {
                let mine = part(nth);
                scope.spawn(move || run(mine))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // The runs did what they are for.
    let [acknowledged, crashes, snapshots] = [0, 1, 2].map(|at| sums.iter().map(|sum| sum[at]).sum::<u64>());
    let runs = seeds.end - seeds.start;
    assert!(acknowledged > 5 * runs && crashes > runs && snapshots > runs / 10, "{acknowledged} {crashes} {snapshots}");
}

#[test]
fn a_seed_is_always_the_same_run() {
    assert_eq!(World::new(7).run(), World::new(7).run());
}
