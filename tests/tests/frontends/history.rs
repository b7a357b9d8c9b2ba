//! Several clients create, drop and look up the same names through all frontends while the leader is killed, frozen and
//! cut off; what they were told must be one history ([`crate::linear`]).

use crate::faults::{Fault, replaced};
use crate::linear::{Act, MAX_OPS, Op, is_linearizable};
use crate::proxy::Network;
use crate::soak;
use coffer_tests::cluster::READY_LIMIT;
use coffer_tests::{Cluster, Outcome, Sql, eventually};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

const NAMES: u64 = 6;
const CLIENTS: u64 = 4;
/// Operations that make a history worth a look.
const ENOUGH: usize = 40;
const EXISTS: u16 = 1007;
const MISSING: u16 = 1008;

/// Operations by name.
type History = BTreeMap<u64, Vec<Op>>;

/// One client, at one frontend first and at the others when that is gone.
async fn client(
    number: u64,
    addresses: String,
    begun: Instant,
    (stop, done): (Arc<AtomicBool>, Arc<AtomicUsize>),
) -> History {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut sql = Sql::new(&addresses);
    let mut history = History::new();
    while !stop.load(Ordering::Relaxed) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let name = random % NAMES;
        let start = begun.elapsed().as_micros() as u64;
        let act = match random / NAMES % 3 {
            0 => told(sql.query(&format!("CREATE DATABASE n{name}")).await, EXISTS)
                .map_or(Act::MaybeCreate, |done| Act::Create { done }),
            1 => told(sql.query(&format!("DROP DATABASE n{name}")).await, MISSING)
                .map_or(Act::MaybeDrop, |done| Act::Drop { done }),
            _ => match sql.table("SHOW DATABASES").await {
                Ok(rows) => Act::Look { there: rows.contains(&vec![format!("n{name}")]) },
                Err(_) => {
                    sql = Sql::new(&addresses);
                    continue;
                }
            },
        };
        let end = begun.elapsed().as_micros() as u64;
        done.fetch_add(1, Ordering::Relaxed);
        let of_name = history.entry(name).or_default();
        if of_name.len() < MAX_OPS / CLIENTS as usize {
            of_name.push(Op { act, start, end });
        } else if matches!(act, Act::Look { .. }) {
            // Enough of this name: what is only looked up may be left out.
            tokio::task::yield_now().await;
        } else {
            // A change that is left out would make the rest wrong.
            return history;
        }
        if matches!(act, Act::MaybeCreate | Act::MaybeDrop) {
            // A new session: in the old one the same statement would be the same request.
            sql = Sql::new(&addresses);
        }
    }
    history
}

/// True: done; false: refused because of the state of the name; `None`: not known.
fn told<T>(answer: anyhow::Result<T>, refusal: u16) -> Option<bool> {
    match answer {
        Ok(_) => Some(true),
        Err(error) => match error.downcast_ref::<mysql_async::Error>() {
            Some(mysql_async::Error::Server(error)) if error.code == refusal => Some(false),
            _ => None,
        },
    }
}

async fn under(fault: Fault, frontends: usize) -> Outcome {
    let network = Network::new(frontends).await?;
    let cluster = network.start(Cluster::builder().frontends(frontends).backends(1).brokers(0)).await?;
    let addresses: Vec<String> = cluster.of("fe-").map(|node| node.mysql.clone()).collect();
    let (begun, stop, done) = (Instant::now(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut own = addresses.clone();
            own.rotate_left(number as usize % addresses.len());
            tokio::spawn(client(number + 1, own.join(","), begun, (stop.clone(), done.clone())))
        })
        .collect();
    for _ in 0..if soak() { 10 } else { 1 } {
        let leader = cluster.leader().await?;
        fault.strike(leader, &network)?;
        replaced(&cluster, leader).await?;
        fault.undo(&cluster, leader, &network).await?;
    }
    eventually("the clients have done enough", READY_LIMIT, || async {
        let done = done.load(Ordering::Relaxed);
        anyhow::ensure!(done >= ENOUGH, "{done} operations");
        Ok(())
    })
    .await?;
    stop.store(true, Ordering::Relaxed);
    let mut all = History::new();
    for client in clients {
        for (name, ops) in client.await? {
            all.entry(name).or_default().extend(ops);
        }
    }
    let count: usize = all.values().map(Vec::len).sum();
    anyhow::ensure!(count >= ENOUGH / 2, "only {count} operations: {all:?}");
    for (name, ops) in &mut all {
        ops.sort_by_key(|op| op.start);
        anyhow::ensure!(is_linearizable(ops), "n{name}: {ops:#?}");
    }
    Ok(())
}

/// With so many frontends; the long version with three and with five.
async fn with(fault: Fault, frontends: usize) -> Outcome {
    if soak() {
        under(fault, 3).await?;
        return under(fault, 5).await;
    }
    under(fault, frontends).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_history_while_the_leader_is_killed() -> Outcome {
    with(Fault::Kill, 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_history_while_the_leader_is_frozen() -> Outcome {
    with(Fault::Pause, 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_history_while_the_leader_is_cut_off() -> Outcome {
    with(Fault::Cut, 5).await
}
