//! The merge of sorted runs of rows: one row after the other by key, rows with equal keys by run and by their place in it.
//! Under AGGREGATE and UNIQUE KEY rows with equal keys become one.
//!
//! Runs are iterators of batches: nothing is read here, and memory is that of a few batches per run. Each run is sorted by
//! the key columns, NULL first ([`sort`]); keys may be equal within a run. Merging is associative: runs that stand next to
//! each other may be merged first, and what comes of that takes their place. Compaction rests on this.

use crate::model::{Aggregate, Model};
use crate::schema::Schema;
use crate::sum::Sum;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{SortOptions, interleave, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use coffer_stdx::{Error, Result};
use std::cmp::Ordering;
use std::sync::Arc;

/// Rows of a batch that comes out, at most.
const BATCH_ROWS: usize = 8 << 10;
/// Batches that wait to be put together, beyond one per run.
const SPARE_BATCHES: usize = 16;

const ORDER: SortOptions = SortOptions { descending: false, nulls_first: true };

/// A row: the number of its batch in the pool, and its place there.
type Place = (usize, usize);

/// Which columns the batches have, and what becomes of them.
#[derive(Debug, Clone)]
pub struct Shape {
    arrow: SchemaRef,
    /// So many leading columns are the key.
    keys: usize,
    /// Of each column behind the key; `None`: all rows stay.
    rules: Option<Vec<Aggregate>>,
}

impl Shape {
    /// Of batches with all key columns, in order, and then the value columns at these positions of the schema.
    pub fn new(schema: &Schema, values: &[usize]) -> Result<Shape> {
        let keys = schema.key_count();
        let columns: Vec<usize> = (0..keys).chain(values.iter().copied()).collect();
        let arrow = schema.arrow().project(&columns).map_err(defect)?;
        let rule = |column: &usize| schema.aggregate(*column).unwrap_or(Aggregate::Replace);
        let rules = match schema.model {
            Model::Duplicate => None,
            Model::Aggregate | Model::Unique => Some(values.iter().map(rule).collect()),
        };
        Ok(Shape { arrow: Arc::new(arrow), keys, rules })
    }

    /// Of batches of whole rows.
    pub fn whole(schema: &Schema) -> Result<Shape> {
        Shape::new(schema, &(schema.key_count()..schema.columns.len()).collect::<Vec<_>>())
    }

    /// The columns.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }
}

/// The merge of some runs, in their order: later runs are newer.
pub struct Merge<R> {
    shape: Shape,
    keys: Option<RowConverter>,
    cursors: Vec<Cursor<R>>,
    /// Cursors that have rows, by their next row.
    order: Vec<usize>,
    pool: Vec<Loaded>,
    groups: Groups,
    failed: bool,
}

/// One run being read.
struct Cursor<R> {
    input: R,
    slot: usize,
    row: usize,
}

/// A batch with what is compared of it.
struct Loaded {
    columns: Vec<ArrayRef>,
    rows: usize,
    keys: Option<Rows>,
    /// Per rule: the values in an order of bytes, for MIN and MAX.
    orders: Vec<Option<Rows>>,
}

/// Rows that are decided, and the one that may still change.
#[derive(Default)]
struct Groups {
    first: Vec<Place>,
    last: Vec<Place>,
    /// Per rule, of those that choose a row of their own.
    chosen: Vec<Vec<Place>>,
    /// Per rule, of sums.
    sums: Vec<Vec<Option<Sum>>>,
    open: Option<Group>,
}

/// Rows with equal keys, so far.
struct Group {
    first: Place,
    last: Place,
    chosen: Vec<Place>,
    sums: Vec<Option<Sum>>,
}

impl<R> std::fmt::Debug for Merge<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merge").field("shape", &self.shape).field("runs", &self.cursors.len()).finish_non_exhaustive()
    }
}

impl<R: Iterator<Item = Result<RecordBatch>>> Merge<R> {
    /// Begin. Reads the first batch of each run.
    pub fn new(shape: Shape, runs: impl IntoIterator<Item = R>) -> Result<Merge<R>> {
        let keys = shape.arrow.fields()[..shape.keys].iter();
        let fields: Vec<SortField> =
            keys.map(|field| SortField::new_with_options(field.data_type().clone(), ORDER)).collect();
        let keys = if fields.is_empty() { None } else { Some(RowConverter::new(fields).map_err(defect)?) };
        let rules = shape.rules.as_ref().map_or(0, Vec::len);
        let groups = Groups { chosen: vec![Vec::new(); rules], sums: vec![Vec::new(); rules], ..Groups::default() };
        let cursors: Vec<Cursor<R>> = runs.into_iter().map(|input| Cursor { input, slot: 0, row: 0 }).collect();
        let count = cursors.len();
        let mut merge = Merge { shape, keys, cursors, order: Vec::new(), pool: Vec::new(), groups, failed: false };
        for cursor in 0..count {
            if merge.load(cursor)? {
                merge.place(cursor);
            }
        }
        Ok(merge)
    }

    /// Bring the next batch of a run into the pool; whether there was one.
    fn load(&mut self, cursor: usize) -> Result<bool> {
        for batch in self.cursors[cursor].input.by_ref() {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            let loaded = Loaded::new(batch, &self.shape, self.keys.as_ref())?;
            let cursor = &mut self.cursors[cursor];
            (cursor.slot, cursor.row) = (self.pool.len(), 0);
            self.pool.push(loaded);
            return Ok(true);
        }
        Ok(false)
    }

    /// Put a cursor that has a next row among the others.
    fn place(&mut self, cursor: usize) {
        let at = self.order.partition_point(|other| self.compare(*other, cursor) == Ordering::Less);
        self.order.insert(at, cursor);
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let next = |cursor: usize| (self.cursors[cursor].slot, self.cursors[cursor].row);
        compare_keys(&self.pool, next(a), next(b)).then(a.cmp(&b))
    }

    /// Where the rows of the first cursor end that come before those of the second.
    fn stretch(&self, top: usize) -> usize {
        let Cursor { slot, row, .. } = self.cursors[top];
        let most = self.pool[slot].rows.min(row + BATCH_ROWS);
        let Some(second) = self.order.get(1).copied() else { return most };
        let other = (self.cursors[second].slot, self.cursors[second].row);
        let before = |row: usize| match compare_keys(&self.pool, (slot, row), other) {
            Ordering::Less => true,
            Ordering::Equal => top < second,
            Ordering::Greater => false,
        };
        // Steps that double find the neighbourhood, halving finds the place.
        let (mut low, mut step) = (row + 1, 1);
        while low + step <= most && before(low + step - 1) {
            low += step;
            step *= 2;
        }
        let mut high = most.min(low + step);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn step(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some(top) = self.order.first().copied() else {
                self.groups.close();
                return if self.groups.first.is_empty() { Ok(None) } else { self.flush().map(Some) };
            };
            let end = self.stretch(top);
            let Cursor { slot, row, .. } = self.cursors[top];
            self.take(slot, row, end)?;
            self.order.remove(0);
            self.cursors[top].row = end;
            if end < self.pool[slot].rows || self.load(top)? {
                self.place(top);
            }
            if self.groups.first.len() >= BATCH_ROWS || self.pool.len() > 2 * self.cursors.len() + SPARE_BATCHES {
                if self.groups.first.is_empty() {
                    self.tidy();
                } else {
                    return self.flush().map(Some);
                }
            }
        }
    }

    /// Rows of one batch come next.
    fn take(&mut self, slot: usize, from: usize, to: usize) -> Result<()> {
        let Some(rules) = &self.shape.rules else {
            self.groups.first.extend((from..to).map(|row| (slot, row)));
            return Ok(());
        };
        for row in from..to {
            match &mut self.groups.open {
                Some(group) if compare_keys(&self.pool, group.first, (slot, row)) == Ordering::Equal => {
                    group.add(rules, &self.pool, self.shape.keys, (slot, row))?;
                }
                _ => {
                    self.groups.close();
                    self.groups.open = Some(Group::new(rules, &self.pool, self.shape.keys, (slot, row))?);
                }
            }
        }
        Ok(())
    }

    /// The rows that are decided, as a batch.
    fn flush(&mut self) -> Result<RecordBatch> {
        let groups = &mut self.groups;
        let rows = groups.first.len();
        let mut columns = Vec::with_capacity(self.shape.arrow.fields().len());
        for column in 0..self.shape.arrow.fields().len() {
            let rule = column.checked_sub(self.shape.keys).zip(self.shape.rules.as_ref());
            let places = match rule.map(|(at, rules)| (at, rules[at])) {
                None => &groups.first,
                Some((at, Aggregate::Sum)) => {
                    columns.push(Sum::column(&groups.sums[at], self.shape.arrow.field(column).data_type())?);
                    continue;
                }
                Some((_, Aggregate::Replace)) => &groups.last,
                Some((at, Aggregate::Min | Aggregate::Max | Aggregate::ReplaceIfNotNull)) => &groups.chosen[at],
            };
            columns.push(gather(&self.pool, column, places)?);
        }
        groups.first.clear();
        groups.last.clear();
        groups.chosen.iter_mut().for_each(Vec::clear);
        groups.sums.iter_mut().for_each(Vec::clear);
        self.tidy();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.shape.arrow.clone(), columns, &options).map_err(defect)
    }

    /// Forget batches that nobody needs. Called while no decided row waits.
    fn tidy(&mut self) {
        let mut wanted = vec![false; self.pool.len()];
        for cursor in &self.order {
            wanted[self.cursors[*cursor].slot] = true;
        }
        if let Some(group) = &mut self.groups.open {
            group.places().for_each(|place| wanted[place.0] = true);
        }
        let mut moved = vec![0; self.pool.len()];
        let mut kept = Vec::new();
        for (slot, loaded) in std::mem::take(&mut self.pool).into_iter().enumerate() {
            if wanted[slot] {
                moved[slot] = kept.len();
                kept.push(loaded);
            }
        }
        self.pool = kept;
        for cursor in &self.order {
            let cursor = &mut self.cursors[*cursor];
            cursor.slot = moved[cursor.slot];
        }
        if let Some(group) = &mut self.groups.open {
            group.places().for_each(|place| place.0 = moved[place.0]);
        }
    }
}

impl<R: Iterator<Item = Result<RecordBatch>>> Iterator for Merge<R> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.failed {
            return None;
        }
        let next = self.step().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

impl Loaded {
    fn new(batch: RecordBatch, shape: &Shape, converter: Option<&RowConverter>) -> Result<Loaded> {
        let (_, columns, rows) = batch.into_parts();
        if columns.len() != shape.arrow.fields().len() {
            return Err(Error::bug(format!("a run has {} columns, not {}", columns.len(), shape.arrow.fields().len())));
        }
        let keys = converter.map(|converter| converter.convert_columns(&columns[..shape.keys])).transpose();
        let mut orders = Vec::new();
        for (rule, column) in shape.rules.iter().flatten().zip(&columns[shape.keys..]) {
            orders.push(match rule {
                Aggregate::Min | Aggregate::Max => Some(in_order(column)?),
                Aggregate::Sum | Aggregate::Replace | Aggregate::ReplaceIfNotNull => None,
            });
        }
        Ok(Loaded { columns, rows, keys: keys.map_err(defect)?, orders })
    }
}

fn in_order(column: &ArrayRef) -> Result<Rows> {
    let field = SortField::new_with_options(column.data_type().clone(), ORDER);
    let converter = RowConverter::new(vec![field]).map_err(defect)?;
    converter.convert_columns(std::slice::from_ref(column)).map_err(defect)
}

fn compare_keys(pool: &[Loaded], a: Place, b: Place) -> Ordering {
    match (&pool[a.0].keys, &pool[b.0].keys) {
        (Some(left), Some(right)) => left.row(a.1).cmp(&right.row(b.1)),
        // Without key columns all keys are equal.
        _ => Ordering::Equal,
    }
}

impl Groups {
    /// No more rows belong to the open group.
    fn close(&mut self) {
        let Some(group) = self.open.take() else { return };
        self.first.push(group.first);
        self.last.push(group.last);
        self.chosen.iter_mut().zip(group.chosen).for_each(|(chosen, place)| chosen.push(place));
        self.sums.iter_mut().zip(group.sums).for_each(|(sums, sum)| sums.push(sum));
    }
}

impl Group {
    fn new(rules: &[Aggregate], pool: &[Loaded], keys: usize, place: Place) -> Result<Group> {
        let mut sums = vec![None; rules.len()];
        for (at, sum) in sums.iter_mut().enumerate().filter(|(at, _)| rules[*at] == Aggregate::Sum) {
            *sum = Sum::add(None, &pool[place.0].columns[keys + at], place.1)?;
        }
        Ok(Group { first: place, last: place, chosen: vec![place; rules.len()], sums })
    }

    fn add(&mut self, rules: &[Aggregate], pool: &[Loaded], keys: usize, place: Place) -> Result<()> {
        self.last = place;
        for (at, rule) in rules.iter().enumerate() {
            let value = |place: Place| &pool[place.0].columns[keys + at];
            let chosen = &mut self.chosen[at];
            let takes = match rule {
                Aggregate::Sum => {
                    self.sums[at] = Sum::add(self.sums[at], value(place), place.1)?;
                    continue;
                }
                Aggregate::Replace => true,
                _ if value(place).is_null(place.1) => false,
                Aggregate::ReplaceIfNotNull => true,
                _ if value(*chosen).is_null(chosen.1) => true,
                Aggregate::Min => order(pool, at, place, *chosen) == Ordering::Less,
                Aggregate::Max => order(pool, at, place, *chosen) == Ordering::Greater,
            };
            if takes {
                *chosen = place;
            }
        }
        Ok(())
    }

    fn places(&mut self) -> impl Iterator<Item = &mut Place> {
        [&mut self.first, &mut self.last].into_iter().chain(&mut self.chosen)
    }
}

fn order(pool: &[Loaded], rule: usize, a: Place, b: Place) -> Ordering {
    match (&pool[a.0].orders[rule], &pool[b.0].orders[rule]) {
        (Some(left), Some(right)) => left.row(a.1).cmp(&right.row(b.1)),
        _ => Ordering::Equal,
    }
}

/// One column of the rows at these places.
fn gather(pool: &[Loaded], column: usize, places: &[Place]) -> Result<ArrayRef> {
    let (slot, row) = places[0];
    if places.iter().enumerate().all(|(at, place)| *place == (slot, row + at)) {
        return Ok(pool[slot].columns[column].slice(row, places.len()));
    }
    let arrays: Vec<&dyn Array> = pool.iter().map(|loaded| loaded.columns[column].as_ref()).collect();
    interleave(&arrays, places).map_err(defect)
}

/// Whole rows in the order of their keys, NULL first; rows with equal keys keep their order.
pub fn sort(schema: &Schema, rows: RecordBatch) -> Result<RecordBatch> {
    let keys = schema.key_count();
    if keys == 0 || rows.num_rows() < 2 {
        return Ok(rows);
    }
    let keys = &rows.columns()[..keys];
    let fields = keys.iter().map(|key| SortField::new_with_options(key.data_type().clone(), ORDER)).collect();
    let encoded = RowConverter::new(fields).and_then(|converter| converter.convert_columns(keys)).map_err(defect)?;
    let mut order: Vec<(_, u32)> = encoded.iter().zip(0_u32..).collect();
    order.sort_unstable();
    if order.windows(2).all(|pair| pair[0].1 < pair[1].1) {
        return Ok(rows);
    }
    let order: UInt32Array = order.into_iter().map(|(_, row)| row).collect::<Vec<u32>>().into();
    take_record_batch(&rows, &order).map_err(defect)
}

/// Sorted rows with equal keys made one, as the schema says; as they are where all rows stay.
pub fn combine(schema: &Schema, sorted: RecordBatch) -> Result<Vec<RecordBatch>> {
    if schema.model.is_duplicate() {
        return Ok(vec![sorted]);
    }
    Merge::new(Shape::whole(schema)?, [std::iter::once(Ok(sorted))])?.collect()
}

/// An Arrow error on batches that we made.
fn defect(error: ArrowError) -> Error {
    Error::bug(format!("merge: {error}"))
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
