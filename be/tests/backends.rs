//! Real backends on loopback, driven by a small frontend that lives here: registration, loads over HTTP and gRPC with two
//! replicas, publish, scans, restarts, and what happens when one backend is missing.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use coffer_proto::v1::tablets_client::TabletsClient;
use coffer_proto::v1::task::Work;
use coffer_proto::v1::{self, ingest_message};
use coffer_stdx::ErrorKind;
use futures::TryStreamExt;
use std::sync::Arc;
use support::{Backend, Frontend, WAIT, schema};

fn lines(from: i32, to: i32) -> String {
    (from..to).map(|id| format!("{id}|name {id}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_load_reaches_both_replicas_and_survives_a_restart() {
    let frontend = Frontend::start(&[1, 2]).await;
    let mut one = Backend::start(1).await;
    let two = Backend::start(2).await;
    frontend.greet(&[&one, &two]).await;
    let answer = one.load(&[("label", "first"), ("column_separator", "|")], lines(0, 5_000)).await;
    assert_eq!(answer["Status"], "Success", "{answer}");
    assert_eq!((&answer["NumberTotalRows"], &answer["NumberLoadedRows"]), (&5_000.into(), &5_000.into()));
    for backend in [&one, &two] {
        let mut rows = backend.scan(2, &["id", "name"], 0).await.unwrap();
        rows.sort();
        assert_eq!(rows.len(), 5_000);
        assert_eq!(rows[0], "0,name 0");
        assert_eq!(backend.scan(2, &[], 0).await.unwrap().len(), 5_000);
        assert_eq!(backend.scan(2, &["name"], 7).await.unwrap().len(), 7);
        assert_eq!(backend.scan(3, &["id"], 0).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!(one.scan(2, &["id"], 0).await.unwrap(), two.scan(2, &["id"], 0).await.unwrap());

    one.restart().await;
    frontend.greet(&[&one, &two]).await;
    assert_eq!(one.scan(2, &["id"], 0).await.unwrap().len(), 5_000);
    let again = one.load(&[("label", "first"), ("column_separator", "|")], lines(0, 5_000)).await;
    assert_eq!((&again["Status"], &again["ExistingJobStatus"]), (&"Label Already Exists".into(), &"FINISHED".into()));
    let report = frontend.report_of(1).await;
    assert_eq!(
        report.iter().map(|tablet| (tablet.version, tablet.rows)).fold((0, 0), |a, b| (b.0, a.1 + b.1)),
        (2, 5_000)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn filtered_rows_are_told_and_too_many_abort_the_load() {
    let frontend = Frontend::start(&[1]).await;
    let one = Backend::start(1).await;
    frontend.greet(&[&one]).await;
    let text = "1|a\nx|b\n-5|no partition\n3|c\n";
    let answer = one.load(&[("label", "l"), ("column_separator", "|")], text).await;
    assert_eq!((&answer["Status"], &answer["NumberFilteredRows"]), (&"Fail".into(), &2.into()), "{answer}");
    assert!(answer["Message"].as_str().unwrap().contains("too many filtered rows"), "{answer}");
    assert_eq!(frontend.aborted().len(), 1);
    let log = reqwest::get(answer["ErrorURL"].as_str().unwrap()).await.unwrap().text().await.unwrap();
    assert!(log.contains("src line [x|b]") && log.contains("no partition for this row: (id=-5)"), "{log}");

    let headers = [("label", "l"), ("column_separator", "|"), ("max_filter_ratio", "0.5")];
    let answer = one.load(&headers, text).await;
    assert_eq!((&answer["Status"], &answer["NumberLoadedRows"]), (&"Success".into(), &2.into()), "{answer}");
    assert_eq!(one.scan(2, &["id"], 0).await.unwrap().len(), 2);

    let refused = one.load(&[("where", "id > 1 or id < 0")], "1\ta\n").await;
    assert_eq!(refused["Status"], "Fail", "{refused}");
    let denied = one.put("wrong", &[], "1\ta\n").await;
    assert_eq!(denied.status(), 401);
    let (health, metrics) = (one.get("/api/health").await, one.get("/metrics").await);
    assert!(health.contains("ok") && metrics.contains("coffer_be_stream_load_rows_total 2"), "{health} {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_without_a_majority_fails_and_says_which_backend() {
    let frontend = Frontend::start(&[1, 2]).await;
    let one = Backend::start(1).await;
    let mut two = Backend::start(2).await;
    frontend.greet(&[&one, &two]).await;
    two.stop().await;
    let answer = one.load(&[("column_separator", "|")], lines(0, 10)).await;
    assert_eq!(answer["Status"], "Fail", "{answer}");
    let message = answer["Message"].as_str().unwrap();
    assert!(message.contains("1 of 2 replicas") && message.contains("backend 2"), "{message}");
    assert_eq!(frontend.aborted().len(), 1);
    frontend.task(1, Work::Discard(v1::DiscardLoads { transaction_ids: frontend.aborted() })).await.unwrap();
    assert!(one.staged().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_a_leader_says_so() {
    let one = Backend::start(1).await;
    let answer = one.load(&[], "1\ta\n").await;
    assert_eq!(answer["Status"], "Fail");
    assert!(answer["Message"].as_str().unwrap().contains("no leading frontend"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_is_routed_published_and_checked() {
    let frontend = Frontend::start(&[1, 2]).await;
    let one = Backend::start(1).await;
    let two = Backend::start(2).await;
    frontend.greet(&[&one, &two]).await;
    let rows = |ids: Vec<i32>, name: &str| {
        let names: Vec<&str> = ids.iter().map(|_| name).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(ids)), Arc::new(StringArray::from(names))];
        RecordBatch::try_new(schema().arrow(), columns).unwrap()
    };
    let ingest = async |batches: Vec<RecordBatch>| {
        let plan = frontend.plan();
        let transaction = plan.transaction_id;
        let mut messages = vec![v1::IngestMessage { kind: Some(ingest_message::Kind::Plan(plan)) }];
        messages.extend(batches.iter().map(|batch| {
            let bytes = coffer_be::load::batches::encode(batch).unwrap();
            v1::IngestMessage { kind: Some(ingest_message::Kind::Batch(bytes)) }
        }));
        let mut client = TabletsClient::new(coffer_proto::channel::connect(&two.grpc()).unwrap());
        client.ingest(tokio_stream::iter(messages)).await.map(|reply| (transaction, reply.into_inner()))
    };
    let (transaction, reply) = ingest(vec![rows(vec![1, 2, 3], "a"), rows(vec![4], "b")]).await.unwrap();
    assert_eq!(reply.rows, 4);
    assert!(reply.tablets.iter().all(|tablet| tablet.backend_ids.len() == 2), "{reply:?}");
    assert!(frontend.publish(transaction, 2).await);
    assert_eq!(one.scan(2, &["id"], 0).await.unwrap().len(), 4);

    let error = ingest(vec![rows(vec![-1], "a")]).await.unwrap_err();
    assert!(error.message().contains("no partition for this row: (id=-1)"), "{error}");
    let error = ingest(vec![rows(vec![1], "longer than the twenty bytes that fit")]).await.unwrap_err();
    assert!(error.message().contains("column 'name'"), "{error}");
    assert_eq!(two.staged(), Vec::<u64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_leader_and_a_foreign_cluster_are_refused_and_tasks_repeat() {
    let frontend = Frontend::start(&[1]).await;
    let one = Backend::start(1).await;
    frontend.greet(&[&one]).await;
    assert_eq!(frontend.try_greet(&one, "test", 0).await.unwrap_err().kind(), ErrorKind::NotLeader);
    assert_eq!(frontend.try_greet(&one, "other", 9).await.unwrap_err().kind(), ErrorKind::Conflict);
    let drop = || Work::Drop(v1::DropTablets { tablet_ids: vec![10, 11] });
    frontend.task(1, drop()).await.unwrap();
    let answer = one.load(&[("column_separator", "|")], lines(0, 10)).await;
    assert_eq!(answer["Status"], "Success", "{answer}");
    frontend.task(1, drop()).await.unwrap();
    assert_eq!(one.scan(2, &["id"], 0).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_larger_than_its_memory_works() {
    let frontend = Frontend::start(&[1, 2]).await;
    let one = Backend::start(1).await;
    let two = Backend::start(2).await;
    frontend.greet(&[&one, &two]).await;
    // 11 MB of rows at each backend, which may hold 5 MiB.
    let text = lines(0, 600_000);
    let answer = one.load(&[("column_separator", "|")], text).await;
    assert_eq!(answer["Status"], "Success", "{answer}");
    for backend in [&one, &two] {
        assert_eq!(backend.scan(2, &[], 0).await.unwrap().len(), 600_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scans_that_nobody_reads_yet_hold_up_no_other() {
    let frontend = Frontend::start(&[1]).await;
    let one = Backend::start(1).await;
    frontend.greet(&[&one]).await;
    let answer = one.load(&[("column_separator", "|")], lines(0, 600_000)).await;
    assert_eq!(answer["Status"], "Success", "{answer}");
    // As the other side of a join: each has more rows than its window takes, all together more than most connections do.
    let connection = one.scans();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut scan = one.open_scan(&connection, 2, &["id", "name"], 0).await.unwrap();
        let first = scan.try_next().await.unwrap().unwrap().num_rows();
        waiting.push((scan, first));
    }
    for (scan, first) in waiting.into_iter().rev() {
        let read = scan.try_fold(first, async |rows, batch| Ok(rows + batch.num_rows()));
        let rows = tokio::time::timeout(WAIT, read).await.expect("a scan that somebody reads goes on").unwrap();
        assert_eq!(rows, 600_000);
    }
}
