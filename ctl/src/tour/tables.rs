//! The two TPC-H tables of the tour: their statements, and their rows as text; pure.

use bytes::Bytes;
use coffer_stdx::{Error, Result};
use std::fmt::Write;
use tpchgen::generators::{LineItemGenerator, OrderGenerator};

/// Text is handed on in pieces of about this size.
const PIECE: usize = 256 * 1024;
/// One load request carries about this much text.
const PART_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
/// Most load requests per table: each makes one rowset per tablet.
const MAX_PARTS: u32 = 8;
/// First and last year of TPC-H dates.
const YEARS: std::ops::RangeInclusive<u32> = 1992..=1998;

/// A table of the tour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// `lineitem`, partitioned by month of the ship date.
    LineItem,
    /// `orders`, partitioned by month of the order date.
    Orders,
}

impl Table {
    /// Both, in the order in which they are loaded.
    pub(crate) const ALL: [Table; 2] = [Table::LineItem, Table::Orders];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::LineItem => "lineitem",
            Table::Orders => "orders",
        }
    }

    /// Columns and their types, in the order of the text.
    pub(crate) fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Table::LineItem => &[
                ("l_orderkey", "BIGINT"),
                ("l_partkey", "BIGINT"),
                ("l_suppkey", "BIGINT"),
                ("l_linenumber", "INT"),
                ("l_quantity", "DECIMAL(15, 2)"),
                ("l_extendedprice", "DECIMAL(15, 2)"),
                ("l_discount", "DECIMAL(15, 2)"),
                ("l_tax", "DECIMAL(15, 2)"),
                ("l_returnflag", "CHAR(1)"),
                ("l_linestatus", "CHAR(1)"),
                ("l_shipdate", "DATE"),
                ("l_commitdate", "DATE"),
                ("l_receiptdate", "DATE"),
                ("l_shipinstruct", "CHAR(25)"),
                ("l_shipmode", "CHAR(10)"),
                ("l_comment", "VARCHAR(44)"),
            ],
            Table::Orders => &[
                ("o_orderkey", "BIGINT"),
                ("o_custkey", "BIGINT"),
                ("o_orderstatus", "CHAR(1)"),
                ("o_totalprice", "DECIMAL(15, 2)"),
                ("o_orderdate", "DATE"),
                ("o_orderpriority", "CHAR(15)"),
                ("o_clerk", "CHAR(15)"),
                ("o_shippriority", "INT"),
                ("o_comment", "VARCHAR(79)"),
            ],
        }
    }

    /// The key, which is also what rows are distributed by.
    fn key(self) -> &'static str {
        self.columns()[0].0
    }

    /// The date whose month decides the partition.
    fn date(self) -> &'static str {
        match self {
            Table::LineItem => "l_shipdate",
            Table::Orders => "o_orderdate",
        }
    }

    /// Partitions, written in both forms the grammar has: fixed ranges for one table, upper bounds for the other.
    fn partitions(self) -> String {
        let months = YEARS.flat_map(|year| (1..=12).map(move |month| (year, month)));
        let lines: Vec<String> = months
            .map(|(year, month)| {
                let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                let (from, to) = (format!("{year}-{month:02}-01"), format!("{next_year}-{next_month:02}-01"));
                match self {
                    Table::LineItem => format!("PARTITION p{year}{month:02} VALUES [(\"{from}\"), (\"{to}\"))"),
                    Table::Orders => format!("PARTITION p{year}{month:02} VALUES LESS THAN (\"{to}\")"),
                }
            })
            .collect();
        lines.join(",\n  ")
    }

    /// The CREATE TABLE statement.
    pub(crate) fn create(self, database: &str, buckets: u32, replicas: usize) -> String {
        let partitions = format!("\nPARTITION BY RANGE({}) (\n  {}\n)", self.date(), self.partitions());
        self.create_with(database, &partitions, buckets, replicas)
    }

    /// The same without partitions.
    pub(crate) fn create_whole(self, database: &str, buckets: u32, replicas: usize) -> String {
        self.create_with(database, "", buckets, replicas)
    }

    fn create_with(self, database: &str, partitions: &str, buckets: u32, replicas: usize) -> String {
        let columns: Vec<String> =
            self.columns().iter().map(|(name, kind)| format!("{name} {kind} NOT NULL")).collect();
        format!(
            "CREATE TABLE {database}.{} (\n  {}\n)\nDUPLICATE KEY({key}){partitions}\n\
             DISTRIBUTED BY HASH({key}) BUCKETS {buckets}\nPROPERTIES (\"replication_num\" = \"{replicas}\")",
            self.name(),
            columns.join(",\n  "),
            key = self.key(),
        )
    }

    /// Count and an order-independent checksum of every column.
    pub(crate) fn fingerprint(self, database: &str) -> String {
        let sums: Vec<String> = self.columns().iter().map(|(name, _)| format!("checksum({name})")).collect();
        format!("SELECT count(*), {} FROM {database}.{}", sums.join(", "), self.name())
    }

    /// About how many bytes of text the table has.
    pub(crate) fn text_bytes(self, scale: f64) -> u64 {
        let at_one = match self {
            Table::LineItem => 753_000_000.0,
            Table::Orders => 170_000_000.0,
        };
        (at_one * scale) as u64
    }

    /// How many load requests carry it.
    pub(crate) fn parts(self, scale: f64) -> u32 {
        let wanted = (self.text_bytes(scale) as f64 / PART_BYTES).ceil();
        (wanted as u32).clamp(1, MAX_PARTS)
    }

    /// Write the text of part `part` of `parts` (from 1), piece by piece. Returns the number of rows. `give` returns
    /// false when nobody wants more.
    pub(crate) fn write_part(self, scale: f64, part: u32, parts: u32, give: impl FnMut(Bytes) -> bool) -> Result<u64> {
        let number = |n: u32| i32::try_from(n).map_err(|_| Error::invalid("too many parts"));
        let (part, parts) = (number(part)?, number(parts)?);
        Ok(match self {
            Table::LineItem => write_rows(LineItemGenerator::new(scale, part, parts).iter(), give),
            Table::Orders => write_rows(OrderGenerator::new(scale, part, parts).iter(), give),
        })
    }
}

/// The generator ends each row with a separator; a load takes separators between columns only.
fn write_rows<R: std::fmt::Display>(rows: impl Iterator<Item = R>, mut give: impl FnMut(Bytes) -> bool) -> u64 {
    let mut count = 0;
    let mut text = String::with_capacity(PIECE + 1024);
    for row in rows {
        let _ = write!(text, "{row}");
        text.pop();
        text.push('\n');
        count += 1;
        if text.len() >= PIECE {
            let piece = std::mem::replace(&mut text, String::with_capacity(PIECE + 1024));
            if !give(Bytes::from(piece)) {
                return count;
            }
        }
    }
    if !text.is_empty() {
        give(Bytes::from(text));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(table: Table, part: u32, parts: u32) -> (u64, String) {
        let mut text = String::new();
        let rows = table.write_part(0.001, part, parts, |piece| {
            text.push_str(std::str::from_utf8(&piece).unwrap());
            true
        });
        (rows.unwrap(), text)
    }

    #[test]
    fn rows_have_as_many_cells_as_the_table_has_columns() {
        for table in Table::ALL {
            let (rows, text) = text(table, 1, 1);
            assert_eq!(rows as usize, text.lines().count());
            assert!(text.lines().all(|line| line.split('|').count() == table.columns().len()));
            let estimate = table.text_bytes(0.001) as f64;
            assert!((text.len() as f64 / estimate - 1.0).abs() < 0.1, "{} vs {estimate}", text.len());
        }
    }

    #[test]
    fn parts_together_are_the_whole() {
        let (rows, whole) = text(Table::Orders, 1, 1);
        let parts: Vec<(u64, String)> = (1..=3).map(|part| text(Table::Orders, part, 3)).collect();
        assert_eq!(parts.iter().map(|(rows, _)| rows).sum::<u64>(), rows);
        assert_eq!(parts.into_iter().map(|(_, text)| text).collect::<String>(), whole);
        assert_eq!((Table::LineItem.parts(0.1), Table::LineItem.parts(0.001), Table::LineItem.parts(10.0)), (2, 1, 8));
    }

    #[test]
    fn a_generator_stops_when_nobody_listens() {
        let rows = Table::LineItem.write_part(0.01, 1, 1, |_| false).unwrap();
        assert!(rows < 10_000, "{rows}");
    }

    #[test]
    fn statements_name_every_month_and_column() {
        let create = Table::LineItem.create("d", 2, 3);
        assert_eq!(create.matches("PARTITION p").count(), 84);
        assert!(create.contains("PARTITION p199812 VALUES [(\"1998-12-01\"), (\"1999-01-01\"))"), "{create}");
        assert!(Table::Orders.create("d", 2, 3).contains("PARTITION p199201 VALUES LESS THAN (\"1992-02-01\")"));
        assert_eq!(Table::Orders.fingerprint("d").matches("checksum(").count(), 9);
    }
}
