//! The plan of BACKUP: every state, every fault.

use super::super::drill::{Faults, World};
use super::*;
use crate::catalog::job::BackupJob;

const STATES: [&str; 7] =
    ["PENDING", "SNAPSHOTING", "UPLOAD_SNAPSHOT", "UPLOADING", "SAVE_META", "UPLOAD_INFO", "FINISHED"];

fn job(world: &World) -> &BackupJob {
    &world.state.backups[&world.job]
}

/// The tablets with files that finished parts hold.
fn uploaded(world: &World) -> Vec<TabletId> {
    let uploads = world.begun.iter().filter(|task| matches!(task.key, Key::Upload(_)));
    let mut tablets: Vec<TabletId> = uploads.flat_map(|task| task.tablets.iter().map(|(tablet, _)| *tablet)).collect();
    tablets.sort_unstable();
    tablets.dedup();
    tablets
}

fn with_files(world: &World) -> Vec<TabletId> {
    tablets(job(world)).map(|(tablet, _)| tablet.id).collect()
}

#[test]
fn a_backup_goes_through_all_states_in_order() {
    let mut world = World::backup();
    let wanted = with_files(&world);
    assert_eq!(wanted.len(), 2, "the empty partition has no files");
    world.run();
    assert_eq!(world.seen, STATES);
    assert_eq!(uploaded(&world), wanted);
    assert_eq!((job(&world).files, job(&world).cleaned), (2, true));
    assert!(!world.begun.iter().any(|task| task.key == Key::Leftovers));
}

#[test]
fn repeating_every_action_changes_nothing() {
    let mut world = World::backup().with(Faults { repeat: true, ..Faults::default() });
    world.run();
    assert_eq!(world.seen, STATES);
}

#[test]
fn every_task_may_fail_once_and_every_leader_may_go() {
    let mut plain = World::backup();
    plain.run();
    for at in 0..plain.begun.len() {
        for error in [Error::unavailable("down"), Error::timeout("slow"), Error::cancelled("stray")] {
            let mut world = World::backup().with(Faults { fail: Some((at, error)), ..Faults::default() });
            let wanted = with_files(&world);
            world.run();
            assert_eq!(world.seen, STATES, "task {at}");
            assert_eq!(uploaded(&world), wanted);
        }
        let mut world = World::backup().with(Faults { new_leader: Some(at), ..Faults::default() });
        world.run();
        assert_eq!(world.seen, STATES, "leader after {at}");
    }
}

#[test]
fn a_permanent_error_ends_the_job_with_its_cause_and_leaves_nothing() {
    let mut plain = World::backup();
    plain.run();
    for (at, task) in plain.begun.iter().enumerate() {
        let fail = Some((at, Error::denied("not allowed")));
        let mut world = World::backup().with(Faults { fail, ..Faults::default() });
        world.run();
        match task.key {
            Key::Upload(_) | Key::Meta | Key::Info => {
                assert_eq!(world.cause().as_deref(), Some("not allowed"), "{task:?}");
                assert_eq!(world.seen.last(), Some(&"CANCELLED"));
                let last = world.begun.last().map(|task| task.key);
                assert_eq!(last, Some(Key::Leftovers), "released before the repository is cleaned");
            }
            // Another replica, or another try.
            _ => assert_eq!(world.seen.last(), Some(&"FINISHED"), "{task:?}"),
        }
    }
}

#[test]
fn a_replica_that_cannot_serve_is_replaced_and_the_last_one_names_the_tablet() {
    let mut world = World::backup();
    let (tablet, _) = tablets(job(&world)).next().unwrap();
    let (id, replicas) = (tablet.id, tablet.replicas.clone());
    world.broken.insert((id, replicas[(id.0 % 2) as usize]));
    world.run();
    assert_eq!(world.seen, STATES);
    let mut world = World::backup();
    world.broken.extend(replicas.iter().map(|backend| (id, *backend)));
    world.run();
    let wanted = format!("failed to choose replica to make snapshot for tablet {id}. visible version: 5");
    assert!(world.cause().unwrap().starts_with(&wanted), "{:?}", world.cause());
}

fn down(for_ms: u64) -> Health {
    Health::Down { for_ms, cause: "backend be1:9050 is not alive: refused".to_owned() }
}

#[test]
fn a_backend_that_is_away_is_passed_over_while_others_have_the_tablets() {
    for gone in [down(0), down(GIVE_UP_AFTER_MS), Health::Gone] {
        let mut world = World::backup();
        let backend = *world.health.keys().nth(1).unwrap();
        world.health.insert(backend, gone);
        world.run();
        assert_eq!(world.seen, STATES);
        assert!(world.begun.iter().all(|task| task.backend != Some(backend)));
    }
}

#[test]
fn tablets_without_a_living_replica_are_waited_for_and_then_fail_the_job() {
    let mut world = World::backup();
    let all: Vec<BackendId> = world.health.keys().copied().collect();
    world.health.extend(all.iter().map(|backend| (*backend, down(1_000))));
    world.run_until(|world| world.now_ms > GIVE_UP_AFTER_MS / 2);
    assert_eq!(world.name(), "SNAPSHOTING");
    world.health.extend(all.iter().map(|backend| (*backend, down(GIVE_UP_AFTER_MS))));
    world.run_until(|world| world.name() == "CANCELLED");
    assert!(world.cause().unwrap().contains("is not alive: refused"));
}

#[test]
fn a_backend_lost_after_its_snapshot_costs_only_a_new_part() {
    for (lost, moves) in [(down(MOVE_AFTER_MS), true), (Health::Gone, true), (down(1), false)] {
        let mut world = World::backup();
        let wanted = with_files(&world);
        world.run_until(|world| world.name() == "UPLOADING");
        let BackupState::Uploading { parts } = &job(&world).state else { panic!() };
        let (number, backend) = parts.iter().map(|(number, part)| (*number, part.backend)).next().unwrap();
        world.health.insert(backend, lost.clone());
        world.run_until(|world| world.name() != "UPLOADING" || world.now_ms > 60_000);
        assert_eq!(world.name() == "SAVE_META", moves, "{lost:?}");
        if moves {
            assert!(world.begun.iter().all(|task| task.key != Key::Upload(number)), "its number is not used again");
            assert_eq!(uploaded(&world), wanted);
        }
        world.health.insert(backend, Health::Up);
        world.run();
        assert_eq!(world.seen, STATES);
    }
}

#[test]
fn files_that_are_broken_on_one_replica_are_uploaded_from_another() {
    let mut world = World::backup();
    world.run_until(|world| world.name() == "UPLOADING");
    let BackupState::Uploading { parts } = &job(&world).state else { panic!() };
    let (number, part) = parts.iter().next().map(|(number, part)| (*number, part.clone())).unwrap();
    for _ in 0..2 {
        world.memory.started(&Task {
            key: Key::Upload(number),
            backend: Some(part.backend),
            tablets: part.tablets.iter().map(|tablet| (*tablet, 0)).collect(),
        });
        let outcome = Err(Error::corrupt("bad bytes"));
        world.memory.observe(super::super::action::Event { key: Key::Upload(number), now_ms: world.now_ms, outcome });
    }
    world.run();
    assert_eq!(world.seen, STATES);
    let moved = world.begun.iter().filter(|task| matches!(task.key, Key::Upload(_)));
    let moved: Vec<_> = moved.filter(|task| task.tablets.iter().any(|(id, _)| part.tablets.contains(id))).collect();
    assert!(moved.iter().all(|task| task.backend != Some(part.backend)), "{moved:?}");
}

#[test]
fn the_timeout_and_a_cancel_end_the_job_in_every_state() {
    for stop in &STATES[..5] {
        let mut world = World::backup();
        world.run_until(|world| world.name() == *stop);
        world.now_ms += 86_400_000;
        world.run();
        assert!(world.cause().unwrap().contains("did not end within 86400 s"), "{stop}");
        assert_eq!(world.begun.last().map(|task| task.key), Some(Key::Leftovers));
        assert!(world.cleaned());
    }
}

#[test]
fn a_commit_that_may_be_there_already_is_asked_for_once_before_time_runs_out() {
    let mut world = World::backup();
    world.run_until(|world| world.name() == "UPLOAD_INFO");
    world.now_ms += 86_400_000;
    assert!(world.plan().iter().all(|action| matches!(action, Action::Start(Task { key: Key::Info, .. }))));
    world.run();
    assert_eq!(world.name(), "FINISHED");

    let mut world = World::backup();
    world.run_until(|world| world.name() == "UPLOAD_INFO");
    world.now_ms += 86_400_000;
    world.memory.tasks.insert(Key::Info, crate::job::memory::TaskMemory { failures: 1, ..Default::default() });
    world.run();
    assert!(world.cause().unwrap().contains("did not end within 86400 s"));
}

#[test]
fn what_this_frontend_writes_is_awaited_before_its_leftovers_are_removed() {
    let mut world = World::backup();
    world.run_until(|world| world.name() == "UPLOAD_INFO");
    world.memory.started(&Task { key: Key::Info, backend: None, tablets: Vec::new() });
    let cancel = common::cancel(world.job, &Error::cancelled("user cancelled"), 9);
    let Some(Action::Propose(command)) = cancel.into_iter().next() else { panic!() };
    crate::meta::apply::apply(&mut world.state, &command);
    let actions = world.plan();
    assert!(!actions.iter().any(|action| matches!(action, Action::Start(Task { key: Key::Leftovers, .. }))));
    assert!(!actions.contains(&Action::Stop(Key::Info)));
}

#[test]
fn parts_are_bounded_and_numbered_from_one() {
    let tablets: Vec<TabletId> = (0..1_201).map(TabletId).collect();
    let parts = parts_of(&[(BackendId(1), tablets), (BackendId(2), vec![TabletId(9_999)]), (BackendId(3), Vec::new())]);
    let sizes: Vec<(u32, u64, usize)> =
        parts.iter().map(|(number, part)| (*number, part.backend.0, part.tablets.len())).collect();
    assert_eq!(sizes, [(1, 1, 500), (2, 1, 500), (3, 1, 201), (4, 2, 1)]);
}
