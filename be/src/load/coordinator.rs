//! One load over all its backends: route rows to tablets, send every replica its rows, know what is durable where.
//!
//! A backend that fails does not fail the load while each tablet with rows keeps a majority of its replicas; the frontend
//! decides at the end by the lists this returns.

use crate::limits::ROUTE_BUFFER_BYTES;
use crate::load::LoadDeps;
use crate::load::batches::{batch_bytes, cut};
use crate::load::memory::Held;
use crate::load::targets::{LoadHead, Rows, Target};
use crate::tablet::rowset::from_arrow;
use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use coffer_proto::v1;
use coffer_stdx::{Error, Result};
use coffer_table::{Layout, Router, Schema};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Coordinates one load.
#[derive(Debug)]
pub struct Coordinator {
    deps: LoadDeps,
    head: Arc<LoadHead>,
    router: Router,
    replicas: HashMap<u64, Vec<u64>>,
    addresses: HashMap<u64, String>,
    targets: BTreeMap<u64, Target>,
    pending: Vec<RecordBatch>,
    pending_bytes: usize,
    /// Rows by tablet as (pending batch, row in it).
    routed: BTreeMap<u64, Vec<(usize, usize)>>,
    /// Rows sent so far by tablet.
    sent: BTreeMap<u64, u64>,
    held: Held,
}

/// What a load wrote.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// Each tablet with rows, and where they are durable.
    pub tablets: Vec<v1::TabletWritten>,
    /// Rows in all tablets, each once.
    pub rows: u64,
    /// Bytes of files, each replica's once.
    pub bytes: u64,
}

impl Coordinator {
    /// Begin a load as planned by the leading frontend; only into these partitions, if there are any.
    pub fn new(deps: &LoadDeps, plan: v1::LoadPlan, partitions: &[String]) -> Result<Coordinator> {
        let schema: Schema = parse(&plan.schema, "schema")?;
        let mut layout: Layout = parse(&plan.layout, "layout")?;
        restrict(&mut layout, partitions)?;
        let router = Router::new(&schema, &layout)?;
        let head = LoadHead {
            transaction_id: plan.transaction_id,
            table_id: plan.table_id,
            schema: Arc::new(schema),
            schema_json: plan.schema,
        };
        Ok(Coordinator {
            deps: deps.clone(),
            head: Arc::new(head),
            router,
            replicas: plan.tablets.into_iter().map(|tablet| (tablet.tablet_id, tablet.backend_ids)).collect(),
            addresses: plan.backends.into_iter().map(|backend| (backend.backend_id, backend.grpc)).collect(),
            targets: BTreeMap::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            routed: BTreeMap::new(),
            sent: BTreeMap::new(),
            held: deps.memory.hold(),
        })
    }

    /// The table's columns.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.head.schema
    }

    /// The columns that decide the partition.
    pub fn partition_columns(&self) -> &[usize] {
        self.router.partition_columns()
    }

    /// Take whole rows in table column order. Returns the rows that no partition takes; all others are on their way.
    pub async fn push(&mut self, batch: RecordBatch) -> Result<Vec<u32>> {
        let routed = self.router.route(&batch)?;
        let number = self.pending.len();
        for (tablet, rows) in routed.tablets {
            self.routed.entry(tablet).or_default().extend(rows.into_iter().map(|row| (number, row as usize)));
        }
        self.pending_bytes += batch_bytes(&batch);
        self.pending.push(batch);
        self.held.set(self.pending_bytes);
        if self.pending_bytes >= ROUTE_BUFFER_BYTES || self.held.is_over() {
            self.send().await?;
        }
        Ok(routed.unroutable)
    }

    async fn send(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let pending: Vec<&RecordBatch> = pending.iter().collect();
        for (tablet, rows) in std::mem::take(&mut self.routed) {
            let batch = interleave_record_batch(&pending, &rows).map_err(from_arrow)?;
            *self.sent.entry(tablet).or_default() += rows.len() as u64;
            for part in cut(batch) {
                self.send_rows(tablet, part).await?;
            }
        }
        self.pending_bytes = 0;
        self.held.set(0);
        Ok(())
    }

    async fn send_rows(&mut self, tablet: u64, batch: RecordBatch) -> Result<()> {
        let replicas = self
            .replicas
            .get(&tablet)
            .ok_or_else(|| Error::bug(format!("the plan of the load names no replicas of tablet {tablet}")))?;
        let rows = Rows::new(tablet, batch);
        let mut failed = Vec::new();
        for backend in replicas {
            let target = self.targets.entry(*backend).or_insert_with(|| {
                Target::open(&self.deps, &self.head, *backend, self.addresses.get(backend).cloned())
            });
            target.send(&rows).await;
            failed.extend(target.failed().map(|error| (*backend, error.clone())));
        }
        check_majority(tablet, replicas.len(), &failed)
    }

    /// All rows were given; returns what is durable where.
    pub async fn finish(mut self) -> Result<Written> {
        self.send().await?;
        let targets = std::mem::take(&mut self.targets);
        let finishing = targets.into_iter().map(|(backend, target)| async move { (backend, target.finish().await) });
        let outcomes = futures::future::join_all(finishing).await;
        let mut failures: HashMap<u64, Error> = HashMap::new();
        let mut found: HashMap<(u64, u64), v1::TabletWritten> = HashMap::new();
        let mut bytes = 0;
        for (backend, outcome) in outcomes {
            match outcome {
                Ok(tablets) => {
                    bytes += tablets.iter().map(|tablet| tablet.bytes).sum::<u64>();
                    found.extend(tablets.into_iter().map(|tablet| ((tablet.tablet_id, backend), tablet)));
                }
                Err(error) => {
                    tracing::warn!(transaction = self.head.transaction_id, backend, %error, "a replica missed a load");
                    failures.insert(backend, error);
                }
            }
        }
        self.collect(&found, &failures).map(|tablets| Written { rows: self.sent.values().sum(), tablets, bytes })
    }

    fn collect(
        &self,
        found: &HashMap<(u64, u64), v1::TabletWritten>,
        failures: &HashMap<u64, Error>,
    ) -> Result<Vec<v1::TabletWritten>> {
        let mut tablets = Vec::with_capacity(self.sent.len());
        for (tablet, rows) in &self.sent {
            let replicas = self.replicas.get(tablet).map(Vec::as_slice).unwrap_or_default();
            let mut written = v1::TabletWritten { tablet_id: *tablet, rows: *rows, ..Default::default() };
            let mut failed = Vec::new();
            for backend in replicas {
                match (found.get(&(*tablet, *backend)), failures.get(backend)) {
                    (Some(there), _) if there.rows == *rows => {
                        written.bytes = written.bytes.max(there.bytes);
                        written.backend_ids.push(*backend);
                    }
                    (_, Some(error)) => failed.push((*backend, error.clone())),
                    (there, None) => {
                        let count = there.map_or(0, |there| there.rows);
                        failed.push((*backend, Error::bug(format!("has {count} of {rows} rows"))));
                    }
                }
            }
            check_majority(*tablet, replicas.len(), &failed)?;
            tablets.push(written);
        }
        Ok(tablets)
    }
}

/// Leave only these partitions; none: all.
fn restrict(layout: &mut Layout, partitions: &[String]) -> Result<()> {
    for wanted in partitions {
        if !layout.partitions.iter().any(|found| found.name.eq_ignore_ascii_case(wanted)) {
            return Err(Error::invalid(format!("partitions: there is no partition '{wanted}'")));
        }
    }
    if !partitions.is_empty() {
        layout.partitions.retain(|found| partitions.iter().any(|wanted| found.name.eq_ignore_ascii_case(wanted)));
    }
    Ok(())
}

fn check_majority(tablet: u64, replicas: usize, failed: &[(u64, Error)]) -> Result<()> {
    let needed = replicas / 2 + 1;
    let written = replicas - failed.len();
    match failed.first() {
        Some((backend, error)) if written < needed => Err(Error::new(
            error.kind(),
            format!(
                "tablet {tablet}: {written} of {replicas} replicas can be written, {needed} are needed; backend {backend}: {error}"
            ),
        )),
        _ => Ok(()),
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::bug(format!("{what} in the plan of a load: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_kept_to_the_partitions_it_names() {
        let named =
            |name: &str| coffer_table::LayoutPartition { id: 1, name: name.to_owned(), range: None, tablets: vec![1] };
        let all = Layout {
            partition_columns: Vec::new(),
            bucket_columns: Vec::new(),
            partitions: vec![named("p1"), named("p2"), named("p3")],
        };
        let left = |wanted: &[&str]| {
            let (mut layout, wanted) = (all.clone(), wanted.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            restrict(&mut layout, &wanted).map(|()| layout.partitions.len())
        };
        assert_eq!((left(&[]), left(&["P2", "p3"])), (Ok(3), Ok(2)));
        assert!(left(&["p2", "p4"]).unwrap_err().message().contains("no partition 'p4'"));
    }

    #[test]
    fn a_majority_of_replicas_is_enough_and_necessary() {
        let down = |backend| (backend, Error::no_space("full"));
        assert!(check_majority(7, 1, &[]).is_ok());
        assert!(check_majority(7, 3, &[down(1)]).is_ok());
        let error = check_majority(7, 3, &[down(1), down(2)]).unwrap_err();
        assert_eq!(error.message(), "tablet 7: 1 of 3 replicas can be written, 2 are needed; backend 1: full");
        assert!(check_majority(7, 2, &[down(1)]).is_err());
    }
}
