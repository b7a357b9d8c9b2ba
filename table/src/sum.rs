//! Sums of one column over rows with equal keys.
//!
//! Whole numbers and decimals are added in a ring: a sum that leaves the range of its type goes on from the other end, so
//! that any order of merging gives the same value. For a decimal of p digits the ring has the 2 * 10^p - 1 values from
//! -(10^p - 1) to 10^p - 1.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use coffer_stdx::{Error, Result};
use std::sync::Arc;

/// A sum so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sum {
    Whole(i128),
    Single(f32),
    Double(f64),
}

impl Sum {
    /// With the value of one row more; `None` is the sum of nothing, and NULL adds nothing.
    pub(crate) fn add(before: Option<Sum>, column: &ArrayRef, row: usize) -> Result<Option<Sum>> {
        if column.is_null(row) {
            return Ok(before);
        }
        let value = match column.data_type() {
            DataType::Int8 => Sum::Whole(column.as_primitive::<Int8Type>().value(row).into()),
            DataType::Int16 => Sum::Whole(column.as_primitive::<Int16Type>().value(row).into()),
            DataType::Int32 => Sum::Whole(column.as_primitive::<Int32Type>().value(row).into()),
            DataType::Int64 => Sum::Whole(column.as_primitive::<Int64Type>().value(row).into()),
            DataType::Decimal128(_, _) => Sum::Whole(column.as_primitive::<Decimal128Type>().value(row)),
            DataType::Float32 => Sum::Single(column.as_primitive::<Float32Type>().value(row)),
            DataType::Float64 => Sum::Double(column.as_primitive::<Float64Type>().value(row)),
            other => return Err(Error::bug(format!("SUM of {other}"))),
        };
        Ok(Some(match (before, value) {
            (None, value) => value,
            (Some(Sum::Whole(a)), Sum::Whole(b)) => Sum::Whole(match column.data_type() {
                DataType::Decimal128(precision, _) => add_digits(a, b, *precision),
                _ => a.wrapping_add(b),
            }),
            (Some(Sum::Single(a)), Sum::Single(b)) => Sum::Single(a + b),
            (Some(Sum::Double(a)), Sum::Double(b)) => Sum::Double(a + b),
            (Some(before), value) => return Err(Error::bug(format!("SUM of {before:?} and {value:?}"))),
        }))
    }

    /// Sums as a column.
    pub(crate) fn column(sums: &[Option<Sum>], kind: &DataType) -> Result<ArrayRef> {
        Ok(match kind {
            DataType::Int8 => whole::<Int8Type>(sums, |value| value as i8),
            DataType::Int16 => whole::<Int16Type>(sums, |value| value as i16),
            DataType::Int32 => whole::<Int32Type>(sums, |value| value as i32),
            DataType::Int64 => whole::<Int64Type>(sums, |value| value as i64),
            DataType::Decimal128(_, _) => {
                let values = PrimitiveArray::<Decimal128Type>::from_iter(sums.iter().map(|sum| sum.and_then(number)));
                Arc::new(values.with_data_type(kind.clone()))
            }
            DataType::Float32 => Arc::new(PrimitiveArray::<Float32Type>::from_iter(sums.iter().map(|sum| match sum {
                Some(Sum::Single(value)) => Some(*value),
                _ => None,
            }))),
            DataType::Float64 => Arc::new(PrimitiveArray::<Float64Type>::from_iter(sums.iter().map(|sum| match sum {
                Some(Sum::Double(value)) => Some(*value),
                _ => None,
            }))),
            other => return Err(Error::bug(format!("SUM of {other}"))),
        })
    }
}

fn number(sum: Sum) -> Option<i128> {
    match sum {
        Sum::Whole(value) => Some(value),
        Sum::Single(_) | Sum::Double(_) => None,
    }
}

fn whole<T: ArrowPrimitiveType>(sums: &[Option<Sum>], cut: impl Fn(i128) -> T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter(sums.iter().map(|sum| sum.and_then(number).map(&cut))))
}

/// Add in the ring of decimals of so many digits.
fn add_digits(a: i128, b: i128, precision: u8) -> i128 {
    let most = 10_i128.pow(u32::from(precision.min(38))) - 1;
    if a > 0 && b > most - a {
        (a - most) + (b - most) - 1
    } else if a < 0 && b < -most - a {
        (a + most) + (b + most) + 1
    } else {
        a + b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sums_begin_anew_at_the_other_end() {
        assert_eq!(add_digits(99, 1, 2), -99);
        assert_eq!(add_digits(-99, -1, 2), 99);
        assert_eq!(add_digits(99, 99, 2), -1);
        let most = 10_i128.pow(38) - 1;
        assert_eq!(add_digits(most, most, 38), -1);
        assert_eq!(add_digits(most, -most, 38), 0);
        let column = Sum::column(&[Some(Sum::Whole(128)), None], &DataType::Int8).unwrap();
        assert_eq!(column.as_primitive::<Int8Type>(), &PrimitiveArray::<Int8Type>::from(vec![Some(-128), None]));
        assert!(Sum::column(&[], &DataType::Utf8).is_err());
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same(mut values in proptest::collection::vec(-999_i128..=999, 1..9), seed in any::<usize>()) {
            let sum = |values: &[i128]| values.iter().copied().reduce(|a, b| add_digits(a, b, 3));
            let all = sum(&values);
            let middle = seed % values.len();
            let halves = [sum(&values[..middle]), sum(&values[middle..])].into_iter().flatten();
            prop_assert_eq!(halves.reduce(|a, b| add_digits(a, b, 3)), all);
            values.reverse();
            prop_assert_eq!(sum(&values), all);
        }
    }
}
