//! The rows of a tablet, in an order that does not depend on which replica is asked.
//!
//! AGGREGATE and UNIQUE KEY: all files are merged, in the order of the keys. DUPLICATE KEY: file after file. There the
//! order depends on how far the rowsets have been merged by compaction, so a read that is to go on where one of another
//! replica stopped names the ranges of versions that one had. A range that is one rowset here is read file after file; one
//! that is still several is merged, which is what compaction would have made of it.
//!
//! Only the columns that are wanted are read; for a merge also the key.

use crate::limits::MERGE_BYTES;
use crate::tablet::meta::{DataFile, Deletion, Rowset, TabletMeta};
use crate::tablet::rowset::from_arrow;
use crate::tablet::run::{Bounds, Origin, Run};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use coffer_stdx::Result;
use coffer_table::condition::Filter;
use coffer_table::merge::{Merge, Shape};
use std::collections::VecDeque;
use std::sync::Arc;

/// First and last version of a rowset.
pub(crate) type Range = (u64, u64);

/// Bytes of a batch of a read that merges nothing, about.
const BATCH_BYTES: usize = 8 << 20;

/// Whether a rowset may be part of a read that names these ranges.
pub(crate) fn within(ranges: &[Range], rowset: &Rowset) -> bool {
    ranges.iter().any(|(from, to)| *from <= rowset.from && rowset.to <= *to)
}

/// The ranges of the rowsets with files.
pub(crate) fn ranges(meta: &TabletMeta) -> Vec<Range> {
    let full = meta.rowsets.iter().filter(|rowset| !rowset.files.is_empty());
    full.map(|rowset| (rowset.from, rowset.to)).collect()
}

/// Whether the counts of the meta are those of the rows that a read gives.
pub(crate) fn counts_are_exact(meta: &TabletMeta) -> bool {
    let one_each = meta.schema.model.is_duplicate() || meta.files().count() <= 1;
    one_each && !meta.rowsets.iter().any(|rowset| meta.is_reduced(rowset))
}

/// Rows being read.
#[derive(Debug)]
pub(crate) struct RowReader {
    plan: ReadPlan,
    parts: VecDeque<Part>,
    open: Option<Open>,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub(crate) struct ReadPlan {
    origin: Origin,
    /// What comes out.
    wanted: SchemaRef,
    /// The columns of a merge, and where the wanted ones are among them.
    shape: Shape,
    positions: Vec<usize>,
    /// DELETEs by version.
    deletes: Vec<(u64, Arc<Filter>)>,
    /// Rows wanted at most.
    rows: Option<usize>,
}

/// A file, and the last version of its rowset.
type Piece = (DataFile, u64);

#[derive(Debug)]
enum Part {
    File(Piece),
    Merge(Vec<Piece>),
}

#[derive(Debug)]
enum Open {
    Run(Box<Run>),
    Merge(Box<Merge<Run>>),
}

impl ReadPlan {
    /// Columns of a tablet by position in its schema, in output order; may be none.
    pub(crate) fn new(origin: Origin, meta: &TabletMeta, columns: &[usize], wanted: SchemaRef) -> Result<ReadPlan> {
        let keys = meta.schema.key_count();
        let mut values: Vec<usize> = columns.iter().copied().filter(|column| *column >= keys).collect();
        values.sort_unstable();
        values.dedup();
        let place = |column: &usize| match values.binary_search(column) {
            Ok(at) if *column >= keys => keys + at,
            _ => *column,
        };
        let positions = columns.iter().map(place).collect();
        let compile = |delete: &Deletion| Ok((delete.version, Arc::new(delete.predicate.compile(&meta.schema)?)));
        let deletes = meta.deletes.iter().map(compile).collect::<Result<_>>()?;
        Ok(ReadPlan { origin, wanted, shape: Shape::new(&meta.schema, &values)?, positions, deletes, rows: None })
    }

    /// With a limit.
    pub(crate) fn limited(self, rows: Option<usize>) -> ReadPlan {
        ReadPlan { rows, ..self }
    }

    /// Read `meta`, which the pin of the origin holds, as if its rowsets were these ranges.
    pub(crate) fn read(self, meta: &TabletMeta, ranges: Option<&[Range]>) -> RowReader {
        let parts = parts(meta, ranges);
        RowReader { plan: self, parts, open: None }
    }

    /// Merge these rowsets for good: whole rows in the order of the keys, without what DELETEs among them take. Later
    /// DELETEs are left to reads, so that what comes out depends on its versions alone.
    pub(crate) fn merge(mut self, rowsets: &[Rowset]) -> Result<Merge<Run>> {
        let last = rowsets.last().map_or(0, |rowset| rowset.to);
        self.deletes.retain(|(version, _)| *version <= last);
        self.merged(rowsets.iter().flat_map(pieces).collect())
    }

    fn merged(&self, pieces: Vec<Piece>) -> Result<Merge<Run>> {
        let bounds = Bounds { rows: None, batch_bytes: MERGE_BYTES / pieces.len().max(1) };
        let runs = pieces.into_iter().map(|(file, last)| {
            let filters = self.deletes.iter().filter(|(version, _)| *version > last);
            let filters = filters.map(|(_, filter)| filter.clone()).collect();
            Run::new(&self.origin, file, self.shape.arrow().clone(), bounds).without(filters)
        });
        Merge::new(self.shape.clone(), runs)
    }

    /// Whether a file is wanted as it is. Rows with equal keys were made one when it was written.
    fn is_plain(&self, last: u64) -> bool {
        !self.wanted.fields().is_empty() && !self.deletes.iter().any(|(version, _)| *version > last)
    }

    fn open(&self, part: Part) -> Result<Open> {
        match part {
            Part::File((file, last)) if self.is_plain(last) => {
                let bounds = Bounds { rows: self.rows, batch_bytes: BATCH_BYTES };
                Ok(Open::Run(Box::new(Run::new(&self.origin, file, self.wanted.clone(), bounds))))
            }
            Part::File(piece) => self.merged(vec![piece]).map(|merge| Open::Merge(Box::new(merge))),
            Part::Merge(pieces) => self.merged(pieces).map(|merge| Open::Merge(Box::new(merge))),
        }
    }

    /// The wanted columns of a merged batch.
    fn project(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.positions.iter().map(|at| batch.column(*at).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.wanted.clone(), columns, &options).map_err(from_arrow)
    }
}

fn pieces(rowset: &Rowset) -> impl Iterator<Item = Piece> + use<> {
    let last = rowset.to;
    rowset.files.clone().into_iter().map(move |file| (file, last))
}

fn parts(meta: &TabletMeta, ranges: Option<&[Range]>) -> VecDeque<Part> {
    let files: Vec<Piece> = meta.rowsets.iter().flat_map(pieces).collect();
    if !meta.schema.model.is_duplicate() {
        return match files.len() {
            0 => VecDeque::new(),
            1 => files.into_iter().map(Part::File).collect(),
            _ => VecDeque::from([Part::Merge(files)]),
        };
    }
    let Some(ranges) = ranges else { return files.into_iter().map(Part::File).collect() };
    let mut parts = VecDeque::new();
    for (from, to) in ranges {
        let full = meta.rowsets.iter().filter(|rowset| !rowset.files.is_empty());
        let inside: Vec<&Rowset> = full.filter(|rowset| *from <= rowset.from && rowset.to <= *to).collect();
        let files = inside.iter().flat_map(|rowset| pieces(rowset));
        if inside.iter().any(|rowset| (rowset.from, rowset.to) == (*from, *to)) {
            parts.extend(files.map(Part::File));
        } else {
            parts.push_back(Part::Merge(files.collect()));
        }
    }
    parts
}

impl Iterator for RowReader {
    type Item = Result<RecordBatch>;

    /// Blocking.
    fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            let next = match &mut self.open {
                Some(Open::Run(run)) => run.next(),
                Some(Open::Merge(merge)) => merge.next().map(|batch| self.plan.project(&batch?)),
                None => {
                    let part = self.parts.pop_front()?;
                    match self.plan.open(part) {
                        Ok(open) => self.open = Some(open),
                        Err(error) => return Some(Err(error)),
                    }
                    continue;
                }
            };
            match next {
                Some(batch) => return Some(batch),
                None => self.open = None,
            }
        }
    }
}
