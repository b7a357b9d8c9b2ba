//! `plan(job, memory, facts) -> actions` of BACKUP. Pure: no I/O, no clock, no randomness.
//!
//! PENDING -> SNAPSHOTING -> UPLOAD_SNAPSHOT -> UPLOADING -> SAVE_META -> UPLOAD_INFO -> FINISHED, or CANCELLED from any
//! of them. A plan either proposes one change or asks for tasks; asking for what runs already is left out. So planning
//! after every event is enough, and planning twice is harmless.
//!
//! Only tablets with a version above 1 have files. Each is linked on one replica, on the backend that has the least to do
//! so far. When a replica cannot serve, or its backend stays away, the next one takes over:
//! while snapshots are made by making it there, while uploads run by moving the tablet to a new part. When no replica is
//! left, the job fails and names the tablet.
//!
//! A crash of the leader loses only memory: the next one links again (which finds the links of before) and goes on with
//! the parts that are not recorded as done.

use super::action::{Action, Key, Task};
use super::common;
use super::facts::{Facts, GIVE_UP_AFTER_MS, Health, MOVE_AFTER_MS};
use super::memory::{Memory, Readiness};
use crate::catalog::job::{BackupJob, BackupState, ManifestPart, UploadPart};
use crate::catalog::table::{FIRST_VERSION, Tablet};
use crate::meta::command::{Command, Counts};
use coffer_proto::ids::{BackendId, TabletId};
use coffer_stdx::Error;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Tablets in one snapshot task.
const SNAPSHOT_BATCH: usize = 5_000;
/// Tablets in one upload task, and so in one manifest part.
pub const UPLOAD_BATCH: usize = 500;

/// What to do next.
pub fn plan(job: &BackupJob, memory: &Memory, facts: &Facts) -> Vec<Action> {
    if job.state.is_over() {
        return clean_up(job, memory, facts);
    }
    let deadline = job.times.created.saturating_add(job.timeout_s.saturating_mul(1_000));
    // The commit may be in the repository already, written before a restart: it is asked for once before time runs out.
    let late = facts.now_ms >= deadline;
    let committing = matches!(job.state, BackupState::UploadInfo { .. }) && !memory.has_failed(Key::Info);
    if late && !committing {
        let text = format!("backup job with label {} did not end within {} s", job.label, job.timeout_s);
        return common::cancel(job.id, &Error::timeout(text), facts.now_ms);
    }
    if let Some(error) = &memory.fatal {
        return common::cancel(job.id, error, facts.now_ms);
    }
    let mut actions = match &job.state {
        BackupState::Pending => advance(job, facts, BackupState::Snapshoting, None),
        BackupState::Snapshoting => make_snapshots(job, memory, facts),
        BackupState::UploadSnapshot { holders } => {
            advance(job, facts, BackupState::Uploading { parts: parts_of(holders) }, None)
        }
        BackupState::Uploading { parts } => upload(job, parts, memory, facts),
        BackupState::SaveMeta { manifests } => match &memory.meta {
            Some(meta) => {
                let to = BackupState::UploadInfo { manifests: manifests.clone(), meta: meta.clone() };
                advance(job, facts, to, None)
            }
            None => do_here(Key::Meta, memory, facts),
        },
        BackupState::UploadInfo { .. } if memory.done.contains(&Key::Info) => {
            advance(job, facts, BackupState::Finished, None)
        }
        BackupState::UploadInfo { .. } => do_here(Key::Info, memory, facts),
        BackupState::Finished | BackupState::Cancelled => Vec::new(),
    };
    if !late && !matches!(actions.first(), Some(Action::Propose(_))) {
        actions.push(Action::WakeAt(deadline));
    }
    for action in &mut actions {
        if let Action::Propose(Command::AdvanceBackup { passed_over, .. }) = action {
            *passed_over = memory.passed_over();
        }
    }
    actions
}

fn advance(job: &BackupJob, facts: &Facts, to: BackupState, counts: Option<Counts>) -> Vec<Action> {
    let from = job.state.name().to_owned();
    vec![Action::Propose(Command::AdvanceBackup {
        job: job.id,
        from,
        to,
        counts,
        now_ms: facts.now_ms,
        passed_over: Vec::new(),
    })]
}

fn do_here(key: Key, memory: &Memory, facts: &Facts) -> Vec<Action> {
    let mut actions = Vec::new();
    common::start(memory, facts, Task { key, backend: None, tablets: Vec::new() }, &mut actions);
    actions
}

/// The tablets whose files are backed up, with their pinned versions.
fn tablets(job: &BackupJob) -> impl Iterator<Item = (&Tablet, u64)> {
    let all = job.tables.iter().filter(|_| !job.metadata_only).flat_map(|table| table.tablets());
    all.filter(|(partition, _)| partition.visible_version > FIRST_VERSION)
        .map(|(partition, tablet)| (tablet, partition.visible_version))
}

/// Tablets per backend, as far as chosen.
type Load = BTreeMap<BackendId, usize>;

/// Which replica serves a tablet.
enum Choice {
    /// This one, now.
    Take(BackendId),
    /// None yet; look again then.
    Wait(u64),
    /// None any more.
    Never(Error),
}

/// Of the replicas that can serve, the one on the backend with the least to do; among equals the turn goes round with the
/// tablet's id.
fn choose(tablet: &Tablet, version: u64, memory: &Memory, facts: &Facts, load: &Load) -> Choice {
    let count = tablet.replicas.len().max(1);
    let first = (tablet.id.0 % count as u64) as usize;
    let mut best: Option<(usize, BackendId)> = None;
    let mut later: Option<u64> = None;
    let mut wait = |at: u64| later = Some(later.map_or(at, |other| other.min(at)));
    let mut cause = "it has no replica".to_owned();
    for backend in tablet.replicas.iter().cycle().skip(first).take(tablet.replicas.len()) {
        if let Some(error) = memory.bad.get(&(tablet.id, *backend)) {
            error.message().clone_into(&mut cause);
            continue;
        }
        match facts.health(*backend) {
            Health::Up => match memory.readiness(Key::Snapshot(*backend), facts.now_ms) {
                Readiness::After(at) => wait(at),
                Readiness::Ready | Readiness::Running | Readiness::Done => {
                    let busy = load.get(backend).copied().unwrap_or(0);
                    if best.is_none_or(|(least, _)| busy < least) {
                        best = Some((busy, *backend));
                    }
                }
            },
            Health::Down { for_ms, .. } if *for_ms < GIVE_UP_AFTER_MS => {
                wait(facts.now_ms + (GIVE_UP_AFTER_MS - for_ms));
            }
            Health::Down { cause: why, .. } => cause.clone_from(why),
            Health::Gone => cause = format!("backend {backend} left the cluster"),
        }
    }
    match (best, later) {
        (Some((_, backend)), _) => Choice::Take(backend),
        (None, Some(at)) => Choice::Wait(at),
        (None, None) => Choice::Never(Error::unavailable(format!(
            "failed to choose replica to make snapshot for tablet {}. visible version: {version}: {cause}",
            tablet.id
        ))),
    }
}

/// Tablets in snapshot tasks that run.
fn being_made(memory: &Memory) -> HashSet<TabletId> {
    let running = memory.tasks.iter().filter(|(key, task)| matches!(key, Key::Snapshot(_)) && task.running);
    running.flat_map(|(_, task)| task.tablets.iter().copied()).collect()
}

/// One snapshot task per backend at a time.
fn start_snapshots(
    wanted: BTreeMap<BackendId, Vec<(TabletId, u64)>>,
    memory: &Memory,
    facts: &Facts,
    actions: &mut Vec<Action>,
) {
    for (backend, mut tablets) in wanted {
        tablets.truncate(SNAPSHOT_BATCH);
        let task = Task { key: Key::Snapshot(backend), backend: Some(backend), tablets };
        common::start(memory, facts, task, actions);
    }
}

fn make_snapshots(job: &BackupJob, memory: &Memory, facts: &Facts) -> Vec<Action> {
    let busy = being_made(memory);
    let mut wanted: BTreeMap<BackendId, Vec<(TabletId, u64)>> = BTreeMap::new();
    let mut holders: BTreeMap<BackendId, Vec<TabletId>> = BTreeMap::new();
    let mut wake = None;
    let mut load = Load::new();
    for backend in memory.made.values() {
        *load.entry(*backend).or_default() += 1;
    }
    for (tablet, version) in tablets(job) {
        if let Some(backend) = memory.made.get(&tablet.id) {
            holders.entry(*backend).or_default().push(tablet.id);
            continue;
        }
        if busy.contains(&tablet.id) {
            continue;
        }
        match choose(tablet, version, memory, facts, &load) {
            Choice::Take(backend) => {
                *load.entry(backend).or_default() += 1;
                wanted.entry(backend).or_default().push((tablet.id, version));
            }
            Choice::Wait(at) => wake = Some(wake.map_or(at, |other: u64| other.min(at))),
            Choice::Never(error) => return common::cancel(job.id, &error, facts.now_ms),
        }
    }
    if wanted.is_empty() && busy.is_empty() && wake.is_none() {
        let to = BackupState::UploadSnapshot { holders: holders.into_iter().collect() };
        return advance(job, facts, to, Some(memory.counts));
    }
    let mut actions: Vec<Action> = wake.map(Action::WakeAt).into_iter().collect();
    start_snapshots(wanted, memory, facts, &mut actions);
    actions
}

/// Bounded parts, numbered from 1, in the order of backends.
fn parts_of(holders: &[(BackendId, Vec<TabletId>)]) -> BTreeMap<u32, UploadPart> {
    let batches = holders.iter().flat_map(|(backend, tablets)| {
        tablets.chunks(UPLOAD_BATCH).map(|batch| UploadPart { backend: *backend, tablets: batch.to_vec(), done: None })
    });
    (1..).zip(batches).collect()
}

fn upload(job: &BackupJob, parts: &BTreeMap<u32, UploadPart>, memory: &Memory, facts: &Facts) -> Vec<Action> {
    let record = |(part, manifest): (&u32, &ManifestPart)| {
        let open = parts.get(part).is_some_and(|part| part.done.is_none());
        let command = Command::UploadDone { job: job.id, part: *part, manifest: manifest.clone() };
        open.then_some(Action::Propose(command))
    };
    let recorded: Vec<Action> = memory.uploaded.iter().filter_map(record).collect();
    if !recorded.is_empty() {
        return recorded;
    }
    if parts.values().all(|part| part.done.is_some()) {
        let manifests = parts.values().filter_map(|part| part.done.clone()).collect();
        return advance(job, facts, BackupState::SaveMeta { manifests }, None);
    }
    match moved(job, parts, memory, facts) {
        Ok(Some(parts)) => advance(job, facts, BackupState::Uploading { parts }, None),
        Ok(None) => run_uploads(job, parts, memory, facts),
        Err(error) => common::cancel(job.id, &error, facts.now_ms),
    }
}

/// Whether a part must go elsewhere: its backend left, stays away, or cannot serve one of the tablets.
fn must_move(part: &UploadPart, memory: &Memory, facts: &Facts) -> bool {
    match facts.health(part.backend) {
        Health::Gone => true,
        Health::Down { for_ms, .. } => *for_ms >= MOVE_AFTER_MS,
        Health::Up if memory.bad.is_empty() => false,
        Health::Up => part.tablets.iter().any(|tablet| memory.bad.contains_key(&(*tablet, part.backend))),
    }
}

/// The parts with the tablets of lost backends on other replicas, or `None` when nothing can or must move.
fn moved(
    job: &BackupJob,
    parts: &BTreeMap<u32, UploadPart>,
    memory: &Memory,
    facts: &Facts,
) -> Result<Option<BTreeMap<u32, UploadPart>>, Error> {
    let lost: Vec<u32> = parts
        .iter()
        .filter(|(_, part)| part.done.is_none() && must_move(part, memory, facts))
        .map(|(number, _)| *number)
        .collect();
    if lost.is_empty() {
        return Ok(None);
    }
    let all: BTreeMap<TabletId, (&Tablet, u64)> = tablets(job).map(|(t, version)| (t.id, (t, version))).collect();
    let mut stay = parts.clone();
    let mut load = Load::new();
    let mut homes: BTreeMap<BackendId, Vec<TabletId>> = BTreeMap::new();
    for number in lost {
        let Some(part) = stay.get_mut(&number) else { continue };
        let (mut go, mut wait) = (Vec::new(), Vec::new());
        for tablet in &part.tablets {
            let Some((known, version)) = all.get(tablet) else { continue };
            match choose(known, *version, memory, facts, &load) {
                Choice::Take(backend) if backend != part.backend => {
                    *load.entry(backend).or_default() += 1;
                    go.push((*tablet, backend));
                }
                Choice::Take(_) | Choice::Wait(_) => wait.push(*tablet),
                Choice::Never(error) => return Err(error),
            }
        }
        if go.is_empty() {
            continue;
        }
        // A part with other tablets is another part: its number belongs to what was asked under it.
        if let Some(UploadPart { backend, .. }) = stay.remove(&number) {
            homes.entry(backend).or_default().extend(wait);
        }
        for (tablet, backend) in go {
            homes.entry(backend).or_default().push(tablet);
        }
    }
    if homes.is_empty() {
        return Ok(None);
    }
    let next = parts.keys().last().map_or(1, |last| last + 1);
    let homes: Vec<(BackendId, Vec<TabletId>)> = homes.into_iter().collect();
    stay.extend(parts_of(&homes).into_iter().map(|(number, part)| (next + number - 1, part)));
    Ok(Some(stay))
}

fn run_uploads(job: &BackupJob, parts: &BTreeMap<u32, UploadPart>, memory: &Memory, facts: &Facts) -> Vec<Action> {
    let mut actions = Vec::new();
    for (key, task) in &memory.tasks {
        if let Key::Upload(number) = key
            && task.running
            && parts.get(number).is_none_or(|part| part.done.is_some())
        {
            actions.push(Action::Stop(*key));
        }
    }
    let open = parts.iter().filter(|(_, part)| part.done.is_none()).map(|(number, part)| (*number, part));
    let unmade = |part: &UploadPart| part.tablets.iter().any(|id| memory.made.get(id) != Some(&part.backend));
    let busy = being_made(memory);
    let mut missing: BTreeMap<BackendId, Vec<TabletId>> = BTreeMap::new();
    let mut slots: BTreeMap<BackendId, usize> = BTreeMap::new();
    for (number, part) in open {
        match facts.health(part.backend) {
            Health::Up => {}
            Health::Down { for_ms, .. } => {
                let limit = if *for_ms < MOVE_AFTER_MS { MOVE_AFTER_MS } else { GIVE_UP_AFTER_MS };
                actions.push(Action::WakeAt(facts.now_ms + limit.saturating_sub(*for_ms)));
                continue;
            }
            Health::Gone => continue,
        }
        let key = Key::Upload(number);
        let slots = slots
            .entry(part.backend)
            .or_insert_with(|| common::TASKS_PER_BACKEND.saturating_sub(memory.running_on(part.backend)));
        match memory.readiness(key, facts.now_ms) {
            Readiness::Running | Readiness::Done => continue,
            Readiness::After(at) => {
                actions.push(Action::WakeAt(at));
                continue;
            }
            Readiness::Ready if *slots == 0 => continue,
            Readiness::Ready => *slots -= 1,
        }
        if unmade(part) {
            // A tablet that this replica cannot give waits for another replica, see `moved`.
            let ours = part.tablets.iter().filter(|id| memory.made.get(id) != Some(&part.backend));
            let ours = ours.filter(|id| !busy.contains(id) && !memory.bad.contains_key(&(**id, part.backend)));
            actions.push(Action::WakeAt(facts.now_ms + MOVE_AFTER_MS));
            missing.entry(part.backend).or_default().extend(ours);
            continue;
        }
        let tablets = part.tablets.iter().map(|tablet| (*tablet, 0)).collect();
        actions.push(Action::Start(Task { key, backend: Some(part.backend), tablets }));
    }
    missing.retain(|_, tablets| !tablets.is_empty());
    if missing.is_empty() {
        return actions;
    }
    let versions: HashMap<TabletId, u64> = tablets(job).map(|(tablet, version)| (tablet.id, version)).collect();
    let versioned = |ids: Vec<TabletId>| ids.into_iter().filter_map(|id| Some((id, *versions.get(&id)?))).collect();
    let wanted = missing.into_iter().map(|(backend, ids)| (backend, versioned(ids))).collect();
    start_snapshots(wanted, memory, facts, &mut actions);
    actions
}

/// After the end: tasks stop, backends let go, a cancelled job's objects leave the repository; then the record says so.
fn clean_up(job: &BackupJob, memory: &Memory, facts: &Facts) -> Vec<Action> {
    let mut actions = Vec::new();
    if job.cleaned {
        return actions;
    }
    let clear = common::stop_others(memory, &mut actions);
    let released = common::release(memory, facts, &mut actions);
    // Uploads have stopped where the job was released; only then is everything of it there to be removed.
    let mut removed = job.state == BackupState::Finished;
    if !removed && clear && released {
        removed = memory.done.contains(&Key::Leftovers);
        let task = Task { key: Key::Leftovers, backend: None, tablets: Vec::new() };
        common::start(memory, facts, task, &mut actions);
    }
    if clear && released && removed {
        return vec![Action::Propose(Command::JobCleaned { job: job.id })];
    }
    actions
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
