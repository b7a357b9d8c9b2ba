//! No text panics, overflows the stack or takes long.

use super::super::parse;
use super::bad;
use crate::error::ErrorKind;
use proptest::prelude::*;

/// Pieces of real statements, so that random texts get past the first word.
const PIECES: [&str; 64] = [
    "create",
    "table",
    "database",
    "drop",
    "if",
    "not",
    "exists",
    "alter",
    "system",
    "add",
    "backend",
    "broker",
    "repository",
    "with",
    "s3",
    "on",
    "location",
    "properties",
    "backup",
    "restore",
    "snapshot",
    "to",
    "from",
    "exclude",
    "partition",
    "by",
    "range",
    "values",
    "less",
    "than",
    "maxvalue",
    "distributed",
    "hash",
    "buckets",
    "show",
    "tables",
    "where",
    "like",
    "limit",
    "order",
    "select",
    "insert",
    "into",
    "label",
    "set",
    "names",
    "kill",
    "explain",
    "desc",
    "(",
    ")",
    ",",
    ".",
    "=",
    "'x'",
    "\"y\"",
    "`z`",
    "1",
    "-",
    "[",
    "a",
    "int",
    "/*!",
    "*/",
];

#[test]
fn deep_queries_are_refused_in_time() {
    for depth in [100, 30_000] {
        for sql in [
            format!("select {}1{}", "(".repeat(depth), ")".repeat(depth)),
            format!("select {} true", "not ".repeat(depth)),
            format!("select {} 1", "- ".repeat(depth)),
            format!("select {} 1", "case when ".repeat(depth)),
            format!("select {}", "(select ".repeat(depth)),
            format!("{}select 1", "(".repeat(depth)),
            format!("select cast(1 as {}int", "array<".repeat(depth)),
            format!("select {}", "a[".repeat(depth)),
            format!("select f{}", "(f".repeat(depth)),
            format!("{}select 1", "explain ".repeat(depth)),
            format!("select * from {}", "(a join ".repeat(depth)),
        ] {
            assert!(parse(&sql).is_err(), "{}", &sql[..40]);
        }
    }
}

/// The parser may read what is inside of these twice before it refuses it.
#[test]
fn errors_deep_inside_are_found_in_time() {
    let openings = [
        "case when 1 then ",
        "cast(",
        "convert(",
        "substring(",
        "overlay(",
        "ceil(",
        "array[",
        "interval ",
        "interval (",
        "interval - ",
        "(select * from (",
        "try_cast(",
        "position(",
        "not(",
        "current_date(",
        "f(",
        "trim(",
        "extract(day from ",
    ];
    let started = std::time::Instant::now();
    for opening in openings {
        for depth in [8, 14, 48] {
            for context in ["select ", "select * from t where "] {
                assert!(parse(&format!("{context}{}1 2 3", opening.repeat(depth))).is_err(), "{opening} {depth}");
            }
        }
    }
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    let nested = format!("select {}1{}", "case when a = 1 then ".repeat(12), " else cast(x as int) end".repeat(12));
    assert!(parse(&nested).is_ok());
    let nested = format!("select * from {}t{}", "(select * from ".repeat(12), ") a".repeat(12));
    assert!(parse(&nested).is_ok());
    let intervals = vec!["date '2024-01-01' + interval 1 day"; 100].join(", ");
    assert!(parse(&format!("select {intervals}")).is_ok());
}

#[test]
fn long_chains_are_refused_and_shorter_ones_are_not() {
    for (link, most) in [(" + 1", 900), (" or a = 1", 400), (" union select 1", 150), (" || 'x'", 900)] {
        assert!(parse(&format!("select 1{}", link.repeat(most))).is_ok(), "{link}");
        let error = bad(&format!("select 1{}", link.repeat(50_000)));
        assert_eq!(error.kind(), ErrorKind::Limit, "{link}: {error}");
    }
    let error = bad(&format!("select * from a{}", " join b".repeat(1000)));
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let listed = vec!["a + 1"; 5000].join(", ");
    assert!(parse(&format!("select {listed}")).is_ok());
}

proptest! {
    #[test]
    fn random_text_does_not_panic(sql: String) {
        let _ = parse(&sql);
    }

    #[test]
    fn random_characters_do_not_panic(sql in r#"([a-z0-9 ;'"`\\#*/!@:.,()=<>\[\]+\n-]|é|🦀){0,60}"#) {
        let _ = parse(&sql);
    }

    #[test]
    fn random_statements_do_not_panic(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24)) {
        let _ = parse(&pieces.join(" "));
    }

    /// What is cut off a good statement leaves either a shorter good one or an error.
    #[test]
    fn cut_statements_do_not_panic(end in 0..420_usize) {
        let sql = "CREATE TABLE IF NOT EXISTS db.`t-1` (k1 INT NOT NULL COMMENT \"é\", v DECIMAL(15, 2) DEFAULT '0') \
                   ENGINE=OLAP DUPLICATE KEY(k1) PARTITION BY RANGE(k1) (PARTITION p1 VALUES LESS THAN (\"1\"), \
                   PARTITION p2 VALUES [('1'), ('2'))) DISTRIBUTED BY HASH(k1) BUCKETS 8 PROPERTIES (\"a\" = \"1\")";
        let _ = parse(&sql[..sql.floor_char_boundary(end)]);
    }
}
