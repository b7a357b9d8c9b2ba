//! `checksum(value, ...)`: one number for the content of a column, or of whole rows, whatever the order of the rows.
//!
//! The checksum is the sum, modulo 2^64, of one 64 bit hash per row; of no rows it is 0. With one argument the hash of a
//! row is that of the value. With several it chains them, so that values that changed places between rows show.
//!
//! The hash of a value is XXH64 of its canonical form, seeded by its class, so that it depends on the value and not on how
//! wide it is kept: 1 as TINYINT and 1 as LARGEINT are the same.
//!
//! | class | seed | canonical form |
//! |---|---|---|
//! | NULL | 0 | no bytes |
//! | whole numbers, booleans, decimals | 1 | the unscaled value as 16 bytes little endian, then the digits after the point as one byte; trailing zeros after the point are removed first |
//! | floating point | 2 | the double as 8 bytes little endian; -0 is 0, all NaN are one |
//! | dates | 3 | days since 1970-01-01 as 4 bytes little endian |
//! | times | 4 | microseconds since 1970-01-01 as 8 bytes little endian |
//! | text and bytes | 5 | the bytes |
//! | anything else | 6 | its printed form |
//!
//! Meant for comparing tables before and after a backup. It is not a defence against someone who makes collisions.

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, UInt64Array};
use datafusion::arrow::compute::{cast, sum};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use twox_hash::XxHash64;

const NULL: u64 = 0;
const NUMBER: u64 = 1;
const FLOAT: u64 = 2;
const DATE: u64 = 3;
const TIME: u64 = 4;
const TEXT: u64 = 5;
const OTHER: u64 = 6;

/// The aggregate function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checksum {
    signature: Signature,
}

impl Checksum {
    pub(crate) fn new() -> Checksum {
        Checksum { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Checksum {
    fn name(&self) -> &'static str {
        "checksum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sum::default()))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::UInt64(Some(0)))
    }
}

#[derive(Debug, Default)]
struct Sum {
    sum: u64,
}

impl Accumulator for Sum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = row_hashes(values)?;
        self.sum = rows.into_iter().fold(self.sum, u64::wrapping_add);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::UInt64(Some(self.sum)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::UInt64(Some(self.sum))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in states {
            let part: &UInt64Array = state.as_primitive::<UInt64Type>();
            self.sum = self.sum.wrapping_add(sum(part).unwrap_or(0));
        }
        Ok(())
    }
}

/// One hash per row over some columns of the same length.
fn row_hashes(columns: &[ArrayRef]) -> Result<Vec<u64>> {
    let Some((first, others)) = columns.split_first() else { return Ok(Vec::new()) };
    let mut hashes = Vec::with_capacity(first.len());
    each_hash(first, &mut |_, hash| hashes.push(hash))?;
    for column in others {
        each_hash(column, &mut |row, hash: u64| {
            hashes[row] = XxHash64::oneshot(hashes[row], &hash.to_le_bytes());
        })?;
    }
    Ok(hashes)
}

/// Calls `each` with the hash of every value, in order.
fn each_hash(array: &ArrayRef, each: &mut impl FnMut(usize, u64)) -> Result<()> {
    match array.data_type() {
        DataType::Null => (0..array.len()).for_each(|row| each(row, null())),
        DataType::Boolean => {
            for (row, value) in array.as_boolean().iter().enumerate() {
                each(row, value.map_or_else(null, |value| number(i128::from(value), 0)));
            }
        }
        DataType::Int8 => numbers::<Int8Type>(array, each),
        DataType::Int16 => numbers::<Int16Type>(array, each),
        DataType::Int32 => numbers::<Int32Type>(array, each),
        DataType::Int64 => numbers::<Int64Type>(array, each),
        DataType::UInt8 => numbers::<UInt8Type>(array, each),
        DataType::UInt16 => numbers::<UInt16Type>(array, each),
        DataType::UInt32 => numbers::<UInt32Type>(array, each),
        DataType::UInt64 => numbers::<UInt64Type>(array, each),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            primitives::<Decimal128Type>(array, each, |value| number(value, scale));
        }
        DataType::Float32 => primitives::<Float32Type>(array, each, |value| float(f64::from(value))),
        DataType::Float64 => primitives::<Float64Type>(array, each, float),
        DataType::Date32 => {
            primitives::<Date32Type>(array, each, |days| XxHash64::oneshot(DATE, &days.to_le_bytes()));
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            primitives::<TimestampMicrosecondType>(array, each, |micros| {
                XxHash64::oneshot(TIME, &micros.to_le_bytes())
            });
        }
        DataType::Timestamp(_, _) => {
            each_hash(&cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?, each)?;
        }
        DataType::Utf8 => texts(array.as_string::<i32>().iter(), each),
        DataType::LargeUtf8 => texts(array.as_string::<i64>().iter(), each),
        DataType::Utf8View => texts(array.as_string_view().iter(), each),
        DataType::Binary => texts(array.as_binary::<i32>().iter(), each),
        DataType::LargeBinary => texts(array.as_binary::<i64>().iter(), each),
        DataType::BinaryView => texts(array.as_binary_view().iter(), each),
        _ => {
            let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
            for row in 0..array.len() {
                let shown = (!array.is_null(row)).then(|| formatter.value(row).to_string());
                each(row, shown.map_or_else(null, |text| XxHash64::oneshot(OTHER, text.as_bytes())));
            }
        }
    }
    Ok(())
}

fn primitives<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    each: &mut impl FnMut(usize, u64),
    hash: impl Fn(T::Native) -> u64,
) {
    let array: &PrimitiveArray<T> = array.as_primitive::<T>();
    for (row, value) in array.iter().enumerate() {
        each(row, value.map_or_else(null, &hash));
    }
}

fn numbers<T: ArrowPrimitiveType>(array: &ArrayRef, each: &mut impl FnMut(usize, u64))
where
    T::Native: Into<i128>,
{
    primitives::<T>(array, each, |value| number(value.into(), 0));
}

fn texts<V: AsRef<[u8]>>(values: impl Iterator<Item = Option<V>>, each: &mut impl FnMut(usize, u64)) {
    for (row, value) in values.enumerate() {
        each(row, value.map_or_else(null, |value| XxHash64::oneshot(TEXT, value.as_ref())));
    }
}

fn null() -> u64 {
    XxHash64::oneshot(NULL, &[])
}

fn number(mut unscaled: i128, mut scale: i8) -> u64 {
    while scale > 0 && unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    let mut bytes = [0; 17];
    bytes[..16].copy_from_slice(&unscaled.to_le_bytes());
    bytes[16] = scale.to_le_bytes()[0];
    XxHash64::oneshot(NUMBER, &bytes)
}

fn float(value: f64) -> u64 {
    let canonical = if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f64::NAN
    } else {
        value
    };
    XxHash64::oneshot(FLOAT, &canonical.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int64Array, StringArray,
        StringViewArray, TimestampMicrosecondArray,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    fn checksum(columns: &[ArrayRef]) -> u64 {
        let mut sum = Sum::default();
        sum.update_batch(columns).unwrap();
        sum.sum
    }

    fn column(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn known_values_never_change() {
        assert_eq!(checksum(&[column(&[])]), 0);
        assert_eq!(checksum(&[column(&[None])]), XxHash64::oneshot(0, b""));
        assert_eq!(checksum(&[column(&[None])]), 0xef46_db37_51d8_e999);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["coffer"]));
        assert_eq!(checksum(&[text]), XxHash64::oneshot(5, b"coffer"));
    }

    #[test]
    fn the_width_does_not_matter_but_the_value_and_the_class_do() {
        let one: [ArrayRef; 4] = [
            Arc::new(Int8Array::from(vec![1])),
            Arc::new(Int64Array::from(vec![1])),
            Arc::new(BooleanArray::from(vec![true])),
            Arc::new(Decimal128Array::from(vec![100]).with_precision_and_scale(15, 2).unwrap()),
        ];
        assert!(one.iter().all(|array| checksum(&[Arc::clone(array)]) == checksum(&[column(&[Some(1)])])));
        let others: [ArrayRef; 6] = [
            column(&[Some(1)]),
            Arc::new(Float64Array::from(vec![1.0])),
            Arc::new(Date32Array::from(vec![1])),
            Arc::new(TimestampMicrosecondArray::from(vec![1])),
            Arc::new(StringArray::from(vec!["1"])),
            column(&[None]),
        ];
        let mut sums: Vec<u64> = others.iter().map(|array| checksum(&[Arc::clone(array)])).collect();
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), others.len());
    }

    #[test]
    fn equal_floats_and_texts_are_equal_in_every_form() {
        let floats = |values: Vec<f64>| checksum(&[Arc::new(Float64Array::from(values)) as ArrayRef]);
        assert_eq!(floats(vec![0.0]), floats(vec![-0.0]));
        assert_eq!(floats(vec![f64::NAN]), floats(vec![-f64::NAN]));
        assert_eq!(floats(vec![0.5]), checksum(&[Arc::new(Float32Array::from(vec![0.5_f32])) as ArrayRef]));
        let view: ArrayRef = Arc::new(StringViewArray::from(vec!["a long text, longer than a view"]));
        let plain: ArrayRef = Arc::new(StringArray::from(vec!["a long text, longer than a view"]));
        assert_eq!(checksum(&[view]), checksum(&[plain]));
    }

    #[test]
    fn values_that_change_rows_show_only_with_several_arguments() {
        let (a, b) = (column(&[Some(1), Some(2)]), column(&[Some(3), Some(4)]));
        let swapped = column(&[Some(4), Some(3)]);
        assert_eq!(checksum(std::slice::from_ref(&b)), checksum(std::slice::from_ref(&swapped)));
        assert_ne!(checksum(&[Arc::clone(&a), b]), checksum(&[a, swapped]));
    }

    proptest! {
        #[test]
        fn order_and_batches_do_not_matter(values in proptest::collection::vec(any::<Option<i64>>(), 0..40), cut in 0_usize..40) {
            let whole = checksum(&[column(&values)]);
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = Sum::default();
            for part in [right, left] {
                let mut sum = Sum::default();
                sum.update_batch(&[column(part)]).unwrap();
                let state: ArrayRef = sum.state().unwrap()[0].to_array().unwrap();
                merged.merge_batch(&[state]).unwrap();
            }
            prop_assert_eq!(merged.sum, whole);
            let reversed: Vec<Option<i64>> = values.iter().rev().copied().collect();
            prop_assert_eq!(checksum(&[column(&reversed)]), whole);
        }
    }
}
