//! The log on a real directory: restarts, torn tails, damage, rotation, purges.

use super::super::types::{Entry, LogId, TypeConfig, Vote};
use super::*;
use crate::error::ErrorKind;
use crate::meta::command::Command;
use openraft::storage::RaftLogStorageExt;
use openraft::{CommittedLeaderId, EntryPayload};

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn entry(index: u64, name: &str) -> Entry {
    let command = Command::CreateDatabase { name: name.to_owned() };
    Entry { log_id: id(index), payload: EntryPayload::Normal(command) }
}

/// The writer of a log that was dropped lets go of the directory a moment later.
async fn open(dir: &Path) -> Result<LogStore> {
    loop {
        match LogStore::open(dir) {
            Err(error) if error.kind() == ErrorKind::Conflict => tokio::task::yield_now().await,
            other => return other,
        }
    }
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    log.blocking_append(entries).await.unwrap();
}

async fn all(log: &mut LogStore) -> Vec<Entry> {
    log.try_get_log_entries(..).await.unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_restart_reads_everything_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    assert_eq!(LogStore::open(dir.path()).err().unwrap().kind(), ErrorKind::Conflict);
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    append(&mut log, (0..10).map(|n| entry(n, "a")).collect()).await;
    log.truncate(id(8)).await.unwrap();
    append(&mut log, vec![entry(8, "b")]).await;
    log.save_committed(Some(id(7))).await.unwrap();
    log.purge(id(2)).await.unwrap();
    let before = all(&mut log).await;
    assert_eq!(before.len(), 6);
    assert_eq!(before[5], entry(8, "b"));
    drop(log);
    let mut log = open(dir.path()).await.unwrap();
    assert_eq!(all(&mut log).await, before);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 1)));
    assert_eq!((log.purged(), log.read_committed().await.unwrap()), (Some(id(2)), Some(id(7))));
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(2)), Some(id(8))));
    assert_eq!(log.limited_get_log_entries(3, 9).await.unwrap().len(), 6);
    // Nothing but the log file itself is left in the directory.
    assert_eq!(files(dir.path()).len(), 1);
}

#[tokio::test]
async fn whatever_a_crash_cuts_off_what_was_acknowledged_before_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    append(&mut log, vec![entry(0, "a")]).await;
    append(&mut log, vec![entry(1, "b")]).await;
    drop(log);
    drop(open(dir.path()).await.unwrap());
    let path = files(dir.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let head = frame::read_head(&whole, "f").unwrap();
    let scanned = frame::scan(&whole, head, true).unwrap();
    let (last_start, end) = (scanned.records[1].offset as usize - frame::MARK_BYTES, scanned.end as usize);
    // The second batch is torn at any byte; the first was acknowledged. (Bytes of the acknowledgement of the second prove
    // the second, so they are not there.)
    for length in (last_start..end - frame::MARK_BYTES).step_by(7) {
        std::fs::write(&path, [&whole[..length], &[0; 100]].concat()).unwrap();
        let mut log = open(dir.path()).await.unwrap();
        assert_eq!(all(&mut log).await, [entry(0, "a")], "{length}");
        append(&mut log, vec![entry(1, "c"), entry(2, "d")]).await;
        drop(log);
        let mut log = open(dir.path()).await.unwrap();
        assert_eq!(all(&mut log).await, [entry(0, "a"), entry(1, "c"), entry(2, "d")]);
        drop(log);
        drop(open(dir.path()).await.unwrap());
    }
    // A byte flipped in what was acknowledged, in any record: named with file and place, and nothing is changed.
    for record in &scanned.records {
        let mut broken = whole.clone();
        broken[record.offset as usize + 10] ^= 1;
        std::fs::write(&path, &broken).unwrap();
        let error = open(dir.path()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(path.to_str().unwrap()) && error.message().contains("at byte "), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), broken);
    }
}

#[tokio::test]
async fn damage_that_appears_while_it_runs_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    append(&mut log, vec![entry(0, "a"), entry(1, "b")]).await;
    drop(log);
    let mut log = open(dir.path()).await.unwrap();
    let path = files(dir.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|three| three == b"\"b\"").unwrap();
    bytes[at + 1] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let stopped = log.try_get_log_entries(..).await.unwrap_err().to_string();
    assert!(stopped.contains(path.to_str().unwrap()) && stopped.contains("checksum"), "{stopped}");
}

#[tokio::test]
async fn files_are_begun_when_long_and_removed_when_purged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    log.save_vote(&Vote::new(9, 1)).await.unwrap();
    let large = "x".repeat((limits::LOG_SEGMENT_BYTES / 2) as usize);
    for index in 0..5 {
        append(&mut log, vec![entry(index, &large)]).await;
    }
    assert_eq!(files(dir.path()).len(), 3);
    // Far more than is kept in memory: read from the files.
    let read = log.try_get_log_entries(..).await.unwrap();
    assert!(read.iter().zip(0..).all(|(read, index)| *read == entry(index, &large)) && read.len() == 5);
    assert_eq!(log.limited_get_log_entries(0, 5).await.unwrap().len(), 1);
    // No file is gone before nothing in it is needed.
    log.purge(id(0)).await.unwrap();
    assert_eq!(files(dir.path()).len(), 3);
    log.purge(id(3)).await.unwrap();
    assert_eq!(files(dir.path()).len(), 1);
    drop(log);
    // The vote was written into a file that is gone, and into the one that is left.
    let mut log = open(dir.path()).await.unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(9, 1)));
    assert_eq!((log.purged(), all(&mut log).await.len()), (Some(id(3)), 1));
    append(&mut log, vec![entry(5, "y")]).await;
    drop(log);
    drop(open(dir.path()).await.unwrap());
    // What a crash left half-made is removed; a file that is missing, or in the place of another, is named.
    let tmp = dir.path().join("0000000000000099.log.tmp");
    std::fs::write(&tmp, "x").unwrap();
    drop(open(dir.path()).await.unwrap());
    assert!(!tmp.exists());
    let path = files(dir.path()).remove(0);
    let other = dir.path().join("00000000000000ff.log");
    std::fs::rename(&path, &other).unwrap();
    assert!(open(dir.path()).await.err().unwrap().message().contains("name of another file"));
}

/// Killed between the sync of a batch and its acknowledgement, when the file is long enough for another one to begin.
#[tokio::test]
async fn a_file_whose_last_batch_was_never_acknowledged_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    let large = "x".repeat(limits::LOG_SEGMENT_BYTES as usize);
    append(&mut log, vec![entry(0, &large)]).await;
    drop(log);
    drop(open(dir.path()).await.unwrap());
    let first = files(dir.path()).remove(0);
    let bytes = std::fs::read(&first).unwrap();
    let end = frame::scan(&bytes, frame::read_head(&bytes, "f").unwrap(), true).unwrap().end as usize;
    std::fs::write(&first, &bytes[..end - frame::MARK_BYTES]).unwrap();
    let mut log = open(dir.path()).await.unwrap();
    append(&mut log, vec![entry(1, "y")]).await;
    drop(log);
    let mut log = open(dir.path()).await.unwrap();
    assert_eq!(all(&mut log).await, [entry(0, &large), entry(1, "y")]);
    assert_eq!(files(dir.path()).len(), 2);
    drop(log);
    drop(open(dir.path()).await.unwrap());
    // Without that batch it is another matter.
    std::fs::write(&first, &bytes[..frame::HEAD_BYTES]).unwrap();
    let error = open(dir.path()).await.err().unwrap();
    assert!(error.message().contains("missing or was cut short"), "{error}");
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    let large = "x".repeat(limits::LOG_SEGMENT_BYTES as usize);
    for index in 0..3 {
        append(&mut log, vec![entry(index, &large)]).await;
    }
    drop(log);
    drop(open(dir.path()).await.unwrap());
    let paths = files(dir.path());
    assert_eq!(paths.len(), 3);
    std::fs::rename(&paths[1], dir.path().join("aside")).unwrap();
    let error = open(dir.path()).await.err().unwrap();
    assert!(error.message().contains("the file before it is missing or"), "{error}");
    std::fs::rename(dir.path().join("aside"), &paths[1]).unwrap();
    std::fs::remove_file(&paths[0]).unwrap();
    // Without the first file the rest is whole, but the entries do not begin where they should.
    let error = open(dir.path()).await.err().unwrap();
    assert!(error.message().contains("entry 0 is missing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_together_share_an_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await.unwrap();
    let jobs: Vec<_> =
        (0..64_u64).map(|index| (Arc::new(entry(index, "a")), json(&entry(index, "a")).unwrap())).collect();
    let mut answers = Vec::new();
    for (entry, json) in jobs {
        log.shared.book().append(Arc::clone(&entry), json.len());
        let (answer, answered) = oneshot::channel();
        let job = Job { work: Work::Append(vec![(entry, json)]), done: Done::Answer(answer) };
        log.send(job).await.unwrap();
        answers.push(answered);
    }
    for answered in answers {
        answered.await.unwrap().unwrap();
    }
    let fsyncs = log.counters().fsyncs.load(Ordering::Relaxed);
    assert!((1..64).contains(&fsyncs), "{fsyncs}");
    assert_eq!(log.counters().entries.load(Ordering::Relaxed), 64);
    let read = <LogStore as RaftLogReader<TypeConfig>>::try_get_log_entries(&mut log, 10..20).await.unwrap();
    assert_eq!(read.len(), 10);
}
