//! The image byte by byte: golden bytes, a round trip, every flipped byte, every length.

use super::*;
use crate::catalog::cluster::{Access, User};
use crate::meta::apply::apply;
use crate::meta::command::{Command, NewBackup, NewPartition, NewRepository, NewTable, Outcome};
use coffer_proto::ids::{BackendId, RepositoryId, TableId};
use coffer_stdx::ErrorKind;
use coffer_table::{Bound, Column, ColumnType, KeyRange, Scalar, Schema};
use openraft::{BasicNode, CommittedLeaderId, LogId, Membership, StoredMembership};
use std::collections::{BTreeMap, BTreeSet};

fn created(state: &mut State, command: &Command) -> u64 {
    match apply(state, command) {
        Outcome::Created(id) => id,
        other => panic!("{other:?}"),
    }
}

fn table(db: DbId, backend: BackendId) -> NewTable {
    let column = Column {
        name: "k".to_owned(),
        kind: ColumnType::Int,
        nullable: false,
        default: None,
        key: true,
        comment: String::new(),
        aggregate: None,
    };
    let bound = |n| vec![Bound::Value(Scalar::Int(n))];
    let partition = NewPartition {
        name: "p".to_owned(),
        range: Some(KeyRange::new(bound(0), bound(10))),
        replication_num: 1,
        placement: vec![vec![backend]; 2],
    };
    NewTable {
        db,
        name: "t".to_owned(),
        schema: Schema { columns: vec![column], model: coffer_table::Model::Duplicate },
        partition_columns: vec!["k".to_owned()],
        partitioning: Default::default(),
        bucket_columns: vec!["k".to_owned()],
        properties: BTreeMap::from([("replication_num".to_owned(), "1".to_owned())]),
        comment: "c".to_owned(),
        partitions: vec![partition],
        now_ms: 5,
    }
}

/// A state with one of everything.
fn sample() -> State {
    let mut state = State::default();
    apply(&mut state, &Command::Bootstrap { cluster_id: "c".to_owned() });
    apply(&mut state, &Command::AddBackends { addresses: vec![("b".to_owned(), 9050)], now_ms: 1 });
    let backend = *state.backends.keys().next().unwrap();
    apply(&mut state, &Command::AddBrokers { name: "br".to_owned(), addresses: vec!["h:8000".to_owned()] });
    let repository = RepositoryId(created(
        &mut state,
        &Command::CreateRepository(NewRepository {
            name: "r".to_owned(),
            remote_name: "r".to_owned(),
            read_only: false,
            access: Access::Broker("br".to_owned()),
            location: "file:///r".to_owned(),
            properties: BTreeMap::from([("s3.secret_key".to_owned(), "hidden".to_owned())]),
            now_ms: 3,
            limits: None,
        }),
    ));
    apply(&mut state, &Command::SetUser { name: "u".to_owned(), user: User { admin: true, ..User::default() } });
    let db = DbId(created(&mut state, &Command::CreateDatabase { name: "d".to_owned() }));
    created(&mut state, &Command::CreateDatabase { name: "empty".to_owned() });
    let table = TableId(created(&mut state, &Command::CreateTable(table(db, backend))));
    let begin = Command::BeginTransaction { label: "l".to_owned(), db, table, now_ms: 10, deadline_ms: 1_000 };
    created(&mut state, &begin);
    let backup = NewBackup {
        db,
        label: "s".to_owned(),
        repository,
        objects: Vec::new(),
        timestamp: "2024-01-01-00-00-00".to_owned(),
        timeout_s: 600,
        pack_prefix: "ab".to_owned(),
        now_ms: 100,
        metadata_only: false,
        warnings: Vec::new(),
    };
    created(&mut state, &Command::CreateBackup(backup));
    state
}

fn meta() -> SnapshotMeta {
    let last = Some(LogId::new(CommittedLeaderId::new(2, 1), 40));
    let nodes = BTreeMap::from([(1, BasicNode::new("127.0.0.1:9010"))]);
    let members = Membership::new(vec![BTreeSet::from([1])], nodes);
    SnapshotMeta {
        last_log_id: last,
        last_membership: StoredMembership::new(last, members),
        snapshot_id: "40-x".to_owned(),
    }
}

fn image() -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = write(&mut bytes, &meta(), &sample()).unwrap();
    assert_eq!(length, bytes.len() as u64);
    bytes
}

fn read_back(bytes: &[u8]) -> Result<(SnapshotMeta, State)> {
    read(bytes, Path::new("/meta/snapshot"))
}

#[test]
fn an_image_reads_back() {
    let bytes = image();
    assert_eq!(read_back(&bytes).unwrap(), (meta(), sample()));
    assert_eq!(read_meta(&bytes[..], Path::new("s")).unwrap(), meta());
    // The same state, the same bytes: on every frontend.
    assert_eq!(image(), bytes);
}

#[test]
fn the_recycle_bin_and_views_are_part_of_it() {
    use crate::meta::definition::{Definition, NewView};
    let mut state = sample();
    let (db, table) = {
        let database = state.find_database("d").unwrap();
        (database.id, database.tables.keys().next().copied().unwrap())
    };
    let view = crate::catalog::view::View {
        id: TableId(0),
        name: "v".to_owned(),
        columns: Vec::new(),
        query: "SELECT 1".to_owned(),
        comment: String::new(),
        created_ms: 1,
    };
    created(&mut state, &Command::Define(Definition::CreateView(NewView { db, view, replace: false })));
    apply(&mut state, &Command::Define(Definition::RecycleTable { db, table, now_ms: 9 }));
    assert_eq!(state.bin.len(), 1);
    let mut bytes = Vec::new();
    write(&mut bytes, &meta(), &state).unwrap();
    assert_eq!(read_back(&bytes).unwrap().1, state);
}

#[test]
fn images_of_version_2_are_read() {
    // Written when the format was made. New fields of the state need defaults, so that this stays readable.
    let golden = include_bytes!("golden/image-v2.bin");
    let (found, state) = read_back(golden).unwrap();
    assert_eq!(found, meta());
    let sample = sample();
    assert_eq!((&state.databases, &state.transactions), (&sample.databases, &sample.transactions));
    assert_eq!((&state.backups, &state.repositories), (&sample.backups, &sample.repositories));
    assert_eq!((state.next_id, &state.backends, &state.brokers), (sample.next_id, &sample.backends, &sample.brokers));
}

#[test]
fn no_flipped_byte_and_no_missing_byte_passes() {
    let bytes = image();
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x20;
        let error = read_back(&broken).unwrap_err();
        assert!(error.message().contains("/meta/snapshot"), "byte {at}: {error}");
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotSupported), "byte {at}: {error}");
    }
    for length in 0..bytes.len() {
        assert_eq!(read_back(&bytes[..length]).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(read_back(&longer).unwrap_err().message().contains("follows its end"));
}

#[test]
fn a_section_that_was_taken_out_or_put_elsewhere_is_noticed() {
    let bytes = image();
    let mut starts = Vec::new();
    let mut at = MAGIC.len() + 4;
    while at < bytes.len() {
        starts.push(at);
        at += SECTION_HEAD_BYTES + u32_at(&bytes, at + 1) as usize;
    }
    for pair in starts.windows(2) {
        let without = [&bytes[..pair[0]], &bytes[pair[1]..]].concat();
        assert_eq!(read_back(&without).unwrap_err().kind(), ErrorKind::Corrupt);
        let twice = [&bytes[..pair[1]], &bytes[pair[0]..]].concat();
        assert_eq!(read_back(&twice).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
#[ignore = "writes the golden file anew, for a new version of the format"]
fn write_golden() {
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/raft/golden/image-v2.bin"), image()).unwrap();
}
