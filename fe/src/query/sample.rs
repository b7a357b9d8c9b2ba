//! Tables in memory instead of on backends, for the tests of this folder.

use super::source::{Batches, Reported, Source};
use async_trait::async_trait;
use coffer_proto::ids::{BackendId, TabletId};
use coffer_proto::v1::ScanTicket;
use coffer_stdx::{Error, Result};
use datafusion::arrow::array::{AsArray, Int32Array, RecordBatch};
use datafusion::arrow::datatypes::Int32Type;
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// One column `n` of numbers.
pub(super) fn ints(values: &[i32]) -> RecordBatch {
    let array = Arc::new(Int32Array::from(values.to_vec())) as _;
    RecordBatch::try_from_iter_with_nullable([("n", array, true)]).unwrap()
}

/// The numbers of the first column.
pub(super) fn numbers(batches: &[RecordBatch]) -> Vec<i32> {
    let values = |batch: &RecordBatch| batch.column(0).as_primitive::<Int32Type>().values().to_vec();
    batches.iter().flat_map(values).collect()
}

/// Tablets that every backend holds, and what goes wrong where.
#[derive(Debug, Default)]
pub(super) struct Memory {
    tablets: HashMap<u64, Vec<RecordBatch>>,
    breaks: Mutex<HashMap<(String, u64), (usize, Error)>>,
    opened: Mutex<Vec<(String, u64)>>,
    layouts: Mutex<Vec<String>>,
}

impl Memory {
    /// Tablets of batches of numbers.
    pub(super) fn new(tablets: &[(u64, Vec<Vec<i32>>)]) -> Arc<Memory> {
        let tablets = tablets.iter().map(|(id, batches)| (*id, batches.iter().map(|batch| ints(batch)).collect()));
        Memory::of(tablets.collect())
    }

    /// Tablets of any batches.
    pub(super) fn of(tablets: HashMap<u64, Vec<RecordBatch>>) -> Arc<Memory> {
        Arc::new(Memory { tablets, ..Memory::default() })
    }

    /// Fail a tablet of a backend after some batches.
    pub(super) fn break_after(&self, address: &str, tablet: u64, batches: usize, error: Error) {
        self.breaks.lock().unwrap().insert((address.to_owned(), tablet), (batches, error));
    }

    /// One of the tablets.
    pub(super) fn any_tablet(&self) -> u64 {
        *self.tablets.keys().next().unwrap()
    }

    /// The layouts that were asked for, in order.
    pub(super) fn layouts(&self) -> Vec<String> {
        self.layouts.lock().unwrap().clone()
    }

    /// What was asked, in order.
    pub(super) fn opened(&self) -> Vec<(String, u64)> {
        self.opened.lock().unwrap().clone()
    }
}

#[async_trait]
impl Source for Memory {
    fn alive(&self, _: BackendId) -> bool {
        true
    }

    fn reported(&self, tablet: TabletId, _: BackendId) -> Option<Reported> {
        let batches = self.tablets.get(&tablet.0)?;
        Some(Reported { version: 2, rows: batches.iter().map(|batch| batch.num_rows() as u64).sum() })
    }

    async fn open(&self, address: &str, ticket: ScanTicket) -> Result<Batches> {
        let tablet = ticket.tablets[0].tablet_id;
        self.opened.lock().unwrap().push((address.to_owned(), tablet));
        self.layouts.lock().unwrap().push(ticket.layout.clone());
        let batches = self.tablets.get(&tablet).cloned().unwrap_or_default();
        let mut items: Vec<Result<RecordBatch>> = batches
            .iter()
            .map(|batch| {
                let wanted: Vec<usize> =
                    ticket.columns.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
                Ok(batch.project(&wanted).unwrap())
            })
            .collect();
        if let Some((count, error)) = self.breaks.lock().unwrap().get(&(address.to_owned(), tablet)).cloned() {
            items.truncate(count);
            items.push(Err(error));
        }
        Ok(futures::stream::iter(items).boxed())
    }
}
