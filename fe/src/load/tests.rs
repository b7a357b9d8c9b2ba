//! Transactions against a state in memory, without backends.

use super::sample::table;
use super::*;
use crate::config::Live;
use crate::meta::command::{NewPartition, NewTable};
use crate::metrics::Metrics;
use coffer_proto::v1::{FinishLoadRequest, TabletWritten};
use coffer_table::{Column, ColumnType, Schema};
use std::collections::BTreeMap;
use tokio::net::TcpListener;

pub(super) async fn loads(publish_timeout_ms: u64) -> (Loads, Meta) {
    let meta = Meta::in_memory();
    let addresses = (1..4).map(|port| ("b".to_owned(), port)).collect();
    meta.propose(Command::AddBackends { addresses, now_ms: 0 }).await.unwrap();
    let replicas: Vec<BackendId> = meta.view(|state| state.backends.keys().copied().collect());
    let Outcome::Created(db) = meta.propose(Command::CreateDatabase { name: "d".to_owned() }).await.unwrap() else {
        panic!("no database")
    };
    let column = Column {
        name: "id".to_owned(),
        kind: ColumnType::Int,
        nullable: true,
        default: None,
        key: true,
        comment: String::new(),
        aggregate: None,
    };
    let partition =
        NewPartition { name: "t".to_owned(), range: None, replication_num: 3, placement: vec![replicas; 2] };
    let new = NewTable {
        db: DbId(db),
        name: "t".to_owned(),
        schema: Schema { columns: vec![column], model: coffer_table::Model::Duplicate },
        partition_columns: Vec::new(),
        partitioning: Default::default(),
        bucket_columns: vec!["id".to_owned()],
        properties: BTreeMap::new(),
        comment: String::new(),
        partitions: vec![partition],
        now_ms: 0,
    };
    meta.propose(Command::CreateTable(new)).await.unwrap();
    let publish_timeout_ms = Live::new(publish_timeout_ms);
    let config = Arc::new(Config { publish_timeout_ms, ..Config::default() });
    let backends = Backends::disconnected(Arc::clone(&config));
    let front = front(&meta);
    (Loads::new(meta.clone(), backends, config, front, Shutdown::new()), meta)
}

fn front(meta: &Meta) -> (Login, Audit) {
    (Login::new(meta.clone(), Metrics::new().unwrap(), Audit::off()), Audit::off())
}

pub(super) fn begin(label: &str) -> Begin {
    Begin { database: "d".to_owned(), table: "t".to_owned(), label: label.to_owned(), timeout_s: 0 }
}

/// All rows of the first tablet, on so many of its replicas.
pub(super) fn finish(plan: &v1::LoadPlan, replicas: usize) -> FinishLoadRequest {
    let tablet = &plan.tablets[0];
    let written = TabletWritten {
        tablet_id: tablet.tablet_id,
        rows: 3,
        bytes: 9,
        backend_ids: tablet.backend_ids[..replicas].to_vec(),
    };
    FinishLoadRequest {
        transaction_id: plan.transaction_id,
        tablets: vec![written],
        rows: 3,
        bytes: 9,
        two_phase: false,
    }
}

pub(super) fn state_of(meta: &Meta, plan: &v1::LoadPlan) -> &'static str {
    meta.view(|state| state.transactions[&TransactionId(plan.transaction_id)].state.name())
}

#[tokio::test]
async fn a_plan_says_where_rows_go_and_a_label_loads_once() {
    let (loads, _) = loads(1).await;
    let plan = loads.begin(&begin("l")).await.unwrap();
    assert_eq!(plan.tablets.len(), 2);
    assert!(plan.tablets.iter().all(|tablet| tablet.backend_ids.len() == 3));
    assert_eq!(plan.timeout_s, 600);
    assert!(serde_json::from_str::<Schema>(&plan.schema).is_ok());
    assert!(serde_json::from_str::<coffer_table::Layout>(&plan.layout).is_ok());
    let again = loads.begin(&begin("l")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert!(again.message().contains("status [PREPARE]"), "{again}");
    loads.abort(TransactionId(plan.transaction_id), "changed my mind").await.unwrap();
    assert!(loads.begin(&begin("l")).await.is_ok(), "an aborted load gives its label back");
}

#[tokio::test]
async fn what_cannot_begin_says_why() {
    let (loads, _) = loads(1).await;
    let wrong = |change: fn(&mut Begin)| {
        let mut begin = begin("l");
        change(&mut begin);
        begin
    };
    assert_eq!(loads.begin(&wrong(|b| b.label = "a b".to_owned())).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(loads.begin(&wrong(|b| b.table = "x".to_owned())).await.unwrap_err().number(), 1051);
    assert_eq!(loads.begin(&wrong(|b| b.database = "x".to_owned())).await.unwrap_err().number(), 1049);
}

#[tokio::test]
async fn a_majority_commits_and_becomes_visible_when_published() {
    let (loads, meta) = loads(60_000).await;
    let plan = loads.begin(&begin("l")).await.unwrap();
    let request = finish(&plan, 2);
    let waiting = tokio::spawn({
        let (loads, request) = (loads.clone(), request.clone());
        async move { loads.finish(&request).await }
    });
    let mut applied = meta.applied();
    while state_of(&meta, &plan) != "COMMITTED" {
        applied.changed().await.unwrap();
    }
    let id = TransactionId(plan.transaction_id);
    let tablets = meta.view(|state| state.transactions[&id].tablets.clone());
    assert_eq!(tablets, [coffer_proto::ids::TabletId(plan.tablets[0].tablet_id)]);
    meta.propose(Command::MakeVisible { transaction: id, now_ms: 1 }).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(true));
    assert_eq!(loads.finish(&request).await, Ok(true), "asked again after a lost answer");
}

#[tokio::test]
async fn a_minority_aborts_and_a_slow_publish_says_so() {
    let (loads, meta) = loads(1).await;
    let plan = loads.begin(&begin("minority")).await.unwrap();
    assert_eq!(loads.finish(&finish(&plan, 1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(state_of(&meta, &plan), "ABORTED");
    assert_eq!(loads.finish(&finish(&plan, 3)).await.unwrap_err().kind(), ErrorKind::Conflict);
    let plan = loads.begin(&begin("slow")).await.unwrap();
    assert_eq!(loads.finish(&finish(&plan, 3)).await, Ok(false));
    assert_eq!(state_of(&meta, &plan), "COMMITTED");
    let refused = loads.abort(TransactionId(plan.transaction_id), "too late").await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_load_without_rows_is_visible_at_once_and_changes_no_version() {
    let (loads, meta) = loads(60_000).await;
    let plan = loads.begin(&begin("empty")).await.unwrap();
    let request = FinishLoadRequest { transaction_id: plan.transaction_id, ..FinishLoadRequest::default() };
    assert_eq!(loads.finish(&request).await, Ok(true));
    let versions = meta.view(|state| {
        let (_, table) = state.table_by_id(state.find_database("d")?.id, TableId(plan.table_id))?;
        Some(table.partitions.values().map(|partition| partition.committed_version).collect::<Vec<_>>())
    });
    assert_eq!(versions, Some(vec![1]));
}

#[tokio::test]
async fn loads_need_a_login_and_the_right_to_load() {
    let (loads, meta) = loads(1).await;
    let check = async |user: &str, password: &str| loads.check_login((user, password, "h"), ("d", "t")).await;
    assert_eq!(check("root", "").await.unwrap().account.as_deref(), Some("root"));
    assert!(check("root", "x").await.unwrap_err().message().contains("using password: YES"));
    assert_eq!(check("nobody", "").await.unwrap_err().number(), 1045);
    // As older versions wrote users.
    let old = "{\"SetUser\":{\"name\":\"u\",\"user\":{\"sha1\":null,\"sha256\":null,\"admin\":false}}}";
    meta.propose(serde_json::from_str(old).unwrap()).await.unwrap();
    let error = check("u", "").await.unwrap_err();
    assert_eq!((error.number(), error.message()), (1142, "LOAD command denied to user 'u'@'h' for table 't'"));
    let to = crate::account::Grantee::User(crate::account::AccountName::from_key("u"));
    let scope = crate::account::Scope::Database("d".to_owned());
    let grant = crate::meta::command::AccountChange::Grant { to, scope, privileges: [Privilege::Load].into() };
    meta.propose(Command::Account(grant)).await.unwrap();
    assert!(check("u", "").await.is_ok());
}

#[tokio::test]
async fn without_backends_nobody_takes_a_load() {
    let config = Arc::new(Config::default());
    let backends = Backends::disconnected(Arc::clone(&config));
    let meta = Meta::in_memory();
    let front = front(&meta);
    let loads = Loads::new(meta, backends, config, front, Shutdown::new());
    assert_eq!(loads.next_backend(|backend| &backend.http).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(holders(&table(&[(1, &[10])], &[1, 2])).len(), 2);
}

#[tokio::test]
async fn rows_go_to_a_backend_that_takes_connections() {
    let (open, closed) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = |backend_id: u64, door: &TcpListener| v1::BackendAddress {
        backend_id,
        http: door.local_addr().unwrap().to_string(),
        ..Default::default()
    };
    let (dead, alive) = (address(1, &closed), address(2, &open));
    drop(closed);
    let found = first_open(vec![dead.clone(), alive], |backend| &backend.http).await.unwrap();
    assert_eq!(found.backend_id, 2);
    let error = first_open(vec![dead.clone()], |backend| &backend.http).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains(&dead.http), "{error}");
}
