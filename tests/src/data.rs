//! A table with every kind of column, rows made from a seed, and a way to compare what is in it.

use crate::mysql::Sql;
use std::fmt::Write;

/// The columns of [`create`], in order.
pub const COLUMNS: [&str; 11] = ["id", "day", "at", "flag", "tiny", "big", "huge", "amount", "ratio", "code", "note"];

/// The statement that creates the table: three months, hash buckets.
pub fn create(table: &str, buckets: u32, replicas: u32) -> String {
    format!(
        "CREATE TABLE {table} (
            id BIGINT NOT NULL,
            day DATE NOT NULL,
            at DATETIME(3),
            flag BOOLEAN,
            tiny TINYINT,
            big BIGINT,
            huge LARGEINT,
            amount DECIMAL(20, 4),
            ratio DOUBLE,
            code CHAR(4),
            note VARCHAR(200)
        ) DUPLICATE KEY(id, day)
        PARTITION BY RANGE(day) (
            PARTITION p01 VALUES LESS THAN (\"2024-02-01\"),
            PARTITION p02 VALUES LESS THAN (\"2024-03-01\"),
            PARTITION p03 VALUES [(\"2024-03-01\"), (\"2024-04-01\"))
        )
        DISTRIBUTED BY HASH(id) BUCKETS {buckets}
        PROPERTIES (\"replication_num\" = \"{replicas}\")"
    )
}

/// `rows` lines of `|`-separated text, ids from `first` on; the same seed gives the same lines.
pub fn csv(seed: u64, first: u64, rows: u64) -> String {
    let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
    let mut text = String::new();
    for id in first..first + rows {
        let (month, day) = (1 + random.below(3), 1 + random.below(28));
        let null = random.below(10) == 0;
        let cell = |text: String| if null { "\\N".to_owned() } else { text };
        let at = format!("2024-{month:02}-{day:02} {:02}:00:59.{:03}", random.below(24), random.below(1000));
        let amount = format!("{}.{:04}", random.below(1_000_000) as i64 - 500_000, random.below(10_000));
        let _ = writeln!(
            text,
            "{id}|2024-{month:02}-{day:02}|{}|{}|{}|{}|{}|{}|{}|{}|{}",
            cell(at),
            cell(random.below(2).to_string()),
            cell((random.below(256) as i64 - 128).to_string()),
            cell((random.next() as i64).to_string()),
            cell(format!("{}{:018}", random.below(1000) + 1, random.next() % 1_000_000_000_000_000_000)),
            cell(amount),
            cell(format!("{}.5", random.below(1000))),
            cell(format!("c{:03}", random.below(1000))),
            cell(format!("note of row {id}, gr\u{fc}\u{df}e {}", random.next())),
        );
    }
    text
}

/// Count and order-independent checksum of every column: equal exactly when the rows are equal.
pub async fn fingerprint(sql: &mut Sql, table: &str) -> anyhow::Result<Vec<String>> {
    let sums: Vec<String> = COLUMNS.iter().map(|column| format!("checksum({column})")).collect();
    let rows = sql.table(&format!("SELECT count(*), {} FROM {table}", sums.join(", "))).await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// xorshift64*: enough for test data, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
