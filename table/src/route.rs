//! Which tablet each row of a batch goes to: the rules of [`crate::layout`], carried out a column at a time.

use crate::layout::{Layout, LayoutPartition};
use crate::list;
use crate::range::{Bound, ListValue};
use crate::schema::Schema;
use crate::types::ColumnType;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use coffer_stdx::{Error, Result};
use std::collections::HashMap;

/// Bytes that stand for NULL in the bucket hash.
const NULL_BYTES: [u8; 4] = [0; 4];
/// Target of a row that no partition takes.
const NOWHERE: u32 = u32::MAX;

/// Routes the batches of one load. Keeps the turn of RANDOM tables between batches.
#[derive(Debug)]
pub struct Router {
    partition_columns: Vec<usize>,
    partition_kinds: Vec<ColumnType>,
    bucket_columns: Vec<usize>,
    partitions: Partitions,
    turn: u64,
}

/// Where the rows of one batch go.
#[derive(Debug, PartialEq, Eq)]
pub struct Routed {
    /// Tablet id and its rows, ascending; only tablets that get rows.
    pub tablets: Vec<(u64, Vec<u32>)>,
    /// Rows that no partition takes.
    pub unroutable: Vec<u32>,
}

impl Router {
    /// A router for whole rows of a table.
    pub fn new(schema: &Schema, layout: &Layout) -> Result<Router> {
        let partition_columns = positions(schema, &layout.partition_columns, "partition", list::is_list_key)?;
        let bucket_columns = positions(schema, &layout.bucket_columns, "bucket", ColumnType::is_hash_key)?;
        let partitions = Partitions::new(layout, partition_columns.len())?;
        let partition_kinds: Vec<ColumnType> = partition_columns.iter().map(|at| schema.columns[*at].kind).collect();
        let text = partition_kinds.iter().find(|kind| !kind.is_range_key());
        if let Some(kind) = text.filter(|_| partitions.keys.is_empty() && !partitions.spans.is_empty()) {
            return Err(Error::invalid(format!("a column of type {kind} cannot be a range partition column")));
        }
        Ok(Router { partition_columns, partition_kinds, bucket_columns, partitions, turn: 0 })
    }

    /// Route a batch of whole rows in table column order.
    pub fn route(&mut self, batch: &RecordBatch) -> Result<Routed> {
        let rows = batch.num_rows();
        let partitions = self.partition_rows(batch)?;
        let mut targets = vec![NOWHERE; rows];
        if self.bucket_columns.is_empty() {
            for (target, partition) in targets.iter_mut().zip(&partitions) {
                *target = self.partitions.tablet(*partition, self.turn);
                self.turn = self.turn.wrapping_add(1);
            }
        } else {
            let hashes = hash_rows(batch, &self.bucket_columns)?;
            for ((target, partition), hash) in targets.iter_mut().zip(&partitions).zip(hashes) {
                *target = self.partitions.tablet(*partition, u64::from(hash));
            }
        }
        Ok(self.collect(&targets))
    }

    /// The name of a partition column's value is in the message of rows that fit nowhere; here are their positions.
    pub fn partition_columns(&self) -> &[usize] {
        &self.partition_columns
    }

    fn partition_rows(&self, batch: &RecordBatch) -> Result<Vec<u32>> {
        if self.partition_columns.is_empty() {
            return Ok(vec![0; batch.num_rows()]);
        }
        if !self.partitions.keys.is_empty() {
            return Ok((0..batch.num_rows()).map(|row| self.listed(batch, row)).collect());
        }
        if self.partitions.spans.is_empty() {
            return Ok(vec![NOWHERE; batch.num_rows()]);
        }
        let width = self.partition_columns.len();
        let mut keys = vec![i128::MIN; batch.num_rows() * width];
        for (offset, column) in self.partition_columns.iter().enumerate() {
            for_each_number(batch.column(*column), |row, value| {
                if let Some(value) = value {
                    keys[row * width + offset] = value;
                }
            })?;
        }
        Ok(keys.chunks_exact(width).map(|key| self.partitions.find(key)).collect())
    }

    /// Number of the partition that lists the key of a row, or [`NOWHERE`].
    fn listed(&self, batch: &RecordBatch, row: usize) -> u32 {
        let columns = self.partition_columns.iter().zip(&self.partition_kinds);
        let key: Vec<ListValue> =
            columns.map(|(column, kind)| list::value_at(batch.column(*column), *kind, row)).collect();
        self.partitions.keys.get(&key).copied().unwrap_or(NOWHERE)
    }

    fn collect(&self, targets: &[u32]) -> Routed {
        let mut counts = vec![0_usize; self.partitions.tablets.len()];
        for target in targets {
            if let Some(count) = counts.get_mut(*target as usize) {
                *count += 1;
            }
        }
        let mut lists: Vec<Vec<u32>> = counts.iter().map(|count| Vec::with_capacity(*count)).collect();
        let mut unroutable = Vec::new();
        for (row, target) in targets.iter().enumerate() {
            lists.get_mut(*target as usize).unwrap_or(&mut unroutable).push(row as u32);
        }
        let tablets = self.partitions.tablets.iter().copied().zip(lists).filter(|(_, rows)| !rows.is_empty()).collect();
        Routed { tablets, unroutable }
    }
}

/// Partitions in the order of their ranges; bounds as numbers, MIN and MAXVALUE as the extremes of i128.
#[derive(Debug)]
struct Partitions {
    width: usize,
    lowers: Vec<i128>,
    uppers: Vec<i128>,
    /// Number of the partition of each key, in a table of LIST partitions.
    keys: HashMap<Vec<ListValue>, u32>,
    /// First position in `tablets` and the number of tablets, per partition.
    spans: Vec<(u32, u32)>,
    tablets: Vec<u64>,
}

impl Partitions {
    fn new(layout: &Layout, width: usize) -> Result<Partitions> {
        let mut partitions: Vec<&LayoutPartition> = layout.partitions.iter().collect();
        partitions.sort_by(|a, b| a.range.as_ref().map(|r| &r.lower).cmp(&b.range.as_ref().map(|r| &r.lower)));
        if width == 0 && partitions.len() != 1 {
            return Err(Error::invalid("a table without partition columns must have exactly one partition"));
        }
        let mut sorted = Partitions {
            width,
            lowers: Vec::new(),
            uppers: Vec::new(),
            keys: HashMap::new(),
            spans: Vec::new(),
            tablets: Vec::new(),
        };
        for partition in partitions {
            sorted.add(partition)?;
        }
        Ok(sorted)
    }

    fn add(&mut self, partition: &LayoutPartition) -> Result<()> {
        if partition.tablets.is_empty() {
            return Err(Error::invalid(format!("partition '{}' has no tablets", partition.name)));
        }
        let listed = partition.range.as_ref().filter(|range| !range.list.is_empty());
        if let Some(range) = listed.filter(|_| self.width > 0) {
            let number = self.spans.len() as u32;
            if range.list.iter().any(|key| key.len() != self.width) {
                return Err(Error::invalid(format!("partition '{}' has no matching list", partition.name)));
            }
            self.keys.extend(range.list.iter().map(|key| (key.clone(), number)));
        } else if self.width > 0 {
            let range = partition.range.as_ref().filter(|r| r.lower.len() == self.width && r.upper.len() == self.width);
            let range =
                range.ok_or_else(|| Error::invalid(format!("partition '{}' has no matching range", partition.name)))?;
            self.lowers.extend(range.lower.iter().map(|bound| order(*bound)));
            self.uppers.extend(range.upper.iter().map(|bound| order(*bound)));
        }
        self.spans.push((self.tablets.len() as u32, partition.tablets.len() as u32));
        self.tablets.extend(&partition.tablets);
        Ok(())
    }

    /// Number of the partition that takes a key, or [`NOWHERE`].
    fn find(&self, key: &[i128]) -> u32 {
        let (mut low, mut high) = (0, self.spans.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.bound(&self.lowers, middle) <= key { low = middle + 1 } else { high = middle }
        }
        match low.checked_sub(1) {
            Some(found) if key < self.bound(&self.uppers, found) => found as u32,
            _ => NOWHERE,
        }
    }

    fn bound<'a>(&self, bounds: &'a [i128], partition: usize) -> &'a [i128] {
        &bounds[partition * self.width..(partition + 1) * self.width]
    }

    /// Position in `tablets`.
    fn tablet(&self, partition: u32, hash: u64) -> u32 {
        match self.spans.get(partition as usize) {
            Some((first, count)) => first + (hash % u64::from(*count)) as u32,
            None => NOWHERE,
        }
    }
}

fn order(bound: Bound) -> i128 {
    match bound {
        Bound::Min => i128::MIN,
        Bound::Value(value) => value.order(),
        Bound::Max => i128::MAX,
    }
}

fn positions(schema: &Schema, names: &[String], role: &str, fits: fn(ColumnType) -> bool) -> Result<Vec<usize>> {
    names
        .iter()
        .map(|name| {
            let position = schema
                .index_of(name)
                .ok_or_else(|| Error::invalid(format!("{role} column '{name}' is not a column of the table")))?;
            let kind = schema.columns[position].kind;
            if fits(kind) {
                Ok(position)
            } else {
                Err(Error::invalid(format!("{role} column '{name}' cannot be {kind}")))
            }
        })
        .collect()
}

/// The bucket hash of each row over some columns, in the order given.
pub fn hash_rows(batch: &RecordBatch, columns: &[usize]) -> Result<Vec<u32>> {
    let mut hashes = vec![0_u32; batch.num_rows()];
    for column in columns {
        let array = batch.column(*column);
        if let Some(texts) = array.as_string_opt::<i32>() {
            for (hash, text) in hashes.iter_mut().zip(texts) {
                *hash = crc32c::crc32c_append(*hash, text.map_or(NULL_BYTES.as_slice(), str::as_bytes));
            }
        } else {
            for_each_number(array, |row, value| {
                hashes[row] = match value {
                    Some(value) => crc32c::crc32c_append(hashes[row], &value.to_le_bytes()),
                    None => crc32c::crc32c_append(hashes[row], &NULL_BYTES),
                };
            })?;
        }
    }
    Ok(hashes)
}

/// Whole numbers, dates, times and unscaled decimals as i128, row by row.
fn for_each_number(array: &ArrayRef, each: impl FnMut(usize, Option<i128>)) -> Result<()> {
    match array.data_type() {
        DataType::Int8 => walk::<Int8Type>(array, each),
        DataType::Int16 => walk::<Int16Type>(array, each),
        DataType::Int32 => walk::<Int32Type>(array, each),
        DataType::Int64 => walk::<Int64Type>(array, each),
        DataType::Decimal128(_, _) => walk::<Decimal128Type>(array, each),
        DataType::Date32 => walk::<Date32Type>(array, each),
        DataType::Timestamp(TimeUnit::Microsecond, _) => walk::<TimestampMicrosecondType>(array, each),
        other => return Err(Error::bug(format!("rows cannot be routed by a column of Arrow type {other}"))),
    }
    Ok(())
}

fn walk<T: ArrowPrimitiveType<Native: Into<i128>>>(array: &ArrayRef, mut each: impl FnMut(usize, Option<i128>)) {
    let array = array.as_primitive::<T>();
    if array.null_count() == 0 {
        array.values().iter().enumerate().for_each(|(row, value)| each(row, Some((*value).into())));
    } else {
        array.iter().enumerate().for_each(|(row, value)| each(row, value.map(Into::into)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::{KeyRange, Scalar};
    use crate::schema::Column;
    use arrow::array::{Date32Array, Int32Array, StringArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn column(name: &str, kind: ColumnType) -> Column {
        Column::new(name, kind)
    }

    fn schema() -> Schema {
        Schema {
            model: crate::model::Model::Duplicate,
            columns: vec![
                column("id", ColumnType::Int),
                column("day", ColumnType::Date),
                column("name", ColumnType::Varchar { length: 10 }),
            ],
        }
    }

    fn batch(ids: Vec<Option<i32>>, days: Vec<Option<i32>>, names: Vec<Option<&str>>) -> RecordBatch {
        RecordBatch::try_new(
            schema().arrow(),
            vec![
                Arc::new(Int32Array::from(ids)),
                Arc::new(Date32Array::from(days)),
                Arc::new(StringArray::from(names)),
            ],
        )
        .unwrap()
    }

    fn day(value: i32) -> Bound {
        Bound::Value(Scalar::Date(value))
    }

    fn partition(id: u64, range: Option<(Bound, Bound)>, tablets: &[u64]) -> LayoutPartition {
        let range = range.map(|(lower, upper)| KeyRange::new(vec![lower], vec![upper]));
        LayoutPartition { id, name: format!("p{id}"), range, tablets: tablets.to_vec() }
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        let rows = batch(vec![Some(7), None], vec![Some(1), None], vec![Some("ab"), None]);
        let hashes = hash_rows(&rows, &[0, 2]).unwrap();
        let mut bytes = 7_i128.to_le_bytes().to_vec();
        bytes.extend(b"ab");
        assert_eq!(hashes, [crc32c::crc32c(&bytes), crc32c::crc32c(&[0; 8])]);
        // Part of the format: these numbers never change.
        assert_eq!(hashes, [4_143_553_809, 2_351_477_386]);
    }

    #[test]
    fn rows_of_lists_find_their_partition() {
        let text = |text: &str| ListValue::Text(text.to_owned());
        let listed = |id: u64, keys: Vec<ListValue>| LayoutPartition {
            range: Some(crate::range::KeyRange::of_list(keys.into_iter().map(|key| vec![key]).collect())),
            ..partition(id, None, &[id * 10])
        };
        let layout = Layout {
            partition_columns: vec!["name".to_owned()],
            bucket_columns: Vec::new(),
            partitions: vec![listed(1, vec![text("a"), text("b")]), listed(2, vec![ListValue::Null, text("")])],
        };
        let mut router = Router::new(&schema(), &layout).unwrap();
        let names = vec![Some("b"), None, Some("c"), Some(""), Some("a")];
        let routed = router.route(&batch(vec![None; 5], vec![None; 5], names)).unwrap();
        assert_eq!(routed.tablets, [(10, vec![0, 4]), (20, vec![1, 3])]);
        assert_eq!(routed.unroutable, [2]);
        // Text has no ranges here.
        let ranged = Layout { partitions: vec![partition(1, Some((Bound::Min, Bound::Max)), &[1])], ..layout };
        assert!(Router::new(&schema(), &ranged).is_err());
    }

    #[test]
    fn rows_find_their_partition_and_the_rest_is_reported() {
        let layout = Layout {
            partition_columns: vec!["DAY".to_owned()],
            bucket_columns: vec!["id".to_owned()],
            partitions: vec![
                partition(2, Some((day(10), day(20))), &[21]),
                partition(1, Some((Bound::Min, day(10))), &[11]),
                partition(3, Some((day(30), Bound::Max)), &[31]),
            ],
        };
        let mut router = Router::new(&schema(), &layout).unwrap();
        let days = vec![None, Some(9), Some(10), Some(19), Some(20), Some(30), Some(i32::MAX)];
        let routed = router.route(&batch(vec![Some(1); 7], days, vec![None; 7])).unwrap();
        assert_eq!(routed.tablets, [(11, vec![0, 1]), (21, vec![2, 3]), (31, vec![5, 6])]);
        assert_eq!(routed.unroutable, [4]);
    }

    #[test]
    fn rows_of_a_random_table_go_in_turn() {
        let layout =
            Layout { partition_columns: vec![], bucket_columns: vec![], partitions: vec![partition(1, None, &[5, 6])] };
        let mut router = Router::new(&schema(), &layout).unwrap();
        let rows = batch(vec![Some(1); 3], vec![None; 3], vec![None; 3]);
        assert_eq!(router.route(&rows).unwrap().tablets, [(5, vec![0, 2]), (6, vec![1])]);
        assert_eq!(router.route(&rows).unwrap().tablets, [(5, vec![1]), (6, vec![0, 2])]);
    }

    #[test]
    fn layouts_that_do_not_fit_the_schema_are_refused() {
        let one = |partition_columns: &[&str], bucket_columns: &[&str], partitions| Layout {
            partition_columns: partition_columns.iter().map(|name| (*name).to_owned()).collect(),
            bucket_columns: bucket_columns.iter().map(|name| (*name).to_owned()).collect(),
            partitions,
        };
        let whole = || vec![partition(1, None, &[5])];
        for layout in [
            one(&["nope"], &[], whole()),
            one(&["name"], &[], whole()),
            one(&["day"], &[], whole()),
            one(&[], &[], vec![]),
            one(&[], &["id"], vec![partition(1, None, &[])]),
        ] {
            assert!(Router::new(&schema(), &layout).is_err(), "{layout:?}");
        }
    }

    proptest! {
        #[test]
        fn every_row_goes_to_exactly_one_tablet_that_its_values_decide(ids in proptest::collection::vec(any::<Option<i32>>(), 1..50)) {
            let layout = Layout {
                partition_columns: vec![],
                bucket_columns: vec!["id".to_owned()],
                partitions: vec![partition(1, None, &[0, 1, 2, 3])],
            };
            let count = ids.len();
            let rows = batch(ids, vec![None; count], vec![None; count]);
            let hashes = hash_rows(&rows, &[0]).unwrap();
            let routed = Router::new(&schema(), &layout).unwrap().route(&rows).unwrap();
            let mut seen = vec![0; count];
            for (tablet, rows) in &routed.tablets {
                for row in rows {
                    seen[*row as usize] += 1;
                    prop_assert_eq!(u64::from(hashes[*row as usize] % 4), *tablet);
                }
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
        }
    }
}
