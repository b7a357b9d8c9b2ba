//! The plan of RESTORE: every state, every fault.

use super::super::drill::{Faults, World};
use super::super::facts::{GIVE_UP_AFTER_MS, Health, MOVE_AFTER_MS};
use super::super::placement::SCHEMA_BYTES;
use super::*;
use coffer_proto::ids::TabletId;

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
    let wanted: usize = Placement::of(job(&world)).by_backend.values().map(Vec::len).sum();
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

fn down(for_ms: u64) -> Health {
    Health::Down { for_ms, cause: "backend be1:9050 is not alive: refused".to_owned() }
}

/// Where the replicas of table `u` are.
fn homes(world: &World) -> Vec<Vec<BackendId>> {
    let tables = world.state.databases.values().flat_map(|db| db.tables.values());
    tables
        .filter(|table| table.name == "u")
        .flat_map(|t| t.tablets().map(|(_, tablet)| tablet.replicas.clone()))
        .collect()
}

#[test]
fn a_backend_that_is_away_for_a_moment_is_waited_for() {
    for stop in ["SNAPSHOTING", "DOWNLOADING", "COMMIT"] {
        let mut world = World::restore(false);
        world.run_until(|world| world.name() == stop);
        let backend = *world.health.keys().next().unwrap();
        world.health.insert(backend, down(1));
        world.run_until(|world| world.plan().iter().all(|action| matches!(action, Action::WakeAt(_))));
        assert_eq!(world.name(), stop, "all replicas must be complete");
        world.health.insert(backend, Health::Up);
        world.run();
        assert_eq!(world.seen, STATES);
        assert!(job(&world).moves.is_empty());
    }
}

#[test]
fn what_a_lost_backend_was_to_hold_goes_to_others() {
    for lost in [Health::Gone, down(MOVE_AFTER_MS)] {
        for stop in ["PENDING", "SNAPSHOTING", "DOWNLOADING"] {
            let mut world = World::restore(false);
            let backend = *world.health.keys().nth(1).unwrap();
            world.run_until(|world| world.name() == stop);
            world.health.insert(backend, lost.clone());
            let before = world.begun.len();
            world.run();
            assert_eq!(world.seen, STATES, "{lost:?} in {stop}");
            assert!(world.begun[before..].iter().all(|task| task.backend != Some(backend)));
            let homes = homes(&world);
            assert!(homes.iter().all(|replicas| replicas.len() == 2 && !replicas.contains(&backend)), "{homes:?}");
        }
    }
}

#[test]
fn a_second_loss_moves_what_had_moved_and_finished_downloads_stay_done() {
    let mut world = World::restore(false);
    let backends: Vec<BackendId> = world.health.keys().copied().collect();
    world.run_until(|world| world.begun.iter().any(|task| matches!(task.key, Key::Download(_))));
    world.run_until(|world| !world.memory.downloaded.is_empty());
    world.health.insert(backends[0], Health::Gone);
    world.run_until(|world| job(world).moves.len() == 1);
    world.health.insert(backends[0], Health::Up);
    world.health.insert(backends[1], Health::Gone);
    world.memory = Memory::default();
    world.run();
    assert_eq!(world.seen, STATES);
    assert!(homes(&world).iter().all(|replicas| !replicas.contains(&backends[1]) && replicas.len() == 2));
}

#[test]
fn a_backend_that_is_to_leave_takes_nothing_over() {
    for leaving in [false, true] {
        let mut world = World::restore(false);
        let backends: Vec<BackendId> = world.health.keys().copied().collect();
        for backend in &backends[1..] {
            world.state.backends.get_mut(backend).unwrap().decommissioned = leaving;
        }
        world.run_until(|world| world.name() == "DOWNLOADING");
        world.health.insert(backends[0], Health::Gone);
        world.run_until(|world| !job(world).moves.is_empty());
        assert_eq!(job(&world).moves[0].to.is_empty(), leaving);
        world.run();
        assert_eq!(world.seen, STATES);
    }
}

#[test]
fn without_another_backend_the_replicas_that_are_left_must_do_and_the_last_one_names_its_tablet() {
    for stop in ["DOWNLOADING", "COMMIT"] {
        let mut world = World::restore(false);
        let backends: Vec<BackendId> = world.health.keys().copied().collect();
        world.run_until(|world| world.name() == stop);
        world.health.insert(backends[0], down(GIVE_UP_AFTER_MS));
        world.health.insert(backends[2], down(GIVE_UP_AFTER_MS));
        world.run();
        assert_eq!(world.seen, STATES, "{stop}");
        assert!(homes(&world).iter().all(|replicas| replicas == &[backends[1]]), "{:?}", homes(&world));

        let mut world = World::restore(false);
        world.run_until(|world| world.name() == stop);
        let health: Vec<BackendId> = backends[..2].to_vec();
        world.health.extend(health.iter().map(|backend| (*backend, down(GIVE_UP_AFTER_MS))));
        world.run();
        if stop == "COMMIT" {
            let cause = world.cause().unwrap();
            assert!(cause.starts_with("no replica of tablet") && cause.contains("refused"), "{cause}");
            assert_eq!(names(&world), ["t"]);
        } else {
            assert_eq!(world.seen, STATES);
        }
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
fn a_cancel_in_every_state_before_the_switch_leaves_no_claim_and_the_old_table() {
    for over in [false, true] {
        for stop in &STATES[..5] {
            let mut world = World::restore(over);
            let before = world.state.databases.clone();
            world.run_until(|world| world.name() == *stop);
            let cancel = common::cancel(world.job, &Error::cancelled("user cancelled"), 9);
            let Some(Action::Propose(command)) = cancel.into_iter().next() else { panic!("{stop}") };
            crate::meta::apply::apply(&mut world.state, &command).into_result().unwrap();
            assert_eq!(world.name(), "CANCELLED");
            world.run();
            assert_eq!(world.cause().as_deref(), Some("user cancelled"), "{stop}");
            assert!(world.cleaned());
            let released = world.begun.iter().filter(|task| matches!(task.key, Key::Release(_))).count();
            assert_eq!(released, world.health.len(), "{stop}");
            assert_eq!(world.state.databases, before, "{stop}");
            let mut new = job(&world).targets.iter().flat_map(|target| target.table.tablets());
            let claimed = world.state.claimed_tablets();
            assert!(new.all(|(_, tablet)| !claimed.contains(&tablet.id)), "{stop}");
        }
    }
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
