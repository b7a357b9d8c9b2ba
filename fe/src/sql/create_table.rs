//! CREATE TABLE.

use super::ast::{
    BoundText, CreateTable, Index, PartitionBy, PartitionDef, PartitionValues, Properties, Statement, StepUnit,
};
use super::cursor::Cursor;
use super::{names, types};
use crate::error::{Error, Result, number};
use coffer_table::{Aggregate, Column, ColumnType, Model};
use sqlparser::tokenizer::Token;

/// What may stand in the place of a column and Coffer does not do.
const CONSTRAINTS: [&str; 7] = ["PRIMARY", "UNIQUE", "FOREIGN", "CONSTRAINT", "CHECK", "FULLTEXT", "KEY"];
/// Kinds of indexes, which are kept and do nothing.
const INDEX_KINDS: [&str; 6] = ["INVERTED", "BITMAP", "NGRAM_BF", "NGRAMBF", "BLOOM_FILTER", "GIN"];
/// What may follow a column's type and Coffer does not do.
const COLUMN_OPTIONS: [&str; 17] = [
    "KEY",
    "PRIMARY",
    "UNIQUE",
    "HLL_UNION",
    "BITMAP_UNION",
    "QUANTILE_UNION",
    "GENERIC",
    "GENERATED",
    "AS",
    "AUTO_INCREMENT",
    "REFERENCES",
    "CHECK",
    "CHARACTER",
    "COLLATE",
    "UNSIGNED",
    "SIGNED",
    "ZEROFILL",
];

fn not_supported(what: &str) -> Error {
    Error::not_supported(format!("{what} in CREATE TABLE is not supported"))
}

/// Behind CREATE TABLE.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Statement> {
    let if_not_exists = cursor.if_not_exists();
    let table = cursor.object_name("a table name")?;
    names::check_table(&table.name)?;
    if cursor.is("LIKE") || cursor.is("AS") || cursor.is("SELECT") {
        return Err(Error::not_supported("CREATE TABLE LIKE and CREATE TABLE AS SELECT are not supported"));
    }
    let (mut columns, mut indexes) = (Vec::new(), Vec::new());
    cursor.parenthesised(|cursor| {
        if cursor.is("INDEX") {
            indexes.push(index(cursor)?);
        } else {
            columns.push(column(cursor)?);
        }
        Ok(())
    })?;
    for (at, column) in columns.iter().enumerate() {
        if columns[..at].iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
            let message = format!("Duplicate column name '{}'", column.name);
            return Err(Error::invalid(message).numbered(number::DUPLICATE_COLUMN));
        }
    }
    let mut create = CreateTable {
        table,
        if_not_exists,
        columns,
        indexes,
        keys: None,
        comment: String::new(),
        partition: None,
        bucket_columns: Vec::new(),
        buckets: None,
        properties: Properties::new(),
    };
    clauses(cursor, &mut create)?;
    if let Some((_, keys)) = &create.keys {
        for column in &mut create.columns {
            column.key = keys.iter().any(|key| key.eq_ignore_ascii_case(&column.name));
        }
    }
    Ok(Statement::CreateTable(Box::new(create)))
}

/// `name type [aggregation] [[NOT] NULL] [DEFAULT value] [COMMENT "text"]`, all after the type in any order.
fn column(cursor: &mut Cursor<'_>) -> Result<Column> {
    if cursor.is_one_of(&CONSTRAINTS) {
        let word = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
        return Err(not_supported(&word));
    }
    let name = cursor.name("a column name")?;
    names::check_column(&name)?;
    let kind = types::parse(cursor)?;
    let mut column =
        Column { name, kind, nullable: true, default: None, key: false, comment: String::new(), aggregate: None };
    loop {
        if let Some((_, found)) = Aggregate::NAMED.iter().find(|(word, _)| cursor.is(word)) {
            cursor.skip();
            if column.aggregate.replace(*found).is_some() {
                return Err(Error::invalid(format!("column '{}' has two aggregations", column.name)));
            }
        } else if cursor.eat_all(&["NOT", "NULL"]) {
            column.nullable = false;
        } else if cursor.eat("NULL") {
            column.nullable = true;
        } else if cursor.eat("DEFAULT") {
            column.default = default(cursor, &column)?;
        } else if cursor.eat("COMMENT") {
            column.comment = cursor.string("a quoted comment")?;
        } else if cursor.is_one_of(&COLUMN_OPTIONS) || cursor.is("ON") {
            let word = cursor.peek_word().unwrap_or_default().to_ascii_uppercase();
            return Err(not_supported(&format!("{word} of column '{}'", column.name)));
        } else {
            return Ok(column);
        }
    }
}

/// `INDEX [IF NOT EXISTS] name (columns) [USING kind] [[PROPERTIES] (...)] [COMMENT "text"]`.
fn index(cursor: &mut Cursor<'_>) -> Result<Index> {
    cursor.skip();
    cursor.if_not_exists();
    let name = cursor.name("an index name")?;
    names::check_common("index", &name)?;
    let columns = cursor.names("a column name")?;
    let kind = if cursor.eat("USING") { Some(cursor.need_one_of(&INDEX_KINDS)?) } else { None };
    let short = kind.is_some() && *cursor.peek() == Token::LParen;
    let properties = if short { cursor.properties()? } else { cursor.optional_properties()? };
    let comment = if cursor.eat("COMMENT") { cursor.string("a quoted comment")? } else { String::new() };
    Ok(Index { name, columns, kind, properties, comment })
}

fn default(cursor: &mut Cursor<'_>, column: &Column) -> Result<Option<String>> {
    let name = &column.name;
    if cursor.is("CURRENT_TIMESTAMP") {
        return current_timestamp(cursor, column).map(Some);
    }
    if cursor.is("CURRENT_DATE") && column.kind == ColumnType::Date {
        cursor.skip();
        return Ok(Some("CURRENT_DATE".to_owned()));
    }
    if cursor.is_one_of(&["CURRENT_DATE", "NOW", "UUID", "PI", "E", "BITMAP_EMPTY"]) || *cursor.peek() == Token::LParen
    {
        return Err(not_supported(&format!("this computed DEFAULT of column '{name}'")));
    }
    if cursor.eat("NULL") {
        return Ok(None);
    }
    cursor.value("a value").map(Some)
}

/// `CURRENT_TIMESTAMP[(digits)]`: the time of the load.
fn current_timestamp(cursor: &mut Cursor<'_>, column: &Column) -> Result<String> {
    let ColumnType::DateTime { scale } = column.kind else {
        return Err(Error::invalid(format!(
            "column '{}': only DATETIME columns can have CURRENT_TIMESTAMP as DEFAULT, not {}",
            column.name, column.kind
        ))
        .numbered(number::BAD_DEFAULT));
    };
    cursor.skip();
    let mut digits: u8 = 0;
    if *cursor.peek() == Token::LParen && *cursor.nth(1) == Token::RParen {
        cursor.skip();
        cursor.skip();
    } else if *cursor.peek() == Token::LParen {
        digits = cursor.parenthesised(|cursor| cursor.number("a number of digits"))?.first().copied().unwrap_or(0);
    }
    if digits > scale {
        return Err(Error::invalid(format!(
            "column '{}': CURRENT_TIMESTAMP({digits}) has more digits than {}",
            column.name, column.kind
        ))
        .numbered(number::BAD_DEFAULT));
    }
    Ok(if digits == 0 { "CURRENT_TIMESTAMP".to_owned() } else { format!("CURRENT_TIMESTAMP({digits})") })
}

/// What follows the columns, in any order, each once.
fn clauses(cursor: &mut Cursor<'_>, create: &mut CreateTable) -> Result<()> {
    let mut distributed = false;
    loop {
        if cursor.is("ENGINE") {
            engine(cursor)?;
        } else if create.keys.is_none()
            && let Some(model) = [Model::Duplicate, Model::Aggregate, Model::Unique]
                .into_iter()
                .find(|model| cursor.eat_all(&[model.to_string().as_str(), "KEY"]))
        {
            create.keys = Some((model, cursor.names("a column name")?));
        } else if create.comment.is_empty() && cursor.eat("COMMENT") {
            cursor.eat_token(&Token::Eq);
            create.comment = cursor.string("a quoted comment")?;
        } else if create.partition.is_none() && cursor.eat_all(&["PARTITION", "BY"]) {
            create.partition = Some(partition_by(cursor)?);
        } else if !distributed && cursor.eat_all(&["DISTRIBUTED", "BY"]) {
            distributed = true;
            distribution(cursor, create)?;
        } else if create.properties.is_empty() && cursor.eat("PROPERTIES") {
            create.properties = cursor.properties()?;
        } else {
            return refuse_clause(cursor);
        }
    }
}

fn refuse_clause(cursor: &Cursor<'_>) -> Result<()> {
    for clause in ["CLUSTER BY", "AUTO PARTITION", "BROKER PROPERTIES"] {
        let mut words = clause.split(' ').enumerate();
        if words.all(|(n, word)| cursor.is_nth(n, word)) {
            return Err(not_supported(clause));
        }
    }
    for clause in ["ROLLUP", "AS", "SELECT", "DEFAULT", "CHARSET", "CHARACTER", "COLLATE", "AUTO_INCREMENT", "ORDER"] {
        if cursor.is(clause) {
            return Err(not_supported(clause));
        }
    }
    Ok(())
}

fn engine(cursor: &mut Cursor<'_>) -> Result<()> {
    cursor.skip();
    cursor.eat_token(&Token::Eq);
    let engine = cursor.name("an engine")?;
    if engine.eq_ignore_ascii_case("olap") {
        return Ok(());
    }
    Err(not_supported(&format!("ENGINE = {engine} (only OLAP is)")))
}

/// `{HASH (columns) | RANDOM} [BUCKETS {n | AUTO}]`.
fn distribution(cursor: &mut Cursor<'_>, create: &mut CreateTable) -> Result<()> {
    if cursor.need_one_of(&["HASH", "RANDOM"])? == "HASH" {
        create.bucket_columns = cursor.names("a column name")?;
    }
    if cursor.eat("BUCKETS") && !cursor.eat("AUTO") {
        let buckets = cursor.number("a number of buckets")?;
        if buckets == 0 {
            return Err(Error::invalid("Number of hash bucket should be larger than zero"));
        }
        create.buckets = Some(buckets);
    }
    Ok(())
}

/// `{RANGE | LIST} (columns) ([partition [, ...]])`.
fn partition_by(cursor: &mut Cursor<'_>) -> Result<PartitionBy> {
    let list = cursor.need_one_of(&["RANGE", "LIST"])? == "LIST";
    if *cursor.nth(2) == Token::LParen {
        return Err(not_supported("a function in PARTITION BY"));
    }
    let columns = cursor.names("a column name")?;
    cursor.need_token(&Token::LParen)?;
    let mut partitions: Vec<PartitionDef> = Vec::new();
    if !cursor.eat_token(&Token::RParen) {
        partitions = cursor.list(partition)?;
        cursor.need_token(&Token::RParen)?;
    }
    let mut seen = std::collections::BTreeSet::new();
    for partition in &partitions {
        let steps = matches!(partition.values, PartitionValues::Steps { .. });
        if !steps && !seen.insert(partition.name.to_ascii_lowercase()) {
            return Err(Error::invalid(format!("Duplicated partition name: {}", partition.name)));
        }
    }
    Ok(PartitionBy { columns, list, partitions })
}

/// `PARTITION [IF NOT EXISTS] name VALUES ...`, or `FROM ... TO ... INTERVAL ...`.
fn partition(cursor: &mut Cursor<'_>) -> Result<PartitionDef> {
    if !cursor.is("FROM") {
        cursor.need("PARTITION")?;
    }
    partition_after_word(cursor)
}

/// Behind PARTITION: `[IF NOT EXISTS] name VALUES {LESS THAN bounds | [bounds, bounds) | IN (keys)} [(properties)]`, or
/// `FROM (value) TO (value) INTERVAL n [unit]`.
pub(super) fn partition_after_word(cursor: &mut Cursor<'_>) -> Result<PartitionDef> {
    if cursor.eat("FROM") {
        return steps(cursor);
    }
    cursor.if_not_exists();
    let name = cursor.name("a partition name")?;
    names::check_partition(&name)?;
    cursor.need("VALUES")?;
    let values = if cursor.eat("IN") {
        PartitionValues::In(cursor.parenthesised(list_key)?)
    } else if cursor.eat_all(&["LESS", "THAN"]) {
        if cursor.eat("MAXVALUE") {
            PartitionValues::LessThan(vec![BoundText::MaxValue])
        } else {
            PartitionValues::LessThan(cursor.parenthesised(bound)?)
        }
    } else {
        cursor.need_token(&Token::LBracket)?;
        let lower = cursor.parenthesised(bound)?;
        cursor.need_token(&Token::Comma)?;
        let upper = cursor.parenthesised(bound)?;
        cursor.need_token(&Token::RParen)?;
        PartitionValues::Range { lower, upper }
    };
    let properties = if *cursor.peek() == Token::LParen { cursor.properties()? } else { Properties::new() };
    Ok(PartitionDef { name, values, properties })
}

/// Behind FROM.
fn steps(cursor: &mut Cursor<'_>) -> Result<PartitionDef> {
    let one = |cursor: &mut Cursor<'_>| -> Result<String> {
        let mut values = cursor.parenthesised(|cursor| cursor.value("a value"))?;
        match (values.pop(), values.is_empty()) {
            (Some(value), true) => Ok(value),
            _ => Err(Error::invalid("partitions by FROM ... TO ... INTERVAL have one partition column")),
        }
    };
    let from = one(cursor)?;
    cursor.need("TO")?;
    let to = one(cursor)?;
    cursor.need("INTERVAL")?;
    let every = cursor.number("a number")?;
    let units = [
        ("HOUR", StepUnit::Hour),
        ("DAY", StepUnit::Day),
        ("WEEK", StepUnit::Week),
        ("MONTH", StepUnit::Month),
        ("YEAR", StepUnit::Year),
    ];
    let unit = units.into_iter().find(|(word, _)| cursor.eat(word)).map(|(_, unit)| unit);
    let properties = if *cursor.peek() == Token::LParen { cursor.properties()? } else { Properties::new() };
    Ok(PartitionDef { name: String::new(), values: PartitionValues::Steps { from, to, every, unit }, properties })
}

/// A value, or as many in parentheses as there are columns.
fn list_key(cursor: &mut Cursor<'_>) -> Result<Vec<BoundText>> {
    let value = |cursor: &mut Cursor<'_>| {
        if cursor.eat("NULL") { Ok(BoundText::Null) } else { cursor.value("a value").map(BoundText::Value) }
    };
    if *cursor.peek() == Token::LParen { cursor.parenthesised(value) } else { Ok(vec![value(cursor)?]) }
}

fn bound(cursor: &mut Cursor<'_>) -> Result<BoundText> {
    if cursor.eat("MAXVALUE") {
        return Ok(BoundText::MaxValue);
    }
    match cursor.peek() {
        Token::Word(_) => Err(cursor.expected("a value or MAXVALUE")),
        _ => cursor.value("a value or MAXVALUE").map(BoundText::Value),
    }
}
