//! Which partitions a query can leave out, decided from its WHERE clause alone. Pure.
//!
//! Each condition that compares a partition column with literals (`=`, `<`, `<=`, `>`, `>=`, BETWEEN, IN, IS NULL, and AND
//! and OR of these) allows that column some closed ranges of numbers; every partition key is a number ([`Scalar::order`]).
//! A partition is left out when none of its keys can lie in the allowed ranges. The answer errs on the side of reading:
//! a condition that is not understood allows everything, and the query filters the rows again anyway.

use coffer_table::{Bound, ColumnType, KeyRange, Scalar};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

/// More ranges than this per column are not followed; the condition then allows everything.
const MAX_RANGES: usize = 1_024;
/// What NULL keys count as: they sort below every value.
const NULL_KEY: i128 = i128::MIN;

/// A partition column: name as declared and type.
pub(crate) type KeyColumn<'a> = (&'a str, ColumnType);

/// A closed range of key numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    low: i128,
    high: i128,
}

const ALL: Span = Span { low: i128::MIN, high: i128::MAX };

/// The ranges that a conjunction of conditions allows each partition column.
#[derive(Debug)]
pub(crate) struct Allowed {
    columns: Vec<Vec<Span>>,
}

impl Allowed {
    /// From the conditions of a scan, all of which hold.
    pub(crate) fn new(columns: &[KeyColumn<'_>], conditions: &[Expr]) -> Allowed {
        let mut allowed = Allowed { columns: vec![vec![ALL]; columns.len()] };
        for condition in conditions {
            if let Some((column, spans)) = understand(columns, condition) {
                allowed.columns[column] = intersect(&allowed.columns[column], &spans);
            }
        }
        allowed
    }

    /// Whether a partition may hold rows that the conditions allow. `None` is the partition without a range.
    pub(crate) fn may_hold(&self, range: Option<&KeyRange>) -> bool {
        let Some(range) = range.filter(|range| range.lower.len() == self.columns.len()) else { return true };
        if self.columns.iter().any(Vec::is_empty) {
            return false;
        }
        let Some((first, others)) = self.columns.split_first() else { return true };
        let lower: Vec<i128> = range.lower.iter().map(|bound| number(*bound)).collect();
        let upper: Vec<i128> = range.upper.iter().map(|bound| number(*bound)).collect();
        let hulls: Vec<Span> = others.iter().map(|spans| hull(spans)).collect();
        first.iter().any(|span| {
            let least: Vec<i128> = std::iter::once(span.low).chain(hulls.iter().map(|hull| hull.low)).collect();
            let greatest: Vec<i128> = std::iter::once(span.high).chain(hulls.iter().map(|hull| hull.high)).collect();
            // MAXVALUE is above every value, so a key that reaches i128::MAX still lies below it.
            greatest >= lower && (least < upper || upper.iter().all(|bound| *bound == i128::MAX))
        })
    }
}

/// Whether a condition says something about a partition column.
pub(crate) fn is_useful(columns: &[KeyColumn<'_>], condition: &Expr) -> bool {
    understand(columns, condition).is_some()
}

fn number(bound: Bound) -> i128 {
    match bound {
        Bound::Min => i128::MIN,
        Bound::Value(value) => value.order(),
        Bound::Max => i128::MAX,
    }
}

fn hull(spans: &[Span]) -> Span {
    spans.iter().copied().reduce(|a, b| Span { low: a.low.min(b.low), high: a.high.max(b.high) }).unwrap_or(ALL)
}

fn intersect(a: &[Span], b: &[Span]) -> Vec<Span> {
    if a.len().saturating_mul(b.len()) > MAX_RANGES * MAX_RANGES {
        return a.to_vec();
    }
    let pairs = a.iter().flat_map(|a| b.iter().map(|b| Span { low: a.low.max(b.low), high: a.high.min(b.high) }));
    pairs.filter(|span| span.low <= span.high).collect()
}

fn understand(columns: &[KeyColumn<'_>], condition: &Expr) -> Option<(usize, Vec<Span>)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (understand(columns, left), understand(columns, right)) {
                (Some((a, left)), Some((b, right))) if a == b => Some((a, intersect(&left, &right))),
                (Some(known), _) | (None, Some(known)) => Some(known),
                (None, None) => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((a, mut left), (b, right)) = (understand(columns, left)?, understand(columns, right)?);
            left.extend(right);
            (a == b && left.len() <= MAX_RANGES).then_some((a, left))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => comparison(columns, left, *op, right),
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let column = column_of(columns, expr)?;
            let kind = columns[column].1;
            Some((column, span(value_of(kind, low)?, value_of(kind, high)?)))
        }
        Expr::InList(InList { expr, list, negated: false }) if list.len() <= MAX_RANGES => {
            let column = column_of(columns, expr)?;
            let kind = columns[column].1;
            let values = list.iter().map(|item| value_of(kind, item)).collect::<Option<Vec<_>>>()?;
            Some((column, values.into_iter().map(|value| Span { low: value, high: value }).collect()))
        }
        Expr::IsNull(expr) => Some((column_of(columns, expr)?, span(NULL_KEY, NULL_KEY))),
        _ => None,
    }
}

fn span(low: i128, high: i128) -> Vec<Span> {
    if low <= high { vec![Span { low, high }] } else { Vec::new() }
}

fn comparison(columns: &[KeyColumn<'_>], left: &Expr, op: Operator, right: &Expr) -> Option<(usize, Vec<Span>)> {
    let (column, op, literal) = match column_of(columns, left) {
        Some(column) => (column, op, right),
        None => (column_of(columns, right)?, op.swap()?, left),
    };
    let value = value_of(columns[column].1, literal)?;
    let allowed = match op {
        Operator::Eq => span(value, value),
        Operator::Lt => span(NULL_KEY, value - 1),
        Operator::LtEq => span(NULL_KEY, value),
        Operator::Gt => span(value + 1, i128::MAX),
        Operator::GtEq => span(value, i128::MAX),
        _ => return None,
    };
    Some((column, allowed))
}

fn column_of(columns: &[KeyColumn<'_>], expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) => columns.iter().position(|(name, _)| name.eq_ignore_ascii_case(&column.name)),
        _ => None,
    }
}

/// A literal as a key number of the column's type; far from the ends of i128, so that neighbours exist.
fn value_of(kind: ColumnType, expr: &Expr) -> Option<i128> {
    let Expr::Literal(value, _) = expr else { return None };
    let whole = !matches!(kind, ColumnType::Date | ColumnType::DateTime { .. });
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => {
            // Whole numbers compare with text in ways of their own; leave those to the query.
            if whole { None } else { Scalar::parse(kind, text).ok().map(Scalar::order) }
        }
        ScalarValue::Date32(Some(days)) => match kind {
            ColumnType::Date => Some(i128::from(*days)),
            ColumnType::DateTime { .. } => Some(i128::from(*days) * i128::from(coffer_table::calendar::DAY_US)),
            _ => None,
        },
        ScalarValue::TimestampMicrosecond(Some(micros), None) if matches!(kind, ColumnType::DateTime { .. }) => {
            Some(i128::from(*micros))
        }
        ScalarValue::Int8(Some(value)) if whole => Some(i128::from(*value)),
        ScalarValue::Int16(Some(value)) if whole => Some(i128::from(*value)),
        ScalarValue::Int32(Some(value)) if whole => Some(i128::from(*value)),
        ScalarValue::Int64(Some(value)) if whole => Some(i128::from(*value)),
        ScalarValue::UInt8(Some(value)) if whole => Some(i128::from(*value)),
        ScalarValue::UInt16(Some(value)) if whole => Some(i128::from(*value)),
        ScalarValue::UInt32(Some(value)) if whole => Some(i128::from(*value)),
        ScalarValue::UInt64(Some(value)) if whole => Some(i128::from(*value)),
        ScalarValue::Decimal128(Some(value), _, 0) if whole => Some(*value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    const DAY: KeyColumn<'static> = ("day", ColumnType::Date);
    const ID: KeyColumn<'static> = ("id", ColumnType::Int);

    fn ints(lower: i128, upper: i128) -> KeyRange {
        KeyRange::new(vec![Bound::Value(Scalar::Int(lower))], vec![Bound::Value(Scalar::Int(upper))])
    }

    fn days(lower: &str, upper: &str) -> KeyRange {
        let bound = |text: &str| vec![Bound::Value(Scalar::parse(ColumnType::Date, text).unwrap())];
        KeyRange::new(bound(lower), bound(upper))
    }

    /// Which of [min, 10), [10, 20), [20, max) are read.
    fn read(condition: Expr) -> Vec<usize> {
        let mut partitions = [ints(0, 10), ints(10, 20), ints(20, 0)];
        partitions[0].lower = vec![Bound::Min];
        partitions[2].upper = vec![Bound::Max];
        let allowed = Allowed::new(&[ID], &[condition]);
        (0..3).filter(|number| allowed.may_hold(Some(&partitions[*number]))).collect()
    }

    #[test]
    fn comparisons_choose_partitions() {
        assert_eq!(read(col("id").eq(lit(10))), [1]);
        assert_eq!(read(lit(10).eq(col("ID"))), [1]);
        assert_eq!(read(col("id").lt(lit(10))), [0]);
        assert_eq!(read(col("id").lt_eq(lit(10))), [0, 1]);
        assert_eq!(read(col("id").gt(lit(19_i64))), [2]);
        assert_eq!(read(lit(19).lt_eq(col("id"))), [1, 2]);
        assert_eq!(read(col("id").between(lit(12), lit(13))), [1]);
        assert_eq!(read(col("id").between(lit(13), lit(12))), Vec::<usize>::new());
        assert_eq!(read(col("id").in_list(vec![lit(1), lit(99)], false)), [0, 2]);
        assert_eq!(read(col("id").is_null()), [0]);
    }

    #[test]
    fn and_narrows_and_or_widens() {
        assert_eq!(read(col("id").gt(lit(3)).and(col("id").lt(lit(12)))), [0, 1]);
        assert_eq!(read(col("id").gt(lit(12)).and(col("id").lt(lit(3)))), Vec::<usize>::new());
        assert_eq!(read(col("id").eq(lit(3)).or(col("id").eq(lit(25)))), [0, 2]);
        assert_eq!(read(col("id").eq(lit(3)).and(col("other").eq(lit(1)))), [0]);
        assert_eq!(read(col("id").eq(lit(3)).or(col("other").eq(lit(1)))), [0, 1, 2]);
    }

    #[test]
    fn what_is_not_understood_reads_everything() {
        for condition in [
            col("id").not_eq(lit(1)),
            col("id").in_list(vec![lit(1)], true),
            col("id").eq(col("other")),
            col("id").eq(lit("10")),
            col("id").eq(lit(1.5)),
            (col("id") + lit(1)).eq(lit(1)),
        ] {
            assert!(!is_useful(&[ID], &condition));
            assert_eq!(read(condition), [0, 1, 2]);
        }
    }

    #[test]
    fn dates_compare_with_dates_and_with_text() {
        let range = days("2024-01-01", "2024-02-01");
        let reads = |condition: Expr| Allowed::new(&[DAY], &[condition]).may_hold(Some(&range));
        assert!(reads(col("day").eq(lit("2024-01-31"))));
        assert!(!reads(col("day").gt_eq(lit("2024-02-01"))));
        assert!(!reads(col("day").lt(lit(ScalarValue::Date32(coffer_table::calendar::parse_date(b"2024-01-01"))))));
        assert!(reads(col("day").eq(lit("no date"))));
    }

    #[test]
    fn several_columns_compare_in_order() {
        let range = KeyRange::new(
            vec![Bound::Value(Scalar::Int(1)), Bound::Value(Scalar::Int(5))],
            vec![Bound::Value(Scalar::Int(3)), Bound::Value(Scalar::Int(5))],
        );
        let columns = [("a", ColumnType::Int), ("b", ColumnType::Int)];
        let reads = |conditions: &[Expr]| Allowed::new(&columns, conditions).may_hold(Some(&range));
        assert!(reads(&[col("a").eq(lit(1))]));
        assert!(!reads(&[col("a").eq(lit(1)), col("b").lt(lit(5))]));
        assert!(reads(&[col("a").eq(lit(3)), col("b").eq(lit(4))]));
        assert!(!reads(&[col("a").eq(lit(3)), col("b").eq(lit(5))]));
        assert!(reads(&[col("b").eq(lit(99))]));
    }

    #[test]
    fn the_partition_without_a_range_is_read() {
        assert!(Allowed::new(&[], &[col("x").eq(lit(1))]).may_hold(None));
    }
}
