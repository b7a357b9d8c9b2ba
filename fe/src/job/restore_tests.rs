//! The plan of RESTORE: every state, every fault.

use super::super::drill::{Faults, World};
use super::*;

const STATES: [&str; 7] = ["PENDING", "SNAPSHOTING", "DOWNLOAD", "DOWNLOADING", "COMMIT", "COMMITTING", "FINISHED"];

fn job(world: &World) -> &RestoreJob {
    &world.state.restores[&world.job]
}

fn names(world: &World) -> Vec<String> {
    world.state.databases.values().flat_map(|db| db.tables.values()).map(|table| table.name.clone()).collect()
}

fn tablets_of(world: &World, name: &str) -> Vec<TabletId> {
    let tables = world.state.databases.values().flat_map(|db| db.tables.values());
    tables.filter(|table| table.name == name).flat_map(|table| table.tablets().map(|(_, tablet)| tablet.id)).collect()
}

#[test]
fn a_restore_goes_through_all_states_and_every_replica_downloads() {
    let mut world = World::restore(false);
    let wanted: usize = by_backend(job(&world)).values().map(Vec::len).sum();
    assert_eq!(wanted, 4, "two tablets with files, two replicas each");
    world.run_until(|world| world.name() == "COMMIT");
    assert_eq!(names(&world), ["t"], "nothing is there before the switch");
    world.run();
    assert_eq!(world.seen, STATES);
    assert_eq!(names(&world), ["t", "u"]);
    for key in [|key: &Key| matches!(key, Key::Download(_)), |key: &Key| matches!(key, Key::Activate(_))] {
        let done: usize = world.begun.iter().filter(|task| key(&task.key)).map(|task| task.tablets.len()).sum();
        assert_eq!(done, wanted);
    }
}

#[test]
fn an_existing_table_keeps_its_data_until_the_switch() {
    let mut world = World::restore(true);
    let before = tablets_of(&world, "t");
    world.run_until(|world| world.name() == "COMMITTING");
    let after = tablets_of(&world, "t");
    assert!(after.iter().all(|tablet| !before.contains(tablet)) && after.len() == before.len());
    world.run();
    assert_eq!((world.seen.as_slice(), names(&world)), (&STATES[..], vec!["t".to_owned()]));
}

#[test]
fn repeating_every_action_changes_nothing() {
    let mut world = World::restore(true).with(Faults { repeat: true, ..Faults::default() });
    world.run();
    assert_eq!(world.seen, STATES);
}

#[test]
fn every_task_may_fail_once_and_every_leader_may_go() {
    let mut plain = World::restore(false);
    plain.run();
    for at in 0..plain.begun.len() {
        let fail = Some((at, Error::unavailable("down")));
        let mut world = World::restore(false).with(Faults { fail, ..Faults::default() });
        world.run();
        assert_eq!(world.seen, STATES, "task {at}");
        let mut world = World::restore(false).with(Faults { new_leader: Some(at), ..Faults::default() });
        world.run();
        assert_eq!(world.seen, STATES, "leader after {at}");
    }
}

#[test]
fn a_permanent_error_ends_the_job_and_the_old_data_stays() {
    let mut plain = World::restore(true);
    plain.run();
    for (at, task) in plain.begun.iter().enumerate() {
        let fail = Some((at, Error::no_space("disk is full")));
        let mut world = World::restore(true).with(Faults { fail, ..Faults::default() });
        let before = tablets_of(&world, "t");
        world.run();
        if matches!(task.key, Key::Release(_)) {
            assert_eq!(world.seen.last(), Some(&"FINISHED"));
        } else {
            assert_eq!(world.cause().as_deref(), Some("disk is full"), "{task:?}");
            assert_eq!(tablets_of(&world, "t"), before);
        }
    }
}

#[test]
fn bytes_that_came_wrong_once_are_fetched_again() {
    let mut plain = World::restore(false);
    plain.run();
    let at = plain.begun.iter().position(|task| matches!(task.key, Key::Download(_))).unwrap();
    let fail = Some((at, Error::corrupt("bad bytes")));
    let mut world = World::restore(false).with(Faults { fail, ..Faults::default() });
    world.run();
    assert_eq!(world.seen, STATES);
}

#[test]
fn a_backend_that_is_away_is_waited_for_and_one_that_left_ends_the_job() {
    for stop in ["SNAPSHOTING", "DOWNLOADING", "COMMIT"] {
        let mut world = World::restore(false);
        world.run_until(|world| world.name() == stop);
        let backend = *world.health.keys().next().unwrap();
        world.health.insert(backend, Health::Down { for_ms: 1, cause: "refused".to_owned() });
        world.run_until(|world| world.plan().iter().all(|action| matches!(action, Action::WakeAt(_))));
        assert_eq!(world.name(), stop, "all replicas must be complete");
        world.health.insert(backend, Health::Up);
        world.run();
        assert_eq!(world.seen, STATES);

        let mut world = World::restore(false);
        world.run_until(|world| world.name() == stop);
        world.health.insert(backend, Health::Gone);
        world.run();
        assert!(world.cause().unwrap().contains("left the cluster"), "{:?}", world.cause());
        assert_eq!(names(&world), ["t"]);
    }
}

#[test]
fn the_timeout_ends_the_job_in_every_state_before_the_switch() {
    for stop in &STATES[..5] {
        let mut world = World::restore(false);
        world.run_until(|world| world.name() == *stop);
        world.now_ms += 86_400_000;
        world.run();
        assert!(world.cause().unwrap().contains("did not end within 86400 s"), "{stop}");
        assert_eq!((names(&world), world.cleaned()), (vec!["t".to_owned()], true));
    }
    let mut world = World::restore(false);
    world.run_until(|world| world.name() == "COMMITTING");
    world.now_ms += 86_400_000;
    world.run();
    assert_eq!(world.seen.last(), Some(&"FINISHED"));
}

#[test]
fn parts_are_bounded_by_tablets_and_by_schemas() {
    let world = World::restore(false);
    let mut job = job(&world).clone();
    let backend = *world.health.keys().next().unwrap();
    let partition = job.targets[0].table.partitions.values_mut().next().unwrap();
    let tablet = |id| crate::catalog::table::Tablet { id: TabletId(id), replicas: vec![backend] };
    partition.tablets = (0..1_001).map(tablet).collect();
    let sizes = |job: &RestoreJob| parts(job).iter().map(|part| part.tablets.len()).collect::<Vec<_>>();
    assert_eq!(sizes(&job), [500, 500, 1]);
    job.targets[0].table.schema.columns[0].comment = "x".repeat(SCHEMA_BYTES / 3);
    assert_eq!(sizes(&job)[..2], [2, 2]);
    job.targets[0].table.schema.columns[0].comment = "x".repeat(SCHEMA_BYTES * 2);
    assert_eq!(sizes(&job)[0], 1);
}
